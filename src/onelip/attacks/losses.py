"""Losses over the pixels of a goal. All are to be maximised, and none changes when the logits are scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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


class Leave(Margin):
    """The same over the pixels that should leave their class alone; those that should enter one do not count."""

    def __call__(self, terms: Terms, progress: float) -> Tensor:
        """(B,) minus the mean resistance."""
        return super().__call__(replace(terms, weight=terms.weight * ~terms.enter), progress)


@dataclass(frozen=True, eq=False)
class InReach(PixelLoss):
    """Gaps of the pixels in reach: those that are won, to keep them, and the next ones in order of their price.

    The order is recomputed at every step, and the number of next pixels falls from a share of what the budget can buy
    to one: early steps look far, late steps let go of all that cannot be won and spend everything on the last pixel
    that can. A pixel pulls until it is won by a hair, and no further.

    Attributes:
        gap: (B,) of `marginal_gap`.
        count: (B,) number of pixels that the budget can buy.
        p: norm: price over worth orders like gap / weight^(1/p).
    """

    gap: Tensor
    count: Tensor
    p: float
    first: float = 0.3
    hair: float = 0.01

    def __call__(self, terms: Terms, progress: float) -> Tensor:
        """(B,) minus the weighted gaps of the pixels in reach."""
        counted, gap = terms.weight > 0, terms.resistance
        worth = terms.weight.clamp_min(torch.finfo(gap.dtype).tiny) ** (1.0 / self.p)
        price = torch.where(counted, gap.detach() / worth, torch.inf)
        more = (self.first * (1.0 - progress) * self.count).long().clamp_min(1)
        last = ((price <= 0).sum(1) + more).clamp_max(gap.shape[1] - 1)
        limit = price.sort(dim=1).values.gather(1, last[:, None])
        beyond = (gap + self.hair * self.gap[:, None]).clamp_min(0.0) / self.gap[:, None]
        return -weighted(beyond, terms.weight * (price <= limit))


def marginal_gap(terms: Terms, budget: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Gap of the dearest pixel among the cheapest that a budget of logits can buy together, and their number.

    Args:
        terms: pixels of a goal, at the clean image.
        budget: (B,) l_p norm by which all logits of an image can move, L eps.
        p: norm.

    Returns:
        (B,) gaps, float64, that of a typical pixel where none can be bought; (B,) counts, int64.
    """
    resisting = (terms.weight > 0) & (terms.resistance > 0)
    gaps = torch.where(resisting, terms.resistance.detach().double(), torch.inf).sort(dim=1).values
    cost = gaps * _HALF_SPACE[p]
    paid = cost if p == math.inf else (cost**p).cumsum(1)
    limit = budget.double() if p == math.inf else budget.double() ** p
    count = (paid <= limit[:, None]).sum(1)
    found = gaps.gather(1, (count - 1).clamp_min(0)[:, None]).squeeze(1)
    gap = torch.where(found.isfinite() & (count > 0), found, typical(terms).double())
    return gap.clamp_min(1e-30), count
