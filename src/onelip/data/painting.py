"""The canvas of the drawn scenes: shapes that paint picture and labels together, perspective, light and grain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .dataset import Color, Pixels

SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, PERSON, POLE = range(8)
_FINE = 2  # shapes are drawn this much finer than the result, so that edges in the picture are smooth
_GRAIN = np.array([1.0, 5.0, 5.5, 5.0, 13.0, 2.5, 5.0, 3.0])  # texture of each class, in grey levels

Point = tuple[float, float]


class Canvas:
    """A picture and its labels; every shape is painted on both."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.height, self.width = size[0] * _FINE, size[1] * _FINE
        self.picture = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height))
        self._brushes = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.labels)

    def polygon(self, corners: Sequence[Point], color: Color, label: int) -> None:
        """Paint a filled polygon."""
        picture, labels = self._brushes
        picture.polygon(list(corners), fill=color)
        labels.polygon(list(corners), fill=label)

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, label: int) -> None:
        """Paint a filled rectangle; its corners may come in any order."""
        corners = [(min(left, right), min(top, bottom)), (max(left, right), max(top, bottom))]
        picture, labels = self._brushes
        picture.rectangle(corners, fill=color)
        labels.rectangle(corners, fill=label)

    def ellipse(self, left: float, top: float, right: float, bottom: float, color: Color, label: int) -> None:
        """Paint a filled ellipse."""
        picture, labels = self._brushes
        picture.ellipse([(left, top), (right, bottom)], fill=color)
        labels.ellipse([(left, top), (right, bottom)], fill=label)

    def gradient(self, top: float, bottom: float, above: Color, below: Color, label: int) -> None:
        """Paint rows that change from one colour to another."""
        for y in range(int(top), int(bottom)):
            t = (y - top) / max(1.0, bottom - top)
            color = tuple(round((1 - t) * a + t * b) for a, b in zip(above, below, strict=True))
            self.box(0, y, self.width, y, cast(Color, color), label)


class Street:
    """The perspective of one scene: from the ground to the picture.

    A place on the ground is (lateral, depth): the road lies between -1 and 1, the houses at +-`walk`; depth is 0 at
    the horizon and 1 at the lower edge, and sizes are proportional to it.
    """

    def __init__(self, rng: np.random.Generator, canvas: Canvas) -> None:
        self.width = canvas.width
        self.horizon = canvas.height * rng.uniform(0.36, 0.5)
        self.drop = canvas.height - self.horizon
        self.unit = canvas.height * rng.uniform(0.55, 0.72)
        self.walk = float(rng.uniform(1.35, 1.6))
        self._vanishing = canvas.width * rng.uniform(0.36, 0.64)
        self._centre = canvas.width * rng.uniform(0.42, 0.58)
        self._half = canvas.width * rng.uniform(0.36, 0.5)
        bright = rng.uniform(0.75, 1.0)
        red, green, blue = np.array([185.0, 208.0, 235.0]) * bright + rng.normal(0, 8, 3)
        self.sky: Color = (int(red), int(green), min(255, int(blue)))

    def at(self, lateral: float, depth: float) -> Point:
        """Return the picture position of a place on the ground."""
        centre = (1 - depth) * self._vanishing + depth * self._centre
        return centre + lateral * self._half * depth, self.horizon + depth * self.drop


def finish(rng: np.random.Generator, canvas: Canvas, street: Street) -> tuple[Pixels, Pixels]:
    """Turn the canvas into an image: texture, haze, light, blur and sensor noise; the labels stay as painted."""
    h, w = canvas.size
    labels = np.asarray(canvas.labels)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
    picture = np.asarray(canvas.picture.resize((w, h), Image.Resampling.BOX), dtype=np.float64)
    picture += (_GRAIN[labels] * _texture(rng, (h, w)))[..., None]
    rows = np.arange(h)[:, None] * _FINE
    far = np.exp(-np.abs(rows - street.horizon) / (0.12 * street.drop)) * rng.uniform(0.0, 0.45)
    haze = np.where(labels == SKY, 0.0, far)[..., None]
    picture = picture * (1 - haze) + np.array(street.sky) * haze
    light = np.clip(rng.normal([1.0, 1.0, 1.0], [0.05, 0.02, 0.05]) * rng.uniform(0.8, 1.2), 0.5, 1.3)
    slope = 1 + rng.uniform(-0.18, 0.18) * np.linspace(-1, 1, w)[None, :, None]
    picture = picture * light * slope + rng.normal(0, rng.uniform(1.0, 4.0), picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), labels.copy()


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return noise with coarse and fine parts, of about unit strength."""
    total = 0.6 * rng.standard_normal(size)
    for step in (3, 8):
        coarse = rng.standard_normal((size[0] // step + 2, size[1] // step + 2)).astype(np.float32)
        grown = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        total += np.asarray(grown, dtype=np.float64)
    return total
