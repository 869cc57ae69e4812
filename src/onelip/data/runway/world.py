"""What may appear in a set of approach pictures, and the draw of one scene from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.errors import InputError, explain
from .camera import Camera, Points
from .mask import box
from .scene import BIOMES, LETTERS, Light, Pose, Runway, Scene, generator

CONE = (150.0, 5556.0)  # metres: the distances of LARD's approach cone
_WIDTHS = ((30.0, 0.2), (45.0, 0.6), (60.0, 0.2))
_ATTEMPTS = 2000

Range = tuple[float, float]


@dataclass(frozen=True)
class World:
    """The ranges that scenes are drawn from.

    Attributes:
        distance: From the aiming point, metres.
        biomes: Which land.
        visibility: Metres; None: 18 to 110 km in 80 % of the pictures and 6 to 18 km in the others.
        sun: Elevation of the sun, degrees.
        roll: Size of the roll, degrees; from 0: a normal of deviation 5 cut at the end, else uniform.
        negatives: Share of pictures without runway.
        second: Share of pictures with a second, unlabelled runway.
        min_box: Least width and height of the runway's box, pixels.
        sizes: (length, width) of real runways to draw from, metres; empty: drawn from a distribution.
    """

    distance: Range
    biomes: tuple[str, ...]
    visibility: Range | None = None
    sun: Range = (14.0, 70.0)
    roll: Range = (0.0, 10.0)
    negatives: float = 0.0
    second: float = 0.0
    min_box: float = 8.0
    sizes: tuple[Range, ...] = ()


def draw_scene(world: World, seed: int, index: int, size: tuple[int, int]) -> Scene:
    """Draw scene `index` of a set; it depends on these arguments alone.

    Poses are drawn until all four corners of the runway lie more than 1 m before the camera and inside the
    picture, and its box is at least `min_box` pixels wide and high.

    Args:
        world: The ranges.
        seed: Of the set.
        index: Of the picture.
        size: (h, w) of the picture that the poses are made for.

    Raises:
        InputError: no pose fits after 2,000 draws.
    """
    rng = generator(seed, index, "draw-scene")
    biome = str(rng.choice(np.array(world.biomes)))
    visible, with_second = rng.random() >= world.negatives, rng.random() < world.second
    light = _light(world, generator(seed, index, "draw-light"))
    visibility = _visibility(world, generator(seed, index, "draw-visibility"))
    runway_rng, pose_rng = generator(seed, index, "draw-runway"), generator(seed, index, "draw-pose")
    runway = _runway(world, runway_rng)
    second, offset = (
        _second(runway, generator(seed, index, "draw-second")) if with_second else (None, (0.0, 0.0))
    )
    for _ in range(_ATTEMPTS):
        pose = _pose(world, pose_rng)
        camera = Camera(pose, size)
        if not fits(camera, corners(runway), world.min_box):
            continue
        if second is not None and not fits(camera, corners(second, offset), world.min_box):
            second, offset = _second(runway, pose_rng)
            continue
        return Scene(seed, index, biome, runway, bool(visible), second, offset, pose, light, visibility)
    raise InputError(
        explain(
            "no approach shows the runway as asked",
            received=f"distance={world.distance}, min_box={world.min_box}, size={size}, second={world.second}",
            expected="all corners in the picture and a box of min_box pixels within 2000 draws",
            fix="allow a smaller box, nearer cameras or larger pictures",
        )
    )


def corners(runway: Runway, offset: Range = (0.0, 0.0)) -> Points:
    """Return the corners (4, 3) in metres: near left, near right, far right, far left."""
    half, far = runway.width / 2, runway.length
    flat = np.array([[-half, 0.0, 0.0], [half, 0.0, 0.0], [half, far, 0.0], [-half, far, 0.0]])
    return np.asarray(flat + np.array([*offset, 0.0]))


def fits(camera: Camera, points: Points, min_box: float) -> bool:
    """Say whether points lie more than 1 m before the camera, inside the picture, in a box of min_box pixels."""
    pixels, depth = camera.project(points)
    if depth.min() <= 1.0:
        return False
    x1, y1, x2, y2 = box(pixels)
    h, w = camera.size
    return bool(min(x1, y1) >= 0 and x2 <= w and y2 <= h and min(x2 - x1, y2 - y1) >= min_box)


def _runway(world: World, rng: np.random.Generator) -> Runway:
    if world.sizes:
        length, width = world.sizes[rng.integers(len(world.sizes))]
    else:
        length = float(rng.triangular(1200, 3000, 4100))
        widths, shares = zip(*_WIDTHS, strict=True)
        width = float(rng.choice(widths, p=shares))
    low, high = ((0.20, 0.34), (0.34, 0.48), (0.52, 0.68))[rng.choice(3, p=(0.45, 0.30, 0.25))]
    return Runway(
        length=length,
        width=width,
        number=int(rng.integers(1, 37)),
        letter=str(rng.choice(LETTERS, p=(0.6, 0.17, 0.17, 0.06))),
        albedo=float(rng.uniform(low, high)),
        paint=float(rng.uniform(0.72, 0.97)),
        wear=float(rng.uniform(0, 0.45)),
        shoulder=float(rng.uniform(3, 12)),
        blast_pad=float(rng.choice([0.0, 60.0, 150.0])),
        rubber=float(rng.uniform(0.2, 1)),
    )


def _second(runway: Runway, rng: np.random.Generator) -> tuple[Runway, Range]:
    """A parallel runway, far enough aside that pavement and shoulders never touch."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    offset = (side * float(rng.uniform(220, 900)), float(rng.uniform(-300, 600)))
    fields = _runway(World(CONE, BIOMES), rng)
    letter = "R" if side > 0 else "L"
    other = Runway(**{**vars(fields), "number": runway.number, "letter": letter})
    return other, offset


def _pose(world: World, rng: np.random.Generator) -> Pose:
    low, high = world.distance
    distance = float(rng.random()) ** 1.41 * (high - low) + low
    lateral, glide = _normal(rng, 0, 2, -4, 4), _normal(rng, 3, 0.4, 2.2, 3.8)
    yaw, pitch = _normal(rng, 0, 5, -10, 10), _normal(rng, -4, 2, -8, 0)
    least, most = world.roll
    roll = _normal(rng, 0, 5, -most, most)
    if least > 0:
        roll = float(rng.uniform(least, most)) * (1 if roll > 0 else -1)
    return Pose(distance, lateral, glide, yaw, pitch, roll)


def _normal(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> float:
    """Draw from a normal distribution cut at both ends."""
    while True:
        value = float(rng.normal(mean, deviation))
        if low <= value <= high:
            return value


def _light(world: World, rng: np.random.Generator) -> Light:
    clouds = float(rng.uniform(0.2, 0.9)) if rng.random() < 0.55 else 0.0
    return Light(
        elevation=float(rng.uniform(*world.sun)),
        azimuth=float(rng.uniform(0, 360)),
        exposure=float(rng.uniform(0.86, 1.16)),
        clouds=clouds,
        cloud_shadows=bool(clouds > 0 and rng.random() < 0.6),
    )


def _visibility(world: World, rng: np.random.Generator) -> float:
    """Log-uniform in metres."""
    far = rng.random() < 0.8
    low, high = world.visibility or ((18e3, 110e3) if far else (6e3, 18e3))
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
