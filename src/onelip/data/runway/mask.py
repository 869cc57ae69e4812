"""Labels from corners: which pixels a convex quadrilateral covers, its box, and the part inside the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 8  # sample points a pixel and direction

Points = NDArray[np.float64]


def polygon_mask(corners: Points, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return 1 where at least half of a pixel lies inside a convex polygon, else 0; (h, w).

    Each pixel is asked at 8 x 8 points. Projection keeps lines straight and convex quadrilaterals in front of
    the camera convex, so this equals casting 64 rays a pixel at the ground.

    Args:
        corners: (N, 2) pixel coordinates (u, v) in the order of the polygon, either sense; may lie outside.
        size: (h, w) of the picture.

    Example:
        >>> polygon_mask(np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 1.4], [1.0, 1.4]]), (3, 4)).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    mask = np.zeros(size, np.uint8)
    first = np.clip(np.floor(corners.min(0)), 0, size[::-1]).astype(int)
    last = np.clip(np.ceil(corners.max(0)), 0, size[::-1]).astype(int)
    w, h = last - first
    if w <= 0 or h <= 0:
        return mask
    u = first[0] + (np.arange(w * _STEPS) + 0.5) / _STEPS
    v = (first[1] + (np.arange(h * _STEPS) + 0.5) / _STEPS)[:, None]
    sense = 1.0 if area(corners) >= 0 else -1.0
    inside = np.ones((h * _STEPS, w * _STEPS), bool)
    for (au, av), (bu, bv) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= sense * ((bu - au) * (v - av) - (bv - av) * (u - au)) >= 0
    share = inside.reshape(h, _STEPS, w, _STEPS).mean(axis=(1, 3))
    mask[first[1] : last[1], first[0] : last[0]] = share >= 0.5
    return mask


def area(corners: Points) -> float:
    """Return the signed area of a polygon (N, 2), in squared pixels."""
    u, v = corners.T
    return float(0.5 * np.sum(u * np.roll(v, -1) - v * np.roll(u, -1)))


def box(corners: Points) -> Points:
    """Return the box (x1, y1, x2, y2) around points (N, 2)."""
    return np.concatenate([corners.min(0), corners.max(0)])
