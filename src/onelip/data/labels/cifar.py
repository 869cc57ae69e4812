"""CIFAR-10: the official binary and Python files, and an archive of JPEG streams."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...core.errors import DataError, explain
from ...core.files import read_json
from ..dataset import Pixels
from ..layout import pick_split, wrong_layout
from .dataset import ClassificationDataset, Pictures
from .digits import SPLITS, part
from .pickled import read_batch

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32
_ROW = 3 * _SIDE * _SIDE
_BATCHES = {"test": ["test_batch"], "train": [f"data_batch_{k}" for k in range(1, 6)]}
_INSIDE = ("", "cifar-10-batches-bin", "cifar-10-batches-py")
# What numpy and zipfile raise for files that are no archive, or a broken one; TypeError: a single array.
_BROKEN = (
    OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
_EXPECTED = (
    "cifar10_train.npz and cifar10_test.npz, or data_batch_1.bin to data_batch_5.bin and test_batch.bin (the binary "
    "version of the official site), or data_batch_1 to data_batch_5 and test_batch (its Python version, unpacked)"
)


def cifar10(root: str | Path, split: str = "train", **options: Any) -> ClassificationDataset:
    """Read CIFAR-10: colour pictures of 32 x 32, 10 classes.

    Three layouts are known: the official binary files, the official Python files (pickles, of which nothing is run,
    see `read_batch`), and `cifar10_SPLIT.npz` with JPEG streams (`jpeg`, `offsets`, `labels`), which are not the
    original pixels.

    Args:
        root: The folder of the files, or one that holds them in `cifar-10-batches-bin` or `cifar-10-batches-py`.
        split: "train" (the training files but their last 5000 images; of short files the last tenth), "val" (these),
            "trainval" (both) or "test" (the test file).
        **options: `size`, `channels` (default 3), `cache` of `ClassificationDataset`.

    Raises:
        DataError: no such split, or a file is missing, truncated, corrupt, or of another kind.

    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    root, split = Path(root), pick_split("cifar10", split, SPLITS)
    file = "test" if split == "test" else "train"
    pictures, labels = _load(root, file)
    rows = part(split, len(labels))
    whole = ClassificationDataset(
        "cifar10",
        split,
        pictures=pictures,
        labels=labels,
        ids=[f"{file}-{row:05d}" for row in range(len(labels))],
        classes=CLASSES,
        **{"channels": 3, **options},
    )
    return whole if len(rows) == len(whole) else whole.some(rows)


def _load(root: Path, file: str) -> tuple[Pictures, NDArray[Any]]:
    for place in (root / inside for inside in _INSIDE):
        if (place / f"cifar10_{file}.npz").is_file():
            _check_classes(place / "classes.json")
            return _archive(place / f"cifar10_{file}.npz")
        for ending, reader in ((".bin", _binary), ("", _python)):
            batches = [place / f"{name}{ending}" for name in _BATCHES[file]]
            if any(path.is_file() for path in batches):
                _check_complete(batches)
                read = [reader(path) for path in batches]
                return np.concatenate([p for p, _ in read]), np.concatenate([n for _, n in read])
    raise wrong_layout("CIFAR-10", root, _EXPECTED)


def _check_complete(batches: list[Path]) -> None:
    missing = [path.name for path in batches if not path.is_file()]
    if missing:
        raise DataError(
            explain(
                f"{batches[0].parent} lacks {len(missing)} of {len(batches)} files",
                received=f"nothing for {', '.join(missing)}",
                fix="copy the files again from their source",
            )
        )


def _check_classes(path: Path) -> None:
    """Refuse a folder whose own list of classes says that its labels mean something else."""
    if path.exists() and (names := read_json(path)) != list(CLASSES):
        raise DataError(
            explain(
                f"{path} lists other classes than CIFAR-10's", received=names, expected=f"{list(CLASSES)}"
            )
        )


def _binary(path: Path) -> tuple[Pixels, Pixels]:
    """Read rows of one byte label and 3 x 32 x 32 bytes."""
    rows = np.fromfile(path, np.uint8)
    if rows.size == 0 or rows.size % (_ROW + 1):
        raise DataError(
            explain(
                f"{path} is no binary file of CIFAR-10",
                received=f"{rows.size} bytes",
                expected=f"a multiple of {_ROW + 1}: one byte label and {_ROW} bytes of pixels an image",
                why="the file is truncated or of another kind (CIFAR-100 has two labels)",
                fix="copy the file again from its source",
            )
        )
    rows = rows.reshape(-1, _ROW + 1)
    return _upright(rows[:, 1:]), rows[:, 0]


def _python(path: Path) -> tuple[Pixels, NDArray[Any]]:
    pixels, labels = read_batch(path, _ROW)
    return _upright(pixels), labels


def _upright(rows: Pixels) -> Pixels:
    """Turn rows of three planes into (N, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))


class Jpegs:
    """JPEG streams one after the other, decoded on request."""

    def __init__(self, path: Path, stream: Pixels, offsets: NDArray[np.int64]) -> None:
        self.path, self.stream, self.offsets = path, stream, offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Pixels:
        data = self.stream[self.offsets[index] : self.offsets[index + 1]].tobytes()
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
                size = picture.size
                pixels = np.asarray(picture.convert("RGB")) if size == (_SIDE, _SIDE) else None
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise self._wrong(index, error) from error
        if pixels is None:
            raise self._wrong(index, f"{size[0]} x {size[1]} pixels")
        return pixels

    def _wrong(self, index: int, received: object) -> DataError:
        return DataError(
            explain(
                f"{self.path}: picture {index} is no JPEG of {_SIDE} x {_SIDE}",
                received=received,
                fix="copy the file again from its source",
            )
        )


def _archive(path: Path) -> tuple[Jpegs, NDArray[Any]]:
    """Read an npz of `jpeg`, `offsets` and `labels`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            stream, offsets, labels = (archive[key] for key in ("jpeg", "offsets", "labels"))
    except _BROKEN as error:
        raise DataError(
            explain(
                f"{path} cannot be read",
                received=error,
                expected="an npz with jpeg, offsets and labels",
                why="the file is truncated, corrupt or of another kind",
                fix="copy the file again from its source",
            )
        ) from error
    legal = stream.dtype == np.uint8 and stream.ndim == 1 and offsets.dtype == np.int64 and offsets.ndim == 1
    if not legal or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(stream):
        legal = False
    if not legal or (offsets[1:] <= offsets[:-1]).any() or labels.shape != (len(offsets) - 1,):
        raise DataError(
            explain(
                f"{path}: jpeg, offsets and labels do not belong together",
                received=f"jpeg {stream.dtype} {stream.shape}, offsets {offsets.dtype} {offsets.shape}, "
                f"labels {labels.dtype} {labels.shape}",
                expected="bytes, N + 1 rising int64 from 0 to their number, N labels",
            )
        )
    return Jpegs(path, stream, offsets), labels
