"""Corners, outlines and boxes in continuous pixels: pixel i covers [i, i + 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runway.mask import Points, area, polygon_mask

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
_STRIP = 16  # rows that are rasterised at once: bounds the memory of large pictures


def convex_order(corners: Sequence[Sequence[float]] | Points) -> Points:
    """Return four points in the order of a polygon, by angle around their centre.

    LARD names the corners A, B, C, D in reading order: joined in that order they often cross.

    Example:
        >>> convex_order([(1, 0), (2, 0), (0, 4), (3, 4)]).tolist()  # as A, B, C, D: a bow tie
        [[1.0, 0.0], [2.0, 0.0], [3.0, 4.0], [0.0, 4.0]]
    """
    points = np.asarray(corners, np.float64)
    u, v = (points - points.mean(0)).T
    return points[np.argsort(np.arctan2(v, u), kind="stable")]


def crosses(corners: Sequence[Sequence[float]] | Points) -> bool:
    """Whether the outline A-B-C-D crosses itself.

    Example:
        >>> crosses([(1, 0), (2, 0), (0, 4), (3, 4)]), crosses([(1, 0), (2, 0), (3, 4), (0, 4)])
        (True, False)
    """
    a, b, c, d = np.asarray(corners, np.float64)
    return _cut(a, b, c, d) or _cut(b, c, d, a)


def _cut(a: Points, b: Points, c: Points, d: Points) -> bool:
    """Whether the inner parts of the segments ab and cd cross."""
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: Points, b: Points, c: Points) -> float:
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def dent(polygon: Points) -> float:
    """Return how far a corner lies inside the hull of the others, in pixels; 0 for a convex polygon.

    Example:
        >>> dent(np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])), dent(np.array([[0.0, 0], [9, 0], [3, 3], [0, 9]]))
        (0.0, 2.121...)
    """
    before, after = np.roll(polygon, 1, axis=0), np.roll(polygon, -1, axis=0)
    chord, arm = after - before, polygon - before
    cross = chord[:, 0] * arm[:, 1] - chord[:, 1] * arm[:, 0]
    length = np.maximum(np.hypot(*chord.T), 1e-12)
    sense = np.sign(area(polygon))
    return float(max(0.0, np.max(sense * cross / length)))


def clip(polygon: Points, size: tuple[int, int]) -> Points:
    """Return the part of a convex polygon inside a picture (h, w): a polygon again, (0, 2) where nothing is.

    Example:
        >>> clip(np.array([[-2.0, 1], [2, 1], [2, 3], [-2, 3]]), (4, 4)).tolist()
        [[0.0, 1.0], [2.0, 1.0], [2.0, 3.0], [0.0, 3.0]]
    """
    for axis, limit, sign in ((0, 0.0, 1.0), (0, size[1], -1.0), (1, 0.0, 1.0), (1, size[0], -1.0)):
        kept: list[Points] = []
        inner = sign * (polygon[:, axis] - limit) if len(polygon) else np.empty(0)
        for k in range(len(polygon)):
            here, last = inner[k], inner[k - 1]
            if (here >= 0) != (last >= 0):
                share = last / (last - here)
                kept.append(polygon[k - 1] + share * (polygon[k] - polygon[k - 1]))
            if here >= 0:
                kept.append(polygon[k])
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def box_quantiles(boxes: Sequence[Sequence[float]] | Sequence[Points]) -> dict[str, Any]:
    """Return the number of boxes and quantiles (share, width, height) of their sides, JSON-ready.

    Example:
        >>> box_quantiles([(0, 0, 8, 4)])["quantiles"][2]
        (0.5, 8.0, 4.0)
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    values = [(q, *np.quantile(sides, q, axis=0).round(2).tolist()) for q in _SHARES] if len(sides) else []
    return {"count": len(sides), "quantiles": values}


def rasterise(polygon: Points, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (h, w) bytes: 1 where at least half of a pixel lies inside a convex polygon."""
    mask = np.zeros(size, np.uint8)
    first, last = np.clip([polygon[:, 1].min(), polygon[:, 1].max() + 1], 0, size[0]).astype(int)
    for top in range(first, last, _STRIP):
        rows = min(_STRIP, size[0] - top)
        mask[top : top + rows] = polygon_mask(polygon - (0.0, top), (rows, size[1]))
    return mask
