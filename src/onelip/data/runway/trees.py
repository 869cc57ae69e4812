"""Lone trees and bushes, one at most in each cell of a grid: crowns of stacked discs, and their shadows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ground import Ground
from .noise import Sheet, above, dice, unit
from .palette import Palette, vary
from .sampling import Array

_FINEST = 14.0  # metres: where the footprint is longer, a lone tree is not seen
_DISCS = ((0.15, 0.7, 0.62), (0.4, 1.0, 0.8), (0.65, 0.95, 1.05), (0.9, 0.6, 1.25))  # height, radius, tone


class Trees:
    """The lone trees of one scene, denser in some places than in others.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, toward: Array, shade: float) -> None:
        self.pitch = float(rng.uniform(13, 30))
        self.radius = float(rng.uniform(0.14, 0.24)) * self.pitch
        self.height = self.radius * float(rng.uniform(1.2, 2.6))
        self.most = float(rng.uniform(0.0, 0.4)) ** 2
        self.area = Sheet((500.0, 150.0), (0.8, 0.6), rng)
        self.green = vary(colours.forest, rng, spread=0.1)
        self.seed = int(rng.integers(2**31))
        self.cast = np.asarray(toward * min(self.height * shade * 0.6, 1.5 * self.pitch), np.float32)

    def paint(self, colour: Array, ground: Ground, distance: Array) -> None:
        """Blend trees into `colour` outside the aerodrome, `distance` metres away."""
        where = np.flatnonzero((ground.long < _FINEST) & (distance > 10))
        if not where.size or self.most < 0.004:
            return
        near = ground.take(where)
        dense = above(*self.area.level(near.x, near.y, near.iso), 0.3)
        fade = np.clip(2 - near.long * np.float32(2 / _FINEST), 0, 1)
        chance = dense * np.float32(self.most)
        part = colour[where]
        shadow = self._disc(near.x + self.cast[0], near.y + self.cast[1], 0.9, near.long, chance)[0]
        part *= (1 - np.float32(0.45) * shadow * fade)[:, None]
        for height, radius, tone in _DISCS:
            raised = near.moved(height * self.height)
            share, mixed = self._disc(raised.x, raised.y, radius, near.long, chance)
            green = (
                self.green
                * ((np.float32(0.8) + np.float32(0.4) * unit(mixed, 3)) * np.float32(tone))[:, None]
            )
            part += (green - part) * (share * fade)[:, None]
        colour[where] = part

    def _disc(
        self, x: Array, y: Array, radius: float, width: Array, chance: Array
    ) -> tuple[Array, NDArray[np.uint32]]:
        """Share of footprints inside the discs of the cells, and the dice of the cells."""
        long, tall = x / np.float32(self.pitch), y / np.float32(self.pitch)
        col, row = np.floor(long), np.floor(tall)
        mixed = dice(row.astype(np.int32), col.astype(np.int32), self.seed)
        size = np.float32(self.radius) * (np.float32(0.6) + np.float32(0.4) * unit(mixed, 0))
        room = np.float32(1 - 2 * self.radius / self.pitch)
        dx = (long - col - np.float32(0.5) + (unit(mixed, 1) - np.float32(0.5)) * room) * np.float32(
            self.pitch
        )
        dy = (tall - row - np.float32(0.5) + (unit(mixed, 2) - np.float32(0.5)) * room) * np.float32(
            self.pitch
        )
        share = np.clip((size * np.float32(radius) - np.hypot(dx, dy)) / np.maximum(width, 0.5) + 0.5, 0, 1)
        share *= unit(mixed >> np.uint32(3), 2) < chance
        return np.asarray(share, np.float32), mixed
