"""Points of the ground with the footprint of the pixel that sees each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, explain
from .sampling import Array

Scalar = np.float32
_FINEST, FARTHEST = 1e-3, 1e6  # metres: finer and farther count as this, for float32 to hold
_FLATTEST = 24.0  # metres per metre: flatter lines of sight count as this, or trees would hide all far ground


@dataclass(frozen=True)
class Ground:
    """Points (N,) of the plane z = 0, and how large a pixel is there.

    Attributes:
        x: Metres to the right of the runway's centreline.
        y: Metres beyond the threshold.
        iso: Footprint for noise, metres.
        short: Footprint across the line of sight, metres.
        long: Footprint along the line of sight, metres.
        hx: First component of the horizontal line of sight, of length one.
        hy: Second component.
        cot: Horizontal metres that the line of sight runs per metre of height.
    """

    x: Array
    y: Array
    iso: Array
    short: Array
    long: Array
    hx: Array
    hy: Array
    cot: Array

    @staticmethod
    def seen(x: Array, y: Array, iso: Array, sharp: Array, view: Array) -> Ground:
        """Return the ground at (x, y) from the footprints and rays that a renderer passes to `Land.colour`.

        The renderer's footprints are iso = (short long^2)^(1/3) and sharp = max(short, 0.7 long).
        """
        x, y, iso, sharp, view = (np.asarray(a, np.float32) for a in (x, y, iso, sharp, view))
        _check(x, y, iso, sharp, view)
        flat = np.maximum(np.hypot(view[:, 0], view[:, 1]), np.float32(1e-6))
        iso = np.clip(iso, _FINEST, FARTHEST)
        long = np.clip(sharp / np.float32(0.7), iso, FARTHEST)
        x, y = (np.clip(a, -FARTHEST, FARTHEST) for a in (x, y))
        short = np.minimum(iso**3 / long**2, long)
        down = np.maximum(-view[:, 2], np.float32(1e-6))
        ahead = np.asarray(view / flat[:, None], np.float32)
        return Ground(x, y, iso, short, long, ahead[:, 0], ahead[:, 1], np.asarray(flat / down, np.float32))

    def take(self, where: NDArray[np.intp]) -> Ground:
        """Return the points with the indices `where`."""
        return Ground(*(getattr(self, name)[where] for name in self.__dataclass_fields__))

    def moved(self, height: float) -> Ground:
        """Return where the lines of sight cross the plane `height` metres above the ground."""
        back = np.minimum(self.cot, _FLATTEST) * np.float32(-height)
        x, y = self.x + back * self.hx, self.y + back * self.hy
        return Ground(x, y, self.iso, self.short, self.long, self.hx, self.hy, self.cot)

    def across(self, nx: float | Scalar | Array, ny: float | Scalar | Array) -> Array:
        """Return the width of a pixel's footprint along the unit direction (nx, ny), metres."""
        ahead = self.hx * nx + self.hy * ny
        aside = self.hy * nx - self.hx * ny
        return np.asarray(np.sqrt(np.square(self.long * ahead) + np.square(self.short * aside)))


def _check(x: Array, y: Array, iso: Array, sharp: Array, view: Array) -> None:
    """Refuse arrays that do not fit together or are not finite."""
    shapes = [a.shape for a in (x, y, iso, sharp, view)]
    fit = x.ndim == 1 and shapes == [x.shape] * 4 + [(*x.shape, 3)]
    if fit and all(np.isfinite(a).all() for a in (x, y, iso, sharp, view)):
        return
    raise InputError(
        explain(
            "the ground cannot be coloured",
            received=f"shapes {shapes}" if not fit else "NaN or infinite coordinates",
            expected="x, y, iso, sharp of shape (N,) and view of shape (N, 3), all finite",
            fix="leave out the rays that meet no ground",
        )
    )
