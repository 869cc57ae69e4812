r"""What an attacker of one image may choose from: so many objects lost, so many detections made, with one budget.

Objects, their supports and boxes, and logits that are not yet above the threshold are different coordinates, so that
losing v objects and making n candidates costs the sum of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from onelip.certify.boxes.cover import Cover
from onelip.certify.boxes.crossing import location_costs, new_candidates, rising
from onelip.certify.boxes.scene import Scene
from onelip.certify.boxes.shared import fallen
from onelip.certify.boxes.supports import Standing, Supports, supports
from onelip.certify.budget import affordable


@dataclass(frozen=True, eq=False)
class Outcome:
    """Worst cases of one image at one threshold.

    Attributes:
        objects: G.
        found: (E,) at least so many objects are found.
        reported: (E,) at most so many detections (free regression: firing locations).
        alarms: (E,) at most so many of them are false.
        capped: (E,) bool: a cap on candidates or detections could bind, so that nothing is found for certain.
        points: for each budget (V, 2) int64, objects found and detections reported at once, found falling; for a
            free regression empty.
    """

    objects: int
    found: Tensor
    reported: Tensor
    alarms: Tensor
    capped: Tensor
    points: list[Tensor]


@dataclass(frozen=True, eq=False)
class Judge:
    """Everything about one image that is shared by thresholds and budgets, made on first use.

    Attributes:
        scene: the image.
        floor: lowest threshold of the logits that will be asked for.
        iou: IoU of a match; without meaning for a free regression.
    """

    scene: Scene
    floor: float
    iou: float

    @property
    def free(self) -> bool:
        """Nothing is known about boxes: objects are found by their locations."""
        return self.scene.settings.kappa is None

    @cached_property
    def supports(self) -> Supports:
        """Of all objects."""
        return supports(self.scene, self.iou, self.floor)

    @cached_property
    def cover(self) -> Cover:
        """Of all candidates."""
        return Cover(self.scene, self.floor)

    def standing(self, theta: float) -> Standing | None:
        """The supports at a threshold; None for a free regression."""
        return None if self.free else self.supports.at(theta)

    def outcome(self, theta: float, budget: Tensor, k: int | None = None) -> Outcome:
        """Worst cases at a threshold of the logits, for all classes together or for one.

        Args:
            theta: threshold of the logits.
            budget: (E,).
            k: only objects and detections of this class; the budget remains whole, and so do the caps.
        """
        return self.outcomes(theta, budget, [k])[0]

    def outcomes(self, theta: float, budget: Tensor, classes: list[int | None]) -> list[Outcome]:
        """The same for several classes, and for None, which is all of them."""
        capped = self.capped(theta, budget)
        if self.free:
            return [self._free(theta, budget, k, capped) for k in classes]
        standing = self.supports.at(theta)
        costs = standing.costs(budget)
        return [self._boxes(theta, budget, k, capped, costs) for k in classes]

    def capped(self, theta: float, budget: Tensor) -> Tensor:
        """(E,) bool: more candidates in a level, or more detections, than are kept may occur."""
        scene, settings = self.scene, self.scene.settings
        new = new_candidates(scene, theta, budget)
        found = torch.zeros(len(budget), dtype=torch.bool)
        if settings.per_level is not None:
            for stride in scene.strides.unique():
                level = scene.logits[scene.strides == stride]
                now = int((level > theta).sum())
                found |= now + new.clamp_max(level.numel() - now) > settings.per_level
        if settings.per_image is not None and not self.free:
            found |= self._groups(theta, budget, None) + new > settings.per_image
        return found

    def cap_radius(self, theta: float) -> float:
        """Eps, by bisection, up to which no cap can bind; 0 where one binds on the clean image."""
        settings, strides = self.scene.settings, self.scene.strides
        pairs = self.scene.logits.numel()
        largest = int(strides.unique(return_counts=True)[1].max()) * self.scene.logits.shape[1]
        never_level = settings.per_level is None or largest <= settings.per_level
        if never_level and (self.free or settings.per_image is None or pairs <= settings.per_image):
            return math.inf

        def binds(eps: float) -> bool:
            return bool(self.capped(theta, self.scene.budget(torch.tensor([eps], dtype=torch.float64)))[0])

        if binds(0.0):
            return 0.0
        low, high = 0.0, 1.0
        while not binds(high):  # in the end every logit crosses and every box leaves its group
            low, high = high, 2.0 * high
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (low, middle) if binds(middle) else (middle, high)
        return low

    def _groups(self, theta: float, budget: Tensor, k: int | None) -> Tensor:
        classes = range(self.scene.logits.shape[1]) if k is None else [k]
        return torch.stack([self.cover.count(c, theta, budget) for c in classes]).sum(0)

    def _free(self, theta: float, budget: Tensor, k: int | None, capped: Tensor) -> Outcome:
        scene = self.scene
        mine, among = self._of_class(k)
        costs = location_costs(scene, theta, disjoint=True)[mine]
        found = torch.where(capped, 0, len(costs) - fallen(costs[..., None], budget))
        now, strangers = (scene.logits > theta) & among, among & scene.outside
        reported = now.sum() + new_candidates(scene, theta, budget, among)
        alarms = (now & strangers).sum() + new_candidates(scene, theta, budget, strangers)
        return Outcome(len(costs), found, reported, alarms, capped, [])

    def _of_class(self, k: int | None) -> tuple[Tensor, Tensor]:
        """(G,) bool objects and (N, K) bool pairs of one class, or of all."""
        objects = torch.full((self.scene.objects,), k is None)
        pairs = torch.full(self.scene.logits.shape, k is None)
        if k is not None:
            objects |= self.scene.labels == k
            pairs[:, k] = True
        return objects, pairs

    def _boxes(self, theta: float, budget: Tensor, k: int | None, capped: Tensor, costs: Tensor) -> Outcome:
        mine, among = self._of_class(k)
        costs = costs[mine]
        choices = rising(self.scene, theta, among, limit=float(budget.max()))
        groups, lost = self._groups(theta, budget, k), fallen(costs, budget)
        points = []
        for e, limit in enumerate(budget):
            able = costs[:, 0, e][(costs[..., e] <= limit).all(1)]
            spent = torch.cat([able.new_zeros(1), able.sort().values.cumsum(0)])[: int(lost[e]) + 1]
            made = affordable(choices.running(float(limit)), limit - spent)
            kept = (len(costs) - torch.arange(len(spent))) * int(not capped[e])
            points.append(torch.stack([kept, groups[e] + made], 1))
        found = torch.stack([p[:, 0].min() for p in points])
        reported = torch.stack([p[:, 1].max() for p in points])
        alarms = torch.stack([(p[:, 1] - p[:, 0]).max() for p in points])
        return Outcome(len(costs), found, reported, alarms, capped, points)
