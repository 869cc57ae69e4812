"""Checks of the objects that a certificate of detections is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from onelip.core import checks, errors
from onelip.models.detection import Raw, Target

BEYOND = 1.0
"""Pixels by which a box of an object may exceed the image: annotations are rounded."""


def checked_targets(targets: Sequence[Target], raw: Raw, size: tuple[int, int]) -> list[Target]:
    """Checked targets, boxes float64 on the CPU."""
    if isinstance(targets, Mapping) or not isinstance(targets, Sequence) or len(targets) != len(raw.logits):
        received = f"{len(targets)} entries" if isinstance(targets, Sequence) else type(targets).__name__
        raise errors.InputError(
            errors.explain(
                "`targets` does not fit the images",
                received=received,
                expected=f"a list of {len(raw.logits)} dicts, one for each image",
            )
        )
    return [_object(t, f"targets[{i}]", raw.logits.shape[-1], size) for i, t in enumerate(targets)]


def _object(target: Target, name: str, classes: int, size: tuple[int, int]) -> Target:
    fine = isinstance(target, Mapping) and {"boxes", "labels"} <= set(target)
    boxes, labels = (target["boxes"], target["labels"]) if fine else (torch.empty(0), torch.empty(0))
    if not fine or boxes.dim() != 2 or boxes.shape[1] != 4 or labels.shape != (len(boxes),):
        raise errors.InputError(
            errors.explain(
                f"`{name}` is no target",
                received=f"boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)}"
                if fine
                else type(target).__name__,
                expected="a dict with boxes (G, 4) and labels (G,)",
                fix="an image without objects has boxes of shape (0, 4) and labels of shape (0,)",
            )
        )
    if labels.dtype != torch.int64:
        raise errors.InputError(
            errors.explain(
                f"`{name}` has labels of the wrong type", received=labels.dtype, expected="torch.int64"
            )
        )
    boxes, labels = boxes.detach().to("cpu", torch.float64), labels.detach().cpu()
    checks.finite(f"{name} boxes", boxes)
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        raise errors.InputError(
            errors.explain(
                f"`{name}` has labels outside the classes",
                received=sorted(set(labels[wrong].tolist()))[:8],
                expected=f"0..{classes - 1}",
            )
        )
    _check_boxes(boxes, name, size)
    return {"boxes": boxes, "labels": labels}


def _check_boxes(boxes: Tensor, name: str, size: tuple[int, int]) -> None:
    height, width = size
    limit = boxes.new_tensor([width, height, width, height]) + BEYOND
    inverted = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    beyond = ((boxes < -BEYOND) | (boxes > limit)).any(1)
    for bad, what, expected, fix in (
        (inverted, "a box without area", "x1 < x2 and y1 < y2", "drop it, or swap its corners"),
        (beyond, "a box outside the image", f"boxes within {size} (h, w)", "onelip.models.decoding.clip"),
    ):
        if bool(bad.any()):
            raise errors.InputError(
                errors.explain(
                    f"`{name}` has {what}", received=boxes[bad][0].tolist(), expected=expected, fix=fix
                )
            )
