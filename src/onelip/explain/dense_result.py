"""Counterfactuals of dense models: of regions of a segmentation, and of boxes of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.explain.result import Counterfactual
from onelip.models.boxes import iou

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.models.detection import Detections


@dataclass(frozen=True, eq=False, repr=False)
class RegionCounterfactual(Counterfactual):
    """Images near to some others, in which a region has other classes; made by `region_counterfactual`.

    As `Counterfactual`, with `predicted` and `to` maps of classes (B, H, W), those of x and of `boundary`, and:

    Attributes:
        region: (B, H, W) bool: the pixels that had to change; for "vanish" those that had the class.
        mode: "flip", "vanish" or "appear".
        labels: (B, H, W) int64: the class that pixels leave ("flip", "vanish") or enter ("appear").
    """

    region: Tensor
    mode: str
    labels: Tensor

    @cached_property
    def elsewhere(self) -> Tensor:
        """(B,) number of pixels outside of the region whose class changed as well."""
        return ((self.predicted != self.to) & ~self.region).flatten(1).sum(1)

    def story(self, index: int) -> str:
        """How many pixels, and what they became."""
        inside = self.region[index]
        after = self.to[index][inside].unique().tolist()
        return f"{self.mode} {int(inside.sum())} pixels, now of classes {after}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without images and maps; numbers that are not finite become None."""
        changed = (self.predicted != self.to).flatten(1).sum(1)
        return {
            **super().to_dict(),
            "kind": "counterfactuals of regions",
            "mode": self.mode,
            "predicted": None,
            "to": None,
            "pixels": self.region.flatten(1).sum(1).tolist(),
            "changed": changed.tolist(),
            "elsewhere": self.elsewhere.tolist(),
        }

    def figure(self, index: int = 0) -> Figure:
        """Draw one image and its counterfactual with the region outlined, what changed, and both maps of classes.

        Args:
            index: which image of the batch.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.explain.dense_picture import draw_region

        return draw_region(self, index)


@dataclass(frozen=True, eq=False, repr=False)
class BoxCounterfactual(Counterfactual):
    """Images near to some others, in which a box vanishes, appears or has another class; made by `box_counterfactual`.

    As `Counterfactual`, with `predicted` and `to` the class found at the box before and after, (B,), -1 for none, and:

    Attributes:
        boxes: (B, 4) float64.
        mode: "vanish", "appear" or "relabel".
        threshold: of the scores.
        before: for each image the detections of x, after suppression.
        after: those of `boundary`, by the model as given.

    The goal is about locations in the box. Detections have boxes of their own, which a free regression puts anywhere:
    `overlap` tells what is left of the list.
    """

    boxes: Tensor
    mode: str
    threshold: float
    before: list[Detections]
    after: list[Detections]

    def overlap(self, detections: list[Detections], labels: Tensor) -> Tensor:
        """(B,) float64 largest IoU of the box with a detection of a class, 0 without any; labels (B,), -1: any.

        Args:
            detections: `before` or `after`.
            labels: for instance `predicted` or `to`.
        """
        found = torch.zeros(len(detections), dtype=torch.float64)
        for i, (row, label) in enumerate(zip(detections, labels.tolist(), strict=True)):
            chosen = torch.ones_like(row["labels"], dtype=torch.bool) if label < 0 else row["labels"] == label
            if bool(chosen.any()):
                found[i] = iou(row["boxes"][chosen].double(), self.boxes[i].to(row["boxes"].device)).max()
        return found

    def story(self, index: int) -> str:
        """What was found at the box, before and after."""
        before, after = (
            f"class {k}" if k >= 0 else "nothing" for k in (self.predicted[index], self.to[index])
        )
        return f"{self.mode}: {before} -> {after}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary, without the images; numbers that are not finite become None."""
        return {
            **super().to_dict(),
            "kind": "counterfactuals of boxes",
            "mode": self.mode,
            "threshold": self.threshold,
            "boxes": self.boxes.tolist(),
            "overlap_before": self.overlap(self.before, self.predicted).tolist(),
            "overlap_after": self.overlap(self.after, self.predicted).tolist(),
        }

    def figure(self, index: int = 0) -> Figure:
        """Draw one image and its counterfactual with all detections, and what changed.

        Args:
            index: which image of the batch.

        Returns:
            A matplotlib figure, not bound to any window.
        """
        from onelip.explain.dense_picture import draw_box

        return draw_box(self, index)
