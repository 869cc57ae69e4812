"""Lakes, sea and rivers with a rim of beach; they reflect the sky and the sun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ground import Ground
from .noise import Octave, Sheet, above, cut_for
from .palette import Palette, vary
from .sampling import Array

if TYPE_CHECKING:
    from .scene import Light
    from .sky import Sky

_ROUGH = 0.10  # mean slope of waves that a flat line of sight meets


class Water:
    """The water of one scene.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
        light: The sun, whose glitter is seen.
        sky: What is reflected.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, light: Light, sky: Sky) -> None:
        share = float(rng.uniform(*colours.sea))
        self.cut = cut_for(share if colours.sea[0] > 0 or rng.random() < 0.4 else 0.0)
        self.area = Sheet((4800.0, 1500.0, 420.0, 110.0), (1.0, 0.45, 0.16, 0.05), rng)
        self.rim = float(rng.uniform(0.02, 0.06))
        self.waves = [Octave.drawn(size, rng) for size in (140.0, 14.0, 4.0)]
        self.deep, self.beach = vary(colours.water, rng, spread=0.12), vary(colours.beach, rng)
        tall, turn = np.radians(light.elevation), np.radians(light.azimuth)
        self.sun = np.array(
            [np.sin(turn) * np.cos(tall), np.cos(turn) * np.cos(tall), np.sin(tall)], np.float32
        )
        self.sky = sky
        self.river = self._river(rng) if rng.random() < 0.25 else None

    @staticmethod
    def _river(rng: np.random.Generator) -> tuple[float, float, float, float, float, Octave]:
        """Normal, offset, half width, bend and meander of a river."""
        angle, side = float(rng.uniform(0, np.pi)), float(rng.choice((-1, 1)))
        place = side * float(rng.uniform(500, 2500))
        bend, half = float(rng.uniform(40, 160)), float(rng.uniform(10, 45))
        return float(np.cos(angle)), float(np.sin(angle)), place, half, bend, Octave.drawn(800.0, rng)

    def paint(self, colour: Array, ground: Ground, distance: Array, view: Array) -> None:
        """Blend beach and water into `colour`; they keep clear of the aerodrome, `distance` metres away."""
        level, spread = self.area.level(ground.x, ground.y, ground.iso)
        level -= np.float32(3.0) * np.exp(np.minimum(-distance / np.float32(150), 0.5))
        wet = above(level, spread, self.cut)
        sand = above(level, spread, self.cut - self.rim)
        if self.river is not None:
            flow = self._flow(ground, distance)
            wet, sand = np.maximum(wet, flow), np.maximum(sand, flow)
        where = np.flatnonzero(sand > 0.01)
        if not where.size:
            return
        part = colour[where]
        part += (self.beach - part) * sand[where, None]
        surface = self._surface(ground.take(where), view[where])
        colour[where] = part + (surface - part) * wet[where, None]

    def _flow(self, ground: Ground, distance: Array) -> Array:
        """Share of each footprint that the river covers."""
        assert self.river is not None
        nx, ny, place, half, bend, wave = self.river
        aside = ground.x * np.float32(nx) + ground.y * np.float32(ny) - np.float32(place)
        aside += np.float32(bend) * wave.at(ground.x, ground.y)
        room = half - 300 * np.exp(np.minimum(-distance / np.float32(130), 0.5)) - np.abs(aside)
        width = np.maximum(ground.across(nx, ny), 1.0)
        return np.asarray(np.clip(0.5 + room / width, 0, 1) * np.minimum(2 * half / width, 1), np.float32)

    def _surface(self, ground: Ground, view: Array) -> Array:
        """Colour of the water: its own, the sky by Fresnel's law over rough water, and glitter."""
        big, mid, small = (wave.seen(ground.x, ground.y, ground.iso) for wave in self.waves)
        ripple = np.float32(0.05) * big + np.float32(0.03) * mid + np.float32(0.04) * small
        down = np.clip(-view[:, 2] + np.float32(_ROUGH) * (1 + 2 * ripple), 0.02, 1)
        mirror = (np.float32(0.02) + np.float32(0.98) * (1 - down) ** 5)[:, None] * np.float32(0.85)
        own = self.deep * (1 + ripple)[:, None]
        seen = own + (self.sky.gradient(down) - own) * mirror
        half = self.sun - view
        rise = half[:, 2] / np.linalg.norm(half, axis=1)
        glint = np.exp(-(1 / np.square(np.maximum(rise, 0.05)) - 1) / np.float32(0.018))
        return np.asarray(seen + (np.float32(0.7) * glint * (1 + 3 * ripple))[:, None], np.float32)
