"""Roads: three families of nearly parallel bent lines, paved or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ground import Ground
from .noise import Octave, dice, unit
from .palette import Palette, vary
from .sampling import Array, cover


@dataclass(frozen=True)
class _Family:
    """Lines k * spacing along (nx, ny), bent by noise."""

    nx: float
    ny: float
    spacing: float
    offset: float
    bend: float
    wave: Octave
    half: float
    chance: float
    colour: Array
    seed: int


class Roads:
    """The roads of one scene.

    Args:
        colours: The biome.
        rng: Where everything is drawn from.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator) -> None:
        self.families = [self._family(colours, rng, k) for k in range(3)]

    def _family(self, colours: Palette, rng: np.random.Generator, rank: int) -> _Family:
        angle = float(rng.uniform(0, np.pi))
        paved = rank < 2 and rng.random() < 0.75
        grey = np.full(3, rng.uniform(0.36, 0.52)) * np.array([1.0, 0.985, 0.95])
        return _Family(
            nx=float(np.cos(angle)),
            ny=float(np.sin(angle)),
            spacing=float(rng.uniform(900, 2800)),
            offset=float(rng.uniform(0, 1e4)),
            bend=float(rng.uniform(10, 130)),
            wave=Octave.drawn(float(rng.uniform(700, 1900)), rng),
            half=float((7.0, 4.5, 3.0)[rank] * rng.uniform(0.8, 1.3)),
            chance=float(rng.uniform(0.4, 0.9)),
            colour=vary(tuple(grey) if paved else colours.earth, rng),
            seed=int(rng.integers(2**31)),
        )

    def paint(self, colour: Array, ground: Ground, distance: Array) -> None:
        """Blend the roads into `colour`; they end at the aerodrome, `distance` metres away."""
        free = np.clip(distance / np.float32(12), 0, 1)
        for family in self.families:
            place = ground.x * np.float32(family.nx) + ground.y * np.float32(family.ny)
            place += np.float32(family.offset) + np.float32(family.bend) * family.wave.at(ground.x, ground.y)
            line = np.rint(place / np.float32(family.spacing))
            aside = place - line * np.float32(family.spacing)
            width = ground.across(family.nx, family.ny)
            where = np.flatnonzero(np.abs(aside) < family.half + 4 + 0.5 * width)
            if where.size:
                self._lay(colour, family, where, (aside, line, width, free))

    def _lay(self, colour: Array, family: _Family, where: NDArray[np.intp], at: tuple[Array, ...]) -> None:
        """Blend one family in, with verges a little darker than the land."""
        aside, line, width, free = (values[where] for values in at)
        mixed = dice(line.astype(np.int32), np.zeros(line.shape, np.int32), family.seed)
        there = free * (unit(mixed, 0) < np.float32(family.chance))
        part = colour[where]
        verge = cover(aside, -family.half - 4, family.half + 4, width) * there
        part *= (1 - np.float32(0.15) * verge)[:, None]
        share = cover(aside, -family.half, family.half, width) * there
        colour[where] = part + (family.colour - part) * share[:, None]
