"""Pictures with one class each: what every reader of classes returns."""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ...core.checks import positive_int
from ...core.errors import DataError, InputError, explain
from ..dataset import Pixels, check_size, resize


class Pictures(Protocol):
    """Pictures by their number: an array of bytes, or files that are read on request."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, index: int, /) -> Pixels:
        """Return the bytes of one, (H, W) grey or (H, W, 3) RGB."""
        ...


class ClassificationDataset(Dataset[tuple[Tensor, int]]):
    """Pictures with one class each; the class of every reader of labels, and the door for pictures of your own.

    Items are `(image, label)`: float32 (C, H, W) in [0, 1], and the class as an int from 0.

    Args:
        name: Name of the data set.
        split: Name of the part.
        pictures: uint8 (N, H, W) grey or (N, H, W, 3) RGB, or anything that gives such pictures by number.
        labels: (N,) integers, the class of each.
        ids: One name an image, all different.
        classes: Names of the classes, in order of their label, all different, at least two.
        channels: 1 (grey) or 3 (RGB): colours become their brightness (ITU-R 601), grey is repeated.
        size: (h, w) to which pictures are resized on reading (bilinear, anti-aliased), or None for their own size.
        cache: Keep the bytes as they are read in memory (H * W * C bytes an image).

    Attributes:
        name, split, ids, classes, channels, size: As given.
        labels: int64 (N,), the class of each image.

    Raises:
        DataError: there are no images, the numbers of pictures, labels and names differ, a label is no class, or a
            name is there twice.
        InputError: `size` or `channels` is wrong.

    Example:
        >>> dark = np.zeros((2, 4, 4), np.uint8)
        >>> dataset = ClassificationDataset("own", "train", pictures=dark, labels=[1, 0], ids="ab", classes=("x", "y"))
        >>> image, label = dataset[0]
        >>> image.shape, label
        (torch.Size([1, 4, 4]), 1)
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        pictures: Pictures,
        labels: ArrayLike,
        ids: Sequence[str],
        classes: Sequence[str],
        channels: int = 1,
        size: tuple[int, int] | None = None,
        cache: bool = False,
    ) -> None:
        self.name, self.split = name, split
        self.ids, self.classes = tuple(ids), tuple(classes)
        self.labels = _labels(f"{name} {split}", labels, len(self.classes))
        self.channels, self.size = check_channels(channels), check_size(size)
        self._pictures = pictures
        self._rows: Sequence[int] = range(len(pictures))
        self._cache: dict[int, Pixels] | None = {} if cache else None
        if not len(pictures) == len(self.ids) == len(self.labels) or not self.ids:
            raise DataError(
                explain(
                    f"{name} {split}: pictures, labels and names do not belong together",
                    received=f"{len(pictures)} pictures, {len(self.labels)} labels, {len(self.ids)} names",
                    expected="the same number of each, at least one",
                    fix="copy the files again from their source",
                )
            )
        self._check_names()

    def _check_names(self) -> None:
        for kind, names, least in (("images", self.ids, 1), ("classes", self.classes, 2)):
            twice = [text for text, count in Counter(names).items() if count > 1]
            if twice or len(names) < least:
                raise DataError(
                    explain(
                        f"{self.name} {self.split}: the names of the {kind} are wrong",
                        received=f"{', '.join(twice[:3])} more than once" if twice else f"{len(names)}",
                        expected=f"different names, at least {least}",
                    )
                )

    def picture(self, index: int) -> Pixels:
        """Return the bytes of one picture (H, W, C), resized if `size` is set.

        Raises:
            DataError: the file is missing or corrupt, or holds no bytes of grey or RGB.
        """
        row = self._rows[index]
        if self._cache is not None and row in self._cache:
            return self._cache[row]
        given = self._pictures[row]
        if given.dtype != np.uint8 or not (given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3)):
            raise DataError(
                explain(
                    f"{self.name} {self.split} {self.ids[index]}: not a picture of bytes",
                    received=f"{given.dtype} {given.shape}",
                    expected="uint8 (H, W) or (H, W, 3)",
                )
            )
        pixels = resize(_coloured(given, self.channels), self.size)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if self._cache is not None:
            self._cache[row] = pixels
        return pixels

    def read(self, index: int) -> tuple[Pixels, int]:
        """Return the bytes of one picture (H, W, C) and its class.

        Raises:
            DataError: see `picture`.
        """
        return self.picture(index), int(self.labels[index])

    def some(self, indices: Sequence[int]) -> ClassificationDataset:
        """Return a part of the images, in the order given; the pictures and the cache are shared.

        Raises:
            InputError: an index is outside the set.
            DataError: no index is given, or one is given twice.
        """
        wrong = [index for index in indices if not 0 <= index < len(self)]
        if wrong:
            raise InputError(
                explain("no such images", received=wrong[:5], expected=f"indices in 0..{len(self) - 1}")
            )
        part = copy.copy(self)
        part.ids = tuple(self.ids[index] for index in indices)
        part.labels = self.labels[list(indices)]
        part._rows = tuple(self._rows[index] for index in indices)
        part._check_names()
        return part

    def limited(self, limit: int) -> ClassificationDataset:
        """Return at most `limit` images, in their order: those whose names have the smallest SHA-256.

        A choice without regard to class or order, the same at every call and on every machine; a smaller limit gives
        a part of a larger one.

        Raises:
            InputError: `limit` is no integer >= 1.
        """
        order = sorted(range(len(self)), key=lambda index: hashlib.sha256(self.ids[index].encode()).digest())
        return self.some(sorted(order[: positive_int("limit", limit)]))

    def counts(self) -> list[int]:
        """Return the number of images of each class."""
        return torch.bincount(self.labels, minlength=len(self.classes)).tolist()

    def facts(self) -> dict[str, Any]:
        """Return what a report on the set begins with, JSON-ready."""
        return {"name": self.name, "split": self.split, "images": len(self), "channels": self.channels}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.name} {self.split}")
        pixels, label = to_bytes(*self.read(index % len(self)))
        return pixels.float().div_(255.0), label

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.split!r}, images={len(self)}, classes={len(self.classes)})"


def to_bytes(image: Pixels, label: int) -> tuple[Tensor, int]:
    """Turn what `ClassificationDataset.read` returns into what `LabelAugment` takes."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy()), label


def check_channels(channels: int) -> int:
    """Check a number of channels.

    Raises:
        InputError: it is neither 1 nor 3.
    """
    if isinstance(channels, bool) or channels not in (1, 3):
        raise InputError(
            explain("`channels` is wrong", received=repr(channels), expected="1 (grey) or 3 (RGB)")
        )
    return channels


def _labels(name: str, labels: ArrayLike, classes: int) -> Tensor:
    """Return labels as int64 (N,), or raise where one is no class."""
    values = np.asarray(labels)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise DataError(
            explain(
                f"{name}: the labels are not a list of integers", received=f"{values.dtype} {values.shape}"
            )
        )
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        raise DataError(
            explain(
                f"{name}: labels that are no class",
                received=f"{np.unique(values[wrong])[:8].tolist()} for {int(wrong.sum())} images",
                expected=f"0..{classes - 1}",
                fix="check that this is the data set it should be, or copy its files again",
            )
        )
    return torch.from_numpy(values.astype(np.int64))


def _coloured(pixels: Pixels, channels: int) -> Pixels:
    """Return (H, W) for one channel, (H, W, 3) for three."""
    if channels == 1:
        return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
