"""The reader of LARD, and of the folders that `onelip data runways` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError, explain
from ...core.files import read_json
from ..dataset import LabelTable, Pixels, SegmentationDataset, check_size, read_image, read_values, resize
from ..runway.dataset import CLASSES, PALETTE
from ..runway.mask import Points
from .geometry import box_quantiles, rasterise
from .labels import DROPPED, Label, Repairs, label
from .schema import Row, read_table
from .tables import choose, find

_TABLE = LabelTable(range(len(CLASSES)))


@dataclass(frozen=True, eq=False)
class Entry:
    """One usable row: where its files are, and its label."""

    row: Row
    label: Label
    image: Path
    mask: Path | None


class LardDataset(SegmentationDataset):
    """Runway pictures with corners, boxes and masks; build it with `lard`.

    Attributes:
        rows: The usable rows of the tables, in order.
        corners: For each picture (4, 2) corners in the order of a polygon, in continuous pixels of the pictures as
            they are read (without bands, resized); may lie outside; None without a runway. Which of them are near is
            not said by LARD; drawn sets start at the near left one.
        boxes: For each picture the box (x1, y1, x2, y2) of the visible part, or None.
        repairs: What had to be repaired, what is doubtful, what was dropped.
        missing: Pictures that the tables name and that are not there.
    """

    def __init__(
        self,
        name: str,
        split: str,
        *,
        entries: Sequence[Entry],
        repairs: Repairs,
        size: tuple[int, int] | None = None,
        cache: bool = False,
    ) -> None:
        ids = [e.row.image for e in entries]
        super().__init__(name, split, ids=ids, classes=CLASSES, palette=PALETTE, size=size, cache=cache)
        self.entries, self.repairs = tuple(entries), repairs
        self.rows = [e.row for e in entries]
        self.corners = [self._scaled(e.label, e.label.polygon) for e in entries]
        self.boxes = [self._scaled(e.label, e.label.box) for e in entries]
        self.missing = [e.row.image for e in entries if not e.image.is_file()]

    @property
    def label_only(self) -> bool:
        """Whether no picture is there: labels can be looked at, nothing can be trained."""
        return len(self.missing) == len(self.entries)

    def facts(self) -> dict[str, Any]:
        """Return what tables of LARD tell beyond pixels, JSON-ready.

        Returns:
            rows of the tables and how many were dropped; types and sizes of the stored pictures with their numbers;
            boxes: number and quantiles (share, width, height) of the visible parts in pixels as they are read;
            repairs: kind, number, meaning and the first three pictures; label_only; missing: number of pictures.
        """
        sizes = Counter(f"{row.height}x{row.width}" for row in self.rows)
        found = self.repairs.found
        return {
            "rows": self.repairs.rows,
            "dropped": self.repairs.dropped,
            "types": dict(Counter(row.type or "-" for row in self.rows).most_common()),
            "stored_sizes": dict(sizes.most_common()),
            "boxes": box_quantiles([b for b in self.boxes if b is not None]),
            "repairs": [
                {"kind": kind, "count": count, "meaning": text, "first": found[kind][:3]}
                for kind, count, text in self.repairs.lines()
            ],
            "label_only": self.label_only,
            "missing": len(self.missing),
        }

    def _scaled(self, known: Label, points: Points | None) -> Points | None:
        if points is None:
            return None
        (h, w), (height, width) = known.size, self.size or known.size
        factor = np.array([width / w, height / h])
        return np.asarray(points * (factor if points.ndim == 2 else np.tile(factor, 2)))

    def picture(self, index: int) -> Pixels:
        """Return a picture alone, (H, W, 3) bytes without bands, resized if `size` is set.

        Raises:
            DataError: the file is missing or corrupt, or has another size than its table says.
        """
        entry = self.entries[index]
        h, w = entry.label.size
        image = read_image(entry.image)
        if image.shape[:2] == (entry.row.height, entry.row.width):
            image = image[entry.label.band :][:h]
        elif image.shape[:2] != (h, w):  # of that size, it was cropped before: never twice
            raise DataError(
                explain(
                    f"{entry.image} has another size than its table says",
                    received=f"{image.shape[0]} x {image.shape[1]} (h x w)",
                    expected=f"{entry.row.height} x {entry.row.width}, or {h} x {w} without watermark",
                    why="corners in pixels of another picture would be wrong",
                    fix="use the original picture, or scale the corners in the table with it",
                )
            )
        return resize(image, self.size)

    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        return self.picture(index), self._load_labels(index)

    def _load_labels(self, index: int) -> Pixels:
        """Draw the mask at the size that is read: a resized mask would be off by up to half a pixel."""
        entry, corners = self.entries[index], self.corners[index]
        size = self.size or entry.label.size
        if entry.mask is None or (corners is not None and size != entry.label.size):
            return np.zeros(size, np.uint8) if corners is None else rasterise(corners, size)
        mask = _TABLE.apply(read_values(entry.mask), entry.mask)
        if mask.shape != entry.label.size:
            raise DataError(
                explain(
                    f"{entry.mask} has another size than its picture",
                    received=mask.shape,
                    expected=entry.label.size,
                )
            )
        return self._resize_labels(mask)


def lard(
    root: str | Path,
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    name: str = "lard",
) -> LardDataset:
    """Read LARD: approach pictures, background and runway; also the folders that `onelip data runways` writes.

    Tables lie beside their `images` folder, in LARD's own folders (`LARD_train_*`, `LARD_test_synth`,
    `LARD_test_real/*`) or in a folder for each split. Splits are the names of the folders without "LARD_", in lower
    case, and what they begin with: "train" is all of `LARD_train_*`, "test_real" all of `LARD_test_real/*`. Without
    pictures the set has labels only.

    Guarantee:
        Masks are drawn from the corners in the order of a polygon, at the size that is read: 1 where at least half of
        a pixel lies inside; exact corners and masks of drawn sets are preferred. Watermark bands are cropped once.
        What cannot be used is left out and listed in `repairs`, never guessed.

    Args:
        root: Folder of the set, or one table.
        split: Name of the part.
        size: (h, w) to resize to on reading, after the bands are cropped.
        cache: Keep the decoded bytes in memory.
        name: The name that the set carries.

    Returns:
        The data set.

    Raises:
        DataError: no table, a table that cannot be read, no such split, or no usable row.

    Source: Ducoffe et al., LARD: Landing Approach Runway Detection, 2023, arXiv 2304.09938.
    """
    root = Path(root)
    tables = choose(find(root), split)
    repairs, entries = Repairs(), []
    for table in tables:
        entries += _entries(table.path, repairs)
    if not entries:
        reasons = ", ".join(f"{count} x {text}" for kind, count, text in repairs.lines() if kind in DROPPED)
        raise DataError(explain(f"{name} {split} has no usable row", received=reasons))
    return LardDataset(name, split, entries=entries, repairs=repairs, size=check_size(size), cache=cache)


def _entries(path: Path, repairs: Repairs) -> list[Entry]:
    exact, found = _exact_corners(path.parent / "poses.json"), []
    for row in read_table(path):
        repairs.rows += 1
        image = _picture(path.parent, row.image)
        mask = path.parent / "masks" / f"{image.stem}.png"
        known = label(row, repairs, exact=exact.get(row.image), negative=mask.is_file())
        if known is not None:
            found.append(Entry(row, known, image, mask if mask.is_file() else None))
    return found


def _picture(folder: Path, name: str) -> Path:
    """A picture's path: as in the table, else of the same name in `images`."""
    given = folder / name.replace("\\", "/")
    other = folder / "images" / given.name
    return other if not given.is_file() and other.is_file() else given


def _exact_corners(path: Path) -> dict[str, Points]:
    if not path.is_file():
        return {}
    try:
        return {
            str(found["image"]): np.array(found["corners"], np.float64).reshape(4, 2)
            for found in read_json(path)
            if found["corners"] is not None
        }
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            explain(
                f"{path} is not what this package writes",
                received=repr(error),
                fix="remove it: the table is enough",
            )
        ) from error
