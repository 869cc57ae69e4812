"""Which detection finds which object: the greedy rule of COCO, on checked boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, NonFiniteError, explain

Detections = Mapping[str, Tensor]  # boxes (M, 4), scores (M,), labels (M,)
Target = Mapping[str, Tensor]  # boxes (G, 4), labels (G,)
_FARTHEST = 1e9  # pixels: areas and their sums stay exact enough


class Boxes(NamedTuple):
    """Checked boxes of one image: float64 (M, 4) x1 y1 x2 y2, int64 (M,), float64 (M,) (ones for objects)."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def above(self, threshold: float) -> Boxes:
        """Return those with a greater score."""
        kept = self.scores > threshold
        return Boxes(self.boxes[kept], self.labels[kept], self.scores[kept])


def match(detections: Detections, target: Target, *, iou: float = 0.5) -> NDArray[np.int64]:
    """Return for each detection of an image the index of the object that it finds, -1 where it finds none.

    Greedy, as COCO: in the order of the scores (equal ones: as given) each detection takes the free object of its
    class with the highest IoU (equal ones: the later) if that is at least `iou`.

    Raises:
        InputError: as `score_detections`.
        NonFiniteError: a box or score is NaN or infinite.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 6.0]])
        >>> seen = {"boxes": box, "scores": torch.tensor([0.6, 0.9]), "labels": torch.tensor([0, 0])}
        >>> match(seen, {"boxes": box[:1], "labels": torch.tensor([0])})  # one object is found once
        array([-1,  0])
    """
    level = checks.number("iou", iou, low=1e-9, high=1.0)
    return match_boxes(
        check_image(detections, "detections"), check_image(target, "target", scored=False), level
    )


def match_boxes(seen: Boxes, there: Boxes, level: float) -> NDArray[np.int64]:
    """Do what `match` does, with boxes that were checked."""
    result = np.full(len(seen.labels), -1, dtype=np.int64)
    if there.labels.size == 0:
        return result
    overlaps = _iou(seen.boxes, there.boxes)
    overlaps[seen.labels[:, None] != there.labels[None]] = -1.0
    for index in np.argsort(-seen.scores, kind="stable"):
        row = overlaps[index]
        best = len(row) - 1 - int(np.argmax(row[::-1]))
        if row[best] >= min(level, 1 - 1e-10):  # so COCO: boxes that differ by rounding are the same
            result[index] = best
            overlaps[:, best] = -1.0
    return result


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each box of a (M, 4) with each of b (G, 4), whose areas are positive."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inside = np.prod(np.clip(high - low, 0.0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    result: NDArray[np.float64] = inside / (areas[0][:, None] + areas[1][None] - inside)
    return result


def check_image(
    given: Mapping[str, Tensor], name: str, classes: int | None = None, *, scored: bool = True
) -> Boxes:
    """Check the detections or (`scored=False`) the objects of one image.

    Raises:
        InputError: see `score_detections`.
        NonFiniteError: a box or score is NaN or infinite.
    """
    keys = ("boxes", "labels", "scores") if scored else ("boxes", "labels")
    lacking = [key for key in keys if not isinstance(given.get(key), Tensor)]
    if lacking:
        raise InputError(explain(f"{name} lacks {', '.join(lacking)}", expected=f"tensors {', '.join(keys)}"))
    shapes = {key: tuple(given[key].shape) for key in keys}
    count = shapes["boxes"][0] if shapes["boxes"] else 0
    if shapes != {key: (count, 4) if key == "boxes" else (count,) for key in keys}:
        raise InputError(
            explain(f"{name} has wrong shapes", received=shapes, expected="boxes (M, 4), the others (M,)")
        )
    _check_labels(given["labels"], name, classes)
    boxes = _numbers(given, "boxes", name)
    _check_sides(boxes, name, scored)
    scores = _numbers(given, "scores", name) if scored else np.ones(count)
    if count and not 0 <= scores.min() <= scores.max() <= 1:
        worst = scores.max() if scores.max() > 1 else scores.min()
        raise InputError(explain(f"{name}: scores are out of range", received=worst, expected="0 to 1"))
    return Boxes(boxes, given["labels"].detach().cpu().numpy().astype(np.int64), scores)


def _numbers(given: Mapping[str, Tensor], key: str, name: str) -> NDArray[np.float64]:
    array: NDArray[np.float64] = given[key].detach().cpu().double().numpy()
    wrong = ~np.isfinite(array)
    if wrong.any():
        raise NonFiniteError(
            explain(f"{name}: {key} are not finite", received=f"{int(wrong.sum())} NaN or infinite values")
        )
    return array


def _check_sides(boxes: NDArray[np.float64], name: str, scored: bool) -> None:
    """A detection may have shrunk to a line; an object has an area."""
    sides = boxes[:, 2:] - boxes[:, :2]
    wrong = (sides < 0).any(1) if scored else (sides <= 0).any(1)
    wrong |= (np.abs(boxes) > _FARTHEST).any(1)
    if wrong.any():
        less = "<=" if scored else "<"
        raise InputError(
            explain(
                f"{name}: {int(wrong.sum())} boxes are inverted, empty or far outside",
                received=boxes[wrong][0].tolist(),
                expected=f"x1 {less} x2, y1 {less} y2, at most {_FARTHEST:g} pixels away",
                fix="boxes are (x1, y1, x2, y2), not (x, y, width, height)",
            )
        )


def _check_labels(labels: Tensor, name: str, classes: int | None) -> None:
    high = math.inf if classes is None else classes - 1
    whole = not labels.is_floating_point() and not labels.is_complex() and labels.dtype is not torch.bool
    if not whole or (labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= high):
        raise InputError(
            explain(
                f"{name}: labels are no classes",
                received=f"{sorted(set(labels.tolist()))[:8]}, {labels.dtype}",
                expected="int64 from 0" if classes is None else f"int64, 0 to {classes - 1}",
                why="labels count from 0, and there is no background",
            )
        )
