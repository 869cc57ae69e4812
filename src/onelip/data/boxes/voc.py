"""Boxes in Pascal VOC's XML: one file a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from ...core.errors import DataError, InputError, explain
from ..dataset import check_size
from ..layout import PICTURES, pick_split, read_list, wrong_layout
from .dataset import DetectionDataset, Objects
from .files import Entry, FileBoxes
from .named import part
from .repairs import Repairs

_LAYOUT = "Annotations/*.xml and JPEGImages, in the folder or in one for each split"


def voc_boxes(
    root: str | Path,
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    cache: bool = False,
    difficult: str = "keep",
    origin: float = 1.0,
    name: str | None = None,
) -> DetectionDataset:
    """Read a folder with Pascal VOC's XML.

    Files: `Annotations/*.xml`, pictures in `JPEGImages` (or `images`); the parts are lists in
    `ImageSets/Main/SPLIT.txt`, or folders `SPLIT/Annotations`. Without either, "trainval" is everything, "train" four
    fifths of it by a fixed permutation of the names, "val" the rest. Classes are the names in `classes.txt`, one a
    line, else all names in the files of all parts, sorted: for VOC itself that is its own order.

    VOC counts pixels from 1 and its boxes include their last pixel: [xmin, xmax] covers xmin - 1 to xmax in continuous
    pixels. Pass `origin=0` for files of programs that write continuous pixels: the numbers are then taken as they are.

    Args:
        root: The folder, or the one with `VOC2007`, `VOC2012` or `VOCdevkit` in it.
        split: Name of the part.
        size: (h, w) to resize pictures and boxes to on reading.
        cache: Keep the decoded bytes in memory.
        difficult: What becomes of objects marked as difficult: "keep", or "drop" (VOC's own evaluation passes over
            them; without their boxes what is detected there counts as false). Both are counted in `repairs`.
        origin: Number of the first pixel, 1 or 0.
        name: The name that the set carries; default: that of the folder.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, a file that is not VOC's XML, a class that `classes.txt` does not
            name; and what `FileBoxes` refuses.

    Source: Everingham et al., The Pascal visual object classes challenge, IJCV 2010.
    """
    if difficult not in {"keep", "drop"} or origin not in {0, 1}:
        raise InputError(
            explain(
                "such boxes cannot be read",
                received=f"difficult={difficult!r}, origin={origin!r}",
                expected='difficult "keep" or "drop", origin 0 or 1',
            )
        )
    base = _base(Path(root))
    split, files = _files(base, split)
    notes = [_note(path) for path in files]
    classes = _classes(base, notes)
    repairs = Repairs()
    entries = [_entry(note, classes, repairs, difficult == "keep", float(origin)) for note in notes]
    whole = FileBoxes(
        name or Path(root).resolve().name,
        split,
        entries=entries,
        classes=classes,
        size=check_size(size),
        cache=cache,
        repairs=repairs,
    )
    return part(whole, split, cache=cache) if _unparted(base) and split != "trainval" else whole


def holds_voc(root: Path) -> bool:
    """Whether a folder holds VOC's XML."""
    return bool(_bases(root))


def _bases(root: Path) -> list[Path]:
    """The folders that hold annotations, those of VOC's own archives first."""
    years = [root / kit / year for kit in (".", "VOCdevkit") for year in ("VOC2007", "VOC2012")]
    found = [p for p in years if (p / "Annotations").is_dir()]
    here = (root / "Annotations").is_dir() or any(root.glob("*/Annotations"))
    return found or [root] * here


def _base(root: Path) -> Path:
    found = _bases(root)
    if not found:
        raise wrong_layout("boxes in Pascal VOC's XML", root, _LAYOUT)
    if len(found) > 1:
        names = ", ".join(str(p) for p in found)
        raise DataError(explain(f"{root} holds several sets", received=names, fix="open one of them"))
    return found[0]


def _unparted(base: Path) -> bool:
    return (base / "Annotations").is_dir() and not any((base / "ImageSets" / "Main").glob("*.txt"))


def _files(base: Path, split: str) -> tuple[str, list[Path]]:
    """Return the name of a part and its XML files; all files where the parts are made here."""
    name = f"boxes in {base.name}"
    if not (base / "Annotations").is_dir():
        split = pick_split(name, split, [p.parent.name for p in sorted(base.glob("*/Annotations"))])
        found = sorted((base / split / "Annotations").glob("*.xml"))
    elif _unparted(base):
        split = pick_split(name, split, ("train", "val", "trainval"))
        found = sorted((base / "Annotations").glob("*.xml"))
    else:
        lists = base / "ImageSets" / "Main"
        split = pick_split(name, split, [p.stem for p in sorted(lists.glob("*.txt"))])
        names = [line.split()[0] for line in read_list(lists / f"{split}.txt")]
        found = [base / "Annotations" / f"{stem}.xml" for stem in names]
    if not found:
        raise wrong_layout(name, base, _LAYOUT)
    return split, found


@dataclass(frozen=True)
class _Object:
    """One object of a file, as it is written."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class _Note:
    """One file."""

    path: Path
    picture: str
    size: tuple[int, int]
    objects: tuple[_Object, ...]


def _note(path: Path) -> _Note:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - expat bounds the expansion of entities, and reads no other file
    except FileNotFoundError as error:
        raise DataError(
            explain(f"{path} does not exist", expected="the boxes of a listed picture")
        ) from error
    except (OSError, ET.ParseError, UnicodeDecodeError) as error:
        raise DataError(
            explain(f"{path} cannot be read as XML", received=error, fix="restore it, or write it again")
        ) from error
    try:
        sides = (int(_text(root, "size/height")), int(_text(root, "size/width")))
        objects = tuple(_object(node) for node in root.findall("object"))
    except ValueError as error:
        raise DataError(
            explain(
                f"{path} is not as Pascal VOC writes it",
                received=error,
                expected="size (height, width), and for each object name and bndbox (xmin, ymin, xmax, ymax)",
            )
        ) from error
    if min(sides) < 1:
        raise DataError(explain(f"{path}: the picture has no size", received=sides, expected="(h, w) >= 1"))
    return _Note(path, (root.findtext("filename") or "").strip(), sides, objects)


def _object(node: ET.Element) -> _Object:
    x1, y1, x2, y2 = (float(_text(node, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    return _Object(_text(node, "name"), node.findtext("difficult", "0").strip() == "1", (x1, y1, x2, y2))


def _text(node: ET.Element, path: str) -> str:
    text = (node.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"no {path}")
    return text


def _classes(base: Path, notes: Sequence[_Note]) -> list[str]:
    """Return the names of the classes, the same for all parts."""
    if (base / "classes.txt").is_file():
        return read_list(base / "classes.txt")
    folder = base / "Annotations"
    every = folder.glob("*.xml") if folder.is_dir() else base.glob("*/Annotations/*.xml")
    known = {note.path for note in notes}
    others = [_note(path) for path in sorted(every) if path not in known]
    return sorted({thing.name for note in (*notes, *others) for thing in note.objects})


def _entry(note: _Note, classes: Sequence[str], repairs: Repairs, keep: bool, origin: float) -> Entry:
    boxes, labels = [], []
    for thing in note.objects:
        if thing.name not in classes:
            raise DataError(
                explain(
                    f"{note.path}: an object has an unknown class",
                    received=thing.name,
                    expected=f"one of {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}",
                    fix="correct the name, or add it to classes.txt",
                )
            )
        if thing.difficult:
            repairs.add("difficult" if keep else "difficult, left out", note.path.stem)
        if keep or not thing.difficult:
            x1, y1, x2, y2 = thing.box
            boxes.append([x1 - origin, y1 - origin, x2, y2])
            labels.append(classes.index(thing.name))
    objects = Objects(np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64))
    return Entry(note.path.stem, _picture(note), note.size, objects)


def _picture(note: _Note) -> Path:
    """The picture of a file: by the name that it gives, else by its own."""
    folders = [note.path.parent.parent / name for name in ("JPEGImages", "images")]
    stem = note.path.stem
    names = [note.picture or f"{stem}.jpg", *(f"{stem}{ending}" for ending in PICTURES)]
    places = [folder / name for folder in folders for name in names]
    return next((p for p in places if p.is_file()), places[0])
