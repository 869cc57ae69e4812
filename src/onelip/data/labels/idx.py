"""The idx format of MNIST: a header of big-endian numbers, then bytes; plain or gzip."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ...core.errors import DataError, explain
from ..dataset import Pixels

IMAGES, LABELS = 2051, 2049  # magic numbers: 0x0803, bytes in three dimensions; 0x0801, in one
_KINDS = {IMAGES: "images", LABELS: "labels"}
_GZIP = b"\x1f\x8b"
_DENSEST = 1032  # deflate never makes data smaller than by this factor


def read_idx(path: Path, magic: int) -> Pixels:
    """Read a file of images (N, H, W) or of labels (N,).

    Args:
        path: The file; a gzip is recognised by its first bytes.
        magic: `IMAGES` or `LABELS`.

    Raises:
        DataError: the file is missing, of another kind, truncated, longer than its header says, or corrupt.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        size = path.stat().st_size
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return _read(path, file, magic, size * (_DENSEST if packed else 1))
    except FileNotFoundError as error:
        raise DataError(explain(f"{path} does not exist", expected="an idx file")) from error
    except (OSError, EOFError, zlib.error) as error:  # a broken gzip is an OSError
        raise DataError(
            explain(
                f"{path} cannot be read",
                received=error,
                why="the file is truncated or corrupt",
                fix="copy the file again from its source",
            )
        ) from error


def _read(path: Path, file: io.BufferedIOBase, magic: int, most: int) -> Pixels:
    shape = _header(path, file, magic)
    total = math.prod(shape)
    if total > most:  # also keeps a wrong header from asking for more memory than there is
        raise _length(path, shape, f"at most {most} bytes")
    data = file.read(total + 1)
    if len(data) != total:
        raise _length(path, shape, "more bytes" if len(data) > total else f"{len(data)} bytes")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _header(path: Path, file: io.BufferedIOBase, magic: int) -> tuple[int, ...]:
    """Return the shape that the header tells."""
    axes = magic & 0xFF
    start = file.read(4 + 4 * axes)
    found = struct.unpack(">i", start[:4])[0] if len(start) >= 4 else None
    if found != magic:
        kind = f"{found}, that of {_KINDS[found]}" if found in _KINDS else found
        raise DataError(
            explain(
                f"{path} is not an idx file of {_KINDS[magic]}",
                received=f"{len(start)} bytes" if found is None else f"magic number {kind}",
                expected=f"magic number {magic}",
                fix="check the name of the file, or copy it again from its source",
            )
        )
    if len(start) != 4 + 4 * axes:
        raise DataError(
            explain(f"{path} ends in its header", received=f"{len(start)} bytes", expected=4 + 4 * axes)
        )
    shape: tuple[int, ...] = struct.unpack(f">{axes}I", start[4:])
    if 0 in shape:
        raise DataError(
            explain(f"{path} holds nothing", received=f"a header of {shape}", expected="numbers above 0")
        )
    return shape


def _length(path: Path, shape: tuple[int, ...], received: str) -> DataError:
    return DataError(
        explain(
            f"{path} has not the length that its header tells",
            received=received,
            expected=f"{math.prod(shape)} bytes for {' x '.join(map(str, shape))}",
            why="the file is truncated or corrupt",
            fix="copy the file again from its source",
        )
    )
