"""Clouds: slices of noise at rising heights and cuts, and thin streaks high above them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .noise import Sheet, above, cut_for
from .sampling import Array

if TYPE_CHECKING:
    from .scene import Light

_FOCAL = 600.0  # pixels: the sharpness that the clouds are drawn for
_LOWEST = 0.02  # sine of elevation below which no cloud is drawn
_SLICES = 5
_FLAT = 0.3  # sine of elevation below which the heaps are flattened
_HIGH = 8500.0  # metres, height of the streaks


class Clouds:
    """The clouds of one scene, flat below and heaped above.

    A line of sight crosses the slices from below; the first that is cloud there is what is seen. Higher slices
    have higher cuts, so that clouds are narrower above, and are brighter.

    Args:
        light: Cover and sun.
        rng: Where everything is drawn from.
    """

    def __init__(self, light: Light, rng: np.random.Generator) -> None:
        self.cover = light.clouds
        self.base = float(rng.uniform(1300, 2300))
        self.thick = float(rng.uniform(20, 120))
        big = float(rng.uniform(1400, 3600))
        self.area = Sheet(
            (2.6 * big, big, 0.42 * big, 0.18 * big, 0.075 * big), (0.6, 0.8, 0.5, 0.32, 0.2), rng
        )
        self.cut = cut_for(0.03 + 0.62 * light.clouds)
        self.steep = float(rng.uniform(0.12, 0.3))
        self.streaks = Sheet((9000.0, 2600.0, 800.0, 260.0), (0.8, 0.7, 0.4, 0.25), rng)
        self.streak = float(rng.uniform(0.1, 0.6)) if rng.random() < 0.5 else 0.0
        turn = float(rng.uniform(0, np.pi))
        self.wind = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        warmth = float(np.exp(-light.elevation / 18.0))
        tint = np.array([1.0, 0.985 - 0.10 * warmth, 0.97 - 0.24 * warmth])
        self.white = np.asarray(np.clip(light.exposure, 0.9, 1.05) * 0.98 * tint, np.float32)
        self.grey = np.asarray(self.white * np.array([0.66, 0.70, 0.77]) * (1 - 0.2 * self.cover), np.float32)

    def paint(self, seen: Array, view: Array, horizon: Array) -> None:
        """Blend the clouds into `seen` (N, 3) along unit rays (N, 3), paler toward the horizon."""
        where = np.flatnonzero(view[:, 2] > _LOWEST)
        if not where.size:
            return
        ray = view[where]
        far = np.clip((ray[:, 2] - np.float32(_LOWEST)) / np.float32(0.11), 0, 1)[:, None]
        part = seen[where]
        if self.streak:
            part += (self.white - part) * (self._streaks(ray)[:, None] * far)
        body, opaque = self._heaps(ray)
        body = horizon + (body - horizon) * (np.float32(0.25) + np.float32(0.75) * far)
        seen[where] = part + (body - part) * (opaque[:, None] * np.sqrt(far))

    def _heaps(self, ray: Array) -> tuple[Array, Array]:
        """Colour and opacity of the slices, from the lowest to the highest."""
        clear = np.ones(ray.shape[0], np.float32)
        tone = np.zeros_like(clear)
        gain = np.minimum(ray[:, 2] / np.float32(_FLAT), 1)  # closer slices far away, where steps would show
        for k in range(_SLICES):
            reach = (np.float32(self.base) + gain * np.float32(k * self.thick)) / ray[:, 2]
            foot = reach / ray[:, 2] * np.float32(0.7 / _FOCAL)
            level, spread = self.area.level(ray[:, 0] * reach, ray[:, 1] * reach, foot)
            cut = self.cut + self.steep * k
            share = above(level, spread + np.float32(0.06), cut)
            bright = (
                np.float32(k / (_SLICES - 1))
                if k
                else np.clip(np.float32(0.8) - np.float32(0.55) * (level - cut), 0.1, 0.8)
            )
            tone += clear * share * bright
            clear *= 1 - share
        opaque = 1 - clear
        bright = np.clip(tone / np.maximum(opaque, np.float32(1e-3)), 0, 1)[:, None]
        return np.asarray(self.grey + (self.white - self.grey) * bright, np.float32), opaque

    def _streaks(self, ray: Array) -> Array:
        """Opacity of ice clouds, drawn out along the wind."""
        reach = np.float32(_HIGH) / (ray[:, 2] + np.float32(0.03))
        x, y = ray[:, 0] * reach, ray[:, 1] * reach
        along = np.asarray((x * self.wind[0] + y * self.wind[1]) * 0.22, np.float32)
        over = np.asarray(y * self.wind[0] - x * self.wind[1], np.float32)
        level, _ = self.streaks.level(
            along, over, reach / (ray[:, 2] + np.float32(0.03)) * np.float32(0.5 / _FOCAL)
        )
        return np.asarray(np.clip(level, 0, 2) * np.float32(0.4 * self.streak), np.float32)
