"""SmoothGrad, with a proof of how little it can change when the image does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.projection import Noise
from onelip.core import checks
from onelip.core.errors import BoundError, InputError, explain
from onelip.explain.classifier import Classifier
from onelip.explain.gradients import gradient

_UP = 1 + 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class SmoothGradient:
    r"""Estimated mean gradients :math:`g_\sigma(x) = E \nabla f_t(x + \sigma Z)`, Z normal.

    Attributes:
        maps: (B, C, H, W) float64, means over the samples.
        target: (B,) int64, the classes t.
        sigma: of the noise.
        samples: gradients averaged.
        lipschitz: proven constant L of each logit, or None.
        refusal: why there is none; empty if there is one.

    Guarantee: `change` and `error` hold in the l2 norm, for the exact-arithmetic network; `error` with the probability
        given, over the noise.
    """

    maps: Tensor
    target: Tensor
    sigma: float
    samples: int
    lipschitz: float | None
    refusal: str

    @property
    def constant(self) -> float:
        """L; raises BoundError where no bound can be proven."""
        if self.lipschitz is None:
            raise BoundError(
                explain("explain.smoothgrad: nothing is certified for this model", why=self.refusal)
            )
        return self.lipschitz

    def change(self, distance: float) -> float:
        r"""Bound of :math:`\|g_\sigma(x) - g_\sigma(x')\|_2` for :math:`\|x - x'\|_2` up to `distance`.

        :math:`\min(2 L, (L / \sigma) \sqrt{2 / \pi} \, d)`: since :math:`g_\sigma = \sigma^{-1} E f(x + \sigma Z) Z`.
        """
        d = checks.number("distance", distance, low=0.0)
        return self.constant * min(2.0, math.sqrt(2 / math.pi) * d / self.sigma) * _UP

    def error(self, confidence: float = 0.999) -> float:
        r"""Distance of the estimate from :math:`g_\sigma(x)`, for one image, at most, with this probability.

        :math:`L \sqrt{8 \ln(2 / \alpha) / n}`, from the inequality of Pinelis for means of bounded vectors.
        """
        alpha = 1 - checks.number("confidence", confidence, low=0.0, high=1.0)
        if alpha <= 0:
            raise InputError(explain("`confidence` is one", expected="a number below 1, as 0.999"))
        return min(2.0, math.sqrt(8 * math.log(2 / alpha) / self.samples)) * self.constant * _UP

    def certified_top(self, count: int, distance: float, confidence: float = 0.999) -> Tensor:
        r"""(B, C, H, W) bool: values that are surely among the `count` largest of the exact map.

        For every x' within `distance`, :math:`|g_\sigma(x')|` has them among its `count` largest, with the
        probability given: two values change places only if the map moves by their difference over :math:`\sqrt 2`.
        """
        checks.positive_int("count", count)
        flat = self.maps.abs().flatten(1)
        if count >= flat.shape[1]:
            return torch.ones_like(self.maps, dtype=torch.bool)
        moved = math.sqrt(2) * (self.change(distance) + self.error(confidence)) * _UP
        rest = flat.sort(dim=1, descending=True).values[:, count : count + 1]
        return (flat - rest > moved).reshape(self.maps.shape)


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Any = None,
    *,
    sigma: float = 0.2,
    samples: int = 50,
    seed: int = 0,
) -> SmoothGradient:
    """Mean gradient of a logit under normal noise, and for Lipschitz models a proof of its stability.

    Args:
        model: a classifier, (B, C, H, W) to (B, K), in eval mode; it is not changed.
        x: (B, C, H, W) in [0, 1]; noisy images leave it.
        target: the class, an int or (B,); None: the predicted one.
        sigma: standard deviation of the noise, in units of [0, 1].
        samples: gradients averaged.
        seed: of the noise; every image has its own.

    Returns:
        `.maps`, signed, and the certificate: `change(distance)`, `error(confidence)`, `certified_top(...)`.

    Guarantee: as `SmoothGradient`; usually loose by much: gradients of networks move far less than they could.

    Raises:
        InputError: images, classes or options that do not fit.
        TrainModeError: when any part of the model is in train mode.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
        >>> found = smoothgrad(model, torch.rand(1, 1, 2, 2), target=0, samples=3)
        >>> torch.allclose(found.maps.flatten().float(), model[1].weight[0])
        True

    Source: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017; the bound is that of smoothed functions
        in Nesterov and Spokoiny, Random gradient-free minimization of convex functions, 2017.
    """
    ready = Classifier(model, "explain.smoothgrad")
    images = ready.take(x)
    classes = ready.classes(target, ready.logits(images), "target")
    size = checks.lipschitz(sigma, "sigma")
    checks.positive_int("samples", samples)
    draws = Noise(seed, 0, len(images)).draws
    total = torch.zeros_like(images)
    for _ in range(samples):
        noise = [torch.randn(images.shape[1:], generator=draw, dtype=torch.float64) for draw in draws]
        total += gradient(ready, images + size * torch.stack(noise).to(images), classes)
    constant = ready.logit_constant(images)
    return SmoothGradient(total / samples, classes, size, samples, constant, ready.refusal)
