"""Attacked detections as they are counted: matching, lost objects, false alarms, average precision.

Written anew, with nothing of the certificates: two readings of one definition should agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

LOWEST = 0.05
"""Score from which on average precision is measured."""
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Attacked:
    """One attacked image beside the scene of its certificate.

    Attributes:
        scene: of the certificate: clean logits, and which locations are inside which object.
        theta: threshold of the logits.
        logits: (N, K) after the attack, float64.
        found: detections after the attack and suppression, by falling score.
        iou: of a match.
    """

    scene: Any
    theta: float
    logits: Tensor
    found: Mapping[str, Tensor]
    iou: float = 0.5

    @cached_property
    def fires(self) -> Tensor:
        """(N, K) bool: candidates."""
        return self.logits > self.theta

    @cached_property
    def fresh(self) -> Tensor:
        """(N, K) bool: candidates that were none on the clean image."""
        before: Tensor = self.scene.logits > self.theta
        return self.fires & ~before

    @cached_property
    def held(self) -> Tensor:
        """(G,) bool: a location inside the object fires for its class."""
        inside: Tensor = self.scene.contains
        return (self.fires[:, self.scene.labels] & inside).any(0)

    @cached_property
    def owners(self) -> Tensor:
        """(M,) the object that each detection gets, -1 for a false one: by falling score, as COCO does."""
        table = overlap(self.found["boxes"], self.scene.boxes)
        table[self.found["labels"][:, None] != self.scene.labels[None]] = -1.0
        owner = torch.full((len(table),), -1, dtype=torch.int64)
        for row in range(len(table)):
            if table.shape[1] and float(table[row].max()) >= self.iou - _ROUNDING:
                owner[row] = table[row].argmax()
                table[:, owner[row]] = -1.0
        return owner

    def hit(self, free: bool) -> Tensor:
        """(G,) bool: found objects; by locations where boxes are free."""
        if free:
            return self.held
        return (self.owners[:, None] == torch.arange(len(self.scene.labels))).any(0)

    def reported(self, free: bool) -> int:
        """Number of detections; of candidates where boxes are free."""
        return int(self.fires.sum()) if free else len(self.owners)

    def alarms(self, free: bool) -> int:
        """Number of false detections; of candidates outside of all objects of their class where boxes are free."""
        return int((self.fires & self.scene.outside).sum()) if free else int((self.owners < 0).sum())

    def relabelled(self) -> int:
        """Locations that fired on the clean image and have the highest logit in another class now."""
        fired = (self.scene.logits > self.theta).any(1)
        return int((fired & (self.scene.logits.argmax(1) != self.logits.argmax(1))).sum())

    def taken(self) -> Tensor:
        """(G,) bool: over the locations of the object another class is at least as high."""
        return self._against(lambda own, others: own.max() <= others.max())

    def mislabelled(self) -> Tensor:
        """(G,) bool: over the locations of the object nothing says its class, and something another one."""
        return self._against(lambda own, others: own.max() <= self.theta < others.max())

    def _against(self, holds: Callable[[Tensor, Tensor], Any]) -> Tensor:
        rows = []
        for g, k in enumerate(self.scene.labels.tolist()):
            mine = self.logits[self.scene.owner == g]
            rest = torch.cat([mine[:, :k], mine[:, k + 1 :]], 1)
            rows.append(bool(holds(mine[:, k], rest)) if rest.numel() else False)
        return torch.tensor(rows, dtype=torch.bool)


def average_precision(images: Sequence[Attacked]) -> float:
    """Area under the envelope of precision over recall, at all recalls, mean over the classes that have objects."""
    classes = sorted({k for image in images for k in image.scene.labels.tolist()})
    areas = [_area(images, k) for k in classes]
    return sum(areas) / len(areas) if areas else float("nan")


def _area(images: Sequence[Attacked], k: int) -> float:
    mine = [image.found["labels"] == k for image in images]
    scores = torch.cat([image.found["scores"][own] for image, own in zip(images, mine, strict=True)])
    hits = torch.cat([image.owners[own] >= 0 for image, own in zip(images, mine, strict=True)])
    hits = hits[scores.argsort(descending=True, stable=True)].double()
    objects = sum(int((image.scene.labels == k).sum()) for image in images)
    true = hits.cumsum(0)
    precision = true / torch.arange(1, len(true) + 1, dtype=torch.float64)
    envelope = precision.flip(0).cummax(0).values.flip(0) if len(true) else precision
    return float((envelope * hits).sum()) / objects


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) IoU of boxes (A, 4) and (B, 4); 0 with an empty one.

    Example:
        >>> overlap(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0, 2.0]])).tolist()
        [[0.5]]
    """
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) for boxes in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return torch.where(union > 0, shared / union.clamp_min(1e-300), torch.zeros_like(shared))
