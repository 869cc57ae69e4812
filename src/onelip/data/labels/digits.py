"""Digits and clothes: scikit-learn's embedded digits, MNIST, Fashion-MNIST."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, explain
from ..dataset import Pixels
from ..layout import pick_split, wrong_layout
from .dataset import ClassificationDataset
from .idx import IMAGES, LABELS, read_idx

NUMERALS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SPLITS = ("train", "val", "test", "trainval")
_HELD = 5000  # images at the end of the training file that are for validation
_DIGITS = {"train": (0, 1200), "val": (1200, 1400), "test": (1400, 1797), "trainval": (0, 1400)}
_INSIDE = ("", "raw", "MNIST/raw", "FashionMNIST/raw")  # where torchvision puts the files


def digits(split: str = "train", **options: Any) -> ClassificationDataset:
    """Read scikit-learn's embedded digits: 1797 pictures of 8 x 8; needs no files.

    The parts are consecutive, as neighbours in the file often are by one hand: train 0..1199, val 1200..1399, test
    1400..1796; trainval is the first two. Values 0..16 become 0..255.

    Args:
        split: "train", "val", "test" or "trainval".
        **options: `size`, `channels`, `cache` of `ClassificationDataset`.

    Raises:
        DataError: no such split.

    Source: Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits

    split = pick_split("digits", split, SPLITS)
    found = load_digits()
    pictures = np.rint(found.images * (255 / 16)).astype(np.uint8)
    first, last = _DIGITS[split]
    return _rows("digits", split, "digit", pictures, found.target, range(first, last), NUMERALS, options)


def mnist(root: str | Path, split: str = "train", **options: Any) -> ClassificationDataset:
    """Read MNIST: digits of 28 x 28, grey, from its idx files, plain or gzip.

    Args:
        root: The folder with `train-images-idx3-ubyte` and so on, or one that holds them in `MNIST/raw` or `raw`.
        split: "train" (all of the training file but its last 5000 images; of short files the last tenth), "val"
            (these), "trainval" (both) or "test" (the test file).
        **options: `size`, `channels`, `cache` of `ClassificationDataset`.

    Raises:
        DataError: no such split, or a file is missing, truncated, of another kind, or does not fit the others.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.
    """
    return _standard("mnist", Path(root), split, NUMERALS, options)


def fashion_mnist(root: str | Path, split: str = "train", **options: Any) -> ClassificationDataset:
    """Read Fashion-MNIST: clothes of 28 x 28, grey; layout, parts and errors as `mnist`.

    The images may be cut in consecutive files, each with a header of its own: `train-images-part1-idx3-ubyte.gz`, ...

    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017.
    """
    return _standard("fashion_mnist", Path(root), split, CLOTHES, options)


def _standard(
    name: str, root: Path, split: str, classes: tuple[str, ...], options: dict[str, Any]
) -> ClassificationDataset:
    split = pick_split(name, split, SPLITS)
    stem = "t10k" if split == "test" else "train"
    images, labels = _files(name, root, stem, "images"), _files(name, root, stem, "labels")
    pictures = _joined(images, [read_idx(path, IMAGES) for path in images])
    values = _joined(labels, [read_idx(path, LABELS) for path in labels])
    if len(pictures) != len(values):
        raise DataError(
            explain(
                f"{name} {split}: images and labels do not belong together",
                received=f"{len(pictures)} images in {_named(images)}, {len(values)} labels in {_named(labels)}",
                expected="the same number",
                fix="copy the files again from their source",
            )
        )
    file = "test" if split == "test" else "train"
    return _rows(name, split, file, pictures, values, part(split, len(values)), classes, options)


def part(split: str, total: int) -> range:
    """Return the rows of a file of `total` images that a split has: the last 5000 are for validation.

    >>> part("train", 60000), part("val", 60000), part("val", 20), part("test", 10000)
    (range(0, 55000), range(55000, 60000), range(18, 20), range(0, 10000))
    """
    held = min(_HELD, total // 10)
    if split in {"test", "trainval"}:
        return range(total)
    return range(total - held) if split == "train" else range(total - held, total)


def _rows(
    name: str,
    split: str,
    file: str,
    pictures: Pixels,
    labels: NDArray[Any],
    rows: range,
    classes: tuple[str, ...],
    options: dict[str, Any],
) -> ClassificationDataset:
    """Return some rows of a file; ids are their positions in it."""
    kept = slice(rows.start, rows.stop)
    ids = [f"{file}-{row:05d}" for row in rows]
    return ClassificationDataset(
        name, split, pictures=pictures[kept], labels=labels[kept], ids=ids, classes=classes, **options
    )


def _files(name: str, root: Path, stem: str, kind: str) -> list[Path]:
    """Return the file of images or labels, or its parts in order."""
    axes = 3 if kind == "images" else 1
    pattern = re.compile(rf"{stem}-{kind}(?:-part(\d+))?[-.]idx{axes}-ubyte(?:\.gz)?")
    for place in (root / inside for inside in _INSIDE):
        found: dict[int, Path] = {}  # number of the part -> file; 0: it is whole
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match and path.is_file():
                found.setdefault(int(match[1] or 0), path)
        if 0 in found:
            return [found[0]]
        if found:
            return _parts(place, found)
    raise wrong_layout(name, root, f"{stem}-{kind}-idx{axes}-ubyte, plain or .gz, there or in MNIST/raw")


def _parts(place: Path, found: dict[int, Path]) -> list[Path]:
    missing = sorted(set(range(1, max(found) + 1)) - set(found))
    if missing:
        raise DataError(
            explain(
                f"{place}: parts of a file are missing",
                received=_named([found[k] for k in sorted(found)]),
                expected=f"part {', '.join(map(str, missing))} too",
            )
        )
    return [found[k] for k in sorted(found)]


def _joined(paths: list[Path], arrays: list[Pixels]) -> Pixels:
    if len({array.shape[1:] for array in arrays}) > 1:
        raise DataError(
            explain(
                f"{_named(paths)}: the parts hold pictures of different sizes",
                received=[array.shape[1:] for array in arrays],
            )
        )
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _named(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)
