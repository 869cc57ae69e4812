"""Your own pictures: a folder with one subfolder a class."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DataError, explain
from ..dataset import Pixels, read_image
from ..layout import PICTURES, pick_split
from .dataset import ClassificationDataset

_PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_TENTHS = {"train": range(8), "val": range(8, 9), "test": range(9, 10), "trainval": range(9)}
_OTHERS = {"images", "masks", "labels", "annotations", "jpegimages", "segmentationclass"}
_LAYOUT = "CLASS/*.png in at least two subfolders, or train/CLASS/*.png, val/CLASS/*.png, test/CLASS/*.png"


class Files:
    """Picture files, read as RGB on request."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        path = self.paths[index]
        pixels = read_image(path)
        with Image.open(path) as picture:
            mode = picture.mode
        if mode.startswith(("I", "F")):
            raise DataError(
                explain(
                    f"{path} stores no bytes",
                    received=f"mode {mode}",
                    expected="8 bits a channel",
                    why="larger values would be cut off at 255",
                    fix="convert the picture to 8 bits first",
                )
            )
        return pixels


def class_folder(root: str | Path, split: str = "train", **options: Any) -> ClassificationDataset:
    """Read a folder with one subfolder a class: the name of the subfolder is the class.

    Two layouts are known. `train/CLASS`, `val/CLASS`, `test/CLASS` (also `validation`, `valid`, `training`, `testing`)
    give the parts as they are; every part has to have every class. `CLASS` alone is split by a hash: the first eight
    bytes of the SHA-256 of `CLASS/NAME`, as a big-endian number modulo 10, say train (0..7), val (8) or test (9). A
    picture keeps its part whatever is added or taken away; `trainval` is the first two.

    Classes are numbered in the order of their names; where all names are whole numbers, in the order of these.
    Pictures in folders further down belong to the class too; files that are no pictures by their ending, and names
    that begin with a dot or underscore, are passed over.

    Args:
        root: The folder.
        split: "train", "val" or "test"; of a folder that is split by the hash also "trainval".
        **options: `size`, `channels` (default 3), `cache` of `ClassificationDataset`.

    Raises:
        DataError: the folder is missing, has another layout, no such split, a class without pictures, or parts with
            different classes. A picture that cannot be read raises when it is read.
    """
    root = Path(root)
    parts = _parts(root)
    if parts:
        split = pick_split(root.name, split, sorted(parts))
        classes = _common(root, parts)
        found = _found(root, {name: parts[split] / name for name in classes})
    else:
        found = _found(root, _subfolders(root))
        split = pick_split(root.name, split, tuple(_TENTHS))
        found = [pair for pair in found if tenth(pair[0]) in _TENTHS[split]]
        classes = in_order(list(_subfolders(root)))
    if not found:
        raise DataError(
            explain(
                f"{root}: the part {split!r} has no picture",
                why="the folder has too few to be split by their hash",
                fix="lay the pictures out as train/CLASS, val/CLASS, test/CLASS",
            )
        )
    return ClassificationDataset(
        root.name or str(root),
        split,
        pictures=Files([path for _, path in found]),
        labels=np.array([classes.index(name.split("/")[0]) for name, _ in found]),
        ids=[name for name, _ in found],
        classes=classes,
        **{"channels": 3, **options},
    )


def tenth(name: str) -> int:
    """Return the tenth of a set, 0..9, that `CLASS/NAME` belongs to.

    >>> tenth("cat/1.png"), tenth("cat/2.png")
    (4, 2)
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10


def in_order(names: list[str]) -> list[str]:
    """Sort names of classes; as numbers where all are whole numbers.

    >>> in_order(["10", "9"]), in_order(["b", "10", "9"])
    (['9', '10'], ['10', '9', 'b'])
    """
    whole = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name) if whole else 0, name))


def holds_classes(root: Path) -> bool:
    """Whether a folder is laid out with one subfolder a class, and not as pictures with masks or boxes."""
    if not root.is_dir():
        return False
    try:
        parts = _parts(root)
    except DataError:  # two folders for one part
        return True
    named = [_subfolders(part) for part in parts.values()] or [_subfolders(root)]
    return all(_are_classes(found) and sum(map(_any_picture, found.values())) > 1 for found in named)


def _are_classes(found: dict[str, Path]) -> bool:
    names = {name.lower() for name in found}
    return len(found) > 1 and not names & _OTHERS and not any(name.endswith("annot") for name in names)


def _any_picture(folder: Path) -> bool:
    return any(map(_is_picture, folder.rglob("*")))


def _subfolders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise DataError(explain(f"the folder {root} does not exist", expected=_LAYOUT))
    return {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith((".", "_"))}


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of the parts: those with such a name that hold folders and no pictures themselves."""
    parts: dict[str, Path] = {}
    for name, path in _subfolders(root).items():
        part = _PARTS.get(name.lower())
        if part is None or not _subfolders(path) or any(map(_is_picture, path.iterdir())):
            continue
        if part in parts:
            raise DataError(
                explain(
                    f"{root} has two folders for the part {part!r}", received=f"{parts[part].name}, {name}"
                )
            )
        parts[part] = path
    return parts


def _common(root: Path, parts: dict[str, Path]) -> list[str]:
    """Return the classes, the same in every part."""
    classes = {part: set(_subfolders(path)) for part, path in parts.items()}
    every = set().union(*classes.values())
    for part, names in sorted(classes.items()):
        if every - names:
            raise DataError(
                explain(
                    f"{root}: the parts have different classes",
                    received=f"nothing in {part} for {', '.join(sorted(every - names)[:5])}",
                    expected="a folder for every class in every part",
                    why="labels are numbered over the classes, and a part without one would shift them",
                )
            )
    return in_order(list(every))


def _found(root: Path, folders: dict[str, Path]) -> list[tuple[str, Path]]:
    """Return (CLASS/NAME, file) of every picture, by class and name."""
    if not _are_classes(folders):
        raise DataError(
            explain(
                f"{root} is no folder with one subfolder a class",
                received=f"{', '.join(list(folders)[:8]) or 'no subfolders'}",
                expected=_LAYOUT,
                fix="open pictures with masks by onelip.data.open, with boxes by onelip.data.open_boxes",
            )
        )
    found: list[tuple[str, Path]] = []
    for name in in_order(list(folders)):
        pictures = _pictures(folders[name])
        if not pictures:
            raise DataError(
                explain(
                    f"{folders[name]} holds no pictures",
                    expected=f"files ending in {', '.join(PICTURES)}",
                    fix="remove the empty folder, or put the pictures of the class there",
                )
            )
        found += [(f"{name}/{path.relative_to(folders[name]).as_posix()}", path) for path in pictures]
    return found


def _pictures(folder: Path) -> list[Path]:
    """Return the pictures of a folder and those below, sorted."""
    below = (path for path in folder.rglob("*") if _is_picture(path))
    return sorted(
        p for p in below if not any(n.startswith((".", "_")) for n in p.relative_to(folder).parts[:-1])
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()
