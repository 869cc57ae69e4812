"""Goals: what an attacker wants, as pixels to be won and a score to be judged by; those of boxes are listed too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from onelip.attacks.base import PixelGoal, Pixels, as_dense, as_map, one_hot, predict
from onelip.attacks.boxes import (
    DetectionErrors,
    FabricateBoxes,
    FabricateCount,
    Mislabel,
    ShiftBoxes,
    VanishBoxes,
)
from onelip.attacks.labels import Reclassify
from onelip.core import checks
from onelip.core.errors import InputError, explain


def labels_and_valid(target: Tensor | None, logits: Tensor, goal: PixelGoal) -> tuple[Tensor, Tensor]:
    """Checked labels that can serve as an index, and where they are not void. (B, H, W)."""
    if target is None:
        raise InputError(
            explain(
                f"{goal.name}: `target` is missing",
                expected="int64 labels (B, H, W), or (B,) for a classifier",
                why="this goal compares predictions with labels",
                fix="pass the labels, or the clean prediction to attack the prediction itself",
            )
        )
    known = checks.target(as_map(target), logits, goal.ignore_index)
    valid = known != goal.ignore_index
    return known.where(valid, torch.zeros_like(known)), valid


def check_class(name: str, label: int, logits: Tensor, goal: PixelGoal) -> None:
    """Raise unless the label is one of the classes."""
    classes = logits.shape[1]
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < classes:
        raise InputError(
            explain(
                f"{goal.name}: `{name}` is not a class",
                received=repr(label),
                expected=f"an integer in 0..{classes - 1}",
            )
        )


@dataclass(frozen=True)
class PixelErrors(PixelGoal):
    """Wrong pixels: the score is the share of the valid pixels whose prediction is not their label.

    Args:
        threshold: share at which the goal is reached; None: any more errors than on the clean image.
        ignore_index: label of void pixels.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])
        >>> PixelErrors().clean_score(logits, torch.zeros(1, 1, 2, dtype=torch.int64)).tolist()
        [0.5]
    """

    threshold: float | None = None
    ignore_index: int = 255

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """Every valid pixel should leave its label."""
        labels, valid = labels_and_valid(target, logits, self)
        return Pixels(labels, valid, torch.zeros_like(valid))


@dataclass(frozen=True)
class Misclassify(PixelErrors):
    """A wrong class: of the image for a classifier, of the given share of the pixels for a dense model.

    Args:
        threshold: share of wrong pixels at which the goal is reached; a classifier has one "pixel" an image.
        ignore_index: label of void pixels.

    Example:
        >>> Misclassify().clean_score(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0])).tolist()
        [1.0, 0.0]
    """

    threshold: float | None = 1.0


@dataclass(frozen=True)
class Vanish(PixelGoal):
    """Make a class vanish: the score is the share of its labelled pixels that are predicted as something else.

    Args:
        label: the class.
        threshold: share at which the goal is reached.
        ignore_index: label of void pixels.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])
        >>> Vanish(1).clean_score(logits, torch.ones(1, 1, 2, dtype=torch.int64)).tolist()
        [0.5]
    """

    label: int
    threshold: float | None = 1.0
    ignore_index: int = 255

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """Every pixel of the class should leave it."""
        check_class("label", self.label, logits, self)
        labels, valid = labels_and_valid(target, logits, self)
        return Pixels(labels, valid & (labels == self.label), torch.zeros_like(valid))


@dataclass(frozen=True)
class Fabricate(PixelGoal):
    """Make a class appear: the score is the share of the valid pixels of other classes that are predicted as it.

    Args:
        label: the class.
        threshold: share at which the goal is reached; None: any more than on the clean image.
        ignore_index: label of void pixels.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])
        >>> Fabricate(1).clean_score(logits, torch.zeros(1, 1, 2, dtype=torch.int64)).tolist()
        [0.5]
    """

    label: int
    threshold: float | None = None
    ignore_index: int = 255

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """Every other pixel should enter the class."""
        check_class("label", self.label, logits, self)
        labels, valid = labels_and_valid(target, logits, self)
        wanted = torch.full_like(labels, self.label)
        return Pixels(wanted, valid & (labels != self.label), torch.ones_like(valid))


@dataclass(frozen=True, eq=False)
class Region(PixelGoal):
    """Paint a region: the score is the share of the pixels of a mask that are predicted as a class.

    Void pixels are left out when labels are given; no labels are needed.

    Args:
        mask: (H, W) or (B, H, W) bool.
        label: the class to paint with.
        threshold: share at which the goal is reached.
        ignore_index: label of void pixels.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])
        >>> Region(torch.tensor([[True, True]]), 1).clean_score(logits).tolist()
        [0.5]
    """

    needs_target: ClassVar[bool] = False
    mask: Tensor
    label: int
    threshold: float | None = 1.0
    ignore_index: int = 255

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """Every pixel of the mask should enter the class."""
        check_class("label", self.label, logits, self)
        shape = (logits.shape[0], *logits.shape[2:])
        mask = self.mask
        fits = isinstance(mask, Tensor) and mask.dtype == torch.bool
        if not fits or tuple(mask.shape) not in (shape, shape[1:]):
            received = (
                f"{tuple(mask.shape)}, {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
            )
            raise InputError(
                explain(
                    "Region: `mask` does not fit", received=received, expected=f"bool {shape[1:]} or {shape}"
                )
            )
        inside = mask.to(logits.device).expand(shape)
        if target is not None:
            inside = inside & labels_and_valid(target, logits, self)[1]
        wanted = torch.full(shape, self.label, dtype=torch.int64, device=logits.device)
        return Pixels(wanted, inside, torch.ones_like(inside))


@dataclass(frozen=True)
class CriterionGoal(PixelGoal):
    """Make a certified criterion as bad as it can be: the score is its value, negated where high values are good.

    The loss is that of the matching pixels: those of the class for recall and IoU (and, for IoU, false positives too),
    all valid pixels else, weighted by the size of their class for means over classes. A criterion without target
    (stability) is attacked at the clean prediction.

    Args:
        criterion: as `onelip.certify.PixelAccuracy()`: `value`, `higher_is_better`, `needs_target`, `ignore_index`.
        threshold: value at which the goal is reached (<=, for error rates >=); None: any worse than clean.
    """

    criterion: Any
    threshold: float | None = None

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """Whether the criterion compares with labels."""
        return bool(self.criterion.needs_target)

    @property
    def ignore_index(self) -> int:  # type: ignore[override]
        """Label of void pixels, the criterion's."""
        return int(self.criterion.ignore_index)

    @property
    def name(self) -> str:
        """Name of the criterion."""
        return str(self.criterion.name)

    @property
    def top(self) -> float:
        """The criterion at its worst: 0, or 1 for an error rate."""
        return -0.0 if self.criterion.higher_is_better else 1.0

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """The pixels whose change makes the criterion worse."""
        if not self.needs_target:
            own = predict(logits)
            void = (
                torch.zeros_like(own, dtype=torch.bool)
                if target is None
                else as_map(target) == self.ignore_index
            )
            target = own.masked_fill(void, self.ignore_index)
        labels, valid = labels_and_valid(target, logits, self)
        never, weight = torch.zeros_like(valid), valid.double()
        if (one := getattr(self.criterion, "positive", None)) is not None:
            weight = (valid & (labels == one)).double()
        elif (one := getattr(self.criterion, "label", None)) is not None:
            other = valid & (labels != one)
            return Pixels(labels.masked_fill(other, one), valid.double(), other, target)
        elif "mean" in type(self.criterion).__name__.lower():
            counts = torch.nn.functional.one_hot(labels, logits.shape[1]) * valid[..., None]
            sizes = counts.flatten(1, -2).sum(1).clamp_min(1).double()
            weight = weight / sizes.gather(1, labels.flatten(1)).reshape(labels.shape)
        return Pixels(labels, weight, never, target)

    def score(self, outputs: Tensor, state: Pixels) -> Tensor:
        """(B,) value of the criterion on the predictions, negated where high values are good."""
        logits = as_dense(outputs)
        if self.needs_target:
            value: Tensor = self.criterion.value(one_hot(predict(logits), logits.shape[1]), state.target)
            return -value if self.criterion.higher_is_better else value
        return super().score(outputs, state) - 1.0  # minus the share of pixels that keep their class

    def reached(self, score: Tensor, clean: Tensor) -> Tensor:
        """The value is at the threshold, in float64 as a caller would compare; or worse than clean."""
        if self.threshold is None:
            return score > clean
        if not self.criterion.higher_is_better:
            return score >= self.threshold
        return -score <= self.threshold


__all__ = [
    "CriterionGoal",
    "DetectionErrors",
    "Fabricate",
    "FabricateBoxes",
    "FabricateCount",
    "Misclassify",
    "Mislabel",
    "PixelErrors",
    "Reclassify",
    "Region",
    "ShiftBoxes",
    "Vanish",
    "VanishBoxes",
]
