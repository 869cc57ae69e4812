"""Batches in an order, and with an augmentation, that depend on (seed, epoch, index) and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .. import data
from ..core.errors import ConfigError, explain
from ..data import SegmentationDataset
from ..data.catalog import DRAWN
from ..data.transforms import Augment, to_bytes
from .recipe import AugmentPart, DataPart, Recipe

Key = tuple[int, int]  # (epoch, index of the image)
Batch = tuple[Tensor, Tensor]


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


class Augmented(Dataset[Batch]):
    """Augmented images of a data set, by (epoch, index)."""

    def __init__(self, source: SegmentationDataset, augment: Augment, *, seed: int) -> None:
        self.source, self.augment, self.seed = source, augment, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Batch:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, *key))
        return self.augment(*to_bytes(*self.source.read(key[1])), generator)


class _Subset(Dataset[Batch]):
    """Some images of a data set, as they are."""

    def __init__(self, source: SegmentationDataset, indices: Sequence[int]) -> None:
        self.source, self.indices = source, tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Batch:
        return self.source[self.indices[position]]


def open_split(part: DataPart, split: str) -> SegmentationDataset:
    """Open the data that a recipe names."""
    drawn = part.dataset in DRAWN and not part.root
    return data.open(
        part.dataset,
        split,
        root=part.root or None,
        size=(part.size[0], part.size[1]) if part.size else None,
        cache=part.cache,
        images=part.images if drawn and part.images and split == part.train else None,
    )


def make_augment(part: AugmentPart) -> Augment:
    """Build the augmentation of a recipe."""
    return Augment(
        crop=(part.crop[0], part.crop[1]) if part.crop else None,
        scale=(part.scale[0], part.scale[1]),
        flip=part.flip,
        vflip=part.vflip,
        rotate=part.rotate,
        jitter=part.jitter,
        noise=part.noise,
        focus=part.focus,
    )


def train_loader(
    source: SegmentationDataset, recipe: Recipe, *, rank: int = 0, world: int = 1
) -> DataLoader[Batch]:
    """Return the training batches of one process; a last, smaller batch is left out."""
    share = len(source) // world
    if share < 1:
        raise ConfigError(
            explain("too few training images", received=len(source), expected=f"at least {world}")
        )
    batch = min(recipe.optim.batch, share)
    return DataLoader(
        Augmented(source, make_augment(recipe.augment), seed=recipe.seed),
        batch_size=batch,
        sampler=EpochOrder(len(source), seed=recipe.seed, rank=rank, world=world),
        drop_last=True,
        num_workers=recipe.data.workers,
        persistent_workers=recipe.data.workers > 0,
        collate_fn=_collate,
    )


def val_loader(
    source: SegmentationDataset, recipe: Recipe, *, rank: int = 0, world: int = 1
) -> DataLoader[Batch]:
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


def _collate(items: Sequence[Batch]) -> Batch:
    images, targets = zip(*items, strict=True)
    sizes = {tuple(t.shape) for t in targets}
    if len(sizes) > 1:
        raise ConfigError(
            explain(
                "the images of a batch differ in size",
                received=sorted(sizes),
                fix="set data.size (both parts), augment.crop (training) or val.batch=1 (validation)",
            )
        )
    return torch.stack(images), torch.stack(targets)
