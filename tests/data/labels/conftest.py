"""Small sets of labels, written to a folder."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onelip.core.errors import DataError
from onelip.data.catalog import find_named


def idx_bytes(values: np.ndarray, magic: int | None = None) -> bytes:
    """The header written by hand, number by number."""
    header = struct.pack(">i", magic if magic is not None else 2048 + values.ndim)
    return header + b"".join(struct.pack(">i", n) for n in values.shape) + values.tobytes()


def digits_of(count: int, side: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side), dtype=np.uint8), (np.arange(count) % 10).astype(
        np.uint8
    )


def write_mnist(root: Path, *, train: int = 20, test: int = 10, packed: bool = True) -> None:
    """The four files; every file of the training part has seed 0, of the test part seed 1."""
    root.mkdir(parents=True, exist_ok=True)
    for stem, count, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = digits_of(count, seed=seed)
        for name, values in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            data = idx_bytes(values)
            path = root / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data) if packed else data)


def cifar_rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), random.integers(0, 10, count).astype(
        np.uint8
    )


BATCHES = (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")


def write_cifar_binary(root: Path, count: int = 4) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BATCHES):
        rows, labels = cifar_rows(count, seed)
        (root / f"{name}.bin").write_bytes(
            b"".join(bytes([n]) + r.tobytes() for r, n in zip(rows, labels, strict=True))
        )


def python2_batch(rows: np.ndarray, labels: np.ndarray) -> bytes:
    """A batch as Python 2 wrote those of the official site, opcode by opcode: its strings are bytes (opcode T or U)."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    kind = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    kind += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + text(b"b") + b"tR"
    )
    raw = rows.tobytes()
    shape = b"(" + number(rows.shape[0]) + number(rows.shape[1]) + b"t"
    array += b"(" + number(1) + shape + kind + b"\x89" + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([n]) for n in labels.tolist()) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


def write_cifar_python(root: Path, count: int = 4, *, protocol: int | None = None) -> None:
    """Protocol None: as Python 2 did."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BATCHES):
        rows, labels = cifar_rows(count, seed)
        record: dict[bytes, Any] = {b"data": rows, b"labels": labels.tolist(), b"batch_label": b"one"}
        data = python2_batch(rows, labels) if protocol is None else pickle.dumps(record, protocol=protocol)
        (root / name).write_bytes(data)


def paint(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", (size[1], size[0]), value).save(path)


@pytest.fixture
def write() -> SimpleNamespace:
    """What writes files of every layout."""
    return SimpleNamespace(
        idx=idx_bytes,
        mnist=write_mnist,
        digits=digits_of,
        binary=write_cifar_binary,
        python=write_cifar_python,
        python2=python2_batch,
        rows=cifar_rows,
        picture=paint,
    )


@pytest.fixture
def real():
    """The folder of a named set, or skip."""

    def inner(name: str) -> Path:
        try:
            return find_named(name, (name,))
        except DataError as error:
            pytest.skip(f"the files of {name} are absent: {error}")

    return inner
