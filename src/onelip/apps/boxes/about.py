"""What `onelip info` says about a detector."""

from __future__ import annotations

import math
from typing import Any

from onelip.core.numbers import round_down, round_up
from onelip.models import Detector

THRESHOLD, HIGH = 0.5, 0.9  # scores that the table speaks of


def about(model: Detector, size: tuple[int, int], lipschitz: float) -> dict[str, Any]:
    """Levels, outputs, thresholds and what one unit of eps can do, JSON-ready.

    Args:
        model: the detector.
        size: (h, w) of the images.
        lipschitz: joint constant of what its forward returns, at this size.

    Example:
        >>> import onelip
        >>> found = about(onelip.models.create("fcos", classes=1, size="XS"), (32, 48), 2.0)
        >>> found["locations"], found["regression"], found["pixels_per_eps"]
        ([96, 24, 6, 2], 'free', None)
    """
    height, width = size
    free = model.regression_kind == "free"
    step = model.threshold_logit(HIGH) - model.threshold_logit(THRESHOLD)
    return {
        "classes": model.classes,
        "strides": list(model.strides),
        "locations": [math.ceil(height / s) * math.ceil(width / s) for s in model.strides],
        "regression": model.regression_kind,
        "kappa": None if free else model.kappa,
        "temperature": model.temperature,
        "threshold_logits": {str(t): model.threshold_logit(t) for t in (0.05, 0.3, THRESHOLD, HIGH)},
        "stays_above": step / lipschitz if lipschitz > 0 else "inf",
        "pixels_per_eps": None if free else [model.kappa * lipschitz * s for s in model.strides],
        "nms": model.nms,
        "per_level": model.per_level,
        "per_image": model.per_image,
        "centerness": model.centerness,
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of the table."""
    pairs = zip(found["strides"], found["locations"], strict=True)
    logits = ", ".join(f"{score}: {logit:.4g}" for score, logit in found["threshold_logits"].items())
    boxes = "free: nothing is certified about boxes"
    if found["pixels_per_eps"] is not None:
        moved = ", ".join(f"{round_up(pixels, 3)}" for pixels in found["pixels_per_eps"])
        boxes = (
            f"Lipschitz, kappa {found['kappa']:g}: for each 1.0 of eps a side moves at most {moved} pixels"
        )
    return [
        ("classes", str(found["classes"])),
        ("locations", ", ".join(f"{count} of stride {stride}" for stride, count in pairs)),
        ("boxes", boxes),
        ("temperature", f"{found['temperature']:g}, score = sigmoid(logit / temperature)"),
        ("logits of scores", logits),
        (
            f"a score of {HIGH}",
            f"stays above {THRESHOLD} below eps {round_down(float(found['stays_above']), 4)}",
        ),
        ("suppression", f"IoU above {found['nms']:g}" + (", by centre-ness" if found["centerness"] else "")),
        ("kept", f"{found['per_level']} candidates in a level, {found['per_image']} detections in an image"),
    ]
