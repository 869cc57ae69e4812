"""Boxes in COCO's JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError, explain
from ...core.files import read_json
from ..dataset import check_size
from .dataset import Objects
from .files import Entry, FileBoxes
from .repairs import Repairs

Record = dict[str, Any]

# Key -> what each row holds. Ids of annotations are not needed.
_FORM: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "categories": {"id": int, "name": str},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}


def coco(
    path: str | Path,
    split: str = "all",
    *,
    root: str | Path | None = None,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    name: str | None = None,
) -> FileBoxes:
    """Read a JSON of COCO: boxes [x, y, width, height], the top-left corner first.

    Classes are the categories in the order of their ids, whatever these are. Crowds (`iscrowd`) are left out and
    counted; images without annotations stay in. Outlines and areas are not used.

    Args:
        path: The JSON file.
        split: The name that the part carries.
        root: Folder that `file_name` begins in; default: the folder of the file, or `images` in it.
        size: (h, w) to resize pictures and boxes to on reading.
        cache: Keep the decoded bytes in memory.
        name: The name that the set carries; default: that of the folder.

    Returns:
        The data set.

    Raises:
        DataError: the file is not JSON of COCO; an id is there twice, an image or category is unknown; and what
            `FileBoxes` refuses.

    Source: Lin et al., Microsoft COCO: common objects in context, ECCV 2014.
    """
    path = Path(path)
    table = _read(path)
    repairs = Repairs()
    objects = _objects(table, repairs)
    entries = [
        Entry(
            image["file_name"],
            _picture(path, root, image["file_name"]),
            (image["height"], image["width"]),
            objects[number],
        )
        for number, image in table.images.items()
    ]
    return FileBoxes(
        name or path.resolve().parent.name,
        split,
        entries=entries,
        classes=[table.categories[number] for number in sorted(table.categories)],
        size=check_size(size),
        cache=cache,
        repairs=repairs,
    )


@dataclass(frozen=True)
class _Table:
    """A file whose form is right and whose ids are different; what they point to is not checked."""

    path: Path
    images: dict[int, Record]
    categories: dict[int, str]
    annotations: list[Record]


def _read(path: Path) -> _Table:
    record = read_json(path)
    parts = [record.get(key) if isinstance(record, dict) else None for key in _FORM]
    for key, rows in zip(_FORM, parts, strict=True):
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                explain(
                    f"{path} is not JSON of COCO",
                    received=f"{key}: {type(rows).__name__}" if isinstance(record, dict) else "no object",
                    expected=f"lists {', '.join(_FORM)}",
                )
            )
        for place, row in enumerate(rows):
            _check_row(f"{path}: {key}[{place}]", row, _FORM[key])
        _check_different(path, key, [row["id"] for row in rows if "id" in row])
    images, categories, annotations = parts
    return _Table(
        path,
        {row["id"]: row for row in images or ()},
        {row["id"]: row["name"] for row in categories or ()},
        annotations or [],
    )


def _check_row(place: str, row: Record, form: dict[str, type]) -> None:
    for key, kind in form.items():
        value = row.get(key)
        legal = isinstance(value, kind) and not isinstance(value, bool)
        if not legal or (key in {"height", "width"} and int(row[key]) < 1):
            what = {int: "a whole number", str: "a text", list: "[x, y, width, height]"}[kind]
            raise DataError(
                explain(
                    f"{place} is not as in JSON of COCO",
                    received=f"{key} = {value!r}" if key in row else f"no {key}",
                    expected=f"{key}, {what}",
                )
            )


def _check_different(path: Path, key: str, ids: Sequence[object]) -> None:
    twice = [value for value, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(
            explain(
                f"{path}: {len(twice)} ids of {key} are there more than once",
                received=twice[:4],
                expected="all different",
                why="boxes could belong to either",
            )
        )


def _objects(table: _Table, repairs: Repairs) -> dict[int, Objects]:
    """Boxes and labels of each image, by its id."""
    label = {number: k for k, number in enumerate(sorted(table.categories))}
    found: dict[int, tuple[list[list[float]], list[int]]] = {number: ([], []) for number in table.images}
    for place, row in enumerate(table.annotations):
        number, category = row["image_id"], row["category_id"]
        for what, value, known in (("image", number, found), ("category", category, label)):
            if value not in known:
                raise DataError(
                    explain(
                        f"{table.path}: annotations[{place}] has an unknown {what}",
                        received=f"{what}_id = {value}",
                        expected=f"one of {sorted(known)[:8]}{', ...' if len(known) > 8 else ''}",
                    )
                )
        if row.get("iscrowd"):
            repairs.add("crowd", table.images[number]["file_name"])
            continue
        found[number][0].append(_box(f"{table.path}: annotations[{place}]", row["bbox"]))
        found[number][1].append(label[category])
    return {
        number: Objects(np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64))
        for number, (boxes, labels) in found.items()
    }


def _box(place: str, given: Sequence[Any]) -> list[float]:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    if len(given) != 4 or not numbers:
        raise DataError(
            explain(f"{place} has no box", received=given, expected="[x, y, width, height], four numbers")
        )
    x, y, width, height = map(float, given)
    return [x, y, x + width, y + height]


def _picture(path: Path, root: str | Path | None, name: str) -> Path:
    places = [Path(root)] if root is not None else [path.parent, path.parent / "images"]
    return next((p / name for p in places if (p / name).is_file()), places[0] / name)
