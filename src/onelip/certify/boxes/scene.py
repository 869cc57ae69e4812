"""One image as the statements about detections see it: checked heads, objects, constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from onelip.certify.boxes.geometry import table
from onelip.certify.boxes.movement import rate
from onelip.certify.boxes.sums import Constants, Sums, sums
from onelip.certify.budget import budgets
from onelip.models.boxes import area
from onelip.models.decoding import clip, decode


@dataclass(frozen=True)
class Settings:
    """What all images of a certificate share.

    Attributes:
        lipschitz: joint constant L of what is bounded.
        logits: constants of the logits alone, where they are known.
        boxes: constants of the distances over kappa alone; None for a free regression, or where they are not known.
        kappa: scale of Lipschitz distances; None for a free regression.
        nms: IoU above which a box suppresses another of its class.
        by_logit: whether suppression goes by falling logit, and not by an order that nothing is known about.
        per_level: candidates kept in each level, or None.
        per_image: detections kept in each image, or None.
        inside: size of the region of an object, relative to its box.
        rounding: added to every eps and taken from every radius.
    """

    lipschitz: float
    kappa: float | None
    nms: float
    by_logit: bool = True
    per_level: int | None = None
    per_image: int | None = None
    inside: float = 1.0
    rounding: float = 0.0
    logits: Constants | None = None
    boxes: Constants | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Heads and objects of one image, float64 on the CPU.

    Attributes:
        logits: (N, K).
        regression: (N, 4), >= 0, in strides.
        points: (N, 2).
        strides: (N,).
        size: (h, w) of the image.
        boxes: (G, 4) of the objects.
        labels: (G,) int64.
        settings: constants.
    """

    logits: Tensor
    regression: Tensor
    points: Tensor
    strides: Tensor
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    settings: Settings

    @property
    def objects(self) -> int:
        """G."""
        return len(self.labels)

    @property
    def items(self) -> int:
        """Numbers that an attacker can move: as many terms have the sums that budgets are compared with."""
        return self.logits.numel() + self.regression.numel()

    def budget(self, eps: Tensor) -> Tensor:
        r"""Closed budgets :math:`(L (\epsilon + \mathrm{rounding}))^2`, with slack, (E,)."""
        shifted = eps.double() + self.settings.rounding
        return budgets(shifted, lipschitz=self.settings.lipschitz, p=2.0, items=self.items)

    @cached_property
    def sums(self) -> Sums:
        """What the budget bounds."""
        settings = self.settings
        return sums(self.strides, settings.lipschitz, settings.logits, settings.boxes)

    def pair_rate(self, first: Tensor, second: Tensor) -> Tensor:
        """(P, M) how fast two boxes leave themselves together, per unit of the budget's root, when logits rest."""
        k, m = self.rates[first][:, None], self.rates[second][None]
        w, v = (self.sums.of_box()[place].sqrt() for place in (first, second))
        together = torch.hypot(k, m) / self.sums.boxes_alone[self.sums.scope(first, second)].sqrt()
        return torch.minimum(together, k / w[:, None] + m / v[None])

    @cached_property
    def decoded(self) -> Tensor:
        """(N, 4) clipped boxes."""
        return clip(decode(self.points, self.strides, self.regression), self.size)

    @cached_property
    def overlap(self) -> Tensor:
        """(N, G) IoU of the clipped boxes with the objects."""
        return table(self.decoded, self.boxes)

    @cached_property
    def rates(self) -> Tensor:
        """(N,) how fast each box leaves itself, per unit of the budget's root."""
        assert self.settings.kappa is not None
        return rate(self.decoded, self.strides, self.settings.kappa)

    @cached_property
    def contains(self) -> Tensor:
        """(N, G) bool: the location is inside the region of the object."""
        centre = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        half = (self.boxes[:, 2:] - self.boxes[:, :2]) / 2 * self.settings.inside
        return ((self.points[:, None] - centre).abs() < half).all(-1)

    @cached_property
    def owner(self) -> Tensor:
        """(N,) int64: the smallest object whose region holds the location, the first of equal ones; -1 for none."""
        return self.smallest(self.contains)

    def smallest(self, allowed: Tensor) -> Tensor:
        """(N,) int64: for each location the smallest of the allowed (N, G) objects; -1 for none."""
        if not self.objects:
            return torch.full((len(allowed),), -1, dtype=torch.int64)
        cost = torch.where(allowed, area(self.boxes), torch.inf)
        return torch.where(allowed.any(1), cost.argmin(1), -1)

    @cached_property
    def outside(self) -> Tensor:
        """(N, K) bool: the location is in no region of an object of this class."""
        inside = torch.zeros_like(self.logits, dtype=torch.bool)
        for k, contains in zip(self.labels.tolist(), self.contains.T, strict=True):
            inside[:, k] |= contains
        return ~inside


def scenes(
    logits: Tensor,
    regression: Tensor,
    points: Tensor,
    strides: Tensor,
    size: Sequence[int],
    targets: Sequence[dict[str, Tensor]] | None,
    settings: Settings,
) -> list[Scene]:
    """One scene for each image of checked heads; without targets there are no objects."""
    height, width = size
    empty = {"boxes": points.new_zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    given = [empty] * len(logits) if targets is None else targets
    return [
        Scene(z, r, points, strides, (height, width), t["boxes"], t["labels"], settings)
        for z, r, t in zip(logits, regression, given, strict=True)
    ]
