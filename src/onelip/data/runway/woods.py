"""Forests: noise above a level, raised to the height of trees, with lit crowns, a dark edge and a shadow."""

from __future__ import annotations

import numpy as np

from .ground import Ground
from .noise import Octave, Sheet, above, cut_for
from .palette import Palette, vary
from .sampling import Array


class Woods:
    """The forests of one scene.

    A line of sight crosses the crowns' plane before it reaches the ground: trees are seen where either of the
    two points lies in the forest, and the edge is where only the one on the ground does.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, toward: Array, shade: float) -> None:
        self.cut = cut_for(float(rng.uniform(*colours.woods)))
        self.area = Sheet((1150.0, 330.0, 95.0, 26.0), (0.75, 0.6, 0.32, 0.16), rng)
        self.height = float(rng.uniform(6, 14))
        self.crowns = [Octave.drawn(size, rng) for size in (45.0, 11.0, 4.5)]
        self.green = vary(colours.forest, rng, spread=0.1)
        self.toward, self.shade = toward, shade

    def paint(self, colour: Array, ground: Ground, distance: Array) -> None:
        """Blend the forest into `colour`; it keeps clear of the aerodrome, `distance` metres away."""
        clear = np.float32(self.cut) + np.float32(3.5) * np.exp(np.minimum(-distance / np.float32(120), 0.5))
        crown = ground.moved(self.height)
        rooted = above(*self.area.level(ground.x, ground.y, ground.iso), clear)
        topped = above(*self.area.level(crown.x, crown.y, crown.iso), clear)
        self._cast(colour, ground, clear, rooted)
        where = np.flatnonzero(np.maximum(rooted, topped) > 0.01)
        if not where.size:
            return
        seen, top, foot = crown.take(where), topped[where], rooted[where]
        facing = ground.hx[where] * self.toward[0] + ground.hy[where] * self.toward[1]
        edge = np.clip(foot - top, 0, 1) * (np.float32(0.38) + np.float32(0.25) * facing)
        lit = self._lit(seen) * (1 - edge)
        part = colour[where]
        share = (top + foot - top * foot)[:, None]
        colour[where] = part + (self.green * lit[:, None] - part) * share

    def _lit(self, seen: Ground) -> Array:
        """Brightness of the crowns: bumps of two sizes, lit from the side of the sun."""
        dx, dy = self.toward * np.float32(2.2)
        big, mid, small = self.crowns
        tone = 1 + np.float32(0.10) * big.seen(seen.x, seen.y, seen.iso)
        bump = mid.seen(seen.x, seen.y, seen.iso)
        slope = bump - mid.seen(seen.x + dx, seen.y + dy, seen.iso)
        tone += np.float32(0.16) * bump + np.float32(0.45) * slope
        tone += np.float32(0.16) * small.seen(seen.x, seen.y, seen.iso)
        return np.asarray(np.clip(tone, 0.35, 1.8), np.float32)

    def _cast(self, colour: Array, ground: Ground, clear: Array, rooted: Array) -> None:
        """Darken the ground on the far side of the trees from the sun."""
        where = np.flatnonzero((ground.long < 30) & (rooted < 0.9))
        if not where.size:
            return
        part = ground.take(where)
        reach = self.toward * np.float32(min(self.height * self.shade, 30.0))
        cast = above(*self.area.level(part.x + reach[0], part.y + reach[1], part.iso), clear[where])
        colour[where] *= (1 - np.float32(0.42) * cast * (1 - rooted[where]))[:, None]
