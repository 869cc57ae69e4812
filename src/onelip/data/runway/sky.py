"""The sky of one scene: gradient, clouds, a ridge of hills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .clouds import Clouds
from .light import transmission
from .noise import Octave
from .sampling import Array

if TYPE_CHECKING:
    from .scene import Scene

_SOFT = 0.0022  # radians: the width over which a ridge fades into the sky, about a pixel


class Sky:
    """The sky of one scene; `horizon` (3,) is also the colour of its haze.

    Args:
        scene: Light, visibility and random streams.
    """

    def __init__(self, scene: Scene) -> None:
        rng = scene.rng("sky")
        light = scene.light
        warmth = float(np.exp(-light.elevation / 18.0))
        clear = float(np.clip(np.log(scene.visibility / 6e3) / np.log(18.0), 0, 1))
        pale = np.array([0.74, 0.77, 0.80]) * (1 - clear) + np.array([0.70, 0.80, 0.90]) * clear
        pale = pale * (1 + warmth * np.array([0.10, -0.03, -0.20]))
        deep = np.array([0.48, 0.60, 0.76]) * (1 - clear) + np.array([0.20, 0.42, 0.80]) * clear
        gain = light.exposure * float(rng.uniform(0.92, 1.02))
        self.horizon = np.clip(pale * gain, 0, 1).astype(np.float32)
        self.zenith = np.clip(deep * gain * rng.uniform(0.9, 1.08), 0, 1).astype(np.float32)
        self.clouds = Clouds(light, scene.rng("clouds")) if light.clouds > 0 else None
        self.ridge = float(rng.uniform(0, np.radians(2.2))) if rng.random() < 0.5 else 0.0
        self.hills = [Octave.drawn(size, rng) for size in (0.22, 0.08, 0.03)]
        self.clear = np.float32(transmission(rng.uniform(7e3, 40e3), scene.visibility))
        self.hill = np.asarray(0.32 * self.zenith + 0.03, np.float32)

    def colour(self, view: Array) -> Array:
        """Return the colours (N, 3) seen along unit rays (N, 3); below the horizon, the colour of the haze."""
        seen = self.gradient(np.maximum(view[:, 2], 0))
        if self.clouds is not None:
            self.clouds.paint(seen, view, self.horizon)
        if self.ridge > 0:
            self._add_hills(seen, view)
        return np.asarray(np.clip(seen, 0, 1), np.float32)

    def gradient(self, up: Array) -> Array:
        """Return the clear sky (N, 3) at sines of elevation `up` (N,) in [0, 1]."""
        mix = (np.minimum(up / np.float32(0.45), 1) ** np.float32(0.55))[:, None]
        return np.asarray(self.horizon + (self.zenith - self.horizon) * mix, np.float32)

    def _add_hills(self, seen: Array, view: Array) -> None:
        """Blend a ridge of hills, a function of the azimuth, into `seen`."""
        where = np.flatnonzero(view[:, 2] < np.float32(2.2 * self.ridge + 0.02))
        ray = view[where]
        turn = np.arctan2(ray[:, 0], ray[:, 1])
        still = np.zeros_like(turn)
        rise = sum(
            g * octave.at(turn, still) for g, octave in zip((0.5, 0.28, 0.12), self.hills, strict=True)
        )
        top = np.float32(self.ridge) * np.clip(np.float32(0.6) + rise, 0, 2)
        share = np.clip((top - ray[:, 2]) / np.float32(_SOFT) + np.float32(0.5), 0, 1)
        share *= np.clip(top / np.float32(_SOFT), 0, 1)
        low = np.clip(ray[:, 2] / np.float32(0.6 * self.ridge), 0, 1)
        share *= self.clear * (np.float32(0.35) + np.float32(0.65) * low)
        seen[where] += (self.hill - seen[where]) * share[:, None]
