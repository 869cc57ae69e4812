"""Batches of CIFAR's Python version: pickles, read without running anything that is in them.

A pickle names functions and classes that unpickling calls: a file from elsewhere can run any program. Here the few
names that an array of bytes needs stand for inert records, any other name is refused, and the array is made from the
recorded bytes.
"""

from __future__ import annotations

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, explain
from ..dataset import Pixels

_LARGEST = 64 << 20  # bytes; a batch of 10000 images has 31 MB
_BINARY = (
    "use the binary version of CIFAR-10 (cifar-10-binary.tar.gz: data_batch_1.bin, ..., test_batch.bin), "
    "which is plain bytes"
)


class _Type:
    """Stands for numpy.dtype: remembers its name."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, _: Any) -> None:
        """Ignore byte order and the like: bytes have none."""


class _Array:
    """Stands for numpy.ndarray and the function that makes one: remembers its state."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Text:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2: remembers the text."""

    def __init__(self, text: Any, encoding: Any) -> None:
        self.text = text if encoding == "latin1" else None

    def __setstate__(self, _: Any) -> None:
        """Ignore what no text has."""


# Classes, and each with a __setstate__ of its own: a file can then change its records and nothing else.
_NAMES: dict[tuple[str, str], type[_Type | _Array | _Text]] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Text,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the record that a name stands for."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"the file names {module}.{name}, which no array of bytes needs")
        return _NAMES[module, name]

    def persistent_load(self, _: Any) -> Any:
        """Refuse references to things outside the file."""
        raise pickle.UnpicklingError("the file refers to things outside of it")


def read_batch(path: Path, width: int) -> tuple[Pixels, NDArray[np.int64]]:
    """Read one batch: a pickled dict with `data`, bytes (N, width), and `labels`, a list of N integers.

    Nothing that the file names is run or imported, see the head of this module.

    Raises:
        DataError: the file is missing, larger than 64 MiB, no such dict, or names anything but an array of bytes.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise _refused(path, f"{path.stat().st_size} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(explain(f"{path} cannot be read", received=error)) from error
    try:
        found = _Reader(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a broken pickle raises nearly anything
        raise _refused(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise _refused(path, type(found).__name__)
    record = {_bytes(key): value for key, value in found.items()}
    pixels, labels = _pixels(path, record.get(b"data"), width), record.get(b"labels")
    if not isinstance(labels, list) or not all(type(n) is int and 0 <= n <= 255 for n in labels):
        raise _refused(path, "labels that are no list of integers in 0..255")
    if len(labels) != len(pixels):
        raise _refused(path, f"{len(pixels)} images and {len(labels)} labels")
    return pixels, np.array(labels, np.int64)


def _pixels(path: Path, array: Any, width: int) -> Pixels:
    """Make the array from its recorded state: (version, shape, dtype, is Fortran, bytes)."""
    state = getattr(array, "state", None)
    if not isinstance(array, _Array) or not isinstance(state, tuple) or len(state) != 5:
        raise _refused(path, "no array of pixels")
    _, shape, kind, fortran, raw = state
    legal = isinstance(shape, tuple) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)
    name, raw = _bytes(kind.name) if isinstance(kind, _Type) else None, _bytes(raw)
    if not legal or shape[1] != width or name != b"u1" or fortran not in (False, True):
        raise _refused(path, f"an array of {name!r} with shape {shape}")
    if not isinstance(raw, bytes) or len(raw) != math.prod(shape):
        raise _refused(path, "an array whose bytes do not fill its shape")
    flat = np.frombuffer(raw, np.uint8)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _bytes(value: Any) -> bytes | None:
    """Return bytes, or a text of Python 2, as bytes; None for anything else."""
    text = value.text if isinstance(value, _Text) else value
    try:
        return text.encode("latin1") if isinstance(text, str) else text if isinstance(text, bytes) else None
    except UnicodeEncodeError:
        return None


def _refused(path: Path, received: object) -> DataError:
    return DataError(
        explain(
            f"{path} is no batch of CIFAR-10's Python version that can be read",
            received=received,
            expected="a pickled dict: data, bytes (N, 3072), and labels, N integers",
            why="pickles can run programs, so nothing but arrays of bytes is taken from them; the file may be "
            "truncated, or of another kind",
            fix=_BINARY,
        )
    )
