"""Paint on a runway, after ICAO Annex 14: how much of each footprint the markings of both ends cover."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from . import glyphs
from .sampling import Array, cover, pulses
from .scene import Runway

_STRIPES = {18: 4, 23: 6, 30: 8, 45: 12, 60: 16}  # runway width in metres -> threshold stripes
_STRIPE = 1.8  # metres: width of threshold and touchdown stripes
_LINE = 0.9  # metres: width of centreline and side lines
_SIZE = (18.0, 16.0)  # metres: height of digits and letters
Rectangle = tuple[float, float, float, float]


def paint(runway: Runway, x: Array, y: Array, wx: Array, wy: Array) -> Array:
    """Return the share of each footprint that is painted, in [0, 1].

    Args:
        runway: Its dimensions and designation.
        x: Middle of the footprints across the runway, metres (N,).
        y: Along the runway, metres (N,).
        wx: Extent of the footprints along x, metres (N,).
        wy: Along y.

    Source:
        ICAO Annex 14 Volume I, 5.2 (markings).
    """
    # The far end is the near end of the opposite direction: (x, y) -> (-x, length - y).
    far = y > runway.length / 2
    nx, ny = np.where(far, -x, x), np.where(far, runway.length - y, y)
    edge = _both(x, runway.width / 2 - _LINE, runway.width / 2, wx)
    share = edge * cover(y, 0, runway.length, wy)
    share += _centreline(runway, x, y, wx, wy)
    share += _threshold(runway, nx, ny, wx, wy)
    for left, right, start, stop in rectangles(runway):
        near = np.flatnonzero((ny > start - wy) & (ny < stop + wy))
        share[near] += _both(nx[near], left, right, wx[near]) * cover(ny[near], start, stop, wy[near])
    for end in (False, True):
        share += _designation(runway, (nx, ny, wx, wy), far == end, end)
    return np.asarray(np.clip(share, 0, 1), np.float32)


def stripes(runway: Runway) -> int:
    """Return the number of threshold stripes: that of the standard width next to the runway's."""
    return _STRIPES[min(_STRIPES, key=lambda width: abs(width - runway.width))]


def aiming_point(runway: Runway) -> Rectangle:
    """Return (left, right, start, stop) in metres of the right aiming point marking; the left one mirrors it."""
    start = 400.0 if runway.length >= 2400 else 300.0
    large = runway.length >= 2400 and runway.width >= 40
    inner, breadth, long = (10.0, 9.0, 55.0) if large else (7.0, 6.0, 45.0)
    inner = min(inner, max(1.0, runway.width / 2 - 2 * _LINE - breadth))
    return inner, inner + breadth, start, start + long


def rectangles(runway: Runway) -> Iterator[Rectangle]:
    """Yield (left, right, start, stop) in metres of aiming point and touchdown zone; the left side mirrors them."""
    inner, outer, start, stop = aiming_point(runway)
    yield inner, outer, start, stop
    room = int((runway.width / 2 - _LINE - inner + 1.5) / (_STRIPE + 1.5))
    places = (150.0, start + 150, start + 300, start + 450, start + 600)
    for place, count in zip(places, (3, 2, 2, 1, 1), strict=True):
        if place + 22.5 > runway.length / 2 - 150:
            return
        for k in range(min(count, room)):
            left = inner + k * (_STRIPE + 1.5)
            yield left, left + _STRIPE, place, place + 22.5


def designation(runway: Runway, far: bool) -> tuple[int, str]:
    """Return number and letter at one end; the other end carries the opposite number and letter.

    Formula:
        opposite number = (n + 17) mod 36 + 1; left and right change places

    Example:
        >>> designation(Runway(2000, 45, 9, "L", 0.3, 0.9, 0, 5, 0, 0), True)
        (27, 'R')
    """
    if not far:
        return runway.number, runway.letter
    return (runway.number + 17) % 36 + 1, {"L": "R", "R": "L"}.get(runway.letter, runway.letter)


def _centreline(runway: Runway, x: Array, y: Array, wx: Array, wy: Array) -> Array:
    start = 102.0 if runway.letter else 90.0
    dashes = _train(y, wy, (start, runway.length - start), period=50.0, on=30.0)
    return cover(x, -_LINE / 2, _LINE / 2, wx) * dashes


def _threshold(runway: Runway, x: Array, y: Array, wx: Array, wy: Array) -> Array:
    """Stripes 1.8 m wide and 1.8 m apart from 6 to 36 m, with a double gap in the middle."""
    ends = (_STRIPE, _STRIPE * stripes(runway))
    teeth = _train(x, wx, ends, period=2 * _STRIPE, on=_STRIPE)
    teeth += _train(-x, wx, ends, period=2 * _STRIPE, on=_STRIPE)
    return np.asarray(teeth * cover(y, 6, 36, wy))


def _both(x: Array, left: float, right: float, wx: Array) -> Array:
    """Return the share of an interval and its mirror image."""
    return cover(x, left, right, wx) + cover(-x, left, right, wx)


def _train(c: Array, w: Array, ends: tuple[float, float], *, period: float, on: float) -> Array:
    """Return the share of the pulses that begin at ends[0] and stop at ends[1], exact for any footprint."""
    low, high = (np.asarray(np.clip(e, *ends), np.float32) for e in (c - w / 2, c + w / 2))
    middle = np.asarray(low + high, np.float32) / np.float32(2)
    inside = pulses(middle, high - low, period=period, on=on, start=ends[0])
    return np.asarray(inside * (high - low) / w)


def _designation(runway: Runway, place: tuple[Array, ...], here: NDArray[np.bool_], end: bool) -> Array:
    x, y, wx, wy = place
    share = np.zeros_like(x)
    number, letter = designation(runway, end)
    tens, ones = divmod(number, 10)
    base = 72.0 if letter else 50.0
    near = np.flatnonzero(here & (np.abs(x) < 12 + wx) & (y > 40 - wy) & (y < 100 + wy))
    if not near.size:
        return share
    x, y, wx, wy = x[near], y[near], wx[near], wy[near]
    digits = glyphs.cover(str(tens), x + 7.5, y - base, wx, wy, height=_SIZE[0])
    digits += glyphs.cover(str(ones), x - 1.5, y - base, wx, wy, height=_SIZE[0])
    if letter:
        digits += glyphs.cover(letter, x + _SIZE[1] / 6, y - 48, wx, wy, height=_SIZE[1])
    share[near] = digits
    return share
