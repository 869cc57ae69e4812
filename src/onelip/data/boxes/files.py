"""Boxes of picture files, checked before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, explain
from ..dataset import Color, Pixels, read_image, resize
from .dataset import DetectionDataset, Objects
from .repairs import Repairs

THINNEST = 0.01  # pixels: thinner boxes may vanish when coordinates are rounded to float32
_ROUNDING = 1e-6  # pixels: so much beyond the picture is no repair


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture file and its objects.

    Attributes:
        id: Its name in the set.
        image: The file.
        size: (h, w) of the picture that the boxes belong to.
        objects: Boxes in pixels of that picture.
    """

    id: str
    image: Path
    size: tuple[int, int]
    objects: Objects


class FileBoxes(DetectionDataset):
    """Picture files with boxes; the class of every reader of a folder, and the door for boxes of your own.

    Args:
        name: Name of the data set.
        split: Name of the part.
        entries: The pictures, in order; those without objects count.
        classes: Names of the classes.
        palette: One RGB colour a class.
        size: (h, w) to resize to on reading; boxes move with the picture.
        cache: Keep the decoded bytes in memory (H * W * 3 bytes an image).
        repairs: What was repaired before; clipped boxes are added.

    Guarantee:
        Every box lies inside its picture, is at least 0.01 pixels wide and high before it is resized, and has a
        class; what was clipped or left out for that is counted in `repairs`.

    Raises:
        DataError: no images, a name or picture that is there twice or not at all, a box that is NaN, inverted or
            wholly outside its picture, a label that is no class.

    Example:
        >>> boxes = Objects(np.array([[2.0, 2.0, 9.0, 40.0]]), np.array([0]))
        >>> entry = Entry("a", Path(__file__), (32, 64), boxes)  # any file here: it is read later
        >>> data = FileBoxes("mine", "train", entries=[entry], classes=["runway"], size=(64, 64))
        >>> data.objects(0).boxes, data.repairs.rows()[0]["kind"]
        (array([[ 2.,  4.,  9., 64.]]), 'clipped')
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        entries: Sequence[Entry],
        classes: Sequence[str],
        palette: Sequence[Color] | None = None,
        size: tuple[int, int] | None = None,
        cache: bool = False,
        repairs: Repairs | None = None,
    ) -> None:
        super().__init__(
            name,
            split,
            ids=[e.id for e in entries],
            classes=classes,
            palette=palette,
            size=size,
            cache=cache,
            repairs=repairs,
        )
        _check_files(f"{name} {split}", entries)
        self.entries = _checked(f"{name} {split}", entries, len(self.classes), self.repairs)

    def picture(self, index: int) -> Pixels:
        """Return the picture alone; see `DetectionDataset.picture`."""
        entry = self.entries[index]
        image = read_image(entry.image)
        if image.shape[:2] != entry.size:
            raise DataError(
                explain(
                    f"{entry.image} has another size than its labels say",
                    received=f"{image.shape[0]} x {image.shape[1]} (h x w)",
                    expected=f"{entry.size[0]} x {entry.size[1]}",
                    why="boxes in pixels of another picture would be wrong",
                    fix="use the original picture, or scale its boxes with it",
                )
            )
        return resize(image, self.size)

    def objects(self, index: int) -> Objects:
        """Return the objects alone, in pixels of the picture as it is read."""
        entry = self.entries[index]
        return entry.objects.scaled(entry.size, self.shape(index))

    def shape(self, index: int) -> tuple[int, int]:
        """Return (h, w) of the picture as it is read."""
        return self.size or self.entries[index].size


def _check_files(place: str, entries: Sequence[Entry]) -> None:
    missing = [e for e in entries if not e.image.is_file()]
    if missing:
        raise DataError(
            explain(
                f"{place} lacks {len(missing)} of {len(entries)} pictures",
                received=f"nothing at {', '.join(str(e.image) for e in missing[:2])}",
                fix="complete the folder, or pass root, the folder that the names begin in",
            )
        )


def _checked(place: str, entries: Sequence[Entry], classes: int, repairs: Repairs) -> tuple[Entry, ...]:
    """Refuse what cannot be meant, clip what reaches beyond a picture, leave out what has no area."""
    counts = [len(e.objects.labels) for e in entries]
    owner = np.repeat(np.arange(len(entries)), counts)
    boxes = np.concatenate([np.asarray(e.objects.boxes, np.float64).reshape(-1, 4) for e in entries])
    labels = np.concatenate([np.asarray(e.objects.labels, np.int64) for e in entries])
    limits = np.array([e.size[::-1] for e in entries], np.float64)[owner]
    names = [e.id for e in entries]

    def refuse(wrong: NDArray[np.bool_], what: str, expected: str) -> None:
        if wrong.any():
            first = int(np.argmax(wrong))
            raise DataError(
                explain(
                    f"{place}: {int(wrong.sum())} of {len(wrong)} boxes {what}",
                    received=f"{names[owner[first]]}: {_text(boxes[first])}, class {labels[first]}",
                    expected=expected.format(w=int(limits[first, 0]), h=int(limits[first, 1])),
                    fix="correct or remove them",
                )
            )

    refuse(_some(~np.isfinite(boxes)), "are no numbers", "x1, y1, x2, y2 in pixels")
    refuse((labels < 0) | (labels >= classes), "have no class", f"a class from 0 to {classes - 1}")
    refuse(_some(boxes[:, 2:] < boxes[:, :2]), "are inverted", "x1 < x2 and y1 < y2")
    thin = _thin(boxes)
    outside = _some(boxes[:, :2] >= limits) | _some(boxes[:, 2:] <= 0)
    refuse(outside & ~thin, "lie outside their picture", "boxes that meet the picture, {w} x {h} (w x h)")
    inside = np.clip(boxes, 0.0, np.tile(limits, 2))
    thin |= _thin(inside)
    for index in np.flatnonzero(thin):
        repairs.add("thin", names[owner[index]])
    for index in np.flatnonzero(_some(np.abs(inside - boxes) > _ROUNDING) & ~thin):
        repairs.add("clipped", names[owner[index]])
    ends = np.cumsum(counts)[:-1]
    parts = zip(np.split(inside, ends), np.split(labels, ends), np.split(~thin, ends), strict=True)
    kept = [Objects(b[k], n[k]) for b, n, k in parts]
    return tuple(replace(e, objects=objects) for e, objects in zip(entries, kept, strict=True))


def _thin(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return _some(boxes[:, 2:] - boxes[:, :2] < THINNEST)


def _some(conditions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each box whether a condition holds somewhere."""
    return np.asarray(conditions.any(axis=1), np.bool_)


def _text(box: NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{v:.6g}" for v in box) + "]"
