"""Folders of boxes: BCCD, Penn-Fudan, and your own with JSON of COCO."""

from __future__ import annotations

import random
from pathlib import Path

from ..layout import pick_split, wrong_layout
from .coco import coco
from .dataset import DetectionDataset
from .files import FileBoxes

_TABLES = ("{}.json", "{}/coco.json", "{}/_annotations.coco.json")
_OFFICIAL = (
    "annotations/instances_{}.json"  # of COCO itself; pictures beside it, in a folder of the part's name
)
_TRAIN = 0.8  # share of the images for training, where a set has no parts


def bccd(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> DetectionDataset:
    """Read BCCD, blood cells: RBC, WBC, Platelets; from `train.json` and `val.json` with COCO's form.

    In some images many red cells have no box: `only(["WBC", "Platelets"])` leaves the classes that are complete.

    Args:
        root: The folder of the data set.
        split: "train", "val", or another whose JSON is there.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or what `coco` refuses.

    Source: Shenggan/BCCD_Dataset, MIT licence.
    """
    return coco_folder(root, split, size=size, cache=cache, name="bccd")


def penn_fudan(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> DetectionDataset:
    """Read Penn-Fudan, pedestrians, from `train.json` with COCO's form.

    Where there is no `val.json`, the images of `train.json` are parted by a fixed permutation of their names: four
    fifths are "train", the others "val", all of them "trainval".

    Args:
        root: The folder of the data set.
        split: "train", "val", "trainval", or another whose JSON is there.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or what `coco` refuses.

    Source: Wang et al., Object detection combining recognition and segmentation, ACCV 2007.
    """
    root = Path(root)
    parts = ("train", "val", "trainval")
    if not (root / "train.json").is_file() or (root / "val.json").is_file():
        return coco_folder(root, split, size=size, cache=cache, name="penn_fudan")
    split = pick_split("penn_fudan", split, [*parts, *(s for s in splits(root) if s not in parts)])
    if split not in parts:
        return coco_folder(root, split, size=size, cache=cache, name="penn_fudan")
    whole = coco(root / "train.json", split, size=size, cache=cache, name="penn_fudan")
    return whole if split == "trainval" else part(whole, split, cache=cache)


def part(whole: FileBoxes, split: str, *, cache: bool = False) -> FileBoxes:
    """Return the "train" or "val" images of a set without parts: 80 % and 20 % of a fixed permutation of the names."""
    order = sorted(whole.ids)
    random.Random(0).shuffle(order)  # noqa: S311 - a fixed permutation, not a secret
    first = round(_TRAIN * len(order))
    chosen = set(order[:first] if split == "train" else order[first:])
    return FileBoxes(
        whole.name,
        split,
        entries=[e for e in whole.entries if e.id in chosen],
        classes=whole.classes,
        palette=whole.palette,
        size=whole.size,
        cache=cache,
        repairs=whole.repairs.of(chosen),
    )


def splits(root: Path) -> list[str]:
    """Return the names of the parts whose JSON lies in a folder, in one of the layouts of `coco_folder`."""
    found = [
        _between(str(p.relative_to(root)), pattern)
        for pattern in (*_TABLES, _OFFICIAL)
        for p in sorted(root.glob(pattern.format("*")))
    ]
    return sorted(set(found))


def coco_folder(
    root: str | Path,
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    name: str | None = None,
) -> FileBoxes:
    """Read a folder with one JSON of COCO for each part.

    Layouts: `SPLIT.json`; `SPLIT/coco.json` or `SPLIT/_annotations.coco.json` beside the pictures; and COCO's own,
    `annotations/instances_SPLIT.json` with the pictures in `SPLIT`.

    Raises:
        DataError: no such file, no such split, or what `coco` refuses.
    """
    root = Path(root)
    known = splits(root)
    if not known:
        raise wrong_layout(name or "boxes", root, "SPLIT.json, or SPLIT/coco.json, with the form of COCO")
    split = pick_split(name or root.name, split, known)
    path = next(p for t in (*_TABLES, _OFFICIAL) if (p := root / t.format(split)).is_file())
    pictures = root / split if path == root / _OFFICIAL.format(split) else None
    return coco(path, split, root=pictures, size=size, cache=cache, name=name or root.name)


def _between(path: str, pattern: str) -> str:
    before, after = pattern.split("{}")
    return path.removeprefix(before).removesuffix(after)
