"""The pinhole camera of an approach: from points to pixels, and from pixels to the ground."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.checks import positive_int
from ...core.errors import InputError, explain
from .scene import Pose

FIELD_OF_VIEW = 33.507  # degrees over the height of the picture, without LARD's watermark bands
_FARTHEST = 2e5  # metres: rays that meet the ground beyond are sky

Array = NDArray[np.float32]
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Hits:
    """Where pixels meet the ground, and how much of it one pixel sees.

    All arrays are (N,) float32, in metres.

    Attributes:
        x: To the right of the centreline.
        y: Beyond the threshold.
        range: Distance from the camera.
        wx: Extent of a pixel along x.
        wy: Extent of a pixel along y.
        iso: One size for noise: (f_x f_y^2)^(1/3) with f_x = range / f and f_y = range^2 / (height f).
        sharp: One size for sharp patterns: max(f_x, 0.7 f_y).
    """

    x: Array
    y: Array
    range: Array
    wx: Array
    wy: Array
    iso: Array
    sharp: Array

    def take(self, where: NDArray[np.intp]) -> Hits:
        """Return the pixels with the indices `where`."""
        return Hits(*(getattr(self, field.name)[where] for field in fields(self)))


class Camera:
    """A pinhole with square pixels and the principal point in the middle.

    Pixel i covers [i, i + 1), so the middle of the first pixel is 0.5.

    Args:
        pose: Place and axes.
        size: (h, w) of the picture.

    Raises:
        InputError: the place is not above the ground, a number not finite, or the size not usable.

    Attributes:
        focal: Focal length in pixels.
        dip: Sine of the angle below the level at which the ground ends and the sky begins.

    Example:
        >>> level = Camera(Pose(distance=1300, lateral=0, glide=3, yaw=0, pitch=0, roll=0), (256, 256))
        >>> pixels, depth = level.project(np.array([[0.0, 0.0, 0.0]]))
        >>> pixels.round(1).tolist(), depth.tolist()
        ([[128.0, 157.0]], [1000.0])
    """

    def __init__(self, pose: Pose, size: tuple[int, int]) -> None:
        self.size = (positive_int("size[0]", size[0]), positive_int("size[1]", size[1]))
        self.position = pose.position
        if not (np.isfinite([*self.position, *np.concatenate(pose.axes)]).all() and self.position[2] > 0):
            raise InputError(
                explain(
                    "such a camera sees no approach",
                    received=pose,
                    expected="finite numbers, and a place above the ground: distance > 0, 0 < glide < 90",
                )
            )
        self.forward, self.right, self.up = pose.axes
        self.focal = focal(size[0])
        self.dip = float(self.position[2]) / _FARTHEST

    def project(self, points: Points) -> tuple[Points, Points]:
        """Return the pixel coordinates (N, 2) and the depths (N,) in metres of world points (N, 3).

        Formula:
            u = w/2 + f (q . right) / (q . forward), v = h/2 - f (q . up) / (q . forward), q = point - position
        """
        q = points - self.position
        depth = q @ self.forward
        h, w = self.size
        with np.errstate(divide="ignore", invalid="ignore"):
            u = w / 2 + self.focal * (q @ self.right) / depth
            v = h / 2 - self.focal * (q @ self.up) / depth
        return np.stack([u, v], axis=1), depth

    def rays(self, u: NDArray[Any], v: NDArray[Any]) -> Points:
        """Return the unit directions (N, 3) in which the picture points (u, v) look."""
        across = (u - self.size[1] / 2) / self.focal
        down = (v - self.size[0] / 2) / self.focal
        rays = across[:, None] * self.right - down[:, None] * self.up + self.forward
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))

    def sees_ground(self, rays: Points) -> NDArray[np.bool_]:
        """Say which rays meet the ground within 200 km."""
        return np.asarray(-rays[:, 2] > self.dip)

    def ground(self, rays: Points, *, step: float = 1.0) -> Hits:
        """Intersect rays that see the ground with it.

        Args:
            rays: Unit directions (N, 3), all of which see the ground.
            step: Distance of neighbouring rays in pixels; 1/3 for three by three rays a pixel.
        """
        height = self.position[2]
        distance = height / -rays[:, 2]
        # With D = ray scaled to depth 1 and t its multiple on the ground: dP/du = t (right - D right_z / D_z) / f.
        slope = rays[:, :2] / rays[:, 2:]
        unit = distance * (rays @ self.forward) * (step / self.focal)
        across = unit[:, None] * (self.right[:2] - slope * self.right[2])
        down = unit[:, None] * (self.up[:2] - slope * self.up[2])
        extent = np.hypot(across, down)
        fx = distance * (step / self.focal)
        fy = fx * distance / height
        x, y = (self.position[:2] + distance[:, None] * rays[:, :2]).T
        arrays = (x, y, distance, *extent.T, np.cbrt(fx * fy * fy), np.maximum(fx, 0.7 * fy))
        return Hits(*(np.ascontiguousarray(a, dtype=np.float32) for a in arrays))


def focal(height: int) -> float:
    """Return the focal length in pixels of a picture `height` pixels high: (h/2) / tan(33.507 deg / 2)."""
    return height / (2 * math.tan(math.radians(FIELD_OF_VIEW) / 2))
