"""Digits and letters on runways, box-filtered in closed form from their summed-area tables."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .sampling import Array

_FINE = 20  # table cells a unit; a glyph is 3 units wide and 9 units high, its strokes 0.8 to 1 unit

# Strokes as polygons, (x, y) in units with the origin at the lower left.
Floats = NDArray[np.float64]
_Stroke = tuple[tuple[float, float], ...]


def _bar(x1: float, y1: float, x2: float, y2: float) -> _Stroke:
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


_TOP, _MIDDLE, _BOTTOM = _bar(0, 8.2, 3, 9), _bar(0, 4.3, 3, 5.1), _bar(0, 0, 3, 0.8)
_LEFT, _RIGHT = _bar(0, 0, 0.8, 9), _bar(2.2, 0, 3, 9)
_STROKES: dict[str, tuple[_Stroke, ...]] = {
    "0": (_TOP, _BOTTOM, _LEFT, _RIGHT),
    "1": (_bar(1.1, 0, 1.9, 9), ((1.1, 9), (0.3, 7.6), (0.3, 6.8), (1.1, 7.9))),
    "2": (
        _TOP,
        _BOTTOM,
        _bar(2.2, 5.2, 3, 9),
        ((0, 0.8), (0.9, 0.8), (3, 5.2), (2.2, 5.2)),
        _bar(0, 7, 0.8, 9),
    ),
    "3": (_TOP, _BOTTOM, _RIGHT, _bar(0.8, 4.3, 3, 5.1), _bar(0, 7, 0.8, 9), _bar(0, 0, 0.8, 2)),
    "4": (_bar(1.9, 0, 2.7, 9), _bar(0, 2.4, 3, 3.2), ((0, 3.2), (0.8, 3.2), (2.7, 9), (1.9, 9))),
    "5": (_TOP, _MIDDLE, _BOTTOM, _bar(0, 4.3, 0.8, 9), _bar(2.2, 0, 3, 5.1), _bar(0, 0, 0.8, 2)),
    "6": (_TOP, _MIDDLE, _BOTTOM, _LEFT, _bar(2.2, 0, 3, 5.1), _bar(2.2, 7, 3, 9)),
    "7": (_TOP, ((0.7, 0), (1.6, 0), (3, 8.2), (2.2, 8.2))),
    "8": (_TOP, _MIDDLE, _BOTTOM, _LEFT, _RIGHT),
    "9": (_TOP, _MIDDLE, _BOTTOM, _RIGHT, _bar(0, 4.3, 0.8, 9), _bar(0, 0, 0.8, 2)),
    "L": (_LEFT, _BOTTOM),
    "R": (_TOP, _MIDDLE, _LEFT, _bar(2.2, 4.3, 3, 9), ((2.2, 0), (3, 0), (1.7, 4.3), (0.9, 4.3))),
    "C": (_TOP, _BOTTOM, _LEFT, _bar(2.2, 6.8, 3, 9), _bar(2.2, 0, 3, 2.2)),
}


def cover(glyph: str, x: Array, y: Array, wx: Array, wy: Array, *, height: float) -> Array:
    """Return the share of each footprint that a glyph covers, in [0, 1].

    Args:
        glyph: A digit, "L", "R" or "C".
        x: Middle of the footprints from the glyph's left edge, metres (N,).
        y: From its lower edge.
        wx: Extent of the footprints along x, metres (N,).
        wy: Along y.
        height: Of the glyph, metres; it is a third as wide.

    Example:
        >>> at = np.float32([1.0, 0.2])
        >>> cover("0", at, at * 0 + 4.5, at * 0 + 0.01, at * 0 + 0.01, height=9).round(2).tolist()
        [0.0, 1.0]
    """
    table = _table(glyph)
    cells = _FINE * 9 / height
    # float64: differences of large sums of ink.
    left, right, low, high = (
        np.asarray(edge, np.float64) * cells for edge in (x - wx / 2, x + wx / 2, y - wy / 2, y + wy / 2)
    )
    inked = _at(table, right, high) - _at(table, left, high) - _at(table, right, low) + _at(table, left, low)
    return np.asarray(np.clip(inked / (wx * wy * cells * cells), 0, 1), np.float32)


def _at(table: Floats, x: Floats, y: Floats) -> Floats:
    """Look up the ink below and left of points, between cells by linear interpolation, which is exact."""
    h, w = table.shape
    x, y = np.clip(x, 0, w - 1), np.clip(y, 0, h - 1)
    i, j = np.minimum(y.astype(int), h - 2), np.minimum(x.astype(int), w - 2)
    fy, fx = y - i, x - j
    low = table[i, j] * (1 - fx) + table[i, j + 1] * fx
    high = table[i + 1, j] * (1 - fx) + table[i + 1, j + 1] * fx
    return np.asarray(low * (1 - fy) + high * fy)


@cache
def _table(glyph: str) -> Floats:
    """Return the summed-area table of a glyph; entry (i, j) is the ink below row i and left of column j."""
    picture = Image.new("1", (3 * _FINE, 9 * _FINE))
    draw = ImageDraw.Draw(picture)
    for stroke in _STROKES[glyph]:
        # A drawn polygon includes its last pixel: without the 0.5 neighbouring strokes would grow by one cell.
        draw.polygon([(x * _FINE - 0.5, y * _FINE - 0.5) for x, y in stroke], fill=1)
    ink = np.asarray(picture, dtype=np.float64)
    table = np.zeros((9 * _FINE + 1, 3 * _FINE + 1))
    table[1:, 1:] = ink.cumsum(0).cumsum(1)
    return table
