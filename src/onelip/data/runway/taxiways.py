"""Taxiways, connectors, apron and parked aircraft beside a runway, as a layer over the land."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .camera import Hits
from .pavement import Layer, over, tone
from .sampling import Array, cover
from .scene import Scene

_YELLOW = np.array([0.78, 0.60, 0.14], np.float32)
_AIRCRAFT = np.array([0.90, 0.90, 0.92], np.float32)


@dataclass(frozen=True)
class Strip:
    """A rectangle on the ground.

    Attributes:
        x: Its middle, metres.
        y: Its middle, metres.
        heading: Of its long axis, degrees from +y toward +x.
        length: Metres.
        width: Metres.
    """

    x: float
    y: float
    heading: float
    length: float
    width: float

    def cover(self, hits: Hits, width: float | None = None) -> Array:
        """Return the share of each footprint inside; `width` narrows the strip to a line along its axis."""
        half = (self.width if width is None else width) / 2
        sin, cos = (np.float32(f(math.radians(self.heading))) for f in (math.sin, math.cos))
        dx, dy = hits.x - np.float32(self.x), hits.y - np.float32(self.y)
        along, across = dx * sin + dy * cos, dx * cos - dy * sin
        end, side = hits.wx * abs(sin) + hits.wy * abs(cos), hits.wx * abs(cos) + hits.wy * abs(sin)
        return cover(along, -self.length / 2, self.length / 2, end) * cover(across, -half, half, side)


class Taxiways:
    """The parallel taxiways, their connectors and the apron of one scene.

    Args:
        scene: Its runway, its second runway (everything here lies on the other side), and the random stream.

    Attributes:
        side: 1 right of the runway, -1 left.
        edge: Metres from the centreline to the outer edge of the apron.
        apron: The apron, or None.
    """

    def __init__(self, scene: Scene) -> None:
        rng = scene.rng("taxiways")
        length, self.side = scene.runway.length, 1.0 if rng.random() < 0.5 else -1.0
        if scene.second is not None:
            self.side = -math.copysign(1.0, scene.second_offset[0])
        offset, width = float(rng.uniform(120, 230)), float(rng.uniform(18, 30))
        lines = [offset]
        if rng.random() < 0.3:
            lines.append(offset + float(rng.uniform(70, 110)))
        self.strips = [
            Strip(self.side * line, length / 2, 0.0, length * float(rng.uniform(0.85, 1.0)), width)
            for line in lines
        ]
        self.strips += _connectors(scene, self.side, lines, width, rng)
        self.tone = tone(float(np.clip(scene.runway.albedo * rng.uniform(0.7, 1.4), 0.18, 0.66)))
        self.stand = tone(float(rng.uniform(0.3, 0.6)))
        depth, span = float(rng.uniform(60, 140)), float(rng.uniform(0.08, 0.25)) * length
        start = lines[-1] + width / 2
        self.edge = start + depth
        y = float(rng.uniform(0.2, 0.8)) * length
        self.apron = Strip(self.side * (start + depth / 2 - 2), y, 0.0, span, depth + 4)
        self.aircraft = _aircraft(self.apron, self.side, rng)

    def layer(self, hits: Hits) -> Layer:
        """Return colour times cover (N, 3), and cover (N,) in [0, 1]."""
        colour, alpha = np.zeros((len(hits.x), 3), np.float32), np.zeros_like(hits.x)
        reach = np.float32(self.edge) + hits.wx
        strip = self.strips[0]
        where = np.flatnonzero(
            (hits.x * np.float32(self.side) > -hits.wx)
            & (np.abs(hits.x) < reach)
            & (np.abs(hits.y - strip.y) < strip.y + hits.wy)
        )
        if where.size:
            colour[where], alpha[where] = self._layer(hits.take(where))
        return colour, alpha

    def _layer(self, hits: Hits) -> Layer:
        share, line = np.zeros_like(hits.x), np.zeros_like(hits.x)
        for strip in self.strips:
            share = np.maximum(share, strip.cover(hits))
            line = np.maximum(line, strip.cover(hits, width=0.5))
        colour = self.tone * share[:, None] + (_YELLOW - self.tone) * line[:, None]
        stand = self.apron.cover(hits)
        planes = np.zeros_like(share)
        for part in self.aircraft:
            planes = np.maximum(planes, part.cover(hits))
        apron = (self.stand * stand[:, None], stand)
        return over((_AIRCRAFT * planes[:, None], planes), over((colour, share), apron))


def _connectors(
    scene: Scene, side: float, lines: list[float], width: float, rng: np.random.Generator
) -> list[Strip]:
    """Six ways from the runway to the taxiways: both ends at right angles, some of the others oblique."""
    inner = scene.runway.width / 2 - 1
    strips = []
    ends = np.linspace(0.01, 0.99, 6)
    for k, share in enumerate(ends):
        oblique = 0 < k < 5 and rng.random() < 0.5
        y = float(share + (rng.uniform(-0.05, 0.05) if 0 < k < 5 else 0)) * scene.runway.length
        across = lines[-1] - inner
        lean = across / math.tan(math.radians(35)) * (1 if rng.random() < 0.5 else -1) if oblique else 0.0
        if not 0 <= y + lean <= scene.runway.length:
            lean = 0.0
        heading = math.degrees(math.atan2(side * across, lean))
        middle = side * (inner + lines[-1]) / 2
        strips.append(Strip(middle, y + lean / 2, heading, math.hypot(across, lean), width))
    return strips


def _aircraft(apron: Strip, side: float, rng: np.random.Generator) -> list[Strip]:
    """Up to six parked aircraft, a fuselage, a wing and a tail each, nose toward the terminal."""
    count = min(int(rng.integers(0, 7)), int(apron.length / 50))
    first, x = apron.y - apron.length / 2 + 30, apron.x + side * max(0.0, apron.width / 2 - 35)
    places = first + 50.0 * rng.permutation(max(count, int(apron.length / 50)))[:count]
    parts = []
    for y in places.tolist():
        scale = float(rng.uniform(0.6, 1.1))
        parts += [
            Strip(x, y, 90.0, 38 * scale, 4.0 * scale),
            Strip(x - side * 2, y, 0.0, 36 * scale, 5.0 * scale),
            Strip(x - side * 17 * scale, y, 0.0, 12 * scale, 3.0 * scale),
        ]
    return parts
