"""Terminal and hangars beside the apron: boxes with walls, roofs and shadows, traced exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import Points
from .sampling import Array
from .scene import Scene
from .taxiways import Taxiways

_LOWEST_SUN = 8.0  # degrees: longer shadows would leave the aerodrome
_SHADOW = 0.5  # of the light is taken by a shadow


@dataclass(frozen=True)
class Box:
    """A building: two opposite corners in metres, and the albedos (3,) of walls and roof."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    wall: Array
    roof: Array


class Buildings:
    """The buildings of one scene.

    Args:
        scene: Sun, runway and the random stream.
        taxiways: The apron that the buildings stand behind.
    """

    def __init__(self, scene: Scene, taxiways: Taxiways) -> None:
        rng = scene.rng("buildings")
        apron, side, front = taxiways.apron, taxiways.side, taxiways.edge + 4
        elevation = math.radians(max(scene.light.elevation, _LOWEST_SUN))
        azimuth = math.radians(scene.light.azimuth)
        self.sun = np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.cos(azimuth) * math.cos(elevation),
                math.sin(elevation),
            ]
        )
        start, stop = apron.y - apron.length / 2, apron.y + apron.length / 2
        self.boxes: list[Box] = []
        y = start + float(rng.uniform(0, 20))
        while y < stop - 30 and len(self.boxes) < 6:
            terminal = not self.boxes and rng.random() < 0.6
            long = float(rng.uniform(80, 200) if terminal else rng.uniform(25, 60))
            deep = float(rng.uniform(22, 45) if terminal else rng.uniform(25, 50))
            tall = float(rng.uniform(9, 18) if terminal else rng.uniform(6, 13))
            long = min(long, stop - y)
            ends = sorted((side * front, side * (front + deep)))
            grey = float(rng.uniform(0.3, 0.75))
            tint = np.asarray(rng.uniform(0.9, 1.08, 3), np.float32)
            wall = np.asarray(np.clip(grey * tint, 0, 1), np.float32)
            roof = np.asarray(np.clip(rng.uniform(0.25, 0.8) * tint, 0, 1), np.float32)
            self.boxes.append(Box((ends[0], y, 0.0), (ends[1], y + long, tall), wall, roof))
            y += long + float(rng.uniform(15, 90))

    def extent(self, box: Box) -> Points:
        """Return the corners (12, 3) of a building and of its shadow."""
        ground = np.array([(x, y, 0.0) for x in (box.low[0], box.high[0]) for y in (box.low[1], box.high[1])])
        lift = np.array([0.0, 0.0, box.high[2]])
        shadow = ground + lift - self.sun * (box.high[2] / self.sun[2])
        return np.concatenate([ground, ground + lift, shadow])

    def trace(self, position: Points, rays: Points) -> tuple[Array, Array, Array]:
        """Follow rays (N, 3) from the camera.

        Returns:
            Albedo times light (N, 3), cover (N,) 0, 1 or, black, that of a shadow; and the distance (N,) in metres,
            0 where nothing was met.
        """
        colour = np.zeros((len(rays), 3), np.float32)
        cover, distance = np.zeros(len(rays), np.float32), np.full(len(rays), np.inf)
        below = np.flatnonzero(rays[:, 2] < -1e-4)
        reach = -position[2] / rays[below, 2]
        points = position + reach[:, None] * rays[below]
        for box in self.boxes:
            shadow = below[_meet(box, points, np.broadcast_to(self.sun, points.shape))[0]]
            cover[shadow] = np.maximum(cover[shadow], _SHADOW)
        distance[below] = np.where(cover[below] > 0, reach, np.inf)
        for box in self.boxes:
            hit, entry, axis = _meet(box, np.broadcast_to(position, rays.shape), rays)
            where = np.flatnonzero(hit)
            nearer = (entry[where] < distance[where]) | (cover[where] < 1)
            where = where[nearer]
            distance[where], cover[where] = entry[where], 1.0
            colour[where] = self._face(box, axis[where], rays[where])
        return colour, cover, np.where(np.isfinite(distance), distance, 0).astype(np.float32)

    def _face(self, box: Box, axis: NDArray[np.intp], rays: Points) -> Array:
        """Return albedo times light, relative to flat ground in the sun, of the faces met along `axis`."""
        toward = -np.sign(rays[np.arange(len(rays)), axis])  # the outward normal of the face
        facing = np.clip(toward * self.sun[axis], 0, None) / max(self.sun[2], 0.35)
        light = np.where(axis == 2, 1.0, 0.42 + 0.55 * np.minimum(facing, 1.4))
        albedo = np.where((axis == 2)[:, None], box.roof, box.wall)
        return np.asarray(albedo * light[:, None], np.float32)


def _meet(box: Box, origin: Points, rays: Points) -> tuple[NDArray[np.bool_], Points, NDArray[np.intp]]:
    """Intersect rays with a box by slabs: which meet it, at what distance, and the axis of the face."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (np.array(box.low) - origin) / rays, (np.array(box.high) - origin) / rays
    near, far = np.fmin(one, two), np.fmax(one, two)
    axis = near.argmax(1)
    entry, leave = near.max(1), far.min(1)
    return (entry <= leave) & (leave > 1e-6), entry, axis
