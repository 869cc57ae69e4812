"""How much of what a model can lose at all is lost when the most important pixels go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import norms
from onelip.core import checks
from onelip.core.errors import BoundError, InputError, UnsoundError, explain
from onelip.explain.attributions import pixels
from onelip.explain.scoring import Score, baseline_images

_ROUNDING = 1e-9


def lipschitz_efficiency(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    target: Any = None,
    *,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
    baseline: str | Tensor = "zero",
    seed: int = 0,
) -> Tensor:
    r"""Drop of a logit when the top pixels are replaced, over the largest drop that the model allows, (B,) in [-1, 1].

    .. math:: \frac{f_t(x) - f_t(x_S)}{L \, \|x - x_S\|_2}

    with x_S the image whose share S of pixels with the highest map is replaced by the baseline, and the proven constant
    L of the logit; mean over the shares. 1: the score falls as fast as the model can fall at all. It needs no
    softmax and no temperature, and is comparable between networks of different constants and images of other
    contrast.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode, with a proven bound.
        x: (B, C, H, W) in [0, 1].
        maps: (B, H, W), or (B, C, H, W) whose channels are averaged; higher is more important. Ties go by position.
        target: the class t, an int or (B,); None: the predicted one.
        shares: of pixels, each in (0, 1].
        baseline: see `baseline_images`.
        seed: of the baseline "uniform".

    Returns:
        (B,) float64; shares that change nothing, as black pixels replaced by black, are left out; nan where all are.

    Guarantee: never outside [-1, 1]: the bound is proven.

    Raises:
        InputError: images, classes, maps or options that do not fit.
        BoundError: no bound is proven for the model.
        UnsoundError: a drop beyond the bound: a wrong constant, never expected.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]]))
        >>> x = torch.full((1, 1, 2, 2), 0.8)
        >>> round(lipschitz_efficiency(model, x, x, 0, shares=[1.0]).item(), 4)  # along the weight: nothing is lost
        1.0
    """
    score = Score(model, x, target, None, "lipschitz_efficiency")
    sizes = [checks.number("shares", share, low=0.0, high=1.0) for share in shares]
    if not sizes or min(sizes) <= 0:
        raise InputError(
            explain(
                "`shares` are not usable", received=list(shares), expected="one or more numbers in (0, 1]"
            )
        )
    constant = score.ready.logit_constant(score.x)
    if constant is None:
        raise BoundError(
            explain(
                "explain.lipschitz_efficiency: there is no proven constant to compare with",
                received=score.ready.refusal,
                expected="a model whose layers have rules",
                fix="deletion with a temperature of `calibrate` compares models without bounds",
            )
        )
    images = score.x
    order = pixels(maps, images).flatten(1).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1).reshape(len(images), 1, *images.shape[-2:])
    other = baseline_images(images, baseline, seed=seed)
    rows = torch.arange(len(images), device=images.device)
    whole = score(images, rows)
    found = []
    for size in sizes:
        changed = torch.where(place < max(1, round(size * order.shape[1])), other, images)
        way = constant * norms(images - changed, 2)
        drop = whole - score(changed, rows)
        found.append(torch.where(way > 0, drop / way.clamp_min(1e-300), torch.nan))
        rounding = _ROUNDING * (way + whole.abs()) + 1e-12
        if bool((drop.abs() > way + rounding).any()):
            raise UnsoundError(
                explain(
                    "explain.lipschitz_efficiency: a logit falls faster than its constant allows",
                    received=f"{float((drop.abs() - way).max()):.3g} beyond",
                    why="the Lipschitz constant is too small",
                    fix="report this; onelip.testing.check_rule tells which rule registered by you is wrong",
                )
            )
    return torch.stack(found, 1).clamp(-1.0, 1.0).nanmean(1)
