"""The raw heads of a detector on a batch of images, as the goals of boxes see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from onelip.attacks.outputs import Outputs
from onelip.attacks.projection import per_image
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.models.decoding import clip, decode, postprocess
from onelip.models.detection import Detector, Raw

_NEEDED = ("raw", "threshold_logit", "temperature", "nms", "per_level", "per_image", "regression_kind")


@dataclass(frozen=True, eq=False)
class Layout:
    """What is the same for all images of one detector at one size.

    Attributes:
        locations: (N, 2) centres (x, y) in pixels.
        strides: (N,).
        size: (h, w) of the images.
        level: logit of the goal's threshold of scores.
        temperature: of the scores.
        nms: IoU above which a box suppresses another.
        per_level: candidates kept in each level.
        per_image: detections kept in each image.
        kappa: scale of Lipschitz distances; None where nothing bounds them.
    """

    locations: Tensor
    strides: Tensor
    size: tuple[int, int]
    level: float
    temperature: float
    nms: float
    per_level: int
    per_image: int
    kappa: float | None


@dataclass(frozen=True, eq=False)
class Heads(Outputs):
    """Raw heads of B images, with gradients where the images have them.

    Attributes:
        logits: (B, N, K).
        regression: (B, N, 4) distances, in strides.
        order: (B, N) added to the logits for the order of suppression, or None.
        layout: the locations and options of the detector.
        images: (B, C, H, W) what the detector was asked, None after a choice between two.
    """

    logits: Tensor
    regression: Tensor
    order: Tensor | None
    layout: Layout
    images: Tensor | None = None

    @classmethod
    def ask(cls, model: nn.Module, images: Tensor, threshold: float) -> Self:
        """Run a detector, on its raw heads: no threshold and no suppression is in the way of gradients.

        Raises:
            InputError: when the model is no detector.
        """
        model_: Any = _detector(model)
        raw, centre = model_.heads(images) if isinstance(model, Detector) else (model_.raw(images), None)
        height, width = images.shape[-2:]
        layout = Layout(
            locations=raw.locations,
            strides=raw.strides,
            size=(int(height), int(width)),
            level=float(model_.threshold_logit(threshold)),
            temperature=float(model_.temperature),
            nms=float(model_.nms),
            per_level=int(model_.per_level),
            per_image=int(model_.per_image),
            kappa=float(model_.kappa) if model_.regression_kind == "lipschitz" else None,
        )
        order = None if centre is None else layout.temperature * nn.functional.logsigmoid(centre)
        return cls(raw.logits, raw.regression, order, layout, images.detach())

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return self.logits.shape[-1]

    @property
    def boxes(self) -> Tensor:
        """(B, N, 4) decoded boxes in pixels, clipped to the image, with gradients."""
        at = self.layout.locations.to(self.regression)
        return clip(decode(at, self.layout.strides.to(self.regression), self.regression), self.layout.size)

    @property
    def raw(self) -> Raw:
        """The heads as the detector gives them."""
        return Raw(self.logits, self.regression, self.layout.locations, self.layout.strides)

    def detections(self, threshold: float | None = None) -> list[dict[str, Tensor]]:
        """Boxes, scores and labels of each image after threshold and suppression, as `predict` gives them."""
        level = self.layout.level
        if threshold is not None:
            value = checks.number("threshold", threshold)
            if not 0.0 < value < 1.0:
                raise InputError(
                    explain("`threshold` is out of range", received=threshold, expected="between 0 and 1")
                )
            level = self.layout.temperature * (math.log(value) - math.log1p(-value))
        return postprocess(
            self.raw,
            level,
            self.layout.size,
            nms=self.layout.nms,
            temperature=self.layout.temperature,
            per_level=self.layout.per_level,
            per_image=self.layout.per_image,
            order=self.order,
        )

    def at(self, level: float, *, nms: float | None = None) -> Self:
        """The same heads at another threshold of the logits and, unless None, another limit of suppression."""
        limit = self.layout.nms if nms is None else nms
        return replace(self, layout=replace(self.layout, level=level, nms=limit))

    def predictions(self) -> list[dict[str, Tensor]]:
        """Detections at the threshold of the goal."""
        return self.detections()

    def bounded(self) -> Tensor:
        r"""(B, M): all logits and, with Lipschitz distances, :math:`r / \kappa`."""
        logits = self.logits.flatten(1)
        if self.layout.kappa is None:
            return logits
        return torch.cat([logits, self.regression.flatten(1) / self.layout.kappa], dim=1)

    def __getitem__(self, part: slice) -> Self:
        return self._each(lambda x: x[part])

    def detach(self) -> Self:
        """The same without gradients."""
        return self._each(lambda x: x.detach())

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The heads of several batches as those of one."""

        def each(name: str) -> Tensor | None:
            columns = [getattr(part, name) for part in parts]
            return None if any(column is None for column in columns) else torch.cat(columns)

        logits, regression = (
            torch.cat([getattr(part, n) for part in parts]) for n in ("logits", "regression")
        )
        order, images = each("order"), each("images")
        return replace(parts[0], logits=logits, regression=regression, order=order, images=images)

    def choose(self, keep: Tensor, other: Self) -> Self:
        """These heads where `keep`, (B,) bool, and the others elsewhere."""

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(per_image(keep, mine).bool(), mine, theirs)

        order = self.order if self.order is None or other.order is None else pick(self.order, other.order)
        logits, regression = pick(self.logits, other.logits), pick(self.regression, other.regression)
        return replace(self, logits=logits, regression=regression, order=order, images=None)

    def _each(self, change: Any) -> Self:
        order = None if self.order is None else change(self.order)
        images = None if self.images is None else change(self.images)
        logits, regression = change(self.logits), change(self.regression)
        return replace(self, logits=logits, regression=regression, order=order, images=images)


def _detector(model: nn.Module) -> nn.Module:
    lacking = [name for name in _NEEDED if not hasattr(model, name)]
    if lacking:
        raise InputError(
            explain(
                "the model is not a detector",
                received=f"{type(model).__name__} without {', '.join(lacking)}",
                expected="a onelip.models.detection.Detector, as onelip.models.create('fcos', ...)",
                why="goals of boxes are attacked on its raw heads",
                fix="for a dense model or a classifier use Vanish(label), Fabricate(label) or Misclassify()",
            )
        )
    return model


def iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 4) with boxes (..., 4), broadcast, with gradients; 0 with an empty box.

    Example:
        >>> round(iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 0.0, 3.0, 2.0])).item(), 4)
        0.3333
    """
    corner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = corner.clamp_min(0).prod(-1)
    union = _area(a) + _area(b) - shared
    empty = union <= 0
    return torch.where(empty, torch.zeros_like(union), shared / union.masked_fill(empty, 1.0))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
