"""What differs between training on labels a pixel and on boxes: data, model, loss, what is measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .. import models
from ..core.errors import ConfigError, explain
from ..data import SegmentationDataset
from ..data.boxes import DetectionDataset
from ..data.boxes.dataset import target
from ..models.assignment import assign
from ..models.decoding import locations
from ..models.detection import Detector
from ..models.zoo import registered
from .box_loss import BoxLoss
from .boxes import BoxTraining
from .loading import Source, open_boxes, open_split
from .module import Training
from .objective import class_weights, make_loss
from .pixels import PixelTraining
from .recipe import DETECTION_LOSSES, LOSSES, Recipe

MEASURED = ("pixel_accuracy", "map50")  # a row with one of these was measured


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
        height, width = self.val.labels(0).shape
        return int(height), int(width)


def open_parts(recipe: Recipe) -> Parts:
    """Open the images of a recipe.

    Raises:
        ConfigError: the two parts differ in classes, or the model is of another kind than the loss.
        DataError: the data cannot be opened.
    """
    check_kind(recipe)
    read = open_boxes if recipe.detects else open_split
    train, val = read(recipe.data, recipe.data.train), read(recipe.data, recipe.data.val)
    if train.classes != val.classes:
        raise ConfigError(
            explain("the two parts differ in classes", received=val.classes, expected=train.classes)
        )
    return Parts(train, val)


def make_model(recipe: Recipe, classes: int) -> models.LipModel:
    """Build the model of a recipe.

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
    if issubclass(cls, Detector) != recipe.detects:
        fitting = (
            DETECTION_LOSSES
            if issubclass(cls, Detector)
            else [n for n in LOSSES if n not in DETECTION_LOSSES]
        )
        raise ConfigError(
            explain(
                f"recipe: `loss.name` does not fit the model {name}",
                received=recipe.loss.name,
                expected=", ".join(fitting),
                why="a detector learns boxes, the others labels a pixel",
            )
        )
    if not recipe.detects and not cls.dense:
        raise ConfigError(explain(f"{name} gives no label a pixel", expected="deeplabv3, unet or fcn"))


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
    assert isinstance(parts.train, SegmentationDataset)
    weights = class_weights(recipe.loss, parts.train)
    loss: nn.Module = make_loss(recipe.loss, weights, parts.train.ignore_index)
    return PixelTraining(model, loss, recipe, steps=steps)
