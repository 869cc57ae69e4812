"""Certified detection of a data set over eps and thresholds, ready for tables and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.certify.boxes.measure import ImageSheet
from onelip.certify.curve import plain


@dataclass(frozen=True, eq=False)
class CertifiedDetections:
    """Certified values of a data set; E eps, J thresholds. All are lower bounds.

    Attributes:
        eps: (E,).
        thresholds: (J,) scores.
        iou: of a match.
        free: the regression is free: objects are found by locations, and what needs boxes is None.
        recall: (J, E) share of the objects that are found.
        precision: (J, E) share of the detections that are right, nan where none can occur; None if free.
        average_precision: (E,) over all recalls, mean over the classes; None if free or not ordered by score.
        average_precision_101: (E,) over 101 recalls, as COCO; likewise.
        allowed: (A,) numbers of false detections that are allowed in an image.
        recall_allowed: (A, J, E) share of all objects, found in images without more false detections than allowed.
        quiet: (A, J, E) share of the images without more false detections than allowed.
        clean_recall: (J,) the same without an attack.
        clean_precision: (J,) or None.
        clean_average_precision: or None.
        clean_average_precision_101: or None.
        capped: (J, E) images in which a cap could bind; they count as lost.
        images: number of images.
        objects: number of objects.
        sheets: one for each image, at the threshold of its certificate.
    """

    eps: Tensor
    thresholds: Tensor
    iou: float
    free: bool
    recall: Tensor
    precision: Tensor | None
    average_precision: Tensor | None
    average_precision_101: Tensor | None
    allowed: Tensor
    recall_allowed: Tensor
    quiet: Tensor
    clean_recall: Tensor
    clean_precision: Tensor | None
    clean_average_precision: float | None
    clean_average_precision_101: float | None
    capped: Tensor
    images: int
    objects: int
    sheets: tuple[ImageSheet, ...]

    def at(self, threshold: float) -> int:
        """Index of the threshold nearest to a score."""
        return int((self.thresholds - threshold).abs().argmin())

    def best(self, allowed: int = 0) -> tuple[Tensor, Tensor]:
        """For each eps the largest recall with at most so many false detections, and its threshold, (E,) each.

        The threshold is chosen on these very images: to report a figure, choose it on others.
        """
        row = self.recall_allowed[self.allowed.tolist().index(allowed)]
        value, index = row.max(0)
        return value, self.thresholds[index]

    def __repr__(self) -> str:
        what = "locations" if self.free else f"boxes at IoU {self.iou:g}"
        lines = [f"CertifiedDetections({self.images} images, {self.objects} objects, {what})"]
        if self.average_precision is not None:
            clean = self.clean_average_precision or 0.0
            lines.append(
                f"  AP: clean {clean:.4f}; certified at eps (l2)  {self._over(self.average_precision)}"
            )
        middle = self.at(0.5)
        name = f"recall at {float(self.thresholds[middle]):g}"
        lines.append(
            f"  {name}: clean {float(self.clean_recall[middle]):.4f}; certified  {self._over(self.recall[middle])}"
        )
        for k in self.allowed.tolist():
            value, _ = self.best(k)
            lines.append(
                f"  recall with at most {k} false: certified at the best threshold  {self._over(value)}"
            )
        return "\n".join(lines)

    def _over(self, values: Tensor) -> str:
        return "  ".join(f"{e:g}: {v:.4f}" for e, v in zip(self.eps.tolist(), values.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; undefined values are None."""
        tensors = ("eps", "thresholds", "recall", "precision", "average_precision", "average_precision_101",
                   "allowed", "recall_allowed", "quiet", "clean_recall", "clean_precision", "capped")  # fmt: skip
        found: dict[str, Any] = {}
        for name in tensors:
            value = getattr(self, name)
            found[name] = None if value is None else plain(value)
        for name in ("clean_average_precision", "clean_average_precision_101"):
            value = getattr(self, name)
            found[name] = None if value is None else plain(torch.tensor(value, dtype=torch.float64))
        plainly = {name: getattr(self, name) for name in ("iou", "free", "images", "objects")}
        return {
            "kind": "certified detections",
            **plainly,
            **found,
            "sheets": [s.to_dict() for s in self.sheets],
        }
