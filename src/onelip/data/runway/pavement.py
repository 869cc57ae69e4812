"""The runway itself: pavement, shoulders, blast pads, joints, rubber and paint, as a layer over the land."""

from __future__ import annotations

import numpy as np

from .camera import Hits
from .markings import paint
from .sampling import Array, cover, pulses
from .scene import Runway

_YELLOW = np.array([0.80, 0.62, 0.12], np.float32)
_WHITE = np.array([1.0, 0.99, 0.96], np.float32)
_ASPHALT = np.array([0.99, 1.0, 1.03], np.float32)
_CONCRETE = np.array([1.03, 1.0, 0.94], np.float32)


def layer(runway: Runway, hits: Hits) -> tuple[Array, Array]:
    """Return colour times cover (N, 3), and cover (N,) in [0, 1], of the runway and what is paved around it."""
    x, y, wx, wy = hits.x, hits.y, hits.wx, hits.wy
    half, length = runway.width / 2, runway.length
    on_strip, along = cover(x, -half, half, wx), cover(y, 0, length, wy)
    on_runway = on_strip * along
    outer = cover(x, -half - runway.shoulder, half + runway.shoulder, wx)
    around = outer * cover(y, -runway.blast_pad, length + runway.blast_pad, wy)
    stone = _pavement(runway, hits)
    worn = np.float32(1 - runway.wear)
    white = (paint(runway, x, y, wx, wy) * worn)[:, None]
    top = stone + (_WHITE * np.float32(runway.paint) - stone) * white
    side = stone * np.float32(0.78)
    yellow = (_chevrons(runway, hits) * worn * np.float32(0.8))[:, None]
    side = side + (_YELLOW - side) * yellow
    share = on_runway[:, None]
    alpha = np.maximum(around, on_runway)
    return np.asarray(top * share + side * (alpha[:, None] - share), np.float32), alpha


def tone(albedo: float) -> Array:
    """Return the colour (3,) of pavement: bluish asphalt to warm concrete."""
    concrete = np.float32(np.clip((albedo - 0.34) / 0.2, 0, 1))
    return np.asarray((_ASPHALT + (_CONCRETE - _ASPHALT) * concrete) * np.float32(albedo), np.float32)


def _pavement(runway: Runway, hits: Hits) -> Array:
    x, y, wx, wy = hits.x, hits.y, hits.wx, hits.wy
    from_end = np.minimum(y, runway.length - y)
    joints = pulses(y, wy, period=7.5, on=0.15) + pulses(x, wx, period=7.5, on=0.15)
    tracks = np.exp(-(((from_end - 480) / 260) ** 2) - ((np.abs(x) - 4.5) / 3.2) ** 2)
    bright = (1 - np.float32(0.25) * joints) * (1 - np.float32(0.6 * runway.rubber) * tracks)
    return np.asarray(tone(runway.albedo) * bright[:, None], np.float32)


def _chevrons(runway: Runway, hits: Hits) -> Array:
    """Yellow chevrons on the blast pads, 30 m apart, with their points toward the threshold."""
    if not runway.blast_pad:
        return np.zeros_like(hits.x)
    out = np.maximum(-hits.y, hits.y - runway.length)  # metres before the threshold
    arms = pulses(out - np.abs(hits.x), hits.wx + hits.wy, period=30.0, on=2.0)
    inside = cover(out, 3, runway.blast_pad, hits.wy) * cover(
        hits.x, -runway.width / 2, runway.width / 2, hits.wx
    )
    return np.asarray(arms * inside, np.float32)
