"""Sorted items with running sums: what the cheapest of them cost together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import ceiling


@dataclass(frozen=True, eq=False)
class Ladder:
    """Items from the cheapest on.

    Attributes:
        cost: (n,) sorted costs.
        count: (n + 1,) float64, how many pixels the first 0, 1, ... items stand for.
        spent: (n + 1,) float64, what they cost together.
    """

    cost: Tensor
    count: Tensor
    spent: Tensor

    def within(self, budget: Tensor) -> Tensor:
        """Number of items that fit into each closed budget; -1 where not even none does (a budget < 0)."""
        return torch.searchsorted(self.spent, budget, right=True) - 1


def climb(cost: Tensor, weight: Tensor | None = None) -> Ladder:
    """Sort items and add them up; each item stands for `weight` pixels."""
    cost, order = cost.sort()
    steps = torch.ones_like(cost) if weight is None else weight[order]
    nothing = cost.new_zeros(1)
    spent = torch.cat([nothing, (cost if weight is None else cost * steps).cumsum(0)])
    # A parallel scan may fall by a roundoff, which the slack covers; a search needs it monotone.
    spent = spent.cummax(0).values if spent.is_cuda else spent
    return Ladder(cost, torch.cat([nothing, steps.cumsum(0)]), spent)


def climb_within(cost: Tensor, limit: float, p: float) -> Ladder:
    """The ladder of the items that a limit can buy together, and perhaps a few more."""
    return climb(cost[cost <= ceiling(cost, limit, p)])
