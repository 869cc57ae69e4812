r"""What holds an object through suppression when boxes are Lipschitz: supports, rivals, prices.

A support of object g is a location i with the right class above the threshold and a box whose IoU with g reaches the
level t at which it counts as a detection of g. While it fires,

* **Jaccard**: with :math:`\mathrm{IoU}(b_i', g) \ge t + 1 - \tau` some detection of the class ends with at least t,
  whatever suppressed it: 1 - IoU is a metric, and a box is only suppressed by a kept one with IoU above the limit;
* **dominance**: with :math:`\mathrm{IoU}(b_i', g) \ge t` the same holds unless a *bad* rival (IoU with g below t)
  suppresses it. For that the rival has to outrank i, to overlap it and to be bad, which has a price of its own.

Below that price, each support costs :math:`\min(m_i^2, d_i^2)` (its logit or its box) at the level of dominance, above
it at the level of Jaccard. Supports are different locations, so that these costs add up: in each of the sums that the
budget bounds (`sums`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from onelip.certify.boxes.geometry import table
from onelip.certify.boxes.movement import break_distance
from onelip.certify.boxes.scene import Scene
from onelip.certify.boxes.shared import largest
from onelip.certify.boxes.sums import Sums
from onelip.models.boxes import SLACK, match_levels

BLOCK = 2**22
"""Pairs of boxes that are compared at once."""
KEPT = 256
"""Rivals that are kept of each support: the nearest; others are feared as if they outranked it."""


@dataclass(frozen=True, eq=False)
class Rivals:
    """For each support the boxes that might suppress it, the nearest M.

    Attributes:
        logit: (P, M) of the object's class.
        move: (P, M) squared movement of boxes after which the rival may be bad and overlap the support.
        rest: (P,) what the nearest rival costs that is left out.
        scope: (P, M) of the pair.
        sums: that the budget bounds.
    """

    logit: Tensor
    move: Tensor
    rest: Tensor
    scope: Tensor
    sums: Sums

    def price(self, logit: Tensor, theta: float, *, by_logit: bool) -> Tensor:
        """(P,) squared price of the cheapest bad rival that suppresses supports of these logits (P,)."""
        own = logit[:, None]
        if by_logit:  # both above the threshold, the rival at least as high
            level = ((own + self.logit) / 2).clamp_min(theta)
            rank = (level - self.logit).clamp_min(0).square() + (own - level).clamp_min(0).square()
        else:
            rank = (theta - self.logit).clamp_min(0).square()
        # One that is left out may outrank for nothing.
        return torch.cat([self.sums.of_pair(self.scope, rank, self.move), self.rest[:, None]], 1).amin(1)


@dataclass(frozen=True, eq=False)
class Supports:
    """Pairs (location, object) whose boxes match, with all prices that do not depend on the threshold.

    Attributes:
        scene: the image.
        floor: lowest threshold of the logits that will be asked for.
        place: (P,) location of each pair.
        owner: (P,) object of each pair, rising.
        overlap: (P,) IoU.
        logit: (P,) of the object's class.
        box: (P,) squared price of breaking the box at the level of dominance.
        strong: (P,) the same at the level of Jaccard; 0 where that level is not reached.
        rivals: of each pair.
        limit: what all supports cost together in the dearest sum: from here on every rival is feared.
    """

    scene: Scene
    floor: float
    place: Tensor
    owner: Tensor
    overlap: Tensor
    logit: Tensor
    box: Tensor
    strong: Tensor
    rivals: Rivals
    limit: float

    def at(self, theta: float) -> Standing:
        """The supports at one threshold of the logits, not below `floor`."""
        alive = self.logit > theta
        margin = (self.logit - theta).clamp_min(0).square()[:, None] * self.scene.sums.logits[self.place]
        kill = self.rivals.price(self.logit, theta, by_logit=self.scene.settings.by_logit)
        kill = kill.clamp_max(self.limit)
        weights = self.scene.sums.boxes[self.place]
        strong = torch.minimum(margin, self.strong[:, None] * weights)
        weak = torch.minimum(margin, self.box[:, None] * weights).maximum(strong)
        return Standing(self.scene.objects, self.owner, alive, self._assigned(alive), kill, weak, strong)

    def _assigned(self, alive: Tensor) -> Tensor:
        """(P,) bool: each location serves one object only, that of the highest IoU, the first of equal ones."""
        best = torch.full((len(self.scene.logits),), -1.0, dtype=torch.float64)
        score = torch.where(alive, self.overlap, -1.0)
        best = best.scatter_reduce(0, self.place, score, "amax")
        ahead = alive & (score == best[self.place])
        first = torch.full((len(self.scene.logits),), self.scene.objects, dtype=torch.int64)
        number = torch.where(ahead, self.owner, self.scene.objects)
        first = first.scatter_reduce(0, self.place, number, "amin")
        return ahead & (self.owner == first[self.place])


@dataclass(frozen=True, eq=False)
class Standing:
    """Supports at one threshold, with squared prices.

    Attributes:
        objects: G.
        owner: (P,) object of each support.
        alive: (P,) bool: above the threshold.
        assigned: (P,) bool: alive, and this object's alone.
        kill: (P,) price of the cheapest bad rival.
        weak: (P, V) price of the support itself below `kill`, in each sum that the budget bounds.
        strong: (P, V) price beyond it.
    """

    objects: int
    owner: Tensor
    alive: Tensor
    assigned: Tensor
    kill: Tensor
    weak: Tensor
    strong: Tensor

    def costs(self, budget: Tensor) -> Tensor:
        """(G, V, E): sums of what losing each object costs within each budget; those of several objects add up."""
        cheap = self.kill[:, None, None] > budget
        prices = torch.where(cheap, self.weak[..., None], self.strong[..., None])
        prices = torch.where(self.assigned[:, None, None], prices, 0.0)
        return prices.new_zeros(self.objects, *prices.shape[1:]).index_add(0, self.owner, prices)

    @cached_property
    def radius(self) -> Tensor:
        r"""(G,): squared budget below which each object, taken alone, is kept.

        At a budget B the supports whose rivals cost more than B count fully; the object is safe while their cost is
        above B. The cost falls in steps, so the answer is the largest :math:`\min(\mathrm{kill}_{n+1}, C_n)` over the
        n supports that lose their dominance first.
        """
        found = self.weak.new_zeros(self.objects)
        for g in range(self.objects):
            mine = self.alive & (self.owner == g)
            kill, order = self.kill[mine].sort()
            weak, strong = self.weak[mine][order], self.strong[mine][order]
            ends = torch.cat([kill, kill.new_tensor([math.inf])])
            zero = weak.new_zeros(1, weak.shape[1])
            cost = torch.cat([zero, strong.cumsum(0)]) + torch.cat([weak.flip(0).cumsum(0).flip(0), zero])
            found[g] = torch.minimum(ends, largest(cost)).max()
        return found


def supports(scene: Scene, iou_level: float, floor: float) -> Supports:
    """Find the supports of all objects, their prices and their rivals.

    Args:
        scene: the image, with a Lipschitz regression.
        iou_level: IoU of a match.
        floor: lowest threshold of the logits that will be asked for.
    """
    kappa, limit = scene.settings.kappa, scene.settings.nms
    assert kappa is not None
    level = match_levels(scene.boxes, scene.labels, iou_level) + SLACK
    logits = scene.logits[:, scene.labels]  # (N, G)
    # Rivals below the floor matter as well: a box that cannot stop being good is no bad rival.
    owner, place = (scene.overlap >= level).T.nonzero(as_tuple=True)
    logit, overlap = logits[place, owner], scene.overlap[place, owner]
    margin = (logit - floor).clamp_min(0)
    box = _price(scene, place, owner, level[owner], margin)
    firm = level[owner] + (1.0 - limit)
    strong = torch.zeros_like(box)
    some = (overlap >= firm) & (margin > 0)
    strong[some] = _price(scene, place[some], owner[some], firm[some], margin[some])
    firing = logit > floor
    dearest = torch.minimum(
        margin.square()[:, None] * scene.sums.logits[place], box.square()[:, None] * scene.sums.boxes[place]
    )
    limit = float(dearest.sum(0).max())
    return Supports(
        scene=scene,
        floor=floor,
        place=place[firing],
        owner=owner[firing],
        overlap=overlap[firing],
        logit=logit[firing],
        box=box[firing].square(),
        strong=strong[firing].square(),
        rivals=_rivals(scene, logits, place, owner, box.square(), firing),
        limit=limit,
    )


def _price(scene: Scene, place: Tensor, owner: Tensor, level: Tensor, margin: Tensor) -> Tensor:
    """(P,) price of a movement that breaks each match; the finer one only where it can matter beside the logit."""
    kappa = scene.settings.kappa
    assert kappa is not None

    def distance(rows: Tensor, *, refine: bool) -> Tensor:
        at, box = place[rows], scene.boxes[owner[rows]]
        heads = (scene.points[at], scene.strides[at], scene.regression[at])
        return break_distance(*heads, scene.size, box, level[rows], refine=refine) / kappa

    # The triangle inequality: the IoU falls by at most the rate.
    slope = (scene.overlap[place, owner] - level).clamp_min(0) / scene.rates[place]
    price = torch.maximum(distance(torch.arange(len(place)), refine=False), slope)
    again = (price < margin).nonzero()[:, 0]
    if len(again):
        price[again] = torch.maximum(price[again], distance(again, refine=True))
    return price


def _rivals(
    scene: Scene, logits: Tensor, place: Tensor, owner: Tensor, box: Tensor, firing: Tensor
) -> Rivals:
    """The rivals of the firing pairs.

    Args:
        scene: the image.
        logits: (N, G) of the objects' classes.
        place: (Q,) locations of all matching pairs.
        owner: (Q,) objects of all matching pairs, rising.
        box: (Q,) squared price of making each of them bad for its object; other boxes are bad.
        firing: (Q,) bool: those above the lowest threshold.
    """
    count = len(scene.logits)
    everyone = torch.arange(count)
    kept = min(KEPT, count)
    none = box.new_zeros(0, kept)
    found = [[none], [none], [box.new_zeros(0)], [none.long()]]
    for g in range(scene.objects):
        mine = owner == g
        bad = torch.zeros(count, dtype=torch.float64)
        bad[place[mine]] = box[mine]
        for part in place[mine & firing].split(max(1, BLOCK // count)):
            scope = scene.sums.scope(part, everyone)
            move = torch.maximum(_meet(scene, part, everyone), bad)
            move[torch.arange(len(part)), part] = math.inf
            price = torch.cat(
                [scene.sums.of_pair(scope, 0.0 * bad, move), move.new_full((len(part), 1), math.inf)], 1
            )
            nearest = price.topk(kept + 1, dim=1, largest=False)
            which = nearest.indices[:, :-1].clamp_max(count - 1)
            rows = logits[which, g], move.gather(1, which), nearest.values[:, -1], scope.gather(1, which)
            for column, row in zip(found, rows, strict=True):
                column.append(row)
    logit, move, rest, scope = (torch.cat(parts) for parts in found)
    return Rivals(logit, move, rest, scope, scene.sums)


def _meet(scene: Scene, places: Tensor, others: Tensor) -> Tensor:
    """(P, M) squared price of moving boxes until one may suppress the other: IoU above the limit."""
    distance = 1.0 - table(scene.decoded[places], scene.decoded[others])
    speed = torch.hypot(scene.rates[places][:, None], scene.rates[others][None])
    found: Tensor = ((distance - (1.0 - scene.settings.nms) - SLACK).clamp_min(0) / speed).square()
    return found
