"""The one-dimensional sweep: m true positives lost, and with what is left n false positives gained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import affordable, ceiling, power, running_cost
from onelip.certify.costs import HALF_SPACE, leave_cost, to_cost
from onelip.certify.scores import Scores

Ratio = Callable[[Tensor, Tensor], Tensor]
"""(hits, union) -> value: rises with the hits, falls with the union; one correctly rounded division."""

_FAN = 64


@dataclass(frozen=True, eq=False)
class Sweep:
    """What the attacker of one class in one image can buy.

    Losing a true positive leaves the union as it is; a new false positive adds one to it. The two other
    flips only help the defender, so every optimum uses these two, the cheapest first.

    Attributes:
        lost: (M + 1,) float64, cost of losing 0, 1, 2, ... true positives, to the power p.
        gained: (N + 1,) float64, the same for new false positives.
        hits: true positives.
        union: pixels labelled or predicted as the class.
        p: norm; for p = inf the budget is not shared.
    """

    lost: Tensor
    gained: Tensor
    hits: int
    union: int
    p: float

    def last(self, budget: Tensor) -> Tensor:
        """(E,) int64: most true positives that each budget affords."""
        return affordable(self.lost, budget) - 1

    def after(self, budget: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        """(hits, union) when m true positives are lost and the rest of the budget buys false positives."""
        rest = budget - (torch.zeros_like(self.lost[m]) if self.p == math.inf else self.lost[m])
        return self.hits - m, self.union + affordable(self.gained, rest) - 1

    def worst(self, budget: Tensor, ratio: Ratio) -> Tensor:
        """(E,) float64: smallest ratio within each budget, nan for an empty union.

        Branch and bound over m, all budgets together: a block of m is worth at least the hits of its end
        over the union of its start. Blocks that cannot beat a value already found are dropped, the others
        are split in 64.
        """
        budget = budget.to(self.lost.device)
        best = torch.full_like(budget, math.inf if self.union else math.nan)
        if not self.union:
            return best
        last = self.last(budget)
        width = 1
        while width <= int(last.max()):
            width *= _FAN
        which = torch.arange(len(budget), device=budget.device)
        start = torch.zeros_like(which)
        fan = torch.arange(_FAN, device=budget.device)
        while True:
            hits, union = self.after(budget[which], start)
            best.scatter_reduce_(0, which, ratio(hits, union), "amin")
            if width == 1:
                return best
            end = torch.minimum(start + (width - 1), last[which])
            open_ = ratio(self.hits - end, union) < best[which]
            width //= _FAN
            start = (start[open_].unsqueeze(1) + width * fan).flatten()
            which = which[open_].repeat_interleave(_FAN)
            inside = start <= last[which]
            start, which = start[inside], which[inside]

    def cheapest(self, threshold: float, ratio: Ratio, union: Callable[[Tensor], Tensor]) -> float:
        """Smallest budget at which the ratio is at most the threshold; inf when it never is.

        Args:
            threshold: compared with the float64 ratio, as a caller would.
            ratio: the criterion.
            union: its inverse, hits -> about the union at which the ratio equals the threshold.
        """
        if threshold < 0.0:
            return math.inf
        m = torch.arange(len(self.lost), device=self.lost.device)
        hits = self.hits - m
        gain = (union(hits.double()) - self.union - 2.0).nan_to_num(nan=0.0)
        # From below, so that no rounding can skip the smallest number; it never ends above it.
        n = gain.clamp(0.0, float(len(self.gained))).long()
        for _ in range(4):
            n = n + (ratio(hits, self.union + n) > threshold)
        reached = n < len(self.gained)
        gained = self.gained[n[reached]]
        lost = self.lost[reached]
        spent = torch.maximum(lost, gained) if self.p == math.inf else lost + gained
        return float(spent.min()) if spent.numel() else math.inf


def sweep(scores: Scores, image: int, k: int, limit: float = math.inf) -> Sweep:
    """Build the sweep of class k in one image of the batch.

    Args:
        scores: checked logits and labels.
        image: index in the batch.
        k: the class.
        limit: largest budget that will be asked for; what it can never buy is left out.
    """
    predicted = scores.predicts(k)[image].flatten()
    valid, labels = scores.valid[image].flatten(), scores.labels[image].flatten() == k
    planes = scores.logits[image].flatten(1)
    hit = valid & predicted & labels
    columns = planes[:, hit].reshape(1, len(planes), 1, -1)
    own = torch.full_like(columns[:, 0], k, dtype=torch.int64)
    lost = leave_cost(columns, own, p=scores.p, classifier=scores.classifier).flatten()
    gained = _into(scores, image, k, valid & ~predicted & ~labels, limit)
    union = int((valid & (predicted | labels)).sum())
    free = lost.new_zeros(1)
    running = [torch.cat([free, running_cost(c, scores.p, limit=limit)]) for c in (lost, gained)]
    return Sweep(running[0], running[1], hits=lost.numel(), union=union, p=scores.p)


def _into(scores: Scores, image: int, k: int, quiet: Tensor, limit: float) -> Tensor:
    """Costs of the new false positives that can matter within the limit, among the pixels `quiet`."""
    planes = scores.logits[image].flatten(1)
    index = quiet.nonzero().squeeze(1)
    if limit < math.inf and scores.classifier is None:
        gap = scores.top[image].flatten()[index].double() - planes[k, index].double()
        pairwise = power(gap * HALF_SPACE[scores.p], scores.p)
        # The charge of a pixel is less than twice its pairwise bound for p = 2, and equal to it otherwise:
        # above twice the ceiling of the bounds, none is among the cheapest that the limit affords.
        cut = ceiling(pairwise, limit, scores.p) * (2.0 if scores.p == 2.0 else 1.0)
        index = index[pairwise <= min(cut, limit) * (1.0 + 1e-12)]
    return to_cost(planes[:, index], k, p=scores.p, classifier=scores.classifier)
