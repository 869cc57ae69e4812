"""Toy clouds of points in the plane, on which detectors can be looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core import checks
from ..core.errors import InputError, explain
from .base import Array


def _one(count: int, noise: float, random: np.random.Generator) -> Array:
    return _disc(count, random) + noise * random.standard_normal((count, 2))


def _ring(count: int, noise: float, random: np.random.Generator) -> Array:
    return _arc(count, 0.0, 2 * np.pi, random) + noise * random.standard_normal((count, 2))


def _two(count: int, noise: float, random: np.random.Generator) -> Array:
    left = np.arange(count)[:, None] < count // 2
    centres: Array = np.where(left, [[-1.0, -0.6]], [[1.0, 0.6]])
    return centres + 0.55 * _disc(count, random) + noise * random.standard_normal((count, 2))


def _blob(count: int, noise: float, random: np.random.Generator) -> Array:
    small = np.arange(count)[:, None] < count // 4
    centres: Array = np.where(small, [[-1.3, 0.8]], [[0.5, -0.3]])
    radii = np.where(small, 0.15, 1.0)
    return centres + radii * _disc(count, random) + noise * random.standard_normal((count, 2))


def _moons(count: int, noise: float, random: np.random.Generator) -> Array:
    half = count // 2
    apart = np.array([0.5, 0.25])
    upper, lower = _arc(half, 0.0, np.pi, random), _arc(count - half, np.pi, 2 * np.pi, random)
    rows: Array = np.concatenate((upper - apart, lower + apart))
    return rows + noise * random.standard_normal((count, 2))


def _disc(count: int, random: np.random.Generator) -> Array:
    """Points uniform in the unit disc."""
    turn, radius = 2 * np.pi * random.random(count), np.sqrt(random.random(count))
    return np.column_stack((radius * np.cos(turn), radius * np.sin(turn)))


def _arc(count: int, start: float, end: float, random: np.random.Generator) -> Array:
    turn = random.uniform(start, end, count)
    return np.column_stack((np.cos(turn), np.sin(turn)))


_MAKERS: dict[str, Callable[[int, float, np.random.Generator], Array]] = {
    "one cloud": _one,
    "ring": _ring,
    "two clouds": _two,
    "blob and cloud": _blob,
    "two moons": _moons,
}
CLOUDS = tuple(_MAKERS)


def cloud(name: str, count: int = 1000, *, noise: float = 0.05, seed: int = 0) -> Array:
    """Draw one of the toy clouds, (count, 2) float64, rows in random order.

    Discs, rings and arcs of radius about 1, blurred by a Gaussian: supports whose true signed distance one can see.

    Args:
        name: "one cloud" (a disc), "ring", "two clouds" (two discs), "blob and cloud" (a quarter of the points in a
            small dense disc, the rest in a wide one) or "two moons".
        count: number of points, at least 4.
        noise: deviation of the blur.
        seed: the same number gives the same points.

    Raises:
        InputError: an unknown name, fewer than 4 points, a negative noise.

    Example:
        >>> [cloud(name).shape for name in CLOUDS] == [(1000, 2)] * 5
        True
    """
    if name not in _MAKERS:
        raise InputError(explain("unknown cloud", received=repr(name), expected=", ".join(CLOUDS)))
    if checks.positive_int("count", count) < 4:
        raise InputError(explain("too few points for a cloud", received=count, expected="at least 4"))
    random = np.random.default_rng(seed)
    rows = _MAKERS[name](count, checks.number("noise", noise, low=0.0), random)
    return rows[random.permutation(count)]
