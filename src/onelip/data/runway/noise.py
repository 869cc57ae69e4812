"""Periodic gradient noise with unit variance, looked up in fixed tiles, and hashes of grid cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .sampling import Array

CELLS = 64
STEPS = 16  # samples per cell
SIDE = CELLS * STEPS
_TURNS = (0.35, 1.15, 2.05, 2.75)  # one angle per tile, so that the periods of two octaves never line up


@lru_cache(maxsize=1)
def tiles() -> Array:
    """Return the four tiles (4, 1024, 1024), float32: each periodic, mean 0 and variance 1."""
    rng = np.random.default_rng(20_110)
    made = np.stack([_tile(rng) for _ in range(4)])
    made.flags.writeable = False
    return made


def _tile(rng: np.random.Generator) -> Array:
    """One tile of gradient noise: quintic blends of the slopes at the four corners of each cell."""
    turn = rng.uniform(0, 2 * np.pi, (CELLS, CELLS))
    slopes = (np.cos(turn), np.sin(turn))
    at = (np.arange(STEPS) + 0.5) / STEPS
    ease = at**3 * (at * (6 * at - 15) + 10)
    total = np.zeros((CELLS, STEPS, CELLS, STEPS))
    for dj in (0, 1):
        for di in (0, 1):
            gx, gy = (np.roll(g, (-dj, -di), (0, 1))[:, None, :, None] for g in slopes)
            ramp = gx * (at - di)[None, None, None, :] + gy * (at - dj)[None, :, None, None]
            wide = ease if di else 1 - ease
            tall = ease if dj else 1 - ease
            total += ramp * wide[None, None, None, :] * tall[None, :, None, None]
    flat = total.reshape(SIDE, SIDE)
    return np.asarray((flat - flat.mean()) / flat.std(), np.float32)


def amplitude(size: float, footprint: Array | float) -> Array:
    r"""Return what is left of a pattern of features of `size` metres under a footprint in metres.

    Formula:
        1 / sqrt(1 + (2 f / size)^2)

    Example:
        >>> amplitude(2.0, np.float32([0, 1])).round(3).tolist()
        [1.0, 0.7070000171661377]
    """
    return np.asarray(1 / np.sqrt(1 + np.square(np.asarray(footprint, np.float32) * np.float32(2 / size))))


@dataclass(frozen=True)
class Octave:
    """Noise of one feature size over the plane: `at` gives unit variance, `seen` fades with the footprint.

    Attributes:
        size: Metres per cell of noise.
        shift: Offset in samples (2,).
        tile: Which of the four tiles, which also fixes the angle.
    """

    size: float
    shift: tuple[float, float]
    tile: int

    @staticmethod
    def drawn(size: float, rng: np.random.Generator) -> Octave:
        """Return an octave with a shift and a tile from `rng`."""
        one, two = rng.uniform(0, SIDE, 2)
        return Octave(size, (float(one), float(two)), int(rng.integers(4)))

    def at(self, x: Array, y: Array) -> Array:
        """Return the noise at points in metres, interpolated bilinearly."""
        scale = STEPS / self.size
        cos, sin = np.cos(_TURNS[self.tile]) * scale, np.sin(_TURNS[self.tile]) * scale
        return _bilinear(
            self.tile,
            x * np.float32(cos) + y * np.float32(sin) + np.float32(self.shift[0]),
            y * np.float32(cos) - x * np.float32(sin) + np.float32(self.shift[1]),
        )

    def seen(self, x: Array, y: Array, footprint: Array) -> Array:
        """Return the noise attenuated by `amplitude`."""
        return self.at(x, y) * amplitude(self.size, footprint)


class Sheet:
    """A sum of octaves with unit variance, and how much of a footprint lies above a level.

    Args:
        sizes: Feature sizes, metres.
        gains: Weights, scaled here to unit variance.
        rng: Where shifts and tiles are drawn from.
    """

    def __init__(self, sizes: tuple[float, ...], gains: tuple[float, ...], rng: np.random.Generator) -> None:
        self.octaves = [Octave.drawn(size, rng) for size in sizes]
        norm = float(np.sqrt(np.sum(np.square(gains))))
        self.gains = [np.float32(gain / norm) for gain in gains]

    def level(self, x: Array, y: Array, footprint: Array) -> tuple[Array, Array]:
        """Return what is seen of the sum, and the standard deviation of what is too fine to be seen."""
        total, lost = np.zeros_like(x), np.zeros_like(x)
        for gain, octave in zip(self.gains, self.octaves, strict=True):
            left = amplitude(octave.size, footprint)
            total += gain * left * octave.at(x, y)
            lost += gain**2 * (1 - left * left)
        return total, np.sqrt(lost)


def above(level: Array, spread: Array, cut: float | Array) -> Array:
    r"""Return the share of a footprint in which Gaussian noise (level, spread) exceeds `cut`.

    Formula:
        Phi((level - cut) / spread) by the logistic 1 / (1 + exp(-1.702 z)), error below 0.01

    Example:
        >>> above(np.float32([0, 3]), np.float32([1, 1]), 0.0).round(2).tolist()
        [0.5, 0.9900000095367432]
    """
    score = (level - cut) / (spread + np.float32(0.03))
    return np.asarray(1 / (1 + np.exp(np.clip(-1.702 * score, -30, 30))), np.float32)


def cut_for(share: float) -> float:
    """Return the level that noise of unit variance exceeds on `share` of the plane.

    Example:
        >>> round(cut_for(0.5), 6)
        0.0
    """
    return NormalDist().inv_cdf(1 - min(max(share, 1e-9), 1 - 1e-9))


@lru_cache(maxsize=4)
def _corners(tile: int) -> tuple[Array, Array, Array, Array]:
    """A tile with its first row and column repeated, flattened, from its four lowest corners on."""
    flat = np.pad(tiles()[tile], ((0, 1), (0, 1)), mode="wrap").ravel()
    return flat, flat[1:], flat[SIDE + 1 :], flat[SIDE + 2 :]


def _bilinear(tile: int, u: Array, v: Array) -> Array:
    """Look up a periodic tile at continuous positions in samples."""
    left, top = np.floor(u), np.floor(v)
    fu, fv = u - left, v - top
    at = (left.astype(np.int32) & (SIDE - 1)).astype(np.intp)
    at += (top.astype(np.int32) & (SIDE - 1)).astype(np.intp) * (SIDE + 1)
    one, beside, below, across = (corner.take(at, mode="clip") for corner in _corners(tile))
    beside -= one
    beside *= fu
    one += beside
    across -= below
    across *= fu
    below += across
    below -= one
    below *= fv
    one += below
    return np.asarray(one)


def dice(i: NDArray[np.int32], j: NDArray[np.int32], seed: int) -> NDArray[np.uint32]:
    """Return one well-mixed number below 2^32 per grid cell, the same for the same (i, j, seed)."""
    mixed = i.astype(np.uint32) + np.uint32(seed & 0xFFFFFFFF)
    for part in (j.astype(np.uint32), np.uint32(0)):
        mixed ^= mixed >> np.uint32(16)
        mixed *= np.uint32(0x7FEB352D)
        mixed ^= mixed >> np.uint32(15)
        mixed *= np.uint32(0x846CA68B)
        mixed ^= mixed >> np.uint32(16)
        mixed += part * np.uint32(0x9E3779B1)
    return mixed


def unit(mixed: NDArray[np.uint32], part: int) -> Array:
    """Return byte `part` (0..3) of `dice` as a number in [0, 1)."""
    return np.asarray((mixed >> np.uint32(8 * part)) & np.uint32(255), np.float32) / np.float32(256)
