"""From a row of a table to a label that can be trusted, and the list of what had to be repaired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..runway.mask import Points, area, box
from .geometry import clip, convex_order, crosses, dent
from .schema import NAUTICAL_MILE, Row

BAND = 300  # pixels of watermark above and below the pictures of LARD's generator
_GENERATED = (2648, 2448)  # (h, w) of these pictures, bands included
_ROUNDING = 0.005 * NAUTICAL_MILE  # metres: distances have two decimals
_HALF_WIDTH = 31.0  # metres: half the width of LARD's widest runway
_DENT = 1.5  # pixels: truncation moves a corner of a convex outline inward by less than this
_LEAST_AREA = 0.5  # squared pixels

REPAIRS = {
    "reordered": "A-B-C-D crosses itself: corners joined by angle around their centre",
    "truncated": "whole pixels, truncated: moved by half a pixel",
    "band cropped": "the watermark bands were cropped",
    "band assumed": "the table does not say how high the watermark is; a generated picture: 300 pixels",
    "already cropped": "the bands had been cropped before: not cropped again",
    "outside": "corners outside the stored picture: the outline is clipped",
    "in band": "corners inside a watermark band: the outline is clipped",
}
FLAGS = {
    "near plane": "the near edge may lie closer than 1 m: its corners are not the true ones",
    "past the threshold": "the camera is past the threshold: the near edge is behind it",
    "box differs": "the box of the table is not that of the corners; the corners count",
}
DROPPED = {
    "no corners": "no corners and no mask: nothing says whether there is a runway",
    "no area": "the corners enclose no area",
    "not convex": "a corner lies inside the others: no picture of a rectangle",
    "nothing left": "no part of the runway is inside the picture",
    "band too high": "the two watermark bands are as high as the whole picture",
}


@dataclass
class Repairs:
    """What was done to the labels of a table.

    Attributes:
        found: For each repair, flag and reason to drop a row: the pictures concerned.
        rows: Number of rows of the tables.
    """

    rows: int = 0
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, image: str) -> None:
        """Note one picture."""
        self.found.setdefault(kind, []).append(image)

    @property
    def dropped(self) -> int:
        """Number of rows that were dropped."""
        return sum(len(self.found.get(kind, [])) for kind in DROPPED)

    def lines(self) -> list[tuple[str, int, str]]:
        """Kind, number and explanation of everything that was found, repairs first."""
        known = {**REPAIRS, **FLAGS, **{k: f"dropped: {v}" for k, v in DROPPED.items()}}
        return [(kind, len(self.found[kind]), text) for kind, text in known.items() if kind in self.found]


@dataclass(frozen=True, eq=False)
class Label:
    """The label of one picture without its bands.

    Attributes:
        size: (h, w) of the picture without bands.
        band: Height of the band to cut off above and below, pixels; 0 where the stored picture has none.
        polygon: (4, 2) corners in the order of a polygon, continuous pixels; may lie outside; None: no runway.
        box: (4,) x1, y1, x2, y2 of the part inside the picture; None: no runway.
    """

    size: tuple[int, int]
    band: int
    polygon: Points | None
    box: Points | None


def label(row: Row, repairs: Repairs, *, exact: Points | None = None, negative: bool = False) -> Label | None:
    """Turn a row into a label, or into None when it cannot be used; everything is noted in `repairs`.

    Args:
        row: The row.
        repairs: Is added to.
        exact: (4, 2) continuous corners in the order of a polygon, where they are known better than in the row.
        negative: A row without corners is a picture without runway (its mask says so).
    """
    band, corners = _band(row, repairs), row.corners
    size = (row.height - 2 * band, row.width)
    if size[0] < 1:
        repairs.add("band too high", row.image)
        return None
    if exact is not None:
        return _checked(row, repairs, exact - (0.0, band), band, size)
    if corners is not None:
        if crosses(corners):
            repairs.add("reordered", row.image)
        points = _centred(corners, row.image, repairs)
        return _checked(row, repairs, convex_order(points) - (0.0, band), band, size)
    if negative:
        return Label(size, band, None, None)
    repairs.add("no corners", row.image)
    return None


def _checked(row: Row, repairs: Repairs, polygon: Points, band: int, size: tuple[int, int]) -> Label | None:
    if abs(area(polygon)) < _LEAST_AREA:
        repairs.add("no area", row.image)
        return None
    if dent(polygon) > _DENT:
        repairs.add("not convex", row.image)
        return None
    inside = clip(polygon, size)
    if len(inside) < 3 or abs(area(inside)) < _LEAST_AREA:
        repairs.add("nothing left", row.image)
        return None
    if _leaves(polygon + np.array([0.0, band]), (row.height, row.width)):
        repairs.add("outside", row.image)
    elif _leaves(polygon, size):
        repairs.add("in band", row.image)
    _flag(row, repairs)
    return Label(size, band, polygon, box(inside))


def _leaves(polygon: Points, size: tuple[int, int]) -> bool:
    return bool((polygon < 0).any() or (polygon > size[::-1]).any())


def _centred(corners: Sequence[Sequence[float]], image: str, repairs: Repairs) -> Points:
    """Undo the truncation toward zero, which moved each corner by half a pixel on average."""
    points = np.asarray(corners, np.float64)
    if (points != np.round(points)).any():
        return points
    repairs.add("truncated", image)
    return points + np.where(points < 0, -0.5, 0.5)


def _band(row: Row, repairs: Repairs) -> int:
    """Height of the bands that the corners count and the picture has; 0 when there are none any more."""
    band = row.watermark_height
    if band is None:
        if (row.height, row.width) != _GENERATED or row.type.startswith("real"):
            return 0
        repairs.add("band assumed", row.image)
        band = BAND
    if band == 0:
        return 0
    if (row.height, row.width) == (_GENERATED[0] - 2 * BAND, _GENERATED[1]):
        repairs.add("already cropped", row.image)
        return 0
    repairs.add("band cropped", row.image)
    return band


def _flag(row: Row, repairs: Repairs) -> None:
    """Note labels that LARD's generator cannot have made right."""
    along, height = row.along_track_distance, row.height_above_runway
    if along is not None and along < 0:
        repairs.add("past the threshold", row.image)
    if along is not None and height is not None:
        pitch = math.radians(row.pitch or 0.0)
        # Yaw and roll against the true heading are not in the table: 10 degrees of both, for the worse.
        spread = _HALF_WIDTH * math.sin(math.radians(10.0)) + _ROUNDING
        if along * math.cos(pitch) - height * math.sin(pitch) - spread < 1.0:
            repairs.add("near plane", row.image)
    if row.box is not None and row.corners is not None:
        given, points = np.asarray(row.box), np.asarray(row.corners)
        if not np.array_equal(given, box(points)):
            repairs.add("box differs", row.image)
