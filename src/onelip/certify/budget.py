"""The attacker's budget: p-th powers that add up over pixels, with every rounding given to the attacker."""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-53
UNDERFLOW = 1e-300
"""Added to budgets: far above what squares and sums of numbers too small for float64 can lose."""


def slack(items: int) -> float:
    """Relative slack on a budget that is compared with a float64 sum of `items` costs.

    A sum of n non-negative numbers is off by at most n roundoffs, whatever the order of the summation.
    """
    return max(1e-9, 4.0 * items * UNIT_ROUNDOFF)


def power(x: Tensor, p: float) -> Tensor:
    """x**p for p in {1, 2}; x itself for p = inf, where nothing is shared between pixels."""
    return x * x if p == 2.0 else x


def budgets(eps: Tensor, *, lipschitz: float, p: float, items: int) -> Tensor:
    r"""Budgets :math:`(L \epsilon)^p (1 + slack)` in float64, (E,); for p = inf a bound on each cost."""
    return power(eps.double() * lipschitz, p) * (1.0 + slack(items)) + UNDERFLOW


def ceiling(charges: Tensor, limit: float, p: float) -> float:
    """A charge above which no item is among the cheapest ones that `limit` affords together.

    Costs a sort of every 64th item. The guess from the sample is used only if it is right: if the items up
    to it are together dearer than the limit, with a margin far beyond the rounding of their sum.

    Args:
        charges: (N,) costs to the power p.
        limit: largest budget that will be asked for.
        p: 1, 2 or inf. For p = inf nothing adds up, and the limit is the answer.
    """
    if math.inf in (p, limit) or charges.numel() < 2**14:
        return limit
    sample = charges[::64].sort().values
    index = int(torch.searchsorted(64.0 * sample.cumsum(0), 1.1 * limit)) + 8
    if index >= sample.numel() or sample[index] >= limit:
        return limit
    guess = float(sample[index])
    return guess if float(charges[charges <= guess].sum()) > limit * (1.0 + 1e-6) else limit


def running_cost(costs: Tensor, p: float, *, limit: float = math.inf) -> Tensor:
    """What the n cheapest flips cost together, for n = 1, 2, ...

    Args:
        costs: (N,) non-negative costs in the l_p norm.
        p: 1, 2 or inf. For p = inf each pixel has the whole budget, so n flips cost as much as the n-th.
        limit: largest budget that will be asked for. Items that it can never buy are dropped before the
            sort, which is most of the work.

    Returns:
        (M,) float64, M <= N, never falling.

    Example:
        >>> import torch
        >>> running_cost(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 2.0).tolist()
        [1.0, 5.0, 14.0]
        >>> running_cost(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 2.0, limit=4.0).tolist()
        [1.0, 5.0]
    """
    charges = power(costs.double(), p)
    if limit < math.inf:
        charges = charges[charges <= ceiling(charges, limit, p)]
    charges = charges.sort().values
    if p == math.inf:
        return charges
    running = charges.cumsum(0)
    # A parallel scan may fall by a roundoff, which the slack covers; a search needs it monotone.
    return running.cummax(0).values if running.is_cuda else running


def affordable(running: Tensor, budget: Tensor) -> Tensor:
    """Largest number of flips within each closed budget, (E,) int64."""
    return torch.searchsorted(running, budget.to(running.device), right=True)


def price(running: Tensor, flips: int, *, lipschitz: float, p: float, items: int) -> float:
    """Norm of the input perturbation below which `flips` flips are impossible, rounded down by the slack."""
    if flips <= 0:
        return 0.0
    if flips > running.numel():
        return math.inf
    return norm_of(float(running[flips - 1]), lipschitz=lipschitz, p=p, items=items)


def norm_of(budget: float, *, lipschitz: float, p: float, items: int) -> float:
    """Norm of the input perturbation whose budget this is, rounded down by the slack."""
    return float(norms_of(torch.tensor(budget, dtype=torch.float64), lipschitz=lipschitz, p=p, items=items))


def norms_of(budget: Tensor, *, lipschitz: float, p: float, items: int) -> Tensor:
    """The same for a tensor of budgets, float64."""
    spent = (budget / (1.0 + slack(items)) - UNDERFLOW).clamp_min(0.0)
    norm = spent.sqrt() if p == 2.0 else spent
    return norm / lipschitz * (1.0 - 8.0 * UNIT_ROUNDOFF)
