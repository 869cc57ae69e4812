"""The natural ground of one scene: fields, trees, houses, roads, water and the grass of the aerodrome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .aerodrome import Aerodrome
from .fields import Fields
from .ground import Ground
from .noise import Octave
from .palette import palette
from .relief import Relief
from .roads import Roads
from .sampling import Array
from .sky import Sky
from .towns import Towns
from .trees import Trees
from .water import Water
from .woods import Woods

if TYPE_CHECKING:
    from .scene import Scene


class Land:
    """The land cover of one scene; everything random is drawn here, once.

    Args:
        scene: Biome, runway, sun and random streams.
    """

    def __init__(self, scene: Scene) -> None:
        colours = palette(scene.biome)
        angle = np.radians(scene.light.azimuth)
        toward = np.array([np.sin(angle), np.cos(angle)], np.float32)
        shade = float(min(1 / np.tan(np.radians(max(scene.light.elevation, 5.0))), 6.0))
        self.aerodrome = Aerodrome(scene, colours, scene.rng("aerodrome"))
        self.fields = Fields(colours, scene.rng("fields"), toward, shade)
        self.woods = Woods(colours, scene.rng("woods"), toward, shade)
        self.trees = Trees(colours, scene.rng("trees"), toward, shade)
        self.towns = Towns(colours, scene.rng("towns"), toward, shade)
        self.roads = Roads(colours, scene.rng("roads"))
        self.water = Water(colours, scene.rng("water"), scene.light, Sky(scene))
        self.relief = Relief(scene.rng("relief"), toward, shade)
        rng = scene.rng("texture")
        self.texture = [Octave.drawn(size, rng) for size in (700.0, 90.0, 19.0, 5.3, 1.7)]

    def colour(self, x: Array, y: Array, iso: Array, sharp: Array, view: Array) -> Array:
        """Return the albedo (N, 3) of the ground.

        Args:
            x: Metres to the right of the centreline (N,).
            y: Metres beyond the threshold (N,).
            iso: Footprints for noise (N,), metres.
            sharp: Footprints for sharp patterns (N,), metres.
            view: Unit rays from the camera (N, 3), for what depends on the line of sight.

        Guarantee:
            Finite, in [0, 1], and for each point a function of its own row alone: the same points in another
            order or number have the same colours.

        Raises:
            InputError: the arrays do not fit together or hold NaN or infinities.
        """
        ground = Ground.seen(x, y, iso, sharp, view)
        distance = self.aerodrome.distance(ground)
        colour = self.fields.colour(ground)
        for layer in (self.roads, self.trees, self.woods, self.towns):
            layer.paint(colour, ground, distance)
        self.water.paint(colour, ground, distance, view)
        self.aerodrome.paint(colour, ground, distance)
        gain = self.relief.gain(ground, distance)
        for strength, octave in zip((0.06, 0.05, 0.04, 0.035, 0.035), self.texture, strict=True):
            gain += np.float32(strength) * octave.seen(ground.x, ground.y, ground.iso)
        return np.asarray(np.clip(colour * gain[:, None], 0, 1), np.float32)
