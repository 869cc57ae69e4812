"""Drawn approach pictures as a segmentation set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.checks import number
from ...core.errors import InputError, explain
from ..dataset import Pixels, SegmentationDataset
from .database import read_database
from .mask import box
from .render import Rendered, label, outline, render
from .scene import BIOMES, Pose, Scene
from .world import CONE, Range, World, draw_scene

CLASSES = ("background", "runway")
PALETTE = ((92, 110, 84), (236, 64, 52))
HELD_OUT = "coast"  # the biome that train, val and test never show
SPLITS = {
    "train": 2000,
    "val": 200,
    "test": 300,
    "far": 300,
    "haze": 300,
    "low-sun": 300,
    "roll": 300,
    "biome": 300,
}
_SMALLEST = 32
_NEAREST_REACH = 700.0  # metres: from nearer, a runway hardly fits into a picture


class RunwayDataset(SegmentationDataset):
    """Approach pictures rendered on request; build it with `runways`.

    Attributes:
        world: The ranges that the scenes are drawn from.
        seed: The seed that was given.
    """

    def __init__(
        self, count: int, *, size: tuple[int, int], seed: int, split: str, world: World, cache: bool = False
    ) -> None:
        ids = [f"runway-{split}-{seed}-{k:06d}" for k in range(count)]
        super().__init__("runways", split, ids=ids, classes=CLASSES, palette=PALETTE, size=size, cache=cache)
        self.world, self.seed = world, seed
        self._drawn = size
        # Blocks of seeds: no two splits share a picture, whatever the seeds.
        self._block = seed * len(SPLITS) + list(SPLITS).index(split)

    def scene(self, index: int) -> Scene:
        """Return what image `index` shows."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} images of {self.name} {self.split}")
        return draw_scene(self.world, self._block, index % len(self), self._drawn)

    def rendered(self, index: int) -> Rendered:
        """Render image `index` with label, corners and box."""
        return render(self.scene(index), self._drawn)

    def corners(self, index: int) -> NDArray[np.float64]:
        """Return the corners (4, 2) of the runway in pixels: near left, near right, far right, far left."""
        return outline(self.scene(index), self._drawn)

    def box(self, index: int) -> NDArray[np.float64] | None:
        """Return the box (x1, y1, x2, y2) of the runway in pixels, or None without a runway."""
        scene = self.scene(index)
        return box(outline(scene, self._drawn)) if scene.visible else None

    def pose(self, index: int) -> Pose:
        """Return the camera of image `index`."""
        return self.scene(index).pose

    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        drawn = self.rendered(index)
        return drawn.image, drawn.mask

    def _load_labels(self, index: int) -> Pixels:
        return label(self.scene(index), self._drawn)


def runways(
    n: int = 256,
    size: int | Sequence[int] = (256, 256),
    *,
    seed: int = 0,
    split: str = "train",
    biome: str | None = None,
    haze: Range | None = None,
    distance: Range | None = None,
    negatives: float = 0.0,
    second: float = 0.0,
    min_box: float | None = None,
    database: str | Path | None = None,
    cache: bool = False,
) -> RunwayDataset:
    """Return `n` rendered approach pictures with exact labels: background and runway.

    Args:
        n: Number of images.
        size: (h, w) in pixels, or one number for a square; at least 32.
        seed: Image k depends on (seed, split, k) and the other options; no two splits share an image.
        split: "train", "val", "test" of one world; or a shift: "far" (2,500 to 5,556 m, boxes from 4 pixels),
            "haze" (4 to 10 km), "low-sun" (6 to 14 degrees), "roll" (8 to 12 degrees), "biome" (the coast,
            which the world of train, val and test does not show).
        biome: One of `BIOMES`; default: that of the split.
        haze: Visibility from, to in metres; default: 18 to 110 km in most images, 6 to 18 km in one of five.
        distance: From the aiming point, from, to in metres; default 150 to 3,000 at 256 pixels of height, in
            proportion to it, at least 700 and at most 5,556.
        negatives: Share of images without runway.
        second: Share of images with a second, parallel runway that carries no label.
        min_box: Least width and height of the runway's box in pixels; default 8, or h / 12 below 96 pixels.
        database: A runway database of LARD (JSON) to take lengths and widths from.
        cache: Keep the rendered images in memory.

    Returns:
        The data set; `scene`, `corners`, `box` and `pose` tell more about an image.

    Raises:
        InputError: an option cannot be used.
        DataError: the database cannot be read.

    Example:
        >>> image, target = runways(4, 64)[0]
        >>> image.shape, target.shape, int(target.max())
        (torch.Size([3, 64, 64]), torch.Size([64, 64]), 1)
    """
    h, w = _checked(n, size, seed)
    world = _world(split, h)
    if biome is not None:
        world = replace(world, biomes=(_one_of("biome", biome, BIOMES),))
    if haze is not None:
        world = replace(world, visibility=_range("haze", haze, low=100.0))
    if distance is not None:
        world = replace(world, distance=_range("distance", distance, low=150.0))
    if database is not None:
        sizes = tuple((r.length, r.width) for r in read_database(database))
        world = replace(world, sizes=sizes)
    world = replace(
        world,
        negatives=number("negatives", negatives, low=0, high=1),
        second=number("second", second, low=0, high=1),
    )
    if min_box is not None:
        world = replace(world, min_box=number("min_box", min_box, low=1))
    return RunwayDataset(n, size=(h, w), seed=seed, split=split, world=world, cache=cache)


def _checked(n: int, size: int | Sequence[int], seed: int) -> tuple[int, int]:
    """Check the whole numbers; return (h, w)."""
    shape = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    wholes = all(isinstance(v, int) and not isinstance(v, bool) for v in (n, seed, *shape))
    if not wholes or len(shape) != 2 or n < 1 or seed < 0 or min(shape) < _SMALLEST:
        raise InputError(
            explain(
                "such runways cannot be drawn",
                received=f"n={n!r}, size={size!r}, seed={seed!r}",
                expected=f"n >= 1, seed >= 0, size at least {_SMALLEST} x {_SMALLEST}, whole numbers",
            )
        )
    return shape[0], shape[1]


def _world(split: str, height: int) -> World:
    """Return the world of a split."""
    _one_of("split", split, SPLITS)
    reach = min(CONE[1], max(_NEAREST_REACH, 3000 * height / 256))
    least = min(8.0, height / 12)
    world = World((CONE[0], reach), tuple(b for b in BIOMES if b != HELD_OUT), min_box=least)
    if split == "far":
        # At the limit of what train shows, and beyond: boxes half as large, in proportion to the picture.
        scale = min(1.0, height / 256)
        return replace(
            world, distance=(max(700.0, 2500 * scale), max(1400.0, CONE[1] * scale)), min_box=least / 2
        )
    if split == "haze":
        return replace(world, visibility=(4e3, 10e3))
    if split == "low-sun":
        return replace(world, sun=(6.0, 14.0))
    if split == "roll":
        return replace(world, roll=(8.0, 12.0))
    return replace(world, biomes=(HELD_OUT,)) if split == "biome" else world


def _one_of(name: str, value: str, known: Iterable[str]) -> str:
    names = list(known)
    if value not in names:
        raise InputError(explain(f"there is no {name} {value!r}", expected=f"one of {', '.join(names)}"))
    return value


def _range(name: str, value: Range, *, low: float) -> Range:
    ends = tuple(number(name, v, low=low) for v in value) if isinstance(value, Sequence) else ()
    if len(ends) != 2 or ends[0] > ends[1]:
        raise InputError(
            explain(f"`{name}` is no range", received=value, expected=f"(from, to), {low:g} <= from <= to")
        )
    return ends[0], ends[1]
