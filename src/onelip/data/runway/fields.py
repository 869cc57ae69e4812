"""Fields: a warped brick grid of plots, plough rows, and hedges or tracks between the plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ground import Ground
from .noise import Octave, amplitude, dice, unit
from .palette import Palette, vary
from .sampling import Array, cover, pulses

Cells = NDArray[np.int32]
_ROW = 9.0  # metres from one plough line to the next
_HEDGE = 3.0  # metres, half the width of a hedge
_TALL = 2.5  # metres, its height
_TRACK = 2.2  # metres, half the width of a track


@dataclass(frozen=True)
class _Spot:
    """Where points lie in the grid: own cell, the nearest border and the cell beyond it."""

    row: Cells
    col: Cells
    other_row: Cells
    other_col: Cells
    gap: Array  # metres to the nearest border, positive
    side: Array  # -1 at the low border of the own cell, +1 at the high one
    lengthwise: NDArray[np.bool_]  # the nearest border is crossed by moving along u


class Fields:
    """The plots of one scene.

    Args:
        colours: The biome.
        rng: Where the grid, the warp and the colours are drawn from.
        toward: Unit vector (2,) toward the sun on the ground.
        shade: Metres of shadow per metre of height.
    """

    def __init__(self, colours: Palette, rng: np.random.Generator, toward: Array, shade: float) -> None:
        self.high = float(rng.uniform(80, 230))
        self.wide = float(min(self.high * rng.uniform(1.2, 3.2), 420.0))
        angle = float(rng.uniform(0, np.pi))
        self.cos, self.sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        self.warp = [Octave.drawn(900.0, rng) for _ in range(2)]
        self.bend = np.float32(rng.uniform(5, 45))
        self.seed = int(rng.integers(2**31))
        self.plots = np.stack([vary(c, rng) for c in colours.plots])
        order = rng.permutation(6)
        self.plots = self.plots[order]
        self.mean = self.plots.mean(0)
        self.hedge, self.earth = vary(colours.hedge, rng), vary(colours.earth, rng)
        self.hedged = float(rng.uniform(*colours.hedges))
        self.tracked = float(rng.uniform(0.0, 0.25))
        self.contrast = np.float32(rng.uniform(*colours.order))
        self.leaf = Octave.drawn(6.0, rng)
        self.toward, self.shade = toward, shade

    def colour(self, ground: Ground) -> Array:
        """Return the albedo (N, 3) of the plots and what stands between them."""
        u, v = self._grid(ground)
        wu, wv = ground.across(self.cos, self.sin), ground.across(-self.sin, self.cos)
        spot = self._locate(u, v, wu, wv)
        fade = amplitude(1.4 * self.wide, wu) * amplitude(1.4 * self.high, wv)
        own = self._plot(spot.row, spot.col, u, v, wu, wv)
        width = np.where(spot.lengthwise, wu, wv)
        near = np.flatnonzero(spot.gap < 0.5 * width)
        if near.size:
            beyond = self._plot(
                spot.other_row[near], spot.other_col[near], u[near], v[near], wu[near], wv[near]
            )
            own[near] += (beyond - own[near]) * (0.5 - spot.gap[near] / width[near])[:, None]
        colour = self.mean + (own - self.mean) * (fade * self.contrast)[:, None]
        self._borders(colour, ground, spot, width)
        return np.asarray(colour, np.float32)

    def _grid(self, ground: Ground) -> tuple[Array, Array]:
        """Coordinates along and across the rows of plots, metres."""
        x = ground.x + self.bend * self.warp[0].at(ground.x, ground.y)
        y = ground.y + self.bend * self.warp[1].at(ground.x, ground.y)
        return np.asarray(x * self.cos + y * self.sin), np.asarray(y * self.cos - x * self.sin)

    def _shifted(self, u: Array, row: Cells) -> Array:
        """Place along a row against the bricks of a row, in bricks."""
        first = unit(dice(row, np.zeros_like(row), self.seed), 0)
        return np.asarray(u / np.float32(self.wide) + first)

    def _locate(self, u: Array, v: Array, wu: Array, wv: Array) -> _Spot:
        tall = v / np.float32(self.high)
        row = np.floor(tall)
        long = self._shifted(u, row.astype(np.int32))
        col = np.floor(long)
        part, other = long - col, tall - row
        along, over = (part > 0.5) * 2 - 1, (other > 0.5) * 2 - 1
        du = np.minimum(part, 1 - part) * np.float32(self.wide)
        dv = np.minimum(other, 1 - other) * np.float32(self.high)
        lengthwise = du / (wu + 8) < dv / (wv + 8)
        rows, cols = row.astype(np.int32), col.astype(np.int32)
        next_row = np.where(lengthwise, rows, rows + over).astype(np.int32)
        next_col = np.floor(self._shifted(u, next_row)).astype(np.int32)
        next_col = np.where(lengthwise, cols + along, next_col).astype(np.int32)
        gap = np.where(lengthwise, du, dv).astype(np.float32)
        side = np.where(lengthwise, along, over).astype(np.float32)
        return _Spot(rows, cols, next_row, next_col, gap, side, lengthwise)

    def _plot(self, row: Cells, col: Cells, u: Array, v: Array, wu: Array, wv: Array) -> Array:
        """Albedo inside cells: one of six colours, its brightness, plough rows along or across."""
        mixed = dice(row, col, self.seed)
        kind = (unit(mixed, 0) * 6).astype(np.int32)
        gain = np.float32(0.86) + np.float32(0.28) * unit(mixed, 1)
        turned = unit(mixed, 2) < np.float32(0.35)
        place, width = np.where(turned, u, v), np.where(turned, wu, wv)
        rows = pulses(place, np.maximum(width, 1.5), period=_ROW, on=0.4 * _ROW) - np.float32(0.4)
        deep = self.contrast * np.float32(0.22) * np.maximum(unit(mixed, 3) - np.float32(0.3), 0)
        return np.asarray(self.plots[kind] * (gain * (1 - rows * deep))[:, None], np.float32)

    def _borders(self, colour: Array, ground: Ground, spot: _Spot, width: Array) -> None:
        """Blend hedges, tracks and the shadows of hedges into `colour`."""
        span = np.float32(0.4) * np.float32(min(self.high, self.wide))
        where = np.flatnonzero(spot.gap < np.minimum(span, 60 + 0.5 * width))
        if not where.size:
            return
        low = spot.side[where] < 0
        row = np.where(low, spot.row[where], spot.other_row[where])
        col = np.where(low, spot.col[where], spot.other_col[where])
        mixed = dice(row, col, self.seed + 1)
        chance = np.where(spot.lengthwise[where], unit(mixed, 0), unit(mixed, 1))
        hedged = (chance < self.hedged).astype(np.float32)
        tracked = (chance > 1 - self.tracked).astype(np.float32)
        nx = np.where(spot.lengthwise[where], self.cos, -self.sin)
        ny = np.where(spot.lengthwise[where], self.sin, self.cos)
        signed = -spot.gap[where] * spot.side[where]  # metres beyond the border along (nx, ny)
        wide = np.maximum(width[where], 1.0)
        track = cover(signed, -_TRACK, _TRACK, wide) * tracked
        part = colour[where]
        part += (self.earth - part) * track[:, None]
        hide = np.minimum(_TALL * ground.cot[where], 0.3 * span) * (
            ground.hx[where] * nx + ground.hy[where] * ny
        )
        cast = np.minimum(_TALL * self.shade, 0.3 * span) * (self.toward[0] * nx + self.toward[1] * ny)
        dark = cover(signed, np.minimum(-_HEDGE, -_HEDGE - cast), np.maximum(_HEDGE, _HEDGE - cast), wide)
        part *= (1 - np.float32(0.4) * dark * hedged)[:, None]
        hedge = cover(signed, np.minimum(-_HEDGE, -_HEDGE + hide), np.maximum(_HEDGE, _HEDGE + hide), wide)
        leaf = 1 + np.float32(0.2) * self.leaf.seen(ground.x[where], ground.y[where], ground.iso[where])
        green = self.hedge * leaf[:, None]
        part += (green - part) * (hedge * hedged * np.float32(0.9))[:, None]
        colour[where] = part
