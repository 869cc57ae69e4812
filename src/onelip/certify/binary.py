"""The mean IoU of two classes: its exact worst case and radius, by a sweep over the flips of one class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import power
from onelip.certify.ladder import Ladder, climb, climb_within
from onelip.certify.roles import mean_iou, tallies
from onelip.certify.scores import Scores

BOUNDLESS = 1e300
"""Beyond it squares overflow: the attacker is given everything."""


@dataclass(frozen=True, eq=False)
class Binary:
    r"""One image of two classes.

    Only correct pixels are worth flipping, and a flip takes a true positive from one class and gives a false
    positive to the other:

    .. math:: \frac12 \Big( \frac{t_0 - m_0}{Z_0 + m_1} + \frac{t_1 - m_1}{Z_1 + m_0} \Big)

    falls with m_0 and with m_1, so for each m_0 the largest affordable m_1 is best: exact. A class without
    labels has no term, and no correct pixels.
    """

    hits: Tensor
    union: Tensor
    costs: tuple[Tensor, Tensor]
    p: float
    items: int

    def score(self, first: Tensor, second: Tensor) -> Tensor:
        """Mean IoU after that many flips of the correct pixels of class 0 and of class 1."""
        flips = torch.stack([first, second], -1)
        return mean_iou(self.hits - flips, self.union + flips.flip(-1) * (self.union > 0))

    def worst(self, budgets: Tensor) -> list[float]:
        """Exact minimum within each closed budget."""
        if self.p == math.inf:  # every pixel has the whole budget
            flips = [torch.searchsorted(c.sort().values, budgets, right=True) for c in self.costs]
            return [float(v) for v in self.score(*flips)]
        limit = float(budgets.max())
        first, second = (climb_within(c, limit, self.p) for c in self.costs)
        result = []
        for budget in budgets:
            if budget > BOUNDLESS:
                result.append(0.0)
                continue
            left = budget - first.spent
            left = left[left >= 0.0]
            result.append(float(self.score(first.count[: len(left)], second.within(left).double()).min()))
        return result

    def spent_to_reach(self, threshold: float) -> float:
        """Smallest cost of flips after which the score is <= threshold, 0 when it is already, inf when none."""
        first, second = (self._ladder(c) for c in self.costs)
        low = torch.zeros(len(first.count), dtype=torch.int64, device=first.count.device)
        high = torch.full_like(low, len(second.count))
        # Bisection, for all m_0 at once, on the very comparison a caller would make.
        while bool((low < high).any()):
            middle = (low + high) // 2
            flips = middle.clamp_max(len(second.count) - 1).double()
            reached = self.score(first.count, flips) <= threshold
            high = torch.where(reached, middle, high)
            low = torch.where(reached, low, (middle + 1).minimum(high))
        spent = torch.cat([second.spent, second.spent.new_full((1,), math.inf)])[low]
        both = torch.maximum(first.spent, spent) if self.p == math.inf else first.spent + spent
        return float(both.min())

    def _ladder(self, costs: Tensor) -> Ladder:
        ladder = climb(costs)
        if self.p != math.inf:
            return ladder
        return Ladder(ladder.cost, ladder.count, torch.cat([ladder.cost.new_zeros(1), ladder.cost]))


def binary(scores: Scores) -> list[Binary | None]:
    """The images of a batch with two logits; None where no pixel is valid."""
    leave = power(scores.leave_cost(scores.labels), scores.p)
    result: list[Binary | None] = []
    for image, valid in enumerate(scores.valid):
        labels, prediction = scores.labels[image][valid], scores.prediction[image][valid]
        hits, union = tallies(labels, prediction, 2)
        cost, right = leave[image][valid], labels == prediction
        costs = (cost[right & (labels == 0)], cost[right & (labels == 1)])
        items = labels.numel()
        result.append(Binary(hits, union, costs, scores.p, items) if items else None)
    return result
