"""An explicit attack on the logits that lowers the mean IoU: the upper end of its certificate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import power
from onelip.certify.costs import to_cost
from onelip.certify.roles import Roles

ROUNDS = 8
FILLS = 4
MARGIN = 1e-6


@dataclass(frozen=True, eq=False)
class Flips:
    """Columns that change, their new classes (indices among the J; J: a class without labels), the mean IoU."""

    columns: Tensor
    classes: Tensor
    value: float


def curve(roles: Roles, limits: Tensor) -> list[float]:
    """Mean IoU after the best attack found within each budget."""
    attack, flips = OutputAttack(roles), None
    found: dict[int, float] = {}
    for index in limits.sort().indices.tolist():
        flips = attack.best(float(limits[index]), flips)
        found[index] = flips.value
    return [found[index] for index in range(len(limits))]


class OutputAttack:
    """Buys flips in one image: those that lower the mean IoU most for their cost first."""

    def __init__(self, roles: Roles) -> None:
        self.roles = roles
        self._correct = roles.starts[-1]
        self._origin = torch.cat([roles.label, roles.wrong])
        # A class without labels is a way out of its own where it is the runner-up; elsewhere it is too dear.
        leave = roles.leave
        shut = (roles.gain[:, : self._correct] <= leave * (1.0 + 1e-9)).any(0)
        self._leave = leave.masked_fill(shut, math.inf)

    def best(self, budget: float, start: Flips | None = None) -> Flips:
        """Best relabelling found within the budget; `start` is one that is known to be within it.

        A margin of 1e-6 of the budget is left over: enough to turn ties into flips.
        """
        nothing = self._origin[:0]
        clean = Flips(nothing, nothing, self.outcome(nothing, nothing)[2])
        found = start or clean
        for first in (clean, *([start] if start else [])):
            flips = first
            for _ in range(ROUNDS):
                flips = self._buy(flips, budget * (1.0 - MARGIN))
                if flips.value >= found.value:
                    break
                found = flips
        return found

    def outcome(self, columns: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, float]:
        """(J,) true positives and union after a relabelling, favourable effects included, and the mean IoU."""
        size = len(self.roles.classes) + 1
        origin, correct = self._origin[columns], columns < self._correct

        def count(labels: Tensor) -> Tensor:
            return torch.bincount(labels, minlength=size)[:-1].double()

        hits = self.roles.hits - count(origin[correct])
        union = self.roles.union + count(classes) - count(origin[~correct])
        return hits, union, float((hits / union).mean())

    def _buy(self, flips: Flips, budget: float) -> Flips:
        """Linearise the mean IoU after some flips, and buy anew from the clean image at these values."""
        hits, union, _ = self.outcome(flips.columns, flips.classes)
        nothing = union.new_zeros(1)  # the entry of all classes without labels
        lost = torch.cat([1.0 / union, nothing])[self._origin]
        gained = torch.cat([hits / union.square(), nothing])
        base = -gained[self._origin]
        base[: self._correct] = lost[: self._correct]
        if self.roles.p == math.inf:
            classes, _, worth = self._choose(base, gained, budget, lambda worth, _: worth)
            chosen = (worth > 0.0).nonzero().squeeze(1)
            return self._flips(chosen, classes[chosen])
        _, cost, worth = self._choose(base, gained, budget, lambda worth, cost: worth / cost)
        order = (worth / cost).sort(descending=True).indices
        last = int((cost[order].cumsum(0) <= budget).sum())
        price = float((worth / cost)[order[last]]) if last < len(order) else 0.0
        classes, _, worth = self._choose(base, gained, budget, lambda worth, cost: worth - price * cost)
        chosen = (worth > 0.0).nonzero().squeeze(1)
        return self._afford(chosen, classes[chosen], worth[chosen], budget)

    def _choose(
        self, base: Tensor, gained: Tensor, budget: float, merit: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For each column the affordable class of most merit, its cost, and its worth (<= 0: leave it alone)."""
        best = torch.full_like(base, -math.inf)
        classes = torch.full_like(self._origin, len(self.roles.classes))
        cost, worth = torch.full_like(base, math.inf), torch.zeros_like(base)
        outside = torch.full_like(base, math.inf)
        outside[: self._correct] = self._leave
        for j, charge in enumerate([*self.roles.gain, outside]):
            value = base + gained[j]
            better = torch.where(charge <= budget, merit(value, charge.clamp_min(1e-300)), -math.inf)
            better = better.masked_fill(value <= 0.0, -math.inf)
            take = better > best
            best = torch.where(take, better, best)
            classes.masked_fill_(take, j)
            cost, worth = torch.where(take, charge, cost), torch.where(take, value, worth)
        return classes, cost, worth

    def _afford(self, columns: Tensor, classes: Tensor, worth: Tensor, budget: float) -> Flips:
        """Keep the flips with the largest worth for their exact cost that fit into the budget."""
        cost = self.costs(columns, classes)
        order = (worth / cost.clamp_min(1e-300)).sort(descending=True).indices
        kept = []
        for _ in range(FILLS):
            order = order[cost[order] <= budget]
            running = cost[order].cumsum(0)
            count = int((running <= budget).sum())
            if not count:
                break
            kept.append(order[:count])
            budget, order = budget - float(running[count - 1]), order[count:]
        chosen = torch.cat(kept) if kept else order[:0]
        return self._flips(columns[chosen], classes[chosen])

    def costs(self, columns: Tensor, classes: Tensor) -> Tensor:
        """Exact cost, to the power p, of giving each column its new class."""
        cost = self.roles.leave.new_zeros(len(columns))
        for j, k in enumerate(self.roles.classes.tolist()):
            own = classes == j
            cost[own] = power(to_cost(self.roles.logits[:, columns[own]], k, p=self.roles.p), self.roles.p)
        outside = classes == len(self.roles.classes)
        cost[outside] = self.roles.leave[columns[outside]]
        return cost

    def _flips(self, columns: Tensor, classes: Tensor) -> Flips:
        return Flips(columns, classes, self.outcome(columns, classes)[2])
