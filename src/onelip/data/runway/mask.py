"""Labels from corners: which pixels a convex quadrilateral covers, its box, and the part inside the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LINES = 16  # along u in each pixel

Points = NDArray[np.float64]


def polygon_mask(corners: Points, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return 1 where at least half of a pixel lies inside a convex polygon, else 0; (h, w).

    Each pixel is cut by 16 lines along u, on which the part inside is exact. Projection keeps lines straight and
    convex quadrilaterals in front of the camera convex, so this equals casting rays at the ground.

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
    left, right = _chords(corners, first[1] + (np.arange(h * _LINES) + 0.5) / _LINES)
    column = first[0] + np.arange(w)
    inside = np.minimum(right[:, None], column + 1) - np.maximum(left[:, None], column)
    share = np.clip(inside, 0, 1).reshape(h, _LINES, w).mean(axis=1)
    mask[first[1] : last[1], first[0] : last[0]] = share >= 0.5 - 1e-9
    return mask


def _chords(corners: Points, v: Points) -> tuple[Points, Points]:
    """Return where the lines of constant v enter and leave a convex polygon; entry >= exit where they miss it."""
    left, right = np.full_like(v, -np.inf), np.full_like(v, np.inf)
    sense = 1.0 if area(corners) >= 0 else -1.0
    for (au, av), (bu, bv) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # Inside: sense ((bu - au) (v - av) - (bv - av) (u - au)) >= 0.
        slope = -sense * (bv - av)
        level = sense * (bu - au) * (v - av)
        if slope == 0:
            left[level < 0] = np.inf
        elif slope > 0:
            left = np.maximum(left, au - level / slope)
        else:
            right = np.minimum(right, au - level / slope)
    return left, right


def area(corners: Points) -> float:
    """Return the signed area of a polygon (N, 2), in squared pixels."""
    u, v = corners.T
    return float(0.5 * np.sum(u * np.roll(v, -1) - v * np.roll(u, -1)))


def box(corners: Points) -> Points:
    """Return the box (x1, y1, x2, y2) around points (N, 2)."""
    return np.concatenate([corners.min(0), corners.max(0)])
