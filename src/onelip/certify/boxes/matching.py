"""Clean detections against objects: the matching of COCO, at one IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onelip.certify.boxes.geometry import table

Boxes = dict[str, Tensor]


def match(found: Boxes, target: Boxes, iou: float = 0.5) -> Tensor:
    """(M,) int64: the object of each detection, -1 for a false one.

    By falling score each detection takes the free object of its class with the highest IoU, if that is at least `iou`.

    Args:
        found: boxes (M, 4) and labels (M,), by falling score.
        target: boxes (G, 4) and labels (G,).
        iou: of a match.

    Example:
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> one = {"boxes": box, "labels": torch.tensor([0])}
        >>> match({"boxes": box.repeat(2, 1), "labels": torch.tensor([0, 0])}, one).tolist()
        [0, -1]
    """
    overlap = table(found["boxes"].double(), target["boxes"].double())
    overlap = torch.where(found["labels"][:, None] == target["labels"][None], overlap, -1.0)
    owner = torch.full((len(overlap),), -1, dtype=torch.int64)
    for row in range(len(overlap)):
        if overlap.shape[1] and float(overlap[row].max()) >= iou:
            owner[row] = overlap[row].argmax()
            overlap[:, owner[row]] = -1.0
    return owner


def clean_rates(found: Sequence[Boxes], targets: Sequence[Boxes], iou: float = 0.5) -> tuple[float, float]:
    """Recall and precision over all images; nan without objects, or without detections."""
    hits = sum(int((match(f, t, iou) >= 0).sum()) for f, t in zip(found, targets, strict=True))
    objects = sum(len(t["labels"]) for t in targets)
    reported = sum(len(f["labels"]) for f in found)
    return (hits / objects if objects else math.nan, hits / reported if reported else math.nan)
