"""What differs between training on labels a pixel, boxes and classes: data, model, loss, what is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .. import models
from ..core.errors import ConfigError, explain
from ..data import SegmentationDataset
from ..data.boxes import DetectionDataset
from ..data.boxes.dataset import target
from ..data.labels import ClassificationDataset
from ..models.assignment import assign
from ..models.decoding import locations
from ..models.detection import Detector
from ..models.zoo import registered
from .box_loss import BoxLoss
from .boxes import BoxTraining
from .labels import ClassTraining
from .loading import Source, open_boxes, open_classes, open_split
from .module import Training
from .objective import class_weights, make_class_loss, make_loss
from .pixels import PixelTraining
from .recipe import CLASS_LOSSES, DETECTION_LOSSES, PIXEL_LOSSES, AugmentPart, DataPart, Recipe

MEASURED = ("pixel_accuracy", "map50", "accuracy")  # a row with one of these was measured
_LEARNT = {"boxes": DETECTION_LOSSES, "pixels": PIXEL_LOSSES, "classes": CLASS_LOSSES}
_KEPT = {"flip", "shift", "noise", "attack", "attack_steps"}  # what classifiers know of [augment]


@dataclass(frozen=True)
class Parts:
    """The images of a training.

    Attributes:
        train: What is learned from.
        val: What is measured on.
    """

    train: Source
    val: Source

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the first validation image."""
        if isinstance(self.val, DetectionDataset):
            return self.val.shape(0)
        if isinstance(self.val, ClassificationDataset):
            height, width = self.val.picture(0).shape[:2]
        else:
            height, width = self.val.labels(0).shape
        return int(height), int(width)

    @property
    def channels(self) -> int:
        """Channels of the images: those of labels a pixel and of boxes are RGB."""
        return self.val.channels if isinstance(self.val, ClassificationDataset) else 3


def task(name: str) -> str:
    """Return what an architecture learns: "boxes", "classes" or "pixels"; an unknown name is taken for the last.

    >>> task("convnet"), task("fcos"), task("unet")
    ('classes', 'boxes', 'pixels')
    """
    cls = registered(name)
    if cls is None:
        return "pixels"
    return "boxes" if issubclass(cls, Detector) else "pixels" if cls.dense else "classes"


def open_parts(recipe: Recipe) -> Parts:
    """Open the images of a recipe.

    Raises:
        ConfigError: the two parts differ in classes, or the model is of another kind than the loss or augmentation.
        DataError: the data cannot be opened.
    """
    check_kind(recipe)
    read: Callable[[DataPart, str], Source] = open_boxes if recipe.detects else open_split
    if task(recipe.model.name) == "classes":
        read = open_classes
    train, val = read(recipe.data, recipe.data.train), read(recipe.data, recipe.data.val)
    if train.classes != val.classes:
        raise ConfigError(
            explain("the two parts differ in classes", received=val.classes, expected=train.classes)
        )
    return Parts(train, val)


def make_model(recipe: Recipe, classes: int, channels: int = 3) -> models.LipModel:
    """Build the model of a recipe for so many classes and channels of images.

    Raises:
        ConfigError: the model cannot be built.
    """
    part = recipe.model
    options = part.options | ({"temperature": 1.0 / recipe.loss.tau} if recipe.detects else {})
    return models.create(
        part.name,
        classes=classes,
        size=part.size,
        constraint=None if part.constraint == "none" else part.constraint,
        in_channels=channels,
        mean=part.mean,
        std=part.std,
        scale=part.scale,
        mode=part.mode,
        **options,
    )


def check_kind(recipe: Recipe) -> None:
    """Refuse a model of another kind than the loss; an unknown name is left to `onelip.models.create`."""
    cls, name = registered(recipe.model.name), recipe.model.name
    if cls is None:
        return
    learns = task(name)
    if recipe.loss.name not in _LEARNT[learns]:
        raise ConfigError(
            explain(
                f"recipe: `loss.name` does not fit the model {name}",
                received=recipe.loss.name,
                expected=", ".join(_LEARNT[learns]),
                why="detectors learn boxes, classifiers one class an image, the others labels a pixel",
            )
        )
    usual = AugmentPart()
    changed = {key for key, value in vars(recipe.augment).items() if value != getattr(usual, key)}
    wrong = sorted(changed - _KEPT if learns == "classes" else changed & {"shift"})
    if wrong:
        raise ConfigError(
            explain(
                f"recipe: `augment.{wrong[0]}` does not fit the model {name}",
                received=getattr(recipe.augment, wrong[0]),
                expected="none of it: "
                + (
                    "classifiers know " + ", ".join(sorted(_KEPT))
                    if learns == "classes"
                    else "shift is for classifiers"
                ),
            )
        )


def unseen(source: Source, model: models.LipModel, radius: float) -> tuple[int, int]:
    """Return how many objects no location of a detector answers for, and how many there are; (0, 0) without boxes."""
    if not isinstance(source, DetectionDataset) or not isinstance(model, Detector):
        return 0, 0
    missed = total = 0
    for index in range(len(source)):
        known = source.objects(index)
        one = target(torch.from_numpy(known.boxes), torch.from_numpy(known.labels))
        found = assign(*locations(source.shape(index), model.strides), [one], radius=radius).objects
        missed += len(known.labels) - len(found[found >= 0].unique())
        total += len(known.labels)
    return missed, total


def make_training(recipe: Recipe, model: models.LipModel, parts: Parts, *, steps: int) -> Training:
    """Put model and loss together."""
    if recipe.detects:
        return BoxTraining(model, BoxLoss(recipe.loss), recipe, steps=steps)
    if isinstance(parts.train, ClassificationDataset):
        return ClassTraining(model, make_class_loss(recipe.loss), recipe, steps=steps, source=parts.train)
    assert isinstance(parts.train, SegmentationDataset)
    weights = class_weights(recipe.loss, parts.train)
    loss: nn.Module = make_loss(recipe.loss, weights, parts.train.ignore_index)
    return PixelTraining(model, loss, recipe, steps=steps)
