"""Gentle hills of the ground, seen by the light of the sun alone."""

from __future__ import annotations

import numpy as np

from .ground import Ground
from .noise import Octave, amplitude
from .sampling import Array


class Relief:
    """Shading of slopes: the difference of noise along the direction of the sun.

    Args:
        rng: Where everything is drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height: a low sun shows more.
    """

    def __init__(self, rng: np.random.Generator, toward: Array, shade: float) -> None:
        self.waves = [Octave.drawn(size, rng) for size in (1900.0, 520.0)]
        self.strength = float(rng.uniform(0.3, 1.6) * (0.15 + 0.06 * min(shade, 4.0)))
        self.step = np.asarray(toward, np.float32)

    def gain(self, ground: Ground, distance: Array) -> Array:
        """Return factors (N,) of brightness; one on the aerodrome."""
        slope = np.zeros_like(ground.x)
        for octave in self.waves:
            dx, dy = self.step * np.float32(0.12 * octave.size)
            rise = octave.at(ground.x, ground.y) - octave.at(ground.x + dx, ground.y + dy)
            slope += rise * amplitude(octave.size, ground.iso)
        free = np.clip(distance / np.float32(150), 0, 1)
        return np.asarray(np.clip(1 + np.float32(self.strength) * slope * free, 0.5, 1.5), np.float32)
