r"""Counts under several budgets at once: all levels together, and every level alone.

An image within :math:`\epsilon` moves all outputs jointly by at most :math:`L \epsilon`, and those of level l by at
most :math:`L_l \epsilon`, often much less. In units of the joint budget :math:`B = (L \epsilon)^2` the squared moves
:math:`q_i` of an attack obey

.. math:: \sum_i w_{iv} q_i \le B \quad \text{for all } v,

with weight 1 for all locations (v = 0), and :math:`(L / L_l)^2` for those of level l alone (`Scene.weights`). So a set
of moves costs the largest of these sums, and sets that are made together have to stay within each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import affordable, ceiling


@dataclass(frozen=True, eq=False)
class Choices:
    """Moves on different coordinates that are worth the same, each at a price.

    Attributes:
        groups: squared prices of the moves within one level, rising, and the weight of that level.
    """

    groups: tuple[tuple[Tensor, float], ...]

    @classmethod
    def of(cls, prices: Tensor, place: Tensor, weights: Tensor, *, limit: float) -> Choices:
        """Sort moves.

        Args:
            prices: (M,) squared.
            place: (M,) location of each.
            weights: (N, V) of the locations.
            limit: largest budget that will be asked for.
        """
        own = weights[:, 1:] if weights.shape[1] > 1 else weights
        groups = []
        for column in own.T:
            level = prices[column[place] > 0]
            weight = float(column.max())
            cheap = level[level <= ceiling(level, limit, 2.0)]
            groups.append((cheap.sort().values, weight))
        return cls(tuple(groups))

    def running(self, budget: float) -> Tensor:
        """What the n cheapest cost together, among those that their level can pay for."""
        kept = [
            prices[: int(affordable((prices * weight).cumsum(0), prices.new_tensor([budget]))[0])]
            for prices, weight in self.groups
        ]
        return torch.cat(kept).sort().values.cumsum(0)

    def count(self, budget: Tensor) -> Tensor:
        """(E,) int64: at most so many can be made within each closed budget. Exact: the cheapest of each level."""
        rows = [affordable(self.running(float(value)), value[None]) for value in budget]
        return torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)


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
