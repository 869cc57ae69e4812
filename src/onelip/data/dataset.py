"""A labelled image, and the data sets made of them: what every reader returns and every loader takes."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..core.errors import DataError, InputError, explain

VOID = 255
_ILLEGAL = 254  # a table entry for file values that are neither a class nor void

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]


class Sample(NamedTuple):
    """Where one labelled image lies."""

    id: str
    image: Path
    label: Path


class LabelTable:
    """What each of the 256 values of a label file means: a class index, void, or nothing at all.

    Args:
        classes: File values of class 0, 1, 2, ... in order.
        void: File values that carry no label; they are read as 255.
        others_void: Read every value not named as void instead of refusing it.

    Example:
        >>> LabelTable(range(2), void=[11]).apply(np.array([[0, 1, 11]], dtype=np.uint8), "label.png")
        array([[  0,   1, 255]], dtype=uint8)
    """

    def __init__(
        self, classes: Sequence[int], *, void: Sequence[int] = (), others_void: bool = False
    ) -> None:
        self.table = np.full(256, VOID if others_void else _ILLEGAL, dtype=np.uint8)
        self.table[list(void)] = VOID
        self.table[list(classes)] = np.arange(len(classes), dtype=np.uint8)
        self.legal = sorted({*classes, *void})

    def apply(self, values: Pixels, name: str | Path) -> Pixels:
        """Translate file values to class indices and 255.

        Raises:
            DataError: a value stands for no class.
        """
        labels: Pixels = self.table[values]
        wrong = labels == _ILLEGAL
        if wrong.any():
            raise DataError(
                explain(
                    f"{name}: label ids outside the list of classes",
                    received=f"{np.unique(values[wrong])[:8].tolist()} in {int(wrong.sum())} pixels",
                    expected=f"one of {self.legal}",
                    why="a pixel with an unknown label cannot be counted",
                    fix="correct the file, or name the id as void",
                )
            )
        return labels


def read_image(path: Path) -> Pixels:
    """Read a picture as (H, W, 3) RGB bytes.

    Raises:
        DataError: the file is missing, truncated or no picture.
    """
    return np.asarray(_open(path, "RGB"), dtype=np.uint8)


def read_values(path: Path, *, threshold: int | None = None) -> Pixels:
    """Read a label picture as (H, W) file values: palette indices, never palette colours.

    Args:
        path: The label file: palette, 8-bit grey, or 1-bit.
        threshold: Read a grey mask as 1 above this value and 0 elsewhere (masks stored as JPEG).

    Raises:
        DataError: the file cannot be read, or stores colours or more than 8 bits.
    """
    picture = _open(path, None)
    if threshold is not None:
        return (np.asarray(picture.convert("L")) > threshold).astype(np.uint8)
    if picture.mode not in {"P", "L", "1"}:
        raise DataError(
            explain(
                f"{path}: the label picture stores no class indices",
                received=f"mode {picture.mode}",
                expected="one channel: palette (P), 8-bit grey (L) or 1-bit",
                fix="convert the colours to class indices first",
            )
        )
    return np.asarray(picture).astype(np.uint8)


def _open(path: Path, mode: str | None) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert(mode) if mode else picture.copy()
    except FileNotFoundError as error:
        raise DataError(explain(f"{path} does not exist", expected="a picture")) from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(
            explain(
                f"{path} cannot be read as a picture",
                received=error,
                why="the file is truncated, corrupt or of another format",
                fix="copy the file again from its source",
            )
        ) from error


class SegmentationDataset(Dataset[tuple[Tensor, Tensor]], ABC):
    """Images with one class index a pixel.

    Items are `(image, target)`: float32 (3, H, W) in [0, 1], and int64 (H, W) with void pixels at
    `ignore_index` = 255, whatever id the files use for void.

    Attributes:
        name: Name of the data set.
        split: Name of the part.
        classes: Names of the classes, in order of their index.
        palette: One RGB colour a class.
        ids: One name an image, in order.
        size: (h, w) to which images and labels are resized on reading, or None for their own size.
    """

    ignore_index = VOID

    def __init__(
        self,
        name: str,
        split: str,
        *,
        ids: Sequence[str],
        classes: Sequence[str],
        palette: Sequence[Color],
        size: tuple[int, int] | None = None,
        cache: bool = False,
    ) -> None:
        if len(palette) != len(classes):
            raise DataError(
                explain("the palette is wrong", received=len(palette), expected=f"{len(classes)} colours")
            )
        self.name, self.split = name, split
        self.ids, self.classes = tuple(ids), tuple(classes)
        self.palette: tuple[Color, ...] = tuple(palette)
        self.size = size
        self._cache: dict[int, tuple[Pixels, Pixels]] | None = {} if cache else None

    @abstractmethod
    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        """Read image (H, W, 3) and labels (H, W) at their own size."""

    def _load_labels(self, index: int) -> Pixels:
        return self._load(index)[1]

    def read(self, index: int) -> tuple[Pixels, Pixels]:
        """Return the bytes of one image (H, W, 3) and its labels (H, W, void 255), resized if `size` is set.

        Raises:
            DataError: a file is missing or corrupt, the sizes differ, or a label is no class.
        """
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image, labels = self._load(index)
        if image.shape[:2] != labels.shape:
            raise DataError(
                explain(
                    f"{self.name} {self.split} {self.ids[index]}: image and labels differ in size",
                    received=f"image {image.shape[:2]}, labels {labels.shape} (h, w)",
                    expected="the same size",
                    fix="check that the two files belong together",
                )
            )
        pair = (resize(image, self.size), self._resize_labels(labels))
        if self._cache is not None:
            self._cache[index] = pair
        return pair

    def labels(self, index: int) -> Pixels:
        """Return the labels alone, (H, W) bytes with void 255; cheaper than `read`."""
        if self._cache is not None and index in self._cache:
            return self._cache[index][1]
        return self._resize_labels(self._load_labels(index))

    def _resize_labels(self, labels: Pixels) -> Pixels:
        return resize(labels, self.size, Image.Resampling.NEAREST)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.name} {self.split}")
        return to_tensors(*self.read(index % len(self)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.split!r}, images={len(self)}, classes={len(self.classes)})"


def to_tensors(image: Pixels, labels: Pixels) -> tuple[Tensor, Tensor]:
    """Turn bytes into the tensors of an item: float32 (3, H, W) in [0, 1] and int64 (H, W)."""
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return pixels.float().div_(255.0), torch.from_numpy(labels.astype(np.int64))


def resize(
    values: Pixels, size: tuple[int, int] | None, method: Image.Resampling = Image.Resampling.BILINEAR
) -> Pixels:
    """Return a picture or its labels at `size` (h, w); as they are where it is None or theirs."""
    if size is None or values.shape[:2] == size:
        return values
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), method))


class FileDataset(SegmentationDataset):
    """Pairs of picture files; the class of every reader of a folder.

    Args:
        name: Name of the data set.
        split: Name of the part.
        samples: Image and label files, in order.
        classes: Names of the classes.
        palette: One RGB colour a class.
        table: Meaning of the values in the label files.
        threshold: See `read_values`.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory (H * W * 4 bytes an image).
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        samples: Sequence[Sample],
        classes: Sequence[str],
        palette: Sequence[Color],
        table: LabelTable,
        threshold: int | None = None,
        size: tuple[int, int] | None = None,
        cache: bool = False,
    ) -> None:
        if not samples:
            raise DataError(explain(f"{name} {split} holds no images", fix="check the folder and the split"))
        super().__init__(
            name, split, ids=[s.id for s in samples], classes=classes, palette=palette, size=size, cache=cache
        )
        self.samples = tuple(samples)
        self.table, self.threshold = table, threshold

    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        return read_image(self.samples[index].image), self._load_labels(index)

    def _load_labels(self, index: int) -> Pixels:
        path = self.samples[index].label
        return self.table.apply(read_values(path, threshold=self.threshold), path)


def check_size(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Check an optional (h, w).

    Raises:
        InputError: it is not two positive integers.
    """
    if size is None:
        return None
    if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(
            explain("the size is wrong", received=size, expected="(h, w), two positive integers")
        )
    return size[0], size[1]
