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


@dataclass(frozen=True, eq=False)
class KnapsackCount(PixelLoss):
    r"""Number of pixels won, smoothed over a band of gaps: a pixel counts :math:`\sigma(-r / T)`.

    Only pixels whose resistance r is within a few T pull: those that can still be won, and those that could be lost
    again. T falls over the steps, around a share of the gap of the dearest pixel that the budget can buy.
    """

    width: Tensor
    first: float = 1.5
    last: float = 0.3

    def __call__(self, terms: Terms, progress: float) -> Tensor:
        """(B,) mean of the smoothed wins."""
        share = self.first + (self.last - self.first) * progress
        return weighted(torch.sigmoid(-terms.resistance / (share * self.width)[:, None]), terms.weight)


def marginal_gap(terms: Terms, budget: Tensor, p: float) -> Tensor:
    """(B,) gap of the dearest pixel among the cheapest that a budget of logits can buy together.

    Args:
        terms: pixels of a goal, at the clean image.
        budget: (B,) l_p norm by which all logits of an image can move, L eps.
        p: norm.
    """
    resisting = (terms.weight > 0) & (terms.resistance > 0)
    gaps = torch.where(resisting, terms.resistance.detach().double(), torch.inf).sort(dim=1).values
    cost = gaps * _HALF_SPACE[p]
    paid = cost if p == math.inf else (cost**p).cumsum(1)
    limit = budget.double() if p == math.inf else budget.double() ** p
    count = (paid <= limit[:, None]).sum(1, keepdim=True)
    found: Tensor = gaps.gather(1, (count - 1).clamp_min(0)).squeeze(1)
    return torch.where(found.isfinite(), found, typical(terms).double()).clamp_min(1e-30)
