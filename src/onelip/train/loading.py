"""Batches in an order, and with an augmentation, that depend on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .. import data
from ..core.errors import ConfigError, explain
from ..data import SegmentationDataset, boxes
from ..data.boxes import BoxAugment, DetectionDataset
from ..data.catalog import DRAWN
from ..data.labels import ClassificationDataset, LabelAugment, open_labels
from ..data.labels import to_bytes as class_to_bytes
from ..data.transforms import Augment, to_bytes
from .recipe import AugmentPart, DataPart, Recipe

Key = tuple[int, int]  # (epoch, index of the image)
Batch = tuple[Tensor, Tensor]
BoxBatch = tuple[Tensor, list[dict[str, Tensor]]]
Source = SegmentationDataset | DetectionDataset | ClassificationDataset


def mixed_seed(*numbers: int) -> int:
    """Return a seed that shares nothing with those of neighbouring numbers.

    >>> mixed_seed(0, 1) == mixed_seed(0, 1), mixed_seed(0, 1) == mixed_seed(1, 0)
    (True, False)
    """
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


class EpochOrder(Sampler[Key]):
    """The shuffled order of one epoch, shared out over `world` processes; yields (epoch, index).

    The epoch travels with the index, so that a worker process knows it without being told.
    """

    def __init__(self, images: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.images, self.seed, self.rank, self.world = images, seed, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; the trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.images // self.world

    def __iter__(self) -> Iterator[Key]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        order: list[int] = torch.randperm(self.images, generator=generator).tolist()
        share = order[self.rank : len(self) * self.world : self.world]
        return iter([(self.epoch, index) for index in share])


class Augmented(Dataset[tuple[Tensor, Any]]):
    """Augmented images of a data set, with labels a pixel, boxes or one class each, by (epoch, index)."""

    def __init__(self, source: Source, augment: Augment | BoxAugment | LabelAugment, *, seed: int) -> None:
        self.source, self.augment, self.seed = source, augment, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> tuple[Tensor, Any]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, *key))
        unpack: Callable[..., Any] = to_bytes
        if isinstance(self.source, DetectionDataset):
            unpack = boxes.to_bytes
        elif isinstance(self.source, ClassificationDataset):
            unpack = class_to_bytes
        augment: Callable[..., tuple[Tensor, Any]] = self.augment
        return augment(*unpack(*self.source.read(key[1])), generator)


class _Subset(Dataset[tuple[Tensor, Any]]):
    """Some images of a data set, as they are."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source, self.indices = source, tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, Any]:
        return self.source[self.indices[position]]


def open_split(part: DataPart, split: str) -> SegmentationDataset:
    """Open the labels a pixel that a recipe names."""
    return data.open(part.dataset, split, **_arguments(part, split))


def open_boxes(part: DataPart, split: str) -> DetectionDataset:
    """Open the boxes that a recipe names."""
    return boxes.open_boxes(part.dataset, split, **_arguments(part, split), classes=part.classes or None)


def open_classes(part: DataPart, split: str) -> ClassificationDataset:
    """Open the labelled images that a recipe names."""
    limit = part.images if part.images and split == part.train else None
    size = (part.size[0], part.size[1]) if part.size else None
    return open_labels(part.dataset, split, root=part.root or None, size=size, cache=part.cache, limit=limit)


def _arguments(part: DataPart, split: str) -> dict[str, Any]:
    drawn = part.dataset in DRAWN and not part.root
    return {
        "root": part.root or None,
        "size": (part.size[0], part.size[1]) if part.size else None,
        "cache": part.cache,
        "images": part.images if drawn and part.images and split == part.train else None,
    }


def make_augment(part: AugmentPart) -> Augment:
    """Build the augmentation of a recipe."""
    return Augment(**_common(part), vflip=part.vflip, rotate=part.rotate)


def make_box_augment(part: AugmentPart) -> BoxAugment:
    """Build the augmentation of a recipe for boxes, which stay upright."""
    return BoxAugment(**_common(part))


def make_label_augment(part: AugmentPart) -> LabelAugment:
    """Build the augmentation of a recipe for images with one class."""
    return LabelAugment(shift=part.shift, flip=part.flip, noise=part.noise)


def _common(part: AugmentPart) -> dict[str, Any]:
    return {
        "crop": (part.crop[0], part.crop[1]) if part.crop else None,
        "scale": (part.scale[0], part.scale[1]),
        "flip": part.flip,
        "jitter": part.jitter,
        "noise": part.noise,
        "focus": part.focus,
    }


def train_loader(
    source: Source, recipe: Recipe, *, rank: int = 0, world: int = 1
) -> DataLoader[tuple[Tensor, Any]]:
    """Return the training batches of one process; a last, smaller batch is left out."""
    share = len(source) // world
    if share < 1:
        raise ConfigError(
            explain("too few training images", received=len(source), expected=f"at least {world}")
        )
    batch = min(recipe.optim.batch, share)
    make: Callable[[AugmentPart], Any] = make_augment
    if isinstance(source, DetectionDataset):
        make = make_box_augment
    elif isinstance(source, ClassificationDataset):
        make = make_label_augment
    return DataLoader(
        Augmented(source, make(recipe.augment), seed=recipe.seed),
        batch_size=batch,
        sampler=EpochOrder(len(source), seed=recipe.seed, rank=rank, world=world),
        drop_last=True,
        num_workers=recipe.data.workers,
        persistent_workers=recipe.data.workers > 0,
        collate_fn=_collate,
    )


def val_loader(
    source: Source, recipe: Recipe, *, rank: int = 0, world: int = 1
) -> DataLoader[tuple[Tensor, Any]]:
    """Return the validation batches of one process: every image, or `val.images` evenly spread ones."""
    count = min(recipe.val.images or len(source), len(source))
    indices = [k * len(source) // count for k in range(count)]
    return DataLoader(
        _Subset(source, indices[rank::world]),
        batch_size=recipe.val.batch,
        num_workers=recipe.data.workers,
        persistent_workers=recipe.data.workers > 0,
        collate_fn=_collate,
    )


def _collate(items: Sequence[tuple[Tensor, Any]]) -> Batch | BoxBatch:
    """Stack images and labels; targets of boxes stay a list."""
    images, targets = zip(*items, strict=True)
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise ConfigError(
            explain(
                "the images of a batch differ in size",
                received=sorted(sizes),
                fix="set data.size (both parts), augment.crop (training) or val.batch=1 (validation)",
            )
        )
    both = torch.stack(images)
    if isinstance(targets[0], int):
        return both, torch.tensor(targets)
    return (both, torch.stack(targets)) if isinstance(targets[0], Tensor) else (both, list(targets))
