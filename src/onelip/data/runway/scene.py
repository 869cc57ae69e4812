"""What one approach picture shows, in numbers: runway, pose of the camera, light and visibility."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, explain

AIMING = 300.0  # metres beyond the threshold: the point that the glide path leads to
BIOMES = ("temperate", "dry", "desert", "coast", "urban", "winter-brown")

LETTERS = ("", "L", "R", "C")

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Where the camera is and how it looks, relative to a runway.

    World: x right, y forward along the runway, z up, origin in the middle of the landing threshold.

    Attributes:
        distance: Along the ground, from the aiming point 300 m beyond the threshold, in metres.
        lateral: Angle off the centreline at the aiming point, degrees; positive: the camera is on the left.
        glide: Angle of the glide path at the aiming point, degrees.
        yaw: Heading against the runway, degrees; positive: looks to the right.
        pitch: Degrees; negative: looks down.
        roll: Degrees; positive: right wing down, the horizon turns counter-clockwise.

    Example:
        >>> Pose(distance=1300, lateral=0, glide=3, yaw=0, pitch=0, roll=0).position.round(1).tolist()
        [-0.0, -1000.0, 68.1]
    """

    distance: float
    lateral: float
    glide: float
    yaw: float
    pitch: float
    roll: float

    @property
    def position(self) -> Vector:
        """The camera's place (x, y, z) in metres: (-d sin a, 300 - d cos a, d tan g)."""
        lateral, glide = math.radians(self.lateral), math.radians(self.glide)
        d = self.distance
        return np.array([-d * math.sin(lateral), AIMING - d * math.cos(lateral), d * math.tan(glide)])

    @property
    def axes(self) -> tuple[Vector, Vector, Vector]:
        """The unit vectors forward, right, up of the camera."""
        yaw, pitch, roll = (math.radians(a) for a in (self.yaw, self.pitch, self.roll))
        forward = np.array(
            [math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)]
        )
        level = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
        above = np.cross(level, forward)
        right = math.cos(roll) * level - math.sin(roll) * above
        return forward, right, math.sin(roll) * level + math.cos(roll) * above


@dataclass(frozen=True)
class Runway:
    """A runway: the rectangle |x| <= width / 2, 0 <= y <= length on the ground, and how it is painted.

    Attributes:
        length: Metres between the thresholds.
        width: Metres.
        number: The designation at the near end, 1 to 36.
        letter: "", "L", "R" or "C".
        albedo: Reflectance of the pavement.
        paint: Reflectance of the markings.
        wear: Share of the paint that is gone, 0 to 1.
        shoulder: Width of the shoulders, metres.
        blast_pad: Length of the pavement before each threshold, metres.
        rubber: Strength of the tyre deposits, 0 to 1.

    Raises:
        InputError: no such runway can exist.
    """

    length: float
    width: float
    number: int
    letter: str
    albedo: float
    paint: float
    wear: float
    shoulder: float
    blast_pad: float
    rubber: float

    def __post_init__(self) -> None:
        """Check what a label or a digit is made from."""
        sides = 0 < self.width < self.length < math.inf
        if not sides or self.number not in range(1, 37) or self.letter not in LETTERS:
            raise InputError(
                explain(
                    "no such runway can exist",
                    received=f"{self.length} m x {self.width} m, {self.number}{self.letter}",
                    expected="0 < width < length in metres, a number from 1 to 36, a letter of L, R, C or none",
                )
            )


@dataclass(frozen=True)
class Light:
    """Sun and clouds.

    Attributes:
        elevation: Of the sun, degrees.
        azimuth: Of the sun, degrees from +y toward +x.
        exposure: Factor on all brightness.
        clouds: Cover, 0 none to 1.
        cloud_shadows: Whether the clouds darken the ground.
    """

    elevation: float
    azimuth: float
    exposure: float
    clouds: float
    cloud_shadows: bool


@dataclass(frozen=True)
class Scene:
    """Everything that one picture is rendered from.

    Attributes:
        seed: Seed of the set.
        index: Number of the picture in the set.
        biome: One of `BIOMES`.
        runway: The labelled runway.
        visible: False: a negative; runway, taxiways and apron are not there and the mask is empty.
        second: A parallel runway that carries no label, or None.
        second_offset: (x, y) of its threshold, metres.
        pose: The camera.
        light: Sun and clouds.
        visibility: Meteorological range in metres: the contrast 1/50 is left at this distance.
    """

    seed: int
    index: int
    biome: str
    runway: Runway
    visible: bool
    second: Runway | None
    second_offset: tuple[float, float]
    pose: Pose
    light: Light
    visibility: float

    def rng(self, stream: str) -> np.random.Generator:
        """Return the generator of one part; another draw in one part never changes another part."""
        return generator(self.seed, self.index, stream)


def generator(seed: int, index: int, stream: str) -> np.random.Generator:
    """Return the generator that belongs to a seed, an index and a name."""
    return np.random.default_rng((seed, index, zlib.crc32(stream.encode())))
