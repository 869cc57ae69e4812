"""Colours of the six biomes, as albedo in [0, 1] before light, haze and sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.errors import InputError, explain
from .sampling import Array

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """What one biome looks like: colours, and how often each kind of land cover appears.

    Attributes:
        plots: Six colours of fields.
        grass: Aerodrome grass.
        earth: Tracks, bare ground and hedgeless borders.
        hedge: Lines between plots.
        forest: Crowns of trees in the sun.
        water: Deep water.
        beach: Rim of water.
        roofs: Four colours of roofs.
        woods: Range of the share covered by forest.
        towns: Range of the share covered by towns.
        sea: Range of the share covered by water.
        hedges: Range of the share of borders with a hedge.
        order: Range of how much the plots differ, 0 (open land) to 1.
    """

    plots: tuple[Color, ...]
    grass: Color
    earth: Color
    hedge: Color
    forest: Color
    water: Color
    beach: Color
    roofs: tuple[Color, ...]
    woods: tuple[float, float]
    towns: tuple[float, float]
    sea: tuple[float, float]
    hedges: tuple[float, float]
    order: tuple[float, float] = (0.6, 1.0)


_TILES = ((0.50, 0.31, 0.23), (0.43, 0.35, 0.31), (0.36, 0.36, 0.38), (0.60, 0.57, 0.53))
_PALE = ((0.65, 0.58, 0.49), (0.57, 0.46, 0.37), (0.73, 0.68, 0.61), (0.49, 0.42, 0.37))

PALETTES = {
    "temperate": Palette(
        plots=(
            (0.26, 0.32, 0.18),
            (0.33, 0.37, 0.22),
            (0.21, 0.28, 0.15),
            (0.49, 0.46, 0.29),
            (0.39, 0.33, 0.23),
            (0.31, 0.39, 0.22),
        ),
        grass=(0.30, 0.36, 0.21),
        earth=(0.44, 0.39, 0.30),
        hedge=(0.14, 0.19, 0.11),
        forest=(0.16, 0.22, 0.12),
        water=(0.11, 0.16, 0.18),
        beach=(0.42, 0.38, 0.29),
        roofs=_TILES,
        woods=(0.05, 0.35),
        towns=(0.0, 0.12),
        sea=(0.0, 0.08),
        hedges=(0.3, 0.9),
    ),
    "dry": Palette(
        plots=(
            (0.51, 0.44, 0.28),
            (0.45, 0.38, 0.25),
            (0.59, 0.52, 0.36),
            (0.36, 0.34, 0.20),
            (0.40, 0.31, 0.22),
            (0.54, 0.43, 0.30),
        ),
        grass=(0.45, 0.42, 0.26),
        earth=(0.57, 0.47, 0.35),
        hedge=(0.24, 0.24, 0.16),
        forest=(0.20, 0.22, 0.14),
        water=(0.12, 0.18, 0.21),
        beach=(0.57, 0.50, 0.37),
        roofs=_PALE,
        woods=(0.0, 0.2),
        towns=(0.0, 0.1),
        sea=(0.0, 0.05),
        hedges=(0.1, 0.6),
    ),
    "desert": Palette(
        plots=(
            (0.61, 0.49, 0.36),
            (0.57, 0.45, 0.33),
            (0.65, 0.53, 0.40),
            (0.53, 0.40, 0.29),
            (0.59, 0.50, 0.38),
            (0.49, 0.38, 0.29),
        ),
        grass=(0.57, 0.48, 0.35),
        earth=(0.65, 0.55, 0.43),
        hedge=(0.39, 0.33, 0.23),
        forest=(0.33, 0.30, 0.20),
        water=(0.14, 0.23, 0.24),
        beach=(0.67, 0.60, 0.47),
        roofs=_PALE,
        woods=(0.0, 0.06),
        towns=(0.0, 0.08),
        sea=(0.0, 0.02),
        hedges=(0.0, 0.06),
        order=(0.05, 0.6),
    ),
    "coast": Palette(
        plots=(
            (0.31, 0.36, 0.22),
            (0.38, 0.39, 0.26),
            (0.25, 0.30, 0.18),
            (0.51, 0.47, 0.32),
            (0.42, 0.36, 0.26),
            (0.35, 0.40, 0.25),
        ),
        grass=(0.35, 0.40, 0.24),
        earth=(0.53, 0.47, 0.36),
        hedge=(0.17, 0.21, 0.13),
        forest=(0.17, 0.23, 0.14),
        water=(0.09, 0.18, 0.23),
        beach=(0.67, 0.60, 0.47),
        roofs=_TILES,
        woods=(0.02, 0.2),
        towns=(0.02, 0.15),
        sea=(0.25, 0.5),
        hedges=(0.1, 0.7),
    ),
    "urban": Palette(
        plots=(
            (0.31, 0.35, 0.23),
            (0.40, 0.39, 0.31),
            (0.45, 0.42, 0.37),
            (0.27, 0.31, 0.20),
            (0.48, 0.45, 0.39),
            (0.34, 0.35, 0.27),
        ),
        grass=(0.33, 0.38, 0.24),
        earth=(0.48, 0.45, 0.40),
        hedge=(0.18, 0.21, 0.14),
        forest=(0.18, 0.23, 0.14),
        water=(0.11, 0.16, 0.18),
        beach=(0.44, 0.41, 0.35),
        roofs=_TILES,
        woods=(0.02, 0.15),
        towns=(0.35, 0.7),
        sea=(0.0, 0.1),
        hedges=(0.2, 0.8),
    ),
    "winter-brown": Palette(
        plots=(
            (0.38, 0.33, 0.25),
            (0.43, 0.39, 0.29),
            (0.33, 0.28, 0.22),
            (0.34, 0.34, 0.24),
            (0.48, 0.44, 0.35),
            (0.30, 0.27, 0.22),
        ),
        grass=(0.40, 0.38, 0.25),
        earth=(0.45, 0.40, 0.33),
        hedge=(0.23, 0.20, 0.16),
        forest=(0.25, 0.21, 0.17),
        water=(0.13, 0.16, 0.17),
        beach=(0.45, 0.41, 0.35),
        roofs=_TILES,
        woods=(0.05, 0.35),
        towns=(0.0, 0.12),
        sea=(0.0, 0.08),
        hedges=(0.3, 0.9),
    ),
}


def palette(biome: str) -> Palette:
    """Return the palette of a biome.

    Raises:
        InputError: there is no such biome.

    Example:
        >>> palette("desert").grass
        (0.57, 0.48, 0.35)
    """
    if biome not in PALETTES:
        raise InputError(
            explain(
                "there is no such biome",
                received=repr(biome),
                expected=f"one of {', '.join(PALETTES)}",
                fix="choose one of these names",
            )
        )
    return PALETTES[biome]


def vary(color: Color | Array, rng: np.random.Generator, *, spread: float = 0.05) -> Array:
    """Return the colour with its brightness and its hue moved by a few per cent."""
    gain = 1 + spread * rng.normal() + 0.5 * spread * rng.normal(size=3)
    return np.clip(np.asarray(color) * gain, 0, 1).astype(np.float32)
