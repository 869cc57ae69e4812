"""Sunlight with cloud shadows, and haze."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import InputError, explain
from .ground import FARTHEST
from .noise import Sheet, above, cut_for
from .sampling import Array

if TYPE_CHECKING:
    from .scene import Scene
    from .sky import Sky

_CONTRAST = 3.912  # -ln(0.02): at the visibility a contrast of one is seen as two per cent
_SOFT = 0.2  # of the noise's deviation: how softly a shadow ends


def transmission(distance: Array | float, visibility: float) -> Array:
    r"""Return the share of light that crosses `distance` metres of air: exp(-3.912 distance / visibility).

    Raises:
        InputError: the visibility is not a positive number.

    Example:
        >>> transmission(np.float32([0, 10_000]), 10_000.0).round(3).tolist()
        [1.0, 0.019999999552965164]
    """
    if not 0 < visibility < np.inf:
        raise InputError(
            explain(
                "haze cannot be computed",
                received=f"visibility={visibility}",
                expected="a positive number of metres",
                fix="6000 is hazy, 100000 is clear",
            )
        )
    return np.asarray(np.exp(np.asarray(distance, np.float32) * np.float32(-_CONTRAST / visibility)))


def haze(colour: Array, distance: Array, scene: Scene, sky: Sky) -> Array:
    """Return what is seen of `colour` (N, 3) through `distance` (N,) metres of air: colour T + horizon (1 - T)."""
    passed = transmission(distance, scene.visibility)[:, None]
    return np.asarray(sky.horizon + (colour - sky.horizon) * passed, np.float32)


class Sunlight:
    """The light on flat ground of one scene: tint, exposure and shadows of clouds."""

    def __init__(self, scene: Scene) -> None:
        light = scene.light
        rng = scene.rng("light")
        warmth = float(np.exp(-light.elevation / 18.0))
        strength = 0.80 + 0.20 * max(float(np.sin(np.radians(light.elevation))), 0.0) ** 0.5
        tint = np.array([1 + 0.10 * warmth, 1 - 0.04 * warmth, 1 - 0.24 * warmth])
        self.sun = np.asarray(tint * (light.exposure * strength * 1.12), np.float32)
        self.shadow = np.array([0.50, 0.54, 0.62], np.float32)
        self.covered = light.clouds if light.cloud_shadows else 0.0
        self.area = Sheet((2600.0, 900.0, 300.0), (0.8, 0.55, 0.25), rng)

    def shade(self, albedo: Array, x: Array, y: Array, iso: Array) -> Array:
        """Return the colour (N, 3) of ground of `albedo` (N, 3) at points (N,) with footprints `iso` (N,), metres."""
        lit = albedo * self.sun
        if self.covered > 0:
            dark = self.shadowed(x, y, iso)[:, None]
            lit *= 1 - dark * (1 - self.shadow)
        return np.asarray(np.clip(lit, 0, 1), np.float32)

    def shadowed(self, x: Array, y: Array, iso: Array) -> Array:
        """Return how deep each point lies in the shadow of clouds, in [0, 1]."""
        x, y = (np.clip(a, -FARTHEST, FARTHEST) for a in (x, y))
        level, spread = self.area.level(x, y, iso)
        return above(level, spread + np.float32(_SOFT), cut_for(0.03 + 0.5 * self.covered))
