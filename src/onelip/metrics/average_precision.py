"""Average precision by COCO's rules, computed by faster-coco-eval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onelip.metrics.matching import Boxes

LEVELS = 10  # IoU 0.50, 0.55, ..., 0.95


def average_precision(
    seen: Sequence[Boxes], there: Sequence[Boxes], classes: int, per_image: int
) -> NDArray[np.float64]:
    """Return the average precision (10, K) at IoU 0.50, 0.55, ..., 0.95 of each class; nan without objects.

    Args:
        seen: The detections of each image.
        there: The objects of each image, as many.
        classes: K.
        per_image: So many detections a class and image at most.
    """
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    frame = {
        "images": [{"id": k} for k in range(1, len(there) + 1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, classes + 1)],
    }
    known, found = ({**frame, "annotations": _annotations(images)} for images in (there, seen))
    judge = COCOeval_faster(COCO(known), COCO(found), "bbox")
    judge.params.maxDets = [per_image]
    judge.params.areaRng, judge.params.areaRngLbl = [[0.0, math.inf]], ["all"]
    judge.evaluate()
    judge.accumulate()
    precision = np.asarray(judge.eval["precision"], np.float64)[:, :, :, 0, 0]  # (level, recall, class)
    result: NDArray[np.float64] = np.where(precision < 0, math.nan, precision).mean(axis=1)
    return result


def _annotations(images: Sequence[Boxes]) -> list[dict[str, Any]]:
    """COCO's entries: ids from 1, since 0 is read as "not matched"."""
    result: list[dict[str, Any]] = []
    for number, known in enumerate(images, 1):
        for box, label, score in zip(*(values.tolist() for values in known), strict=True):
            x1, y1, x2, y2 = box
            result.append(
                {
                    "id": len(result) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return result
