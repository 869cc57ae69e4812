"""Lone trees and bushes, one at most in each cell of a grid: round crowns with a lit top, and their shadows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ground import Ground
from .noise import Sheet, above, dice, unit
from .palette import Palette, vary
from .sampling import Array

_FINEST = 14.0  # metres: where the footprint is longer, a lone tree is not seen
_ROOM = 0.28  # share of a cell that the middle of a tree may lie in
_REACH = 0.36  # share of a cell that a crown may hide behind it


class Trees:
    """The lone trees of one scene, denser in some places than in others.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, toward: Array, shade: float) -> None:
        self.pitch = float(rng.uniform(55, 100))
        self.radius = float(rng.uniform(2.2, 5.0))
        self.height = self.radius * float(rng.uniform(0.75, 1.05))  # of the middle of the crown
        self.most = float(rng.uniform(0.0, 1.0)) ** 2
        self.area = Sheet((500.0, 150.0), (0.8, 0.6), rng)
        self.green = vary(colours.forest, rng, spread=0.1)
        self.seed = int(rng.integers(2**31))
        self.cast = np.asarray(toward * min(self.height * shade, 0.3 * self.pitch), np.float32)

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
        zero, one = np.zeros_like(near.x), np.ones_like(near.x)
        shifted = (near.x + self.cast[0], near.y + self.cast[1])
        shadow, _, _ = self._crown(*shifted, (zero, one, one), near.long, chance)
        part *= (1 - np.float32(0.45) * shadow * fade)[:, None]
        raised = near.moved(self.height)
        stretch = np.minimum(1 + near.cot, np.float32(_REACH * self.pitch / self.radius))
        share, lift, mixed = self._crown(raised.x, raised.y, (near.hx, near.hy, stretch), near.long, chance)
        tone = (np.float32(0.8) + np.float32(0.4) * unit(mixed, 3)) * (
            np.float32(0.9) + np.float32(0.4) * lift
        )
        part += (self.green * tone[:, None] - part) * (share * fade)[:, None]
        colour[where] = part

    def _crown(
        self, x: Array, y: Array, along: tuple[Array, Array, Array], width: Array, chance: Array
    ) -> tuple[Array, Array, NDArray[np.uint32]]:
        """Share of footprints in the crowns of their cells, place from -1 below to 1 on top, dice of the cells.

        A ball seen along (hx, hy) covers an ellipse of the plane through its middle, longer by the last of `along`.
        """
        hx, hy, stretch = along
        long, tall = x / np.float32(self.pitch), y / np.float32(self.pitch)
        col, row = np.floor(long), np.floor(tall)
        mixed = dice(row.astype(np.int32), col.astype(np.int32), self.seed)
        size = np.float32(self.radius) * (np.float32(0.6) + np.float32(0.4) * unit(mixed, 0))
        dx, dy = (
            (place - cell - np.float32(0.5) + (unit(mixed, k) - np.float32(0.5)) * np.float32(_ROOM))
            * np.float32(self.pitch)
            for place, cell, k in ((long, col, 1), (tall, row, 2))
        )
        lift = (dx * hx + dy * hy) / (size * stretch)
        gap = 1 - np.hypot(lift, (dx * hy - dy * hx) / size)
        share = np.clip(gap * size / np.maximum(width / stretch, 0.4) + np.float32(0.5), 0, 1)
        share *= unit(mixed >> np.uint32(3), 2) < chance
        return np.asarray(share, np.float32), np.clip(lift, -1, 1), mixed
