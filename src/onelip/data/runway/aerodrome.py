"""The grass of the aerodrome: where it lies, and its mowing stripes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ground import Ground
from .noise import Octave
from .palette import Palette, vary
from .sampling import Array, pulses

if TYPE_CHECKING:
    from .scene import Scene


class Aerodrome:
    """A rectangle with wavy edges around the runways, kept free of fields, trees, roads, houses and water."""

    def __init__(self, scene: Scene, colours: Palette, rng: np.random.Generator) -> None:
        half, ends = rng.uniform(230, 380, 2), rng.uniform(200, 420, 2)
        left, right = -half[0], half[1]
        near, far = -ends[0], scene.runway.length + ends[1]
        if scene.second is not None:
            dx, dy = scene.second_offset
            left, right = min(left, dx - 200), max(right, dx + 200)
            near, far = min(near, dy - 200), max(far, dy + scene.second.length + 200)
        self.middle = np.float32((left + right) / 2), np.float32((near + far) / 2)
        self.half = np.float32((right - left) / 2), np.float32((far - near) / 2)
        self.edge = [Octave.drawn(size, rng) for size in (420.0, 130.0)]
        self.patches = [Octave.drawn(size, rng) for size in (330.0, 60.0, 9.0)]
        self.grass = vary(colours.grass, rng)
        self.dry = np.asarray(0.55 * self.grass + 0.45 * vary(colours.earth, rng), np.float32)
        self.fade = float(rng.uniform(8, 60))
        self.stripe = float(rng.uniform(9, 20))
        self.mown = float(rng.uniform(0.0, 0.07)) * (colours.order[0] > 0.5)  # no lawn in a desert
        self.shown = scene.visible or rng.random() < 0.5

    def distance(self, ground: Ground) -> Array:
        """Return metres to the rectangle, negative inside, with wavy edges."""
        ax = np.abs(ground.x - self.middle[0]) - self.half[0]
        ay = np.abs(ground.y - self.middle[1]) - self.half[1]
        flat = np.hypot(np.maximum(ax, 0), np.maximum(ay, 0)) + np.minimum(np.maximum(ax, ay), 0)
        wave = 22 * self.edge[0].at(ground.x, ground.y) + 8 * self.edge[1].at(ground.x, ground.y)
        return np.asarray(flat + wave, np.float32)

    def paint(self, colour: Array, ground: Ground, distance: Array) -> None:
        """Blend the grass into `colour`."""
        if not self.shown:
            return
        share = np.clip(0.5 - distance / (self.fade + ground.long), 0, 1)
        where = np.flatnonzero(share > 0)
        if not where.size:
            return
        part = ground.take(where)
        spots = sum(
            gain * octave.seen(part.x, part.y, part.iso)
            for gain, octave in zip((0.6, 0.35, 0.15), self.patches, strict=True)
        )
        mix = np.clip(np.float32(0.25) + np.float32(0.3) * spots, 0, 1)[:, None]
        grass = self.grass + (self.dry - self.grass) * mix
        mown = pulses(part.x, part.across(1.0, 0.0), period=2 * self.stripe, on=self.stripe) - np.float32(0.5)
        grass = grass * (1 + np.float32(self.mown) * mown)[:, None]
        colour[where] += (grass - colour[where]) * share[where, None]
