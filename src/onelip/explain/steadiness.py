"""Do maps stay when the image hardly changes; how little there must be to break what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import Noise, norms, per_image
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.explain.attributions import pixels, spearman
from onelip.explain.classifier import Classifier
from onelip.explain.counterfactuals import counterfactual
from onelip.explain.gradients import gradient, saliency

Explainer = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Steadiness:
    """How far maps move under small noise.

    Attributes:
        l2: (B,) mean distance of the maps scaled to norm 1; lower is steadier.
        rank: (B,) mean of 1 - Spearman's rank correlation; lower is steadier.
    """

    l2: Tensor
    rank: Tensor


def stability(
    model: nn.Module,
    x: Tensor,
    explainer: Explainer = saliency,
    target: Any = None,
    *,
    radius: float = 0.1,
    samples: int = 20,
    box: bool = False,
    seed: int = 0,
) -> Steadiness:
    r"""Compare maps with those of neighbours x + U(-r, r), two-sided, each image with noise of its own.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode.
        x: (B, C, H, W) in [0, 1].
        explainer: `(model, images, target)` to maps (B, H, W) or (B, C, H, W), target (B,) int64.
        target: the class, an int or (B,), the same for all neighbours; None: the one predicted for x.
        radius: r.
        samples: neighbours of each image.
        box: clip neighbours to [0, 1], which makes noise one-sided at black and white pixels. Explainers that
            refuse images outside need it; `saliency` does not, here.
        seed: of the noise.

    Raises:
        InputError: images, classes, options that do not fit, or maps of the wrong shape.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> stability(model, torch.rand(2, 1, 4, 4)).l2.tolist()  # the gradient of a linear model never moves
        [0.0, 0.0]
    """
    ready = Classifier(model, "explain.stability")
    images = ready.take(x)
    classes = ready.classes(target, ready.logits(images), "target")
    size = checks.number("radius", radius, low=0.0)
    checks.positive_int("samples", samples)

    def maps(z: Tensor) -> Tensor:
        found = (
            gradient(ready, z, classes) if explainer is saliency else explainer(model, z.to(x.dtype), classes)
        )
        pixels(found, z)
        return found.detach().double().flatten(1)

    draws = Noise(seed, 0, len(images)).draws
    first = maps(images)
    away, apart = torch.zeros_like(first[:, 0]), torch.zeros_like(first[:, 0])
    for _ in range(samples):
        noise = [torch.rand(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
        z = images + size * (2 * torch.stack(noise).to(images) - 1)
        other = maps(z.clamp(0, 1) if box else z)
        away += norms(_unit(other) - _unit(first), 2)
        apart += (1 - spearman(first, other)).nan_to_num(nan=0.0)
    return Steadiness(away / samples, apart / samples)


def _unit(maps: Tensor) -> Tensor:
    return maps / per_image(norms(maps, 2).clamp_min(1e-300), maps)


def robustness_sr(
    model: nn.Module,
    x: Tensor,
    maps: Tensor,
    to: Any = None,
    *,
    shares: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
    steps: int = 60,
    box: bool = False,
    refine: int = 3,
    seed: int = 0,
) -> Tensor:
    r"""How far the most important pixels alone must move to change the class, over the certified radius.

    The distance of a counterfactual that may only change the top share of the pixels, divided by the proven lower
    bound for the whole image: at least 1, comparable between models of different robustness, and lower is better.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode.
        x: (B, C, H, W) in [0, 1].
        maps: (B, H, W), or (B, C, H, W) whose channels are averaged; higher is more important.
        to: the class wanted, as for `counterfactual`.
        shares: of pixels, each in (0, 1].
        steps: as for `counterfactual`, as are the rest.
        box: keep images in [0, 1].
        refine: rounds of refinement.
        seed: of directions where the gradient is zero.

    Returns:
        (B, shares) float64; inf where nothing was found, and nan everywhere for a model without a proven bound.

    Raises:
        InputError: images, classes, maps or shares that do not fit.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
        >>> x = torch.rand(2, 1, 4, 4)
        >>> robustness_sr(model, x, saliency(model, x).abs(), shares=(0.5, 1.0)).shape
        torch.Size([2, 2])

    Source: Hsieh et al., Evaluations and methods for explanation through robustness analysis, 2021.
    """
    parts = [checks.number(f"shares[{i}]", value, low=0.0, high=1.0) for i, value in enumerate(shares)]
    if not parts or min(parts) == 0:
        raise InputError(explain("`shares` is not usable", received=shares, expected="numbers in (0, 1]"))
    values = pixels(maps, checks.images(x, "x"))
    place = values.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    place = place.reshape(values.shape)
    columns = []
    for part in parts:
        top = place < max(1, round(part * place[0].numel()))
        found = counterfactual(model, x, to, steps=steps, box=box, mask=top, refine=refine, seed=seed)
        columns.append(found.gap)
    return torch.stack(columns, 1)
