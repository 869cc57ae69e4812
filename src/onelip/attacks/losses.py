"""Losses over the pixels of a goal. All are to be maximised, and none changes when the logits are scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from onelip.attacks.base import PixelLoss, Terms

_SHARPNESS = 10.0
_HALF_SPACE = {1.0: 1.0, 2.0: math.sqrt(0.5), math.inf: 0.5}


def typical(terms: Terms) -> Tensor:
    """(B,) mean size of the gaps of logits of the pixels that count: the natural unit of an image's logits."""
    counted = terms.weight > 0
    total = (terms.resistance.detach().abs() * counted).sum(1)
    mean: Tensor = total / counted.sum(1).clamp_min(1)
    return mean.clamp_min(torch.finfo(mean.dtype).tiny)


def weighted(values: Tensor, weight: Tensor) -> Tensor:
    """(B,) mean of the pixels, by weight."""
    mean: Tensor = (values * weight).sum(1) / weight.sum(1).clamp_min(torch.finfo(weight.dtype).tiny)
    return mean


@dataclass(frozen=True, eq=False)
class CrossEntropy(PixelLoss):
    r"""Cross-entropy of logits scaled so that their typical gap is ten.

    LipNets keep their logits close together: unscaled, cross-entropy would be nearly linear and blind to which pixels
    are about to flip. To leave a class it is maximised, to enter one it is minimised.

    With `ramp`, pixels that resist weigh :math:`1 - \lambda` and those won :math:`\lambda = i / 2T`, as in SegPGD.
    """

    unit: Tensor
    ramp: bool = False

    @property
    def scale(self) -> Tensor:
        """(B,) inverse temperature."""
        return _SHARPNESS / self.unit

    def __call__(self, terms: Terms, progress: float) -> Tensor:
        """(B,) mean over the pixels."""
        z = terms.resistance * self.scale[:, None]
        values = torch.where(terms.enter, -F.softplus(z), F.softplus(-z))
        weight = terms.weight
        if self.ramp:
            late = 0.5 * progress
            weight = weight * torch.where(terms.won, late, 1.0 - late)
        return weighted(values, weight)


@dataclass(frozen=True, eq=False)
class Margin(PixelLoss):
    """Sum of the gaps by which pixels still resist; what is won counts no further."""

    unit: Tensor

    def __call__(self, terms: Terms, progress: float) -> Tensor:  # noqa: ARG002
        """(B,) minus the mean resistance."""
        beyond = -0.02 * self.unit[:, None]
        return -weighted(torch.maximum(terms.resistance, beyond) / self.unit[:, None], terms.weight)
