"""Periodic gradient noise with unit variance, looked up in fixed tiles, and hashes of grid cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
            tiles()[self.tile].ravel(),
            x * np.float32(cos) + y * np.float32(sin) + np.float32(self.shift[0]),
            y * np.float32(cos) - x * np.float32(sin) + np.float32(self.shift[1]),
        )

    def seen(self, x: Array, y: Array, footprint: Array) -> Array:
        """Return the noise attenuated by `amplitude`."""
        return self.at(x, y) * amplitude(self.size, footprint)


def _bilinear(tile: Array, u: Array, v: Array) -> Array:
    """Look up a periodic tile, flattened, at continuous positions in samples."""
    left, top = np.floor(u), np.floor(v)
    fu, fv = u - left, v - top
    i, j = left.astype(np.int32) & (SIDE - 1), (top.astype(np.int32) & (SIDE - 1)) * SIDE
    i2, j2 = (i + 1) & (SIDE - 1), (j + SIDE) & (SIDE * SIDE - 1)
    one = tile[j + i]
    one += (tile[j + i2] - one) * fu
    two = tile[j2 + i]
    two += (tile[j2 + i2] - two) * fu
    two -= one
    two *= fv
    one += two
    return one


def dice(i: NDArray[np.int32], j: NDArray[np.int32], seed: int) -> NDArray[np.uint32]:
    """Return one well-mixed number below 2^32 per grid cell, the same for the same (i, j, seed)."""
    mixed = i.astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= j.astype(np.uint32) * np.uint32(0x85EBCA77)
    mixed += np.uint32(seed & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def unit(mixed: NDArray[np.uint32], part: int) -> Array:
    """Return byte `part` (0..3) of `dice` as a number in [0, 1)."""
    return np.asarray((mixed >> np.uint32(8 * part)) & np.uint32(255), np.float32) / np.float32(256)
