"""Is what a map calls important, important to the model: deletion, insertion, mu-fidelity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import Noise
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.explain.attributions import pixels, spearman
from onelip.explain.scoring import Score, baseline_images

_BATCH = 256


def deletion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Any = None,
    *,
    baseline: str | Tensor = "zero",
    steps: int = 10,
    temperature: float | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Mean score while the most important pixels go first, (B,); lower is better.

    The area, by the trapezoidal rule, under the score of the class against the share of pixels replaced by the
    baseline, in equal steps from none to all. Ties in the map go by position.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode.
        x: (B, C, H, W) in [0, 1].
        maps: (B, H, W), or (B, C, H, W) whose channels are averaged; higher is more important.
        target: the class, an int or (B,); None: the predicted one.
        baseline: see `baseline_images`. With "zero" on a black background the input itself is a good map.
        steps: of the share.
        temperature: None: the score is the logit, and not comparable between models; else the probability after
            multiplying logits by it, see `calibrate`.
        seed: of the baseline "uniform".

    Raises:
        InputError: images, classes, maps or options that do not fit.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> x = torch.rand(1, 1, 2, 2)
        >>> deletion(model, x, x).shape
        torch.Size([1])

    Source: Petsiuk et al., RISE: randomized input sampling for explanation of black-box models, 2018.
    """
    score = Score(model, x, target, temperature, "deletion")
    values = _curve(score, maps, baseline, steps, seed, insert=False)
    return torch.trapezoid(values, dim=1) / steps


def insertion(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Any = None,
    *,
    baseline: str | Tensor = "zero",
    steps: int = 10,
    temperature: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Mean score while the most important pixels of x come first into the baseline, (B,); higher is better.

    Arguments, errors and source as for `deletion`.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> x = torch.rand(1, 1, 2, 2)
        >>> both = insertion(model, x, x, steps=4), deletion(model, x, -x, steps=4)
        >>> bool((both[0] - both[1]).abs() < 1e-9)  # the last pixel deleted is the first inserted
        True
    """
    score = Score(model, x, target, temperature, "insertion")
    values = _curve(score, maps, baseline, steps, seed, insert=True)
    return torch.trapezoid(values, dim=1) / steps


def _curve(
    score: Score, maps: Tensor, baseline: str | Tensor, steps: int, seed: int, *, insert: bool
) -> Tensor:
    """(B, steps + 1) scores with a growing share of the most important pixels replaced, or put in."""
    checks.positive_int("steps", steps)
    x = score.x
    order = pixels(maps, x).flatten(1).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1).reshape(len(x), 1, *x.shape[-2:])
    other = baseline_images(x, baseline, seed=seed)
    rows = torch.arange(len(x), device=x.device)
    count = order.shape[1]
    values = []
    for i in range(steps + 1):
        top = place < (count * i + steps // 2) // steps
        values.append(score(torch.where(top, x, other) if insert else torch.where(top, other, x), rows))
    return torch.stack(values, 1)


def mu_fidelity(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Any = None,
    *,
    baseline: str | Tensor = "zero",
    grid: int = 9,
    share: float = 0.2,
    samples: int = 200,
    temperature: float | None = None,
    seed: int = 0,
) -> Tensor:
    r"""Do parts that a map calls important cost the score as much as it says, (B,) in [-1, 1]; higher is better.

    The image is cut into grid x grid cells. Random subsets of them, all of exactly the same size, are replaced by the
    baseline; the rank correlation (Spearman) of the drop in score with the sum of the map over the subset. Subsets of
    random sizes would reward any map for their size alone.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode.
        x: (B, C, H, W) in [0, 1].
        maps: as for `deletion`; their sign counts.
        target: the class, an int or (B,); None: the predicted one.
        baseline: see `baseline_images`.
        grid: cells a side, at most the side of the image.
        share: of the cells in a subset, rounded to at least one cell and fewer than all.
        samples: subsets for each image; every image has its own.
        temperature: as for `deletion`.
        seed: of subsets and of the baseline "uniform".

    Returns:
        (B,) float64; 0 where score or map do not change at all.

    Raises:
        InputError: images, classes, maps or options that do not fit.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
        >>> x = torch.rand(1, 1, 4, 4)
        >>> round(mu_fidelity(model, x, x * model[1].weight[0].reshape(1, 1, 4, 4), target=0).item(), 6)
        1.0

    Source: Bhatt et al., Evaluating and aggregating feature-based model explanations, 2020.
    """
    score = Score(model, x, target, temperature, "mu_fidelity")
    checks.positive_int("samples", samples)
    part = checks.number("share", share, low=0.0, high=1.0)
    cells = _cells(score.x, checks.positive_int("grid", grid))
    amount = max(1, round(part * (int(cells.max()) + 1)))
    values = pixels(maps, score.x)
    other = baseline_images(score.x, baseline, seed=seed)
    clean = score(score.x, torch.arange(len(score.x), device=score.x.device))
    found = []
    for i, draw in enumerate(Noise(seed, 0, len(score.x)).draws):
        hidden = _subsets(cells, amount, samples, draw)
        drops = clean[i] - _masked(score, other, i, hidden)
        sums = (hidden * values[i]).flatten(1).sum(1)
        found.append(spearman(drops[None], sums[None])[0])
    return torch.stack(found).nan_to_num(nan=0.0)


def _masked(score: Score, other: Tensor, row: int, hidden: Tensor) -> Tensor:
    """(N,) scores of one image with the hidden pixels, (N, H, W) bool, replaced."""
    rows = torch.full((len(hidden),), row, device=hidden.device)
    parts = [
        score(torch.where(part[:, None], other[row], score.x[row]), rows[: len(part)])
        for part in hidden.split(_BATCH)
    ]
    return torch.cat(parts)


def _cells(x: Tensor, grid: int) -> Tensor:
    """(H, W) number of the cell of each pixel."""
    height, width = x.shape[-2:]
    tall, wide = min(grid, height), min(grid, width)
    if tall * wide < 2:
        raise InputError(
            explain("explain.mu_fidelity: one cell only", received=grid, expected="two cells or more")
        )
    rows = torch.arange(height, device=x.device) * tall // height
    columns = torch.arange(width, device=x.device) * wide // width
    return rows[:, None] * wide + columns[None]


def _subsets(cells: Tensor, amount: int, samples: int, draw: torch.Generator) -> Tensor:
    """(samples, H, W) bool: random subsets of exactly this many cells, fewer than all."""
    count = int(cells.max()) + 1
    order = torch.rand(samples, count, generator=draw, dtype=torch.float64).argsort(dim=1)
    chosen = torch.zeros(samples, count, dtype=torch.bool).scatter(
        1, order[:, : min(amount, count - 1)], True
    )
    return chosen.to(cells.device)[:, cells]
