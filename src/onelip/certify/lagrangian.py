r"""Lower bounds of the mean IoU of three and more classes: every class alone, and all of them at one price.

The attacker minimises :math:`\frac1J \sum_k (t_k - m_k) / (Z_k + n_k)` where class k loses m_k true positives and
gains n_k false ones. Effects that help the defender are dropped. Any division of the cost of a flip y -> b of a
correct pixel, :math:`c = (c_y - \mu) + (c - c_y + \mu)` with :math:`0 \le \mu \le c_y` and c_y the cost of
leaving y, charges the first part to the loss of y and the second to the gain of b. With a price :math:`\lambda
\ge 0` on the budget B the classes separate:

.. math:: g = -\lambda B + \sum_k \min_{(m, n) \in F_k} \frac{t_k - m}{J (Z_k + n)} + \lambda (P_k[m] + D_k[n])

with P_k and D_k the running sums of the sorted parts and F_k the pairs that class k alone could afford at full
cost. For every price and division g is a lower bound; price 0 gives each class the whole budget.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import UNIT_ROUNDOFF
from onelip.certify.ladder import Ladder, climb, climb_within
from onelip.certify.roles import Roles


@dataclass(frozen=True, eq=False)
class Prices:
    """What the attacker's goods are worth: a price of the budget, and two values for each class (J,).

    `part` replaces the values: that part of every leaving cost is charged to the gaining class.
    """

    level: float
    lost: Tensor
    gained: Tensor
    part: float | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """The bound at one price with its minimiser: (J,) lost and gained pixels, and what they cost together."""

    value: float
    lost: Tensor
    gained: Tensor
    spent: float

    def prices(self, roles: Roles, level: float) -> Prices:
        """Values of one more lost and one more gained pixel at this minimiser."""
        union = roles.union + self.gained
        lost = roles.share / union
        return Prices(level, lost, lost * (roles.hits - self.lost).clamp_min(0.0) / union)


def transfers(roles: Roles, prices: Prices) -> Tensor:
    """(M,) parts of the leaving costs that are charged to the gaining class, between 0 and the whole.

    If the values were constant, a transfer between the two largest of: what the loss leaves to pay, what the
    best gain can pay, what the second best gain can pay, would make every pixel's two roles agree.
    """
    if prices.part is not None:
        return roles.leave * prices.part
    correct = roles.starts[-1]
    first = torch.full_like(roles.leave, -math.inf)
    second = first.clone()
    for worth, cost in zip(prices.gained / prices.level, roles.gain, strict=True):
        pays = worth - cost[:correct]
        torch.maximum(second, torch.minimum(first, pays), out=second)
        torch.maximum(first, pays, out=first)
    first, second = first + roles.leave, second + roles.leave
    owed = roles.leave - (prices.lost / prices.level)[roles.label]
    pair = torch.maximum(first, owed) + torch.maximum(torch.minimum(first, owed), second)
    return (0.5 * pair).nan_to_num_(nan=0.0).clamp_min_(0.0).minimum(roles.leave)


def ladders(roles: Roles, transfer: Tensor, *, level: float, budget: float) -> list[tuple[Ladder, Ladder]]:
    """For each class the sorted parts of its losses and gains, without those too dear at this price or above.

    Comparisons are written so that a nan would be kept, and spoil the bound, rather than be left out of it.
    """
    correct, result = roles.starts[-1], []
    margin = 1.0 + 1e-9
    worth = roles.share / (level * roles.union) * margin
    ceilings = zip(worth.tolist(), (worth * roles.hits / roles.union).tolist(), strict=True)
    for j, (lose_at, gain_at) in enumerate(ceilings):
        own = slice(roles.starts[j], roles.starts[j + 1])
        full = roles.leave[own]
        part = full - transfer[own]
        lose = ~(part > lose_at) & (full <= budget)
        charge = roles.gain[j].clone()
        charge[:correct] -= roles.leave - transfer
        gain = ~(charge > gain_at) & (roles.gain[j] <= budget)
        weights = (None, None) if roles.weight is None else (roles.weight[own][lose], roles.weight[gain])
        result.append((climb(part[lose], weights[0]), climb(charge[gain], weights[1])))
    return result


def solve(
    roles: Roles,
    parts: list[tuple[Ladder, Ladder]],
    *,
    level: float,
    budget: float,
    caps: list[Tensor] | None = None,
) -> Solution:
    r"""The bound at one price, minimised exactly over every class's losses and gains.

    For m losses the best number of gains is the number of items with :math:`d_i (Z + i - 1) (Z + i) < (t - m)
    / (J \lambda)`: the left side increases. `caps` holds for m = 0, 1, ... the gains that class alone affords.
    """
    value, spent, lost, gained = 0.0, 0.0, [], []
    for j, (lose, gain) in enumerate(parts):
        rungs = len(lose.count) if caps is None else min(len(lose.count), len(caps[j]))
        numerator = (roles.hits[j] - lose.count[:rungs]).clamp_min(0.0) * roles.share
        union = roles.union[j] + gain.count
        n = torch.searchsorted(gain.cost * union[1:] * union[:-1], numerator / level)
        if caps is not None:
            n = torch.minimum(n, caps[j][:rungs])
        charge = lose.spent[:rungs] + gain.spent[n]
        total = numerator / union[n] + level * charge
        best = int(total.argmin())
        value += float(total[best])
        spent += float(charge[best])
        lost.append(lose.count[best])
        gained.append(gain.count[n[best]])
    return Solution(value - level * budget, torch.stack(lost), torch.stack(gained), spent)


class Alone:
    """The naive bound, with each class given the whole budget, for all budgets with one sort.

    Args:
        roles: the image.
        limit: the largest budget.
    """

    def __init__(self, roles: Roles, limit: float) -> None:
        self.roles = roles
        self._parts = [
            [climb_within(part, limit, roles.p) for part in (roles.leave[start:stop], roles.gain[j])]
            for j, (start, stop) in enumerate(itertools.pairwise(roles.starts))
        ]

    def caps(self, budget: float) -> list[Tensor]:
        """For each class and m = 0, 1, ... affordable losses the largest number of gains beside them."""
        result = []
        for lose, gain in self._parts:
            if self.roles.p == math.inf:  # each pixel has the whole budget
                m, n = ((ladder.cost <= budget).sum() for ladder in (lose, gain))
                result.append(n.expand(int(m) + 1))
                continue
            left = budget - lose.spent
            result.append(gain.within(left[left >= 0.0]))
        return result

    def bound(self, caps: list[Tensor]) -> float:
        """Mean over the classes of the smallest IoU that each can be brought to."""
        worst = [
            ((hits - torch.arange(len(n), device=n.device)) / (union + n)).min()
            for hits, union, n in zip(self.roles.hits, self.roles.union, caps, strict=True)
        ]
        # The counts are exact; only the mean rounds, by less than a unit for each class.
        return float(torch.stack(worst).mean()) * (1.0 - 4.0 * UNIT_ROUNDOFF * len(worst))


def evaluate(
    roles: Roles, prices: Prices, levels: list[float], *, budget: float, caps: list[Tensor]
) -> Solution:
    """Best of the bounds at a few prices, computed on all pixels; the rounding is still to be taken off."""
    transfer = transfers(roles, prices)
    parts = ladders(roles, transfer, level=min(levels), budget=budget)
    solutions = [solve(roles, parts, level=level, budget=budget, caps=caps) for level in levels]
    return max(solutions, key=lambda s: s.value if math.isfinite(s.value) else -math.inf)
