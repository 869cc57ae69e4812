"""The attacker's budget: p-th powers that add up over pixels, with every rounding given to the attacker."""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNIT_ROUNDOFF = 2.0**-53


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
    return power(eps.double() * lipschitz, p) * (1.0 + slack(items))


def running_cost(costs: Tensor, p: float, *, limit: float = math.inf) -> Tensor:
    """What the n cheapest flips cost together, for n = 1, 2, ...

    Args:
        costs: (N,) non-negative costs in the l_p norm.
        p: 1, 2 or inf. For p = inf each pixel has the whole budget, so n flips cost as much as the n-th.
        limit: largest budget that will be asked for. Dearer items can never be bought: they are dropped
            before the sort, which is most of the work.

    Returns:
        (M,) float64, M <= N.

    Example:
        >>> import torch
        >>> running_cost(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 2.0).tolist()
        [1.0, 5.0, 14.0]
        >>> running_cost(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 2.0, limit=4.0).tolist()
        [1.0, 5.0]
    """
    charges = power(costs.double(), p)
    if limit < math.inf:
        charges = charges[charges <= limit]
    charges = charges.sort().values
    return charges if p == math.inf else charges.cumsum(0)


def affordable(running: Tensor, budget: Tensor) -> Tensor:
    """Largest number of flips within each closed budget, (E,) int64.

    Sound even if a parallel scan is not perfectly monotone: the entry after the answer was compared and is
    dearer.
    """
    return torch.searchsorted(running, budget.to(running.device), right=True)


def price(running: Tensor, flips: int, *, lipschitz: float, p: float, items: int) -> float:
    """Norm of the input perturbation below which `flips` flips are impossible, rounded down by the slack."""
    if flips <= 0:
        return 0.0
    if flips > running.numel():
        return math.inf
    spent = float(running[flips - 1]) / (1.0 + slack(items))
    norm = math.sqrt(spent) if p == 2.0 else spent
    return norm / lipschitz * (1.0 - 8.0 * UNIT_ROUNDOFF)
