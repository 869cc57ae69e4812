"""Readers of CamVid, Kvasir-SEG and of your own folder of images and masks."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError, explain
from ..core.files import read_json
from .dataset import Color, FileDataset, LabelTable, Sample
from .layout import colors, pair, pick_split, pictures, read_list, wrong_layout

_CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
_CAMVID_VOID = 11


def camvid(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read CamVid: street scenes, 11 classes; index 11 of the files is void and becomes 255.

    Two layouts are known: `SPLIT/images`, `SPLIT/labels`, `SPLIT/list.txt` (with `classes.json` beside them), and
    SegNet's `SPLIT/`, `SPLITannot/`, `SPLIT.txt`.

    Args:
        root: The folder of the data set.
        split: "train", "val" or "test", where present.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or a file that the list names is missing.

    Source: Brostow et al., Segmentation and recognition using structure from motion point clouds, ECCV 2008;
        the 11-class 360x480 version of SegNet.
    """
    root = Path(root)
    plain = [p.parent.name for p in sorted(root.glob("*/labels"))]
    segnet = [p.name.removesuffix("annot") for p in sorted(root.glob("*annot")) if p.is_dir()]
    if not plain and not segnet:
        raise wrong_layout("CamVid", root, "SPLIT/images + SPLIT/labels, or SPLIT + SPLITannot")
    split = pick_split("CamVid", split, plain or segnet)
    if plain:
        _check_camvid_classes(root / "classes.json")
        images, labels, listing = root / split / "images", root / split / "labels", root / split / "list.txt"
    else:
        images, labels, listing = root / split, root / f"{split}annot", root / f"{split}.txt"
    stems = [Path(line.split()[0]).stem for line in read_list(listing)] if listing.exists() else None
    return FileDataset(
        "camvid",
        split,
        samples=pair(images, labels, stems),
        classes=tuple(_CAMVID),
        palette=tuple(_CAMVID.values()),
        table=LabelTable(range(len(_CAMVID)), void=[_CAMVID_VOID]),
        size=size,
        cache=cache,
    )


def _check_camvid_classes(path: Path) -> None:
    """Refuse a folder whose own class list says that its indices mean something else."""
    if not path.exists():
        return
    record = read_json(path)
    names, void = record.get("classes"), record.get("void_index")
    if names != list(_CAMVID) or void != _CAMVID_VOID:
        raise DataError(
            explain(
                f"{path} lists other classes than CamVid's 11",
                received=f"{names}, void {void}",
                expected=f"{list(_CAMVID)}, void {_CAMVID_VOID}",
                fix="describe the folder with a dataset.toml and open it by its path",
            )
        )


def kvasir(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read Kvasir-SEG: endoscopy images, background and polyp.

    Two layouts are known: `SPLIT/images`, `SPLIT/masks` with index masks; and the official flat `images`, `masks`
    with JPEG masks (read as polyp above 127), which is parted 80/10/10 into train, validation and test by a fixed
    permutation.

    Args:
        root: The folder of the data set.
        split: "train", "validation" (or "val") or "test", where present.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        DataError: wrong layout, no such split, or an image without mask.

    Source: Jha et al., Kvasir-SEG: a segmented polyp dataset, MMM 2020.
    """
    root = Path(root)
    splits = [p.parent.name for p in sorted(root.glob("*/masks"))]
    flat = (root / "masks").is_dir() and (root / "images").is_dir()
    if not splits and not flat:
        raise wrong_layout("Kvasir-SEG", root, "SPLIT/images + SPLIT/masks, or images + masks")
    if splits:
        split = pick_split("Kvasir-SEG", split, splits)
        samples = pair(root / split / "images", root / split / "masks")
    else:
        split = pick_split("Kvasir-SEG", split, ("train", "validation", "test"))
        samples = _permuted_part(pair(root / "images", root / "masks"), split)
    return FileDataset(
        "kvasir",
        split,
        samples=samples,
        classes=("background", "polyp"),
        palette=((30, 30, 40), (230, 120, 60)),
        table=LabelTable(range(2)),
        threshold=127 if flat and not splits else None,
        size=size,
        cache=cache,
    )


def _permuted_part(samples: list[Sample], split: str) -> list[Sample]:
    order = sorted(samples)
    random.Random(0).shuffle(order)  # noqa: S311 - a fixed permutation, not a secret
    first, second = round(0.8 * len(order)), round(0.9 * len(order))
    return sorted({"train": order[:first], "validation": order[first:second], "test": order[second:]}[split])


_TOML_KEYS = {"name", "classes", "void", "palette", "images", "masks", "values", "threshold"}


def folder(
    root: str | Path, split: str = "train", *, size: tuple[int, int] | None = None, cache: bool = False
) -> FileDataset:
    """Read your own images and masks, described by a `dataset.toml`.

    ```toml
    name = "roofs"
    classes = ["ground", "roof"]      # class 0, 1, ...
    values = [0, 1]                   # optional: the file value of each class (default 0, 1, ...)
    void = [255]                      # optional: file values without a label (default [255])
    images = "images"                 # optional: names of the two folders
    masks = "masks"
    threshold = 127                   # optional: read grey masks as 1 above this value
    palette = [[90, 90, 90], [200, 60, 40]]   # optional: one colour a class
    ```

    Files lie in `SPLIT/images` and `SPLIT/masks`; or in `images` and `masks` with the names of each split in
    `SPLIT.txt`, one a line. An image and its mask have the same name up to the ending.

    Args:
        root: The folder that holds `dataset.toml`.
        split: Name of the part.
        size: (h, w) to resize to on reading.
        cache: Keep the decoded bytes in memory.

    Returns:
        The data set.

    Raises:
        ConfigError: `dataset.toml` is not valid.
        DataError: wrong layout, no such split, empty folder, or an image without mask.
    """
    root = Path(root)
    record = _read_toml(root)
    images, masks = record.get("images", "images"), record.get("masks", "masks")
    classes: list[str] = record["classes"]
    samples = _folder_samples(root, split, images, masks, record.get("name", root.name))
    return FileDataset(
        record.get("name", root.name),
        split,
        samples=samples,
        classes=classes,
        palette=_palette(record.get("palette"), len(classes)),
        table=LabelTable(record.get("values", range(len(classes))), void=record.get("void", [255])),
        threshold=record.get("threshold"),
        size=size,
        cache=cache,
    )


def _folder_samples(root: Path, split: str, images: str, masks: str, name: str) -> list[Sample]:
    splits = {p.parent.name for p in root.glob(f"*/{images}") if p.is_dir()}
    lists = {p.stem for p in root.glob("*.txt")} if (root / images).is_dir() else set()
    if not splits and not lists:
        raise wrong_layout(name, root, f"SPLIT/{images} + SPLIT/{masks}, or {images} + {masks} + SPLIT.txt")
    split = pick_split(name, split, sorted(splits | lists))
    if split in splits:
        return pair(root / split / images, root / split / masks, pictures(root / split / images))
    return pair(root / images, root / masks, [Path(line).stem for line in read_list(root / f"{split}.txt")])


def _read_toml(root: Path) -> dict[str, Any]:
    path = root / "dataset.toml"
    if not path.exists():
        raise wrong_layout("a data set", root, "a dataset.toml that names the classes")
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(explain(f"{path} is not valid TOML", received=error)) from error
    unknown = sorted(set(record) - _TOML_KEYS)
    if unknown:
        raise ConfigError(explain(f"{path} has unknown keys", received=unknown, expected=sorted(_TOML_KEYS)))
    _check_toml(path, record)
    return record


def _check_toml(path: Path, record: dict[str, Any]) -> None:
    classes = record.get("classes")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(c, str) for c in classes):
        raise ConfigError(
            explain(f"{path}: `classes` is wrong", received=classes, expected="at least two names")
        )
    for key in ("values", "void"):
        numbers = record.get(key, [])
        legal = isinstance(numbers, list) and all(type(n) is int and 0 <= n <= 255 for n in numbers)
        if not legal or len(set(numbers)) != len(numbers):
            raise ConfigError(
                explain(f"{path}: `{key}` is wrong", received=numbers, expected="different ids, 0..255")
            )
    values = record.get("values", list(range(len(classes))))
    if len(values) != len(classes) or set(values) & set(record.get("void", [255])):
        raise ConfigError(
            explain(
                f"{path}: `values` does not fit `classes` and `void`",
                received=f"values {values}, void {record.get('void', [255])}",
                expected=f"{len(classes)} values, none of them void",
            )
        )
    for key in ("name", "images", "masks"):
        if not isinstance(record.get(key, ""), str):
            raise ConfigError(explain(f"{path}: `{key}` is wrong", received=record[key], expected="a text"))
    if type(record.get("threshold", 0)) is not int:
        raise ConfigError(
            explain(f"{path}: `threshold` is wrong", received=record["threshold"], expected="0..255")
        )


def _palette(given: Any, count: int) -> list[Color]:
    if given is None:
        return colors(count)
    legal = isinstance(given, list) and all(
        isinstance(c, list) and len(c) == 3 and all(type(v) is int and 0 <= v <= 255 for v in c)
        for c in given
    )
    if not legal or len(given) != count:
        raise ConfigError(explain("dataset.toml: `palette` is wrong", expected=f"{count} colours [r, g, b]"))
    return [(c[0], c[1], c[2]) for c in given]
