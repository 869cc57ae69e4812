"""Pictures with boxes around their objects: what every reader of boxes returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...core.errors import DataError, explain
from ..dataset import Color, Pixels
from ..layout import colors
from .repairs import Repairs

Target = dict[str, Tensor]


class Objects(NamedTuple):
    """The objects of one picture.

    Attributes:
        boxes: float64 (G, 4): x1, y1, x2, y2 in continuous pixels (pixel i covers [i, i + 1)); G may be 0.
        labels: int64 (G,): the class of each, from 0; there is no background class.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]

    def scaled(self, old: tuple[int, int], new: tuple[int, int]) -> Objects:
        """Return the objects of the same picture, resized from `old` to `new` (h, w)."""
        if old == new:
            return self
        (h, w), (height, width) = old, new
        boxes = self.boxes * np.array([width / w, height / h] * 2)
        return Objects(np.minimum(boxes, np.array([width, height] * 2, np.float64)), self.labels)


class DetectionDataset(Dataset[tuple[Tensor, Target]], ABC):
    """Pictures with boxes; images without objects stay in, with no boxes.

    Items are `(image, target)`: float32 (3, H, W) in [0, 1], and `{"boxes": float32 (G, 4), "labels": int64 (G,)}`,
    torchvision's format with labels from 0.

    Attributes:
        name: Name of the data set.
        split: Name of the part.
        classes: Names of the classes, in order of their label.
        palette: One RGB colour a class.
        ids: One name an image, in order, all different.
        size: (h, w) to which images and boxes are resized on reading, or None for their own size.
        repairs: What was repaired or left out.
        missing: Pictures that are named and not there; such sets can only be inspected.

    Raises:
        DataError: there are no images or classes, or a name is there twice.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        ids: Sequence[str],
        classes: Sequence[str],
        palette: Sequence[Color] | None = None,
        size: tuple[int, int] | None = None,
        cache: bool = False,
        repairs: Repairs | None = None,
    ) -> None:
        if not ids:
            raise DataError(explain(f"{name} {split} holds no images", fix="check the folder and the split"))
        for kind, names in (("images", ids), ("classes", classes)):
            twice = [text for text, count in Counter(names).items() if count > 1]
            if twice or not names:
                raise DataError(
                    explain(
                        f"{name} {split}: the names of the {kind} are not all different",
                        received=f"{', '.join(twice[:3])} more than once" if twice else "none",
                    )
                )
        self.name, self.split = name, split
        self.ids, self.classes = tuple(ids), tuple(classes)
        self.palette: tuple[Color, ...] = tuple(palette or colors(len(classes)))
        self.size, self.repairs = size, repairs or Repairs()
        self.missing: list[str] = []
        self._cache: dict[int, tuple[Pixels, Objects]] | None = {} if cache else None

    @abstractmethod
    def picture(self, index: int) -> Pixels:
        """Return the picture alone, (H, W, 3) bytes, resized if `size` is set.

        Raises:
            DataError: the file is missing or corrupt, or has another size than its labels say.
        """

    @abstractmethod
    def objects(self, index: int) -> Objects:
        """Return the objects alone, in pixels of the picture as it is read; much cheaper than `read`."""

    @abstractmethod
    def shape(self, index: int) -> tuple[int, int]:
        """Return (h, w) of the picture as it is read, without reading it."""

    def read(self, index: int) -> tuple[Pixels, Objects]:
        """Return the bytes of one picture (H, W, 3) and its objects, resized if `size` is set.

        Raises:
            DataError: see `picture`.
        """
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        pair = (self.picture(index), self.objects(index))
        if self._cache is not None:
            self._cache[index] = pair
        return pair

    def facts(self) -> dict[str, Any]:
        """Return what the labels tell beyond boxes, JSON-ready: repairs, number of missing pictures."""
        return {"repairs": self.repairs.rows(), "missing": len(self.missing)}

    def only(self, classes: Sequence[str]) -> DetectionDataset:
        """Return the same images with the objects of some classes, in the order given; labels count from 0 again.

        Images keep their place even if no object is left.

        Raises:
            DataError: there is no such class.
        """
        return _Only(self, classes)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.name} {self.split}")
        return to_tensors(*self.read(index % len(self)))

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.split!r}, images={len(self)}, classes={len(self.classes)})"


class _Only(DetectionDataset):
    """Another set with some of its classes; its cache is that of the other."""

    def __init__(self, source: DetectionDataset, classes: Sequence[str]) -> None:
        unknown = [name for name in classes if name not in source.classes]
        if unknown or isinstance(classes, str):
            raise DataError(
                explain(
                    f"{source.name} has no such classes",
                    received=unknown,
                    expected=f"some of {list(source.classes)}",
                )
            )
        chosen = [source.classes.index(name) for name in classes]
        super().__init__(
            source.name,
            source.split,
            ids=source.ids,
            classes=classes,
            palette=[source.palette[k] for k in chosen],
            size=source.size,
            repairs=source.repairs,
        )
        self.source, self.missing = source, source.missing
        self._new = np.full(len(source.classes), -1, dtype=np.int64)
        self._new[chosen] = np.arange(len(chosen))

    def picture(self, index: int) -> Pixels:
        return self.source.picture(index)

    def objects(self, index: int) -> Objects:
        return self._filtered(self.source.objects(index))

    def shape(self, index: int) -> tuple[int, int]:
        return self.source.shape(index)

    def read(self, index: int) -> tuple[Pixels, Objects]:
        image, objects = self.source.read(index)
        return image, self._filtered(objects)

    def facts(self) -> dict[str, Any]:
        return self.source.facts()

    def _filtered(self, objects: Objects) -> Objects:
        labels = self._new[objects.labels]
        return Objects(objects.boxes[labels >= 0], labels[labels >= 0])


def to_tensors(image: Pixels, objects: Objects) -> tuple[Tensor, Target]:
    """Turn what `DetectionDataset.read` returns into the tensors of an item."""
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
    return pixels.float().div_(255.0), target(
        torch.from_numpy(objects.boxes), torch.from_numpy(objects.labels)
    )


def target(boxes: Tensor, labels: Tensor) -> Target:
    """Return the target of an item: float32 boxes and int64 labels, in memory of its own."""
    return {"boxes": boxes.to(torch.float32, copy=True), "labels": labels.to(torch.int64, copy=True)}


def to_bytes(image: Pixels, objects: Objects) -> tuple[Tensor, Tensor, Tensor]:
    """Turn what `DetectionDataset.read` returns into the tensors that `BoxAugment` takes."""
    return (
        torch.from_numpy(image.transpose(2, 0, 1).copy()),
        torch.from_numpy(objects.boxes.copy()),
        torch.from_numpy(objects.labels.copy()),
    )
