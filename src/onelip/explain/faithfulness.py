"""Is what a map calls important, important to the model: deletion, insertion, mu-fidelity."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onelip.attacks.projection import Noise
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.explain.attributions import pixels, spearman
from onelip.explain.classifier import Classifier

BASELINES = ("zero", "uniform", "blur", "mean")
_BATCH = 256


def baseline_images(x: Tensor, baseline: str | Tensor = "zero", *, seed: int = 0) -> Tensor:
    """What removed pixels are replaced by, (B, C, H, W).

    Args:
        x: (B, C, H, W).
        baseline: "zero"; "uniform", noise in [0, 1], one draw an image; "blur", a Gaussian of a tenth of the image's
            side; "mean", of each channel; or a tensor that broadcasts to x.
        seed: of the noise.

    Raises:
        InputError: an unknown name, or a tensor that does not fit.

    Example:
        >>> baseline_images(torch.rand(2, 3, 4, 4), "mean").shape
        torch.Size([2, 3, 4, 4])
    """
    if isinstance(baseline, Tensor):
        try:
            return checks.finite("baseline", baseline.detach()).to(x).expand(x.shape)
        except RuntimeError as error:
            raise InputError(
                explain("`baseline` does not fit", received=tuple(baseline.shape), expected=tuple(x.shape))
            ) from error
    if baseline == "zero":
        return torch.zeros_like(x)
    if baseline == "mean":
        return x.mean((-2, -1), keepdim=True).expand(x.shape)
    if baseline == "uniform":
        draws = Noise(seed, 0, len(x)).draws
        noise = [torch.rand(x.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
        return torch.stack(noise).to(x)
    if baseline == "blur":
        return _blurred(x)
    raise InputError(
        explain(
            "`baseline` is unknown", received=repr(baseline), expected=f"{', '.join(BASELINES)}, or a tensor"
        )
    )


def _blurred(x: Tensor) -> Tensor:
    for axis in (-2, -1):
        sigma = max(1.0, x.shape[axis] / 10)
        half = min(int(3 * sigma + 0.5), x.shape[axis] - 1)
        t = torch.arange(-half, half + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (t / sigma) ** 2)
        kernel = (kernel / kernel.sum()).reshape(1, 1, *((-1, 1) if axis == -2 else (1, -1)))
        pad = (0, 0, half, half) if axis == -2 else (half, half, 0, 0)
        flat = F.pad(x.flatten(0, 1)[:, None], pad, mode="replicate")
        x = F.conv2d(flat, kernel).reshape(x.shape)
    return x


class Score:
    """The score of one class for each image: its logit, or its probability at a temperature."""

    def __init__(self, model: nn.Module, x: Tensor, target: Any, temperature: float | None, name: str):
        self.ready = Classifier(model, f"explain.{name}")
        self.x = self.ready.take(x)
        self.target = self.ready.classes(target, self.ready.logits(self.x), "target")
        self.temperature = None if temperature is None else checks.lipschitz(temperature, "temperature")

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """(N,) float64 scores of images made from the given rows of x."""
        parts = []
        for part, row in zip(images.split(_BATCH), rows.split(_BATCH), strict=True):
            logits = self.ready.logits(part)
            if self.temperature is not None:
                logits = (logits * self.temperature).softmax(1)
            parts.append(logits.gather(1, self.target[row][:, None])[:, 0])
        return torch.cat(parts)


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


def calibrate(model: nn.Module, x: Tensor, confidence: float = 0.98) -> float:
    """Find the temperature at which the mean probability of the predicted class is as given: one for a model.

    Logits of 1-Lipschitz networks are of the order of 1, those of others of 10: probabilities, and areas under them,
    can be compared only after this. Use images of the training set.

    Args:
        model: a classifier in eval mode.
        x: (B, C, H, W) in [0, 1].
        confidence: mean largest probability wanted, above 1 / K and below 1.

    Returns:
        A factor t: `(t * logits).softmax(1)`.

    Raises:
        InputError: when no factor in [1e-6, 1e6] gives the confidence, as for logits that are all alike.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.eye(2))
        >>> x = torch.tensor([0.75, 0.25]).reshape(1, 1, 1, 2)
        >>> round(calibrate(model, x, 0.9), 4)  # log(0.9 / 0.1) / 0.5
        4.3944
    """
    ready = Classifier(model, "explain.calibrate")
    logits = torch.cat([ready.logits(part) for part in ready.take(x).split(_BATCH)])
    wanted = checks.number("confidence", confidence, low=1 / logits.shape[1], high=1.0)

    def mean(exponent: float) -> float:
        return float((logits * 10.0**exponent).softmax(1).amax(1).mean())

    low, high = -6.0, 6.0
    if not mean(low) < wanted < mean(high):
        raise InputError(
            explain(
                "explain.calibrate: no temperature gives this confidence",
                received=f"confidence={wanted:g}, reached from {mean(low):.4g} to {mean(high):.4g}",
                expected="a confidence strictly between",
            )
        )
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < wanted else (low, middle)
    return float(10.0**high)
