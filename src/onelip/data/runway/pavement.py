"""A runway as a layer over the land: pavement, shoulders, blast pads, joints, patches, rubber and paint."""

from __future__ import annotations

import numpy as np

from .camera import Hits
from .markings import paint
from .noise import Octave
from .sampling import Array, cover, pulses
from .scene import Runway

_YELLOW = np.array([0.80, 0.62, 0.12], np.float32)
_WHITE = np.array([1.0, 0.99, 0.96], np.float32)
_ASPHALT = np.array([0.99, 1.0, 1.03], np.float32)
_CONCRETE = np.array([1.03, 1.0, 0.94], np.float32)
Layer = tuple[Array, Array]


class Pavement:
    """One runway of a scene; what is random about its surface is drawn here, once.

    Args:
        runway: Dimensions, paint and wear.
        rng: Where the stains and patches come from.
    """

    def __init__(self, runway: Runway, rng: np.random.Generator) -> None:
        self.runway = runway
        self.tone = tone(runway.albedo)
        self.stains = [Octave.drawn(size, rng) for size in (60.0, 9.0)]
        count = int(rng.integers(0, 9))
        middle = rng.uniform(0, 1, count) * runway.length
        left = rng.uniform(-0.5, 0.3, count) * runway.width
        self.patches = [
            (x, x + width, y - long / 2, y + long / 2, gain)
            for x, y, width, long, gain in zip(
                left.tolist(),
                middle.tolist(),
                rng.uniform(4, 15, count).tolist(),
                rng.uniform(8, 120, count).tolist(),
                rng.uniform(-0.16, 0.10, count).tolist(),
                strict=True,
            )
        ]

    def layer(self, hits: Hits) -> Layer:
        """Return colour times cover (N, 3), and cover (N,) in [0, 1]."""
        colour, alpha = np.zeros((len(hits.x), 3), np.float32), np.zeros_like(hits.x)
        runway, half = self.runway, self.runway.width / 2
        wide = np.abs(hits.x) < half + runway.shoulder + hits.wx
        near = np.abs(hits.y - runway.length / 2) < runway.length / 2 + runway.blast_pad + hits.wy
        where = np.flatnonzero(wide & near)
        if where.size:
            colour[where], alpha[where] = self._layer(hits.take(where))
        return colour, alpha

    def _layer(self, hits: Hits) -> Layer:
        runway, half, length = self.runway, self.runway.width / 2, self.runway.length
        x, y, wx, wy = hits.x, hits.y, hits.wx, hits.wy
        inside = cover(x, -half, half, wx) * cover(y, 0, length, wy)
        outer = cover(x, -half - runway.shoulder, half + runway.shoulder, wx)
        around = outer * cover(y, -runway.blast_pad, length + runway.blast_pad, wy)
        stains = self.stains[0].seen(x, y, hits.iso) + self.stains[1].seen(x, y, hits.iso)
        rubber = self._rubber(x, y)
        stone = (
            self.tone * (self._brightness(hits) * (1 + np.float32(0.035) * stains) * (1 - rubber))[:, None]
        )
        left = np.clip(1 - np.float32(runway.wear) * (1 + np.float32(0.3) * stains), 0, 1)
        white = (paint(runway, x, y, wx, wy) * left * (1 - np.float32(0.7) * rubber))[:, None]
        top = stone + (_WHITE * np.float32(runway.paint) - stone) * white
        side = self.tone * (np.float32(0.78) + np.float32(0.04) * stains)[:, None]
        side += (_YELLOW - side) * (self._chevrons(hits) * left * np.float32(0.85))[:, None]
        share, alpha = inside[:, None], np.maximum(around, inside)
        return np.asarray(top * share + side * (alpha[:, None] - share), np.float32), alpha

    def _brightness(self, hits: Hits) -> Array:
        """Joints every 7.5 m and the patches of repairs."""
        joints = pulses(hits.y, hits.wy, period=7.5, on=0.15) + pulses(hits.x, hits.wx, period=7.5, on=0.15)
        gain = 1 - np.float32(0.25) * joints
        for left, right, start, stop, strength in self.patches:
            gain += (
                np.float32(strength)
                * cover(hits.x, left, right, hits.wx)
                * cover(hits.y, start, stop, hits.wy)
            )
        return np.asarray(gain, np.float32)

    def _rubber(self, x: Array, y: Array) -> Array:
        """Tyre deposits of both ends, strongest 480 m beyond the threshold and 4.5 m off the centreline."""
        ahead = (np.minimum(y, self.runway.length - y) - np.float32(480)) / np.float32(260)
        aside = (np.abs(x) - np.float32(4.5)) / np.float32(3.2)
        return np.asarray(np.float32(0.55 * self.runway.rubber) * np.exp(-ahead * ahead - aside * aside))

    def _chevrons(self, hits: Hits) -> Array:
        """Yellow chevrons on the blast pads, 30 m apart, with their points toward the threshold."""
        pad, half = self.runway.blast_pad, self.runway.width / 2
        if not pad:
            return np.zeros_like(hits.x)
        out = np.maximum(-hits.y, hits.y - np.float32(self.runway.length))  # metres before the threshold
        arms = pulses(out - np.abs(hits.x), hits.wx + hits.wy, period=30.0, on=2.0)
        return np.asarray(
            arms * cover(out, 3, pad, hits.wy) * cover(hits.x, -half, half, hits.wx), np.float32
        )


def tone(albedo: float) -> Array:
    """Return the colour (3,) of pavement: bluish asphalt to warm concrete."""
    concrete = np.float32(np.clip((albedo - 0.34) / 0.2, 0, 1))
    return np.asarray((_ASPHALT + (_CONCRETE - _ASPHALT) * concrete) * np.float32(albedo), np.float32)


def over(top: Layer, bottom: Layer) -> Layer:
    """Lay one layer over another."""
    clear = 1 - top[1]
    return top[0] + bottom[0] * clear[:, None], top[1] + bottom[1] * clear
