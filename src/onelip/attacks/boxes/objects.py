"""The objects of a batch of images: checked once, then tensors that can be sliced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from onelip.core.errors import InputError, explain
from onelip.models.assignment import padded

_ROUNDING = 1e-3
"""Pixels by which a box may leave its image: what float32 makes of the side of a large one."""


@dataclass(frozen=True, eq=False)
class Objects:
    """What a goal compares with; rows beyond the objects of an image have label -1.

    Attributes:
        boxes: (B, G, 4) float64.
        labels: (B, G) int64.
        wanted: (B, G) int64 class that an object should be taken for, -1 for any other; None where no goal asks.
        false: boxes and labels that should be detected in each image though nothing is there.
        memo: what follows from these for one detector, so that it is computed once.
    """

    boxes: Tensor
    labels: Tensor
    wanted: Tensor | None = None
    false: Sequence[Mapping[str, Tensor]] = ()
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def real(self) -> Tensor:
        """(B, G) bool: where there is an object."""
        return self.labels >= 0

    @property
    def count(self) -> Tensor:
        """(B,) float64: number of objects."""
        return self.real.sum(1).double()

    def __getitem__(self, part: slice) -> Self:
        wanted = None if self.wanted is None else self.wanted[part]
        boxes, labels, false = self.boxes[part], self.labels[part], self.false[part]
        return replace(self, boxes=boxes, labels=labels, wanted=wanted, false=false, memo={})


def receive(target: Any, device: torch.device) -> list[dict[str, Tensor]] | None:
    """Boxes and labels of each image as given, on a device; raises InputError for anything else than a list of them."""
    if target is None:
        return None
    if not isinstance(target, Sequence) or isinstance(target, str | bytes):
        raise InputError(
            explain(
                "`targets` are not those of a detector",
                received=type(target).__name__,
                expected="a list with one dictionary for each image: boxes (G, 4) and labels (G,)",
            )
        )
    found = []
    for position, one in enumerate(target):
        known = isinstance(one, Mapping) and all(isinstance(one.get(k), Tensor) for k in ("boxes", "labels"))
        if not known:
            received = sorted(one) if isinstance(one, Mapping) else type(one).__name__
            raise InputError(
                explain(
                    f"target {position} is not usable",
                    received=received,
                    expected="a dictionary with tensors boxes (G, 4) and labels (G,)",
                    fix="an image without objects has boxes of shape (0, 4) and labels of shape (0,)",
                )
            )
        found.append({"boxes": one["boxes"].to(device), "labels": one["labels"].to(device)})
    return found


def objects(targets: Any, *, images: int, classes: int, size: tuple[int, int], goal: str) -> Objects:
    """Checked objects of a batch.

    Args:
        targets: as `receive` gives them.
        images: their number.
        classes: K.
        size: (h, w) of the images.
        goal: name of the goal, for the texts.

    Raises:
        InputError: no targets, or not one for each image; a box without area or outside its image; a label that is no
            class.
        NonFiniteError: a box holds NaN or an infinity.
    """
    if targets is None:
        raise InputError(
            explain(
                f"{goal}: `targets` are missing",
                expected="a list with one dictionary for each image: boxes (G, 4) and labels (G,)",
                why="this goal compares detections with objects",
                fix="pass the objects, or det.predict(images) to attack what is detected",
            )
        )
    if len(targets) != images:
        raise InputError(
            explain(f"{goal}: not one target for each image", received=len(targets), expected=images)
        )
    boxes, labels = padded(targets, targets[0]["boxes"].device)
    height, width = size
    edge = torch.tensor([width, height, width, height], dtype=torch.float64, device=boxes.device)
    outside = ((boxes < -_ROUNDING) | (boxes > edge + _ROUNDING)).any(-1)
    for bad, what, expected in (
        (outside, "a box outside the image", f"0 <= x1 < x2 <= {width} and 0 <= y1 < y2 <= {height}"),
        (labels >= classes, "a label that is no class", f"0..{classes - 1}"),
    ):
        if bool(bad.any()):
            image, row = bad.nonzero()[0].tolist()
            value = boxes[image, row].tolist() if bad is outside else int(labels[image, row])
            raise InputError(explain(f"{goal}: target {image} has {what}", received=value, expected=expected))
    return Objects(torch.minimum(boxes.clamp_min(0.0), edge), labels)
