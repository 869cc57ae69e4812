r"""Statements about logits alone: what can newly fire, what can fall silent, what can change its class.

All of them are exact for the ball :math:`\|\delta z\|_2 \le \rho`. A detection is strictly above the threshold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onelip.certify.boxes.scene import Scene
from onelip.certify.budget import affordable, norms_of, running_cost


def rising(logits: Tensor, theta: float) -> Tensor:
    """(M,) gaps of all logits that are not above the threshold."""
    return theta - logits[logits <= theta]


def new_candidates(logits: Tensor, theta: float, budget: Tensor) -> Tensor:
    r"""At most so many logits can newly cross the threshold, (E,) int64.

    The largest n whose n smallest gaps :math:`g = \theta - z` cost :math:`\sum g^2` within the budget: the sets
    "logit j is above" are half-spaces along coordinates, and all crossings are worth the same.

    Args:
        logits: any shape.
        theta: threshold of the logits.
        budget: (E,) closed budgets.

    Example:
        >>> z = torch.tensor([-0.3, -0.4, 2.0, -9.0], dtype=torch.float64)
        >>> new_candidates(z, 0.0, torch.tensor([0.08, 0.1, 0.26])).tolist()
        [0, 1, 2]
    """
    return affordable(running_cost(rising(logits, theta), 2.0, limit=float(budget.max())), budget)


def fallen(costs: Tensor, budget: Tensor) -> Tensor:
    """(E,) int64: at most so many of the G objects can be lost, whose separate costs (G, E) are given."""
    return (costs.sort(dim=0).values.cumsum(0) <= budget).sum(0)


def silent_cost(scene: Scene, theta: float) -> float:
    """Smallest squared gap of a logit that is not above the threshold; infinite when there is none."""
    gaps = rising(scene.logits, theta)
    return float(gaps.min()) ** 2 if gaps.numel() else math.inf


def presence_cost(scene: Scene, theta: float) -> Tensor:
    """(K,): what it costs to bring every candidate of a class down; 0 where there is none."""
    return (scene.logits - theta).clamp_min(0).square().sum(0)


def location_cost(scene: Scene, theta: float, *, disjoint: bool) -> Tensor:
    r"""(G,): what it costs that no location of an object fires for its class, :math:`\sum_{i \in S_g} m_i^2`.

    Args:
        scene: the image.
        theta: threshold of the logits.
        disjoint: give every pair (location, class) to one object only, the smallest, so that the costs of several
            objects add up.
    """
    cost = torch.zeros(scene.objects, dtype=torch.float64)
    margins = (scene.logits - theta).clamp_min(0).square()
    for k in scene.labels.unique().tolist():
        own = scene.contains & (scene.labels == k)
        if disjoint:
            chosen = scene.smallest(own)
            own = own & (chosen[:, None] == torch.arange(scene.objects))
        cost += (own * margins[:, k, None]).sum(0)
    return cost


def takeover_cost(own: Tensor, rival: float) -> float:
    r"""Cheapest way that a rival logit becomes at least as high as all own ones.

    .. math:: \min_t \; (t - z')_+^2 + \sum_i (z_i - t)_+^2

    is convex in t; between two own logits it is smallest at :math:`t_n = (z' + \sum_{i \le n} z_{(i)}) / (n + 1)`.

    Args:
        own: (M,) logits of the class, at different locations.
        rival: highest logit of another class.

    Example:
        >>> round(takeover_cost(torch.tensor([3.0, 2.0]), 0.0), 6)  # all meet at 5/3
        4.666667
    """
    if not own.numel() or float(own.max()) <= rival:
        return 0.0
    z = own.double().sort(descending=True).values
    n = torch.arange(1, len(z) + 1, dtype=torch.float64)
    level = torch.cat([(rival + z.cumsum(0)) / (n + 1.0), z, z.new_tensor([rival])]).clamp_min(rival)
    # The costs of all levels at once, from sums over the logits above each level.
    above = torch.searchsorted(-z, -level, right=True)
    total = torch.cat([z.new_zeros(1), (z - rival).cumsum(0)])[above]
    squares = torch.cat([z.new_zeros(1), (z - rival).square().cumsum(0)])[above]
    step = level - rival
    cost = step.square() * (1 + above) - 2.0 * step * total + squares
    best = int(cost.argmin())
    return float(step[best].square() + (z - level[best]).clamp_min(0).square().sum())


def label_costs(scene: Scene) -> Tensor:
    """(G,): cheapest way that another class is at least as high as the object's own over the locations it owns.

    Infinite when there is no other class, 0 when no location is the object's.
    """
    costs = []
    for g, k in enumerate(scene.labels.tolist()):
        own = scene.owner == g
        others = torch.cat([scene.logits[own, :k], scene.logits[own, k + 1 :]], 1)
        if not bool(own.any()):
            costs.append(0.0)
        else:
            rival = float(others.max()) if others.numel() else -math.inf
            costs.append(takeover_cost(scene.logits[own, k], rival) if others.numel() else math.inf)
    return torch.tensor(costs, dtype=torch.float64)


def mislabel_costs(scene: Scene, theta: float) -> Tensor:
    """(G,): cheapest way that the object's class is silent and another fires, over the locations it owns."""
    costs = []
    for g, k in enumerate(scene.labels.tolist()):
        own = scene.owner == g
        others = torch.cat([scene.logits[own, :k], scene.logits[own, k + 1 :]], 1)
        if not others.numel():
            costs.append(math.inf)
            continue
        silence = (scene.logits[own, k] - theta).clamp_min(0).square().sum()
        costs.append(float(silence + (theta - others.max()).clamp_min(0).square()))
    return torch.tensor(costs, dtype=torch.float64)


def relabelled(scene: Scene, theta: float, budget: Tensor) -> Tensor:
    r"""At most so many firing locations can change their class of the highest logit, (E,) int64.

    A location with a margin m between its two highest logits costs :math:`m^2 / 2`.
    """
    if scene.logits.shape[1] < 2:
        return torch.zeros(len(budget), dtype=torch.int64)
    top = scene.logits[scene.logits.amax(1) > theta].topk(2, dim=1).values
    costs = (top[:, 0] - top[:, 1]) * math.sqrt(0.5)
    return affordable(running_cost(costs, 2.0, limit=float(budget.max())), budget)


def radii(scene: Scene, cost: Tensor | float) -> Tensor:
    """Norms of the input perturbation below which these budgets are not reached, rounded down."""
    settings = scene.settings
    given = torch.as_tensor(cost, dtype=torch.float64)
    norm = norms_of(given, lipschitz=settings.lipschitz, p=2.0, items=scene.items)
    return (norm - settings.rounding).clamp_min(0.0)
