"""Search for good prices of the Lagrangian bound: on a thinned image, from one budget to the next."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from onelip.certify.binary import BOUNDLESS
from onelip.certify.budget import slack
from onelip.certify.lagrangian import Alone, Prices, Solution, evaluate, ladders, solve, transfers
from onelip.certify.roles import Roles

KEPT = 256
SMALL = 8192
TINY = 1024
NOTHING = 1e-250  # prices of a smaller budget are not numbers any more
ROUNDS = 6
NEAR = 8.0
PRECISION = 1.002


class Lagrangian:
    """The certified mean IoU of one image for budget after budget.

    Any prices give a sound bound, so they are searched on a sample of the pixels; the bound is then computed on
    all of them. Prices found for one budget start the search for the next.

    Args:
        roles: the image.
        limit: largest budget that will be asked for.
        warm: start each search from the prices found last. Otherwise the answer for a budget does not depend
            on the ones before.
    """

    def __init__(self, roles: Roles, limit: float, *, warm: bool = True) -> None:
        # A power of two is taken out of very small or large costs, so that prices stay far from the ends of float64.
        self._unit = 1.0
        if roles.p != math.inf and 0.0 < limit < math.inf and not 1e-60 < limit < 1e60:
            self._unit = 2.0 ** math.floor(math.log2(limit))
            roles = replace(roles, leave=roles.leave / self._unit, gain=roles.gain / self._unit)
        self.roles = roles
        self._keep = warm
        self._alone = Alone(roles, limit / self._unit)
        self._sample = thin(roles)
        self._warm: tuple[Prices, float] | None = None

    def bound(self, budget: float) -> float:
        """Lower bound of the mean IoU within a budget (slack included), never under the naive bound.

        For p = inf nothing is shared, so a price has no effect: the naive bound is all there is.
        """
        if budget > BOUNDLESS:
            return 0.0
        budget /= self._unit
        caps = self._alone.caps(budget)
        naive = self._alone.bound(caps)
        if budget < NOTHING or self.roles.p == math.inf:
            return naive
        prices, level = self._search(budget, naive, caps)
        levels = [level * step for step in (0.93, 1.0, 1.07)]
        solution = evaluate(self.roles, prices, levels, budget=budget, caps=caps)
        return max(naive, solution.value - slack(self.roles.items), 0.0)  # nan loses

    def _search(self, budget: float, naive: float, caps: list[Tensor]) -> tuple[Prices, float]:
        """Prices and a level with the best bound on the sample."""
        # The caps of a sample would need a ladder of their own.
        own_caps = caps if self._sample is self.roles else None
        best, found = -math.inf, None
        for first, rounds, width in self._starts(budget, naive):
            prices, reach = first, width
            for _ in range(rounds):
                transfer = transfers(self._sample, prices)
                level, solution = self._level(transfer, prices.level, reach, budget, own_caps)
                if solution.value > best or found is None:
                    best, found = solution.value, (prices, level)
                # Halfway in the logarithm: undamped, the classes' choices can jump back and forth.
                new = solution.prices(self._sample, level)
                prices = Prices(level, (prices.lost * new.lost).sqrt(), (prices.gained * new.gained).sqrt())
                reach = 4.0
        assert found is not None
        self._warm = (replace(found[0], level=found[1]), budget) if self._keep else None
        return found

    def _starts(self, budget: float, naive: float) -> list[tuple[Prices, int, float]]:
        """Prices to start from, with a number of rounds and a factor within which the level is searched."""
        tiny = self.roles.gain.shape[1] <= TINY
        # Prices of a far smaller budget would lead the search astray.
        near = self._warm is not None and budget <= NEAR * self._warm[1]
        starts = [(self._warm[0], ROUNDS // 2, 4.0)] if self._warm and near else []
        if tiny or not starts:
            first = self._first(budget, naive)
            starts.append((first, ROUNDS, 64.0))
            # Values that are the same for a whole class say little about a handful of pixels.
            starts += [(replace(first, part=part), 1, 64.0) for part in (0.0, 0.5, 1.0) if tiny]
        return starts

    def _first(self, budget: float, naive: float) -> Prices:
        clean = float(self.roles.value(torch.zeros_like(self.roles.hits), torch.zeros_like(self.roles.hits)))
        lost = self.roles.share / self.roles.union
        level = max(clean - naive, 1e-3 * clean, 1e-12) / budget
        return Prices(level, lost, lost * self.roles.hits / self.roles.union)

    def _level(
        self, transfer: Tensor, start: float, width: float, budget: float, caps: list[Tensor] | None
    ) -> tuple[float, Solution]:
        """Maximise over the price alone: the bound is concave in it, with slope spent - budget."""
        low, high = start / width, start * width
        parts = ladders(self._sample, transfer, level=low, budget=budget)
        best: tuple[float, Solution] | None = None
        for _ in range(round(2 * math.log2(width)) + 4):
            middle = math.sqrt(low) * math.sqrt(high)
            solution = solve(self._sample, parts, level=middle, budget=budget, caps=caps)
            if best is None or solution.value > best[1].value:
                best = (middle, solution)
            low, high = (middle, high) if solution.spent > budget else (low, middle)
        assert best is not None
        return best


def bounds(roles: Roles, limits: Tensor) -> list[float]:
    """Certified mean IoU of an image within each budget, never rising with the budget."""
    certificate = Lagrangian(roles, float(limits.max()))
    order = limits.sort().indices.tolist()
    found = {index: certificate.bound(float(limits[index])) for index in order}
    # What holds within a larger budget holds within a smaller one.
    best = 0.0
    for index in reversed(order):
        best = found[index] = max(best, found[index])
    return [found[index] for index in range(len(limits))]


def largest_budget(roles: Roles, threshold: float) -> float:
    """A budget within which the mean IoU is certified to stay above the threshold, found by bisection.

    0 when the clean value is not above it, inf when no budget brings the bound down to it. Every answer is a
    budget for which the bound was computed; the largest such budget is at most `PRECISION` away.
    """
    nothing = torch.zeros_like(roles.hits)
    if float(roles.value(nothing, nothing)) <= threshold:
        return 0.0
    finite = roles.gain.masked_fill(roles.gain.isinf(), 0.0).amax(0)
    finite[: roles.starts[-1]] = torch.maximum(finite[: roles.starts[-1]], roles.leave)
    # Enough for every flip that can be bought at all.
    high = float(finite.amax() if roles.p == math.inf and finite.numel() else finite.sum())
    high *= 1.0 + slack(roles.items)
    high = min(high, BOUNDLESS)
    certificate = Lagrangian(roles, high, warm=False)
    if certificate.bound(high) > threshold:
        return math.inf
    low = 0.0
    if certificate.bound(low) <= threshold:
        return 0.0
    middle = high * 1e-3
    while high > low * PRECISION and high > 1e-300:
        if certificate.bound(middle) > threshold:
            low = middle
        else:
            high = middle
        # Far steps until a certified budget is known, then halves in the logarithm.
        middle = math.sqrt(low) * math.sqrt(high) if low else high * 1e-2
    return low


def thin(roles: Roles) -> Roles:
    """A sample of the columns, each with a weight: all of the cheapest of a class, ever fewer of the dearer ones.

    Of the pixels of one group (correct of a class, or misclassified), sorted by the cost of their cheapest
    flip, the first `KEPT` are all taken, then one in two of as many, one in four of twice as many, and so on.
    """
    if roles.gain.shape[1] <= SMALL:
        return roles
    correct = roles.starts[-1]
    cheapest = torch.cat([roles.leave, roles.gain[:, correct:].amin(0)])
    ends = [*roles.starts, cheapest.numel()]
    chosen, weights, starts = [], [], [0]
    for start, stop in itertools.pairwise(ends):
        rank = torch.arange(stop - start, device=cheapest.device)
        stride = 2 ** (rank / KEPT).log2().floor().clamp_min(-1).add(1).long()
        picked = (rank % stride == stride // 2).nonzero().squeeze(1)
        chosen.append(cheapest[start:stop].argsort()[picked] + start)
        weights.append(stride[picked])
        starts.append(starts[-1] + picked.numel())
    columns = torch.cat(chosen)
    return replace(
        roles,
        starts=tuple(starts[:-1]),
        leave=roles.leave[columns[: starts[-2]]],
        gain=roles.gain[:, columns],
        wrong=roles.wrong[columns[starts[-2] :] - correct],
        pixels=roles.pixels[columns],
        logits=roles.logits[:, columns],
        weight=torch.cat(weights).double(),
    )
