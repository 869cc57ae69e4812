"""Counts under several budgets at once, the sums of `onelip.certify.boxes.sums`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.boxes.sums import Sums
from onelip.certify.budget import affordable, ceiling


@dataclass(frozen=True, eq=False)
class Choices:
    """Moves on different coordinates that are worth the same, each at a price.

    Attributes:
        groups: squared prices of the moves within one level, rising, and the weight of that level.
        weight: of all levels together.
    """

    groups: tuple[tuple[Tensor, float], ...]
    weight: float

    @classmethod
    def of(cls, prices: Tensor, place: Tensor, sums: Sums, *, limit: float) -> Choices:
        """Sort moves of logits.

        Args:
            prices: (M,) squared.
            place: (M,) location of each.
            sums: that the budget bounds.
            limit: largest budget that will be asked for.
        """
        groups, level = [], sums.level[place]
        for index, weight in enumerate(sums.logits_alone[1:].tolist()):
            own = prices[level == index]
            groups.append((own[own <= ceiling(own, limit, 2.0)].sort().values, weight))
        return cls(tuple(groups), float(sums.logits_alone[0]))

    def running(self, budget: float) -> Tensor:
        """What the n cheapest cost together in the joint sum, for all n that the sums of logits can pay for."""
        kept = [
            prices[: int(affordable((prices * weight).cumsum(0), prices.new_tensor([budget]))[0])]
            for prices, weight in self.groups
        ]
        total = torch.cat(kept).sort().values.cumsum(0)
        return total[total * self.weight <= budget]

    def count(self, budget: Tensor) -> Tensor:
        """(E,) int64: at most so many can be made within each closed budget. Exact: the cheapest of each level."""
        return torch.tensor([len(self.running(float(value))) for value in budget], dtype=torch.int64)


def fallen(costs: Tensor, budget: Tensor) -> Tensor:
    """(E,) int64: at most so many of the G objects can be lost, whose separate costs (G, V, E) are given.

    Exact for one sum (V = 1). For several, an object that is too dear alone in any of them stays, and no sum can pay
    for more of the others than its own cheapest.
    """
    paid = torch.where((costs <= budget).all(1, keepdim=True), costs, torch.inf).sort(dim=0).values.cumsum(0)
    return (paid <= budget).sum(0).amin(0)


def largest(costs: Tensor) -> Tensor:
    """The cost of a set from its sums (..., V)."""
    return costs.amax(-1)
