"""Drawn street scenes: a segmentation set that needs no download, the same on every machine for a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..core.errors import InputError, explain
from .dataset import Color, Pixels, SegmentationDataset
from .painting import BUILDING, CAR, PAVEMENT, PERSON, POLE, ROAD, SKY, TREE, Canvas, Street, finish

CLASSES = ("sky", "building", "road", "pavement", "tree", "car", "person", "pole")
PALETTE = (
    (126, 178, 221),
    (130, 72, 58),
    (116, 92, 140),
    (222, 170, 120),
    (84, 150, 60),
    (30, 60, 160),
    (220, 40, 70),
    (240, 220, 90),
)
_SMALLEST = 16


class SceneDataset(SegmentationDataset):
    """Street scenes drawn on request; build it with `scenes`."""

    def __init__(
        self, count: int, *, size: tuple[int, int], seed: int, split: str = "train", cache: bool = False
    ) -> None:
        ids = [f"scene-{seed}-{k:05d}" for k in range(count)]
        super().__init__("scenes", split, ids=ids, classes=CLASSES, palette=PALETTE, size=size, cache=cache)
        self.seed = seed
        self._drawn = size

    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        return draw(np.random.default_rng((self.seed, index)), self._drawn)


def scenes(
    n: int = 256,
    size: tuple[int, int] = (128, 192),
    *,
    seed: int = 0,
    split: str = "train",
    cache: bool = False,
) -> SceneDataset:
    """Return `n` drawn street scenes with 8 classes: sky, building, road, pavement, tree, car, person, pole.

    Args:
        n: Number of images.
        size: (h, w), at least 16 x 16.
        seed: Two seeds give two different sets; image k depends on (seed, k) alone.
        split: The name that the set carries.
        cache: Keep the drawn images in memory.

    Returns:
        The data set.

    Raises:
        InputError: `n`, `size` or `seed` cannot be used.

    Example:
        >>> image, target = scenes(4, (64, 96), seed=3)[0]
        >>> image.shape, target.shape
        (torch.Size([3, 64, 96]), torch.Size([64, 96]))
    """
    if n < 1 or seed < 0 or min(size) < _SMALLEST:
        raise InputError(
            explain(
                "such scenes cannot be drawn",
                received=f"n={n}, size={size}, seed={seed}",
                expected=f"n >= 1, seed >= 0, size at least {_SMALLEST} x {_SMALLEST}",
            )
        )
    return SceneDataset(n, size=size, seed=seed, split=split, cache=cache)


def draw(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Draw one scene: (H, W, 3) image and (H, W) labels."""
    canvas = Canvas(size)
    street = Street(rng, canvas)
    _background(rng, canvas, street)
    for thing in sorted(_things(rng, street), key=lambda t: t.depth):  # far things first
        thing.paint(rng, canvas, street, thing.side, thing.depth)
    return finish(rng, canvas, street)


class _Thing(NamedTuple):
    """Something on the ground: how to paint it, its lateral place, its depth (0 horizon, 1 viewer)."""

    paint: Callable[[np.random.Generator, Canvas, Street, float, float], None]
    side: float
    depth: float


def _things(rng: np.random.Generator, street: Street) -> list[_Thing]:
    """Choose what stands in the street."""

    def depths(most: int, low: float, high: float) -> list[float]:
        return [float(d) for d in rng.uniform(low, high, rng.integers(0, most + 1))]

    def edge() -> float:
        return float(rng.choice([-1.0, 1.0]))

    walk = street.walk
    things = [_Thing(_tree, edge() * rng.uniform(walk * 0.9, walk * 1.02), d) for d in depths(5, 0.12, 0.75)]
    things += [_Thing(_pole, s * 1.12, d) for s in (-1.0, 1.0) for d in depths(3, 0.12, 0.9)]
    things += [_Thing(_person, edge() * rng.uniform(1.15, walk * 0.9), d) for d in depths(6, 0.2, 0.85)]
    things += [_Thing(_person, rng.uniform(-0.9, 0.9), d) for d in depths(1, 0.2, 0.5)]
    things += [_Thing(_car, lane * 0.5, d) for lane in (-1.0, 1.0) for d in depths(2, 0.1, 0.8)]
    things += [_Thing(_car, s * 0.86, d) for s in (-1.0, 1.0) for d in depths(2, 0.15, 0.7)]
    return things


def _color(rng: np.random.Generator, low: float, high: float, saturation: float = 0.2) -> Color:
    base = rng.uniform(low, high)
    red, green, blue = np.clip(base * (1 + saturation * rng.uniform(-1, 1, 3)), 0, 255)
    return int(red), int(green), int(blue)


def _shade(color: Color, factor: float) -> Color:
    red, green, blue = (min(255, int(v * factor)) for v in color)
    return red, green, blue


def _background(rng: np.random.Generator, canvas: Canvas, street: Street) -> None:
    """Paint sky, ground, the two rows of facades, road and pavement."""
    h, w = canvas.height, canvas.width
    horizon = street.horizon
    canvas.gradient(0, horizon + 1, _shade(street.sky, 0.72), street.sky, SKY)
    for _ in range(rng.integers(0, 6)):
        x, y, r = rng.uniform(0, w), rng.uniform(0, horizon * 0.7), rng.uniform(0.03, 0.1) * w
        canvas.ellipse(x - 2 * r, y - r * 0.4, x + 2 * r, y + r * 0.4, _shade(street.sky, 1.12), SKY)
    x = -0.1 * w
    while x < w:  # the skyline behind the street
        width, height = rng.uniform(0.04, 0.14) * w, rng.uniform(0.02, 0.16) * h
        color, label = (_color(rng, 90, 170), BUILDING) if rng.random() < 0.7 else (_color(rng, 50, 90), TREE)
        canvas.box(x, horizon - height, x + width, horizon + 2, color, label)
        x += width
    canvas.box(0, horizon, w, h, _color(rng, 120, 165, 0.05), PAVEMENT)
    for side in (-1.0, 1.0):
        _facades(rng, canvas, street, side)
    grey = _color(rng, 60, 105, 0.06)
    canvas.polygon([street.at(x, d) for x, d in ((-1, 0), (1, 0), (1, 1.3), (-1, 1.3))], grey, ROAD)
    _markings(rng, canvas, street, grey)


def _markings(rng: np.random.Generator, canvas: Canvas, street: Street, grey: Color) -> None:
    paint = _shade(grey, rng.uniform(1.7, 2.3))
    for x in (-0.94, 0.92):
        canvas.polygon(
            [street.at(a, d) for a, d in ((x, 0.05), (x + 0.02, 0.05), (x + 0.02, 1.3), (x, 1.3))],
            paint,
            ROAD,
        )
    far = 3.0 * rng.random() + 1.0
    for z in np.arange(far, 30, 2.0):  # dashes of equal length on the ground shrink as 1 / distance
        near_end, far_end = 2.0 / z, 2.0 / (z + 0.8)
        corners = ((-0.015, near_end), (0.015, near_end), (0.015, far_end), (-0.015, far_end))
        canvas.polygon([street.at(x, d) for x, d in corners], paint, ROAD)


def _facades(rng: np.random.Generator, canvas: Canvas, street: Street, side: float) -> None:
    """Paint a row of houses along one side, from far to near."""
    far = 0.04
    while far < 1.2:
        near = far * rng.uniform(1.3, 1.9)
        if rng.random() < 0.86:
            _facade(rng, canvas, street, (side * street.walk, far, near), rng.uniform(0.7, 2.6))
        far = near


def _facade(
    rng: np.random.Generator, canvas: Canvas, street: Street, place: tuple[float, float, float], height: float
) -> None:
    line, far, near = place
    color = _color(rng, 80, 200, 0.35)

    def corner(u: float, v: float) -> tuple[float, float]:
        # u runs along the wall in ground distance (1 / depth is linear there), v from ground to roof.
        depth = 1.0 / ((1 - u) / far + u / near)
        x, y = street.at(line, depth)
        return x, y - v * height * depth * street.unit

    canvas.polygon([corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)], color, BUILDING)
    rows, columns = max(2, int(height * 2.4)), max(2, int((1 / far - 1 / near) * 1.6))
    columns = min(columns, 9)
    glass = _shade(color, rng.uniform(0.35, 0.6)) if rng.random() < 0.7 else _shade(street.sky, 0.7)
    for row in range(rows):
        for column in range(columns):
            u, v = (column + 0.25) / columns, (row + 0.3) / rows
            du, dv = 0.5 / columns, 0.45 / rows
            pane = glass if rng.random() < 0.9 else (235, 220, 160)
            canvas.polygon(
                [corner(u, v), corner(u + du, v), corner(u + du, v + dv), corner(u, v + dv)], pane, BUILDING
            )


def _tree(rng: np.random.Generator, canvas: Canvas, street: Street, side: float, depth: float) -> None:
    x, y = street.at(side, depth)
    s = depth * street.unit * rng.uniform(0.8, 1.4)
    canvas.box(x - 0.035 * s, y - 0.5 * s, x + 0.035 * s, y, _color(rng, 50, 80, 0.3), TREE)
    green: Color = (int(rng.uniform(30, 95)), int(rng.uniform(80, 135)), int(rng.uniform(20, 60)))
    for _ in range(14):
        dx, dy, r = rng.normal(0, 0.17) * s, rng.normal(-0.78, 0.15) * s, rng.uniform(0.09, 0.2) * s
        canvas.ellipse(
            x + dx - r, y + dy - r, x + dx + r, y + dy + r, _shade(green, rng.uniform(0.7, 1.25)), TREE
        )


def _pole(rng: np.random.Generator, canvas: Canvas, street: Street, side: float, depth: float) -> None:
    x, y = street.at(side, depth)
    s = depth * street.unit
    half, top = max(0.9, 0.022 * s), y - rng.uniform(0.9, 1.4) * s
    color = _color(rng, 50, 130, 0.1)
    canvas.box(x - half, top, x + half, y, color, POLE)
    if rng.random() < 0.5:
        reach = -np.sign(side) * 0.28 * s
        canvas.box(min(x, x + reach), top, max(x, x + reach), top + 1.6 * half, color, POLE)
    else:
        sign = _color(rng, 120, 220, 0.8)
        canvas.ellipse(x - 0.09 * s, top, x + 0.09 * s, top + 0.18 * s, sign, POLE)


def _person(rng: np.random.Generator, canvas: Canvas, street: Street, side: float, depth: float) -> None:
    x, y = street.at(side, depth)
    s = depth * street.unit * 0.46 * rng.uniform(0.85, 1.1)
    coat, legs, skin = _color(rng, 40, 210, 0.6), _color(rng, 30, 90, 0.3), _color(rng, 110, 220, 0.12)
    step = rng.uniform(0.02, 0.13) * s
    for foot in (-step, step):
        hip = [(x - 0.07 * s, y - 0.5 * s), (x + 0.07 * s, y - 0.5 * s)]
        canvas.polygon([*hip, (x + foot + 0.045 * s, y), (x + foot - 0.045 * s, y)], legs, PERSON)
    canvas.ellipse(x - 0.14 * s, y - 0.86 * s, x + 0.14 * s, y - 0.4 * s, coat, PERSON)
    canvas.ellipse(x - 0.075 * s, y - 1.0 * s, x + 0.075 * s, y - 0.82 * s, skin, PERSON)


def _car(rng: np.random.Generator, canvas: Canvas, street: Street, side: float, depth: float) -> None:
    x, y = street.at(side, depth)
    s = depth * street.unit * rng.uniform(0.42, 0.5)
    paint = _color(rng, 40, 220, 0.7 if rng.random() < 0.6 else 0.05)
    w, h = 0.5 * s, 0.36 * s
    canvas.ellipse(x - 1.05 * w, y - 0.1 * s, x + 1.05 * w, y + 0.05 * s, (28, 28, 30), ROAD)  # its shadow
    for wheel in (-0.78, 0.6):
        canvas.box(x + wheel * w, y - 0.14 * s, x + (wheel + 0.18) * w, y, (20, 20, 22), CAR)
    canvas.box(x - w, y - h, x + w, y - 0.07 * s, paint, CAR)
    roof = [
        (x - 0.86 * w, y - h),
        (x - 0.62 * w, y - 0.68 * s),
        (x + 0.62 * w, y - 0.68 * s),
        (x + 0.86 * w, y - h),
    ]
    canvas.polygon(roof, _shade(paint, 0.85), CAR)
    pane = [
        (x - 0.7 * w, y - h),
        (x - 0.52 * w, y - 0.63 * s),
        (x + 0.52 * w, y - 0.63 * s),
        (x + 0.7 * w, y - h),
    ]
    canvas.polygon(pane, (60, 75, 90), CAR)
    lamp = (200, 30, 30) if side > 0 else (245, 240, 200)
    for left in (-0.95, 0.7):
        canvas.box(x + left * w, y - 0.3 * s, x + (left + 0.25) * w, y - 0.22 * s, lamp, CAR)
