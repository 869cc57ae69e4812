"""Detections against objects: average precision by COCO's rules, recall and precision at a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.metrics.average_precision import average_precision
from onelip.metrics.matching import Boxes, Detections, Target, check_image, match_boxes


@dataclass(frozen=True)
class ClassScores:
    """What was found of one class; nan where there is nothing to divide by.

    Attributes:
        name: Name of the class.
        objects: Number of objects.
        map50: Average precision at IoU 0.50; nan without objects.
        map50_95: Mean of the average precisions at IoU 0.50, 0.55, ..., 0.95; nan without objects.
        found: Objects found at the threshold: true positives.
        false: Detections at the threshold that find no object: false positives.
    """

    name: str
    objects: int
    map50: float
    map50_95: float
    found: int
    false: int

    @property
    def recall(self) -> float:
        """Share of the objects that are found."""
        return _ratio(self.found, self.objects)

    @property
    def precision(self) -> float:
        """Share of the detections that find an object."""
        return _ratio(self.found, self.found + self.false)


@dataclass(frozen=True)
class DetectionScores:
    """How well the detections of a data set fit its objects; build it with `score_detections`.

    Attributes:
        map50: Mean over the classes with objects of the average precision at IoU 0.50; nan without any object.
        map50_95: The same, over IoU 0.50, 0.55, ..., 0.95.
        threshold: Detections with a greater score count for all that follows.
        iou: Least IoU with the object that a detection finds, for all that follows.
        images: Number of images, those without objects included.
        objects: Number of objects.
        found: Objects that are found: true positives.
        false: Detections that find no object: false positives.
        classes: The same of each class.

    Example:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> seen = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([0])}
        >>> there = {"boxes": box, "labels": torch.tensor([0])}
        >>> nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        >>> scores = score_detections([seen, seen], [there, nothing], classes=["runway"])
        >>> scores.recall, scores.precision, scores.false_positives
        (1.0, 0.5, 0.5)
    """

    map50: float
    map50_95: float
    threshold: float
    iou: float
    images: int
    objects: int
    found: int
    false: int
    classes: tuple[ClassScores, ...]

    @property
    def recall(self) -> float:
        """Share of all objects that are found; nan without objects."""
        return _ratio(self.found, self.objects)

    @property
    def precision(self) -> float:
        """Share of all detections that find an object; nan without detections."""
        return _ratio(self.found, self.found + self.false)

    @property
    def false_positives(self) -> float:
        """Detections that find no object, an image."""
        return self.false / self.images

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready: None where a value is not defined."""
        more = ("recall", "precision", "false_positives")
        record = {**asdict(self), **{name: getattr(self, name) for name in more}}
        record["classes"] = [
            _without_nan({**asdict(c), "recall": c.recall, "precision": c.precision}) for c in self.classes
        ]
        return _without_nan(record)

    def __repr__(self) -> str:
        return (
            f"DetectionScores(map50={self.map50:.4f}, map50_95={self.map50_95:.4f}; above {self.threshold:g}: "
            f"recall={self.recall:.4f}, precision={self.precision:.4f}, "
            f"false_positives={self.false_positives:.4g} an image; images={self.images}, objects={self.objects})"
        )


def score_detections(
    detections: Sequence[Detections],
    targets: Sequence[Target],
    *,
    classes: Sequence[str],
    threshold: float = 0.5,
    iou: float = 0.5,
    per_image: int = 100,
) -> DetectionScores:
    """Compare the detections of a data set with its objects.

    Average precision is COCO's: all detections of a class are ordered by score (equal ones: in the order given), each
    takes the free object of its class and image with the highest IoU if that reaches the level, and the interpolated
    precision is averaged over the recalls 0, 0.01, ..., 1. It takes detections of any score: pass those above a low
    one, as 0.01, or it is cut short. Recall, precision and false positives take the detections above `threshold`,
    matched by the same rule (`match`). An image without objects counts: what is detected there is false.

    Args:
        detections: For each image boxes (M, 4) x1 y1 x2 y2 in pixels, scores (M,) in [0, 1], labels (M,) int64
            from 0; M may be 0.
        targets: For each image boxes (G, 4) and labels (G,); G may be 0.
        classes: Names of the classes.
        threshold: In (0, 1); a detection counts when its score is greater.
        iou: Least IoU, in (0, 1].
        per_image: For average precision, so many detections a class and image at most, the best; COCO takes 100.

    Returns:
        The scores.

    Raises:
        InputError: the lists differ in length or are empty; a shape, type, label or score is wrong, a box is
            inverted, an object has no area, `threshold`, `iou` or `per_image` is out of range.
        NonFiniteError: a box or score is NaN or infinite.

    Source: Lin et al., Microsoft COCO, ECCV 2014, and its evaluation code, through faster-coco-eval.
    """
    names = _checked_names(classes)
    threshold, iou = _inside("threshold", threshold), checks.number("iou", iou, low=1e-9, high=1.0)
    checks.positive_int("per_image", per_image)
    if len(detections) != len(targets) or not targets:
        raise InputError(
            explain(
                "detections and targets do not belong together",
                received=f"{len(detections)} and {len(targets)} images",
                expected="as many of the one as of the other, at least one",
            )
        )
    seen = [check_image(d, f"detections[{k}]", len(names)) for k, d in enumerate(detections)]
    there = [check_image(t, f"targets[{k}]", len(names), scored=False) for k, t in enumerate(targets)]
    table = average_precision(seen, there, len(names), per_image)
    objects, found, false = _counts(seen, there, len(names), threshold, iou)
    rows = tuple(
        ClassScores(name, objects[k], float(table[0, k]), float(table[:, k].mean()), found[k], false[k])
        for k, name in enumerate(names)
    )
    known = [row for row in rows if row.objects]
    return DetectionScores(
        map50=_mean([row.map50 for row in known]),
        map50_95=_mean([row.map50_95 for row in known]),
        threshold=threshold,
        iou=iou,
        images=len(there),
        objects=sum(objects),
        found=sum(found),
        false=sum(false),
        classes=rows,
    )


def _counts(
    seen: Sequence[Boxes], there: Sequence[Boxes], classes: int, threshold: float, iou: float
) -> tuple[list[int], list[int], list[int]]:
    """Objects, found objects and false detections of each class."""
    objects, found, false = (np.zeros(classes, dtype=np.int64) for _ in range(3))
    for known, target in zip(seen, there, strict=True):
        kept = known.above(threshold)
        hit = match_boxes(kept, target, iou) >= 0
        objects += np.bincount(target.labels, minlength=classes)
        found += np.bincount(kept.labels[hit], minlength=classes)
        false += np.bincount(kept.labels[~hit], minlength=classes)
    return objects.tolist(), found.tolist(), false.tolist()


def _checked_names(classes: Sequence[str]) -> tuple[str, ...]:
    names = () if isinstance(classes, str | int) else tuple(classes)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(explain("`classes` are no names", received=repr(classes), expected="['runway']"))
    return names


def _inside(name: str, value: float) -> float:
    result = checks.number(name, value)
    if not 0 < result < 1:
        raise InputError(explain(f"`{name}` is out of range", received=value, expected="between 0 and 1"))
    return result


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _without_nan(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in record.items()}
