"""Towns: lots with a roof, a wall toward the viewer and a shadow each, between streets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ground import Ground
from .noise import Octave, Sheet, above, amplitude, cut_for, dice, unit
from .palette import Palette, vary
from .sampling import Array, cover, pulses

_STREET = 9.0  # metres
_ASPHALT = (0.42, 0.41, 0.39)


class Towns:
    """The towns of one scene.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, toward: Array, shade: float) -> None:
        share = float(rng.uniform(*colours.towns))
        self.cut = cut_for(share if colours.towns[0] > 0.1 or rng.random() < 0.6 else 0.0)
        self.area = Sheet((1700.0, 600.0, 200.0, 60.0), (1.0, 0.6, 0.3, 0.12), rng)
        angle = float(rng.uniform(0, np.pi))
        self.cos, self.sin = float(np.cos(angle)), float(np.sin(angle))
        self.wide, self.deep = float(rng.uniform(17, 26)), float(rng.uniform(20, 34))
        self.seed = int(rng.integers(2**31))
        self.roofs = np.stack([vary(c, rng) for c in colours.roofs])
        self.garden = 0.5 * vary(colours.grass, rng) + 0.5 * vary(colours.plots[2], rng)
        self.yard, self.street = vary(colours.earth, rng), vary(_ASPHALT, rng)
        self.trees, self.leafy = Octave.drawn(8.5, rng), float(rng.uniform(0.5, 1.4))
        self.tree = vary(colours.hedge, rng)
        self.height = float(rng.uniform(3.5, 7.0))
        self.built = float(rng.uniform(0.6, 0.95))
        self.sun = np.array(
            [toward[0] * self.cos + toward[1] * self.sin, toward[1] * self.cos - toward[0] * self.sin]
        )
        self.cast = min(self.height * shade, 14.0) * self.sun

    def paint(self, colour: Array, ground: Ground, distance: Array) -> None:
        """Blend the towns into `colour`; they keep clear of the aerodrome, `distance` metres away."""
        level, spread = self.area.level(ground.x, ground.y, ground.iso)
        level -= np.float32(3.0) * np.exp(np.minimum(-distance / np.float32(90), 0.5))
        share = above(level, spread, self.cut)
        where = np.flatnonzero(share > 0.01)
        if not where.size:
            return
        part = colour[where]
        colour[where] = part + (self._lots(ground.take(where)) - part) * share[where, None]

    def _grid(self, ground: Ground) -> tuple[Array, Array]:
        """Coordinates along the two directions of streets."""
        cos, sin = np.float32(self.cos), np.float32(self.sin)
        return ground.x * cos + ground.y * sin, ground.y * cos - ground.x * sin

    def _lots(self, ground: Ground) -> Array:
        """Albedo of gardens, streets, trees, shadows, walls and roofs."""
        u, v = self._grid(ground)
        wu, wv = ground.across(self.cos, self.sin), ground.across(-self.sin, self.cos)
        fade = amplitude(2 * self.wide, ground.long)
        mixed = self._cell(u, v)[2]
        garden = self.garden + (self.yard - self.garden) * (unit(mixed, 3) ** 2 * fade)[:, None]
        crowns = ground.moved(3.0)
        bush = self.trees.seen(crowns.x, crowns.y, ground.long)
        leaves = above(bush, 1.05 - fade, self.leafy)
        garden += (self.tree * (1 + np.float32(0.3) * (bush - self.leafy))[:, None] - garden) * leaves[
            :, None
        ]
        shadow = self._inside(u + np.float32(self.cast[0]), v + np.float32(self.cast[1]), wu, wv)[0]
        garden *= (1 - np.float32(0.45) * shadow)[:, None]
        lanes = pulses(u, wu, period=4 * self.wide, on=_STREET, start=-_STREET / 2)
        lanes = np.maximum(lanes, pulses(v, wv, period=2 * self.deep, on=_STREET, start=-_STREET / 2))
        seen = garden + (self.street - garden) * lanes[:, None]
        for height in (0.0, 0.5 * self.height):
            wall, tone = self._raised(ground, height, wu, wv)
            seen += (tone * np.float32(0.75) - seen) * wall[:, None]
        roof, tone = self._raised(ground, self.height, wu, wv)
        return np.asarray(seen + (tone - seen) * roof[:, None], np.float32)

    def _raised(self, ground: Ground, height: float, wu: Array, wv: Array) -> tuple[Array, Array]:
        """Share and colour of buildings where the lines of sight cross a height: roof at the top, else wall."""
        u, v = self._grid(ground.moved(height))
        share, mixed, side = self._inside(u, v, wu, wv)
        kind = (unit(mixed, 0) * len(self.roofs)).astype(np.int32)
        fade = amplitude(2 * self.wide, ground.long)[:, None]
        tone = self.roofs.mean(0) + (self.roofs[kind] - self.roofs.mean(0)) * fade
        if height < self.height:
            wall = np.float32(0.55) - np.float32(0.2) * np.float32(self.sun[1]) * np.sign(ground.hy)
            return share, np.asarray(0.35 * tone + 0.65 * wall[:, None], np.float32)
        lit = 1 + np.float32(0.16 * self.sun[1]) * side
        return share, np.asarray(tone * lit[:, None], np.float32)

    def _cell(self, u: Array, v: Array) -> tuple[Array, Array, NDArray[np.uint32]]:
        """Place inside the lot, metres from its middle, and the lot's dice."""
        long, tall = u / np.float32(self.wide), v / np.float32(self.deep)
        col, row = np.floor(long), np.floor(tall)
        mixed = dice(row.astype(np.int32), col.astype(np.int32), self.seed)
        return (
            (long - col - np.float32(0.5)) * np.float32(self.wide),
            (tall - row - np.float32(0.5)) * np.float32(self.deep),
            mixed,
        )

    def _inside(self, u: Array, v: Array, wu: Array, wv: Array) -> tuple[Array, NDArray[np.uint32], Array]:
        """Share of a building's rectangle, the lot's dice and the side of its ridge."""
        du, dv, mixed = self._cell(u, v)
        half = np.float32(self.wide) * (np.float32(0.16) + np.float32(0.12) * unit(mixed, 1))
        tall = np.float32(self.deep) * (np.float32(0.12) + np.float32(0.12) * unit(mixed, 2))
        share = cover(du, -half, half, np.minimum(wu, self.wide))
        share *= cover(dv, -tall, tall, np.minimum(wv, self.deep))
        share *= unit(mixed, 3) < np.float32(self.built)
        return share, mixed, np.sign(dv)
