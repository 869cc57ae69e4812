r"""Statements about logits alone: what can newly fire, what can fall silent, what can change its class.

Counts, silence and presence are exact for the ball :math:`\|\delta z\|_2 \le \rho`, and for its intersection with balls
of single levels (`sums`); labels and several objects are exact for the first and sound for the second. A detection is
strictly above the threshold.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from onelip.certify.boxes.scene import Scene
from onelip.certify.boxes.shared import Choices, largest
from onelip.certify.budget import norms_of


def rising(scene: Scene, theta: float, among: Tensor | None = None, *, limit: float) -> Choices:
    """The logits that are not above the threshold, at their squared gaps.

    Args:
        scene: the image.
        theta: threshold of the logits.
        among: (N, K) bool: only these.
        limit: largest budget that will be asked for.
    """
    below = scene.logits <= theta
    place, k = (below if among is None else below & among).nonzero(as_tuple=True)
    return Choices.of((theta - scene.logits[place, k]).square(), place, scene.sums, limit=limit)


def new_candidates(scene: Scene, theta: float, budget: Tensor, among: Tensor | None = None) -> Tensor:
    r"""At most so many logits can newly cross the threshold, (E,) int64.

    The largest n whose n smallest gaps :math:`g = \theta - z` cost :math:`\sum g^2` within the budget: the sets
    "logit j is above" are half-spaces along coordinates, and all crossings are worth the same.

    Args:
        scene: the image.
        theta: threshold of the logits.
        budget: (E,) closed budgets.
        among: (N, K) bool: only these.
    """
    if not len(budget):
        return torch.zeros(0, dtype=torch.int64)
    return rising(scene, theta, among, limit=float(budget.max())).count(budget)


def silent_cost(scene: Scene, theta: float, among: Tensor | None = None) -> float:
    """Smallest squared gap of a logit, of those in `among`, not above the threshold; infinite when there is none."""
    below = scene.logits <= theta if among is None else (scene.logits <= theta) & among
    price = torch.where(below, (theta - scene.logits).square() * scene.sums.of_logit()[:, None], torch.inf)
    return float(price.min())


def presence_cost(scene: Scene, theta: float) -> Tensor:
    """(K,): what it costs to bring every candidate of a class down; 0 where there is none."""
    return largest((scene.logits - theta).clamp_min(0).square().T @ scene.sums.logits)


def location_costs(scene: Scene, theta: float, *, disjoint: bool) -> Tensor:
    r"""(G, V): sums of what it costs that no location of an object fires for its class, :math:`\sum_{i \in S_g} m_i^2`.

    Args:
        scene: the image.
        theta: threshold of the logits.
        disjoint: give every pair (location, class) to one object only, the smallest, so that the costs of several
            objects add up.
    """
    cost = torch.zeros(scene.objects, scene.sums.logits.shape[1], dtype=torch.float64)
    margins = (scene.logits - theta).clamp_min(0).square()
    for k in scene.labels.unique().tolist():
        own = scene.contains & (scene.labels == k)
        if disjoint:
            chosen = scene.smallest(own)
            own = own & (chosen[:, None] == torch.arange(scene.objects))
        cost += (own * margins[:, k, None]).T @ scene.sums.logits
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

    Infinite when there is no other class, 0 when no location is the object's. A rival's whole takeover counts once, the
    part of it that is in the rival's own level by the weight of that level.
    """
    costs = []
    for g, k in enumerate(scene.labels.tolist()):
        own = scene.owner == g
        if not bool(own.any()):
            costs.append(0.0)
            continue
        mine, (whole, *weights) = scene.logits[:, k], scene.sums.logits_alone.tolist()
        found = [math.inf]
        for level, rival in _rivals(scene, own, k):
            alone = own & (scene.sums.level == level)
            within = takeover_cost(mine[alone], rival) * weights[level]
            found.append(max(takeover_cost(mine[own], rival) * whole, within))
        costs.append(min(found))
    return torch.tensor(costs, dtype=torch.float64)


def _rivals(scene: Scene, own: Tensor, k: int) -> list[tuple[int, float]]:
    """The levels of the locations `own`, each with the highest logit of another class there."""
    others = torch.cat([scene.logits[:, :k], scene.logits[:, k + 1 :]], 1)
    if not others.shape[1]:
        return []
    levels = scene.sums.level[own].unique().tolist()
    return [(level, float(others[own & (scene.sums.level == level)].max())) for level in levels]


def mislabel_costs(scene: Scene, theta: float) -> Tensor:
    """(G,): cheapest way that the object's class is silent and another fires, over the locations it owns."""
    costs = []
    for g, k in enumerate(scene.labels.tolist()):
        own = scene.owner == g
        silence = (scene.logits[own, k] - theta).clamp_min(0).square() @ scene.sums.logits[own]
        found = [math.inf]
        for level, rival in _rivals(scene, own, k):
            weights = scene.sums.logits[scene.sums.level == level][0]
            found.append(float(largest(silence + max(theta - rival, 0.0) ** 2 * weights)))
        costs.append(min(found))
    return torch.tensor(costs, dtype=torch.float64)


def relabelled(scene: Scene, theta: float, budget: Tensor) -> Tensor:
    r"""At most so many firing locations can change their class of the highest logit, (E,) int64.

    A location with a margin m between its two highest logits costs :math:`m^2 / 2`.
    """
    if scene.logits.shape[1] < 2 or not len(budget):
        return torch.zeros(len(budget), dtype=torch.int64)
    place = (scene.logits.amax(1) > theta).nonzero()[:, 0]
    top = scene.logits[place].topk(2, dim=1).values
    prices = (top[:, 0] - top[:, 1]).square() / 2
    return Choices.of(prices, place, scene.sums, limit=float(budget.max())).count(budget)


def radii(scene: Scene, cost: Tensor | float) -> Tensor:
    """Norms of the input perturbation below which these budgets are not reached, rounded down."""
    settings = scene.settings
    given = torch.as_tensor(cost, dtype=torch.float64)
    norm = norms_of(given, lipschitz=settings.lipschitz, p=2.0, items=scene.items)
    return (norm - settings.rounding).clamp_min(0.0)
