"""One picture of a scene, with its label: land, pavement, light, haze, sky and sensor put together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import pavement
from .camera import Array, Camera, Hits, Points
from .land import Land
from .light import Sunlight, haze
from .mask import box, polygon_mask
from .scene import Scene
from .sensor import expose
from .sky import Sky
from .world import corners

VERSION = 1  # of the pictures: another number means other bytes for the same seed
_MARGIN = 10  # pixels around the box of the runway that are rendered with 3 x 3 rays
_FINE = 3


@dataclass(frozen=True)
class Rendered:
    """A picture and its label.

    Attributes:
        image: (H, W, 3) bytes.
        mask: (H, W) bytes: 1 runway, 0 background.
        corners: (4, 2) pixel coordinates in polygon order: near left, near right, far right, far left.
        box: (4,) pixel coordinates x1, y1, x2, y2; None without a runway.
        scene: What was rendered.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    corners: Points
    box: Points | None
    scene: Scene


def render(scene: Scene, size: tuple[int, int]) -> Rendered:
    """Render a scene at (h, w) pixels.

    Guarantee:
        The mask is that of the four corners' quadrilateral, which is the exact picture of the runway: at least
        half of each labelled pixel lies on it, up to 1/64. The bytes depend on the arguments alone.
    """
    camera = Camera(scene.pose, size)
    points, _ = camera.project(corners(scene.runway))
    colour = _picture(scene, camera, box(points))
    image = expose(colour.reshape(*size, 3), scene)
    if not scene.visible:
        return Rendered(image, np.zeros(size, np.uint8), points, None, scene)
    return Rendered(image, polygon_mask(points, size), points, box(points), scene)


def _picture(scene: Scene, camera: Camera, around: Points) -> Array:
    """Return the linear colours (H * W, 3)."""
    h, w = camera.size
    v, u = (a.ravel() + 0.5 for a in np.mgrid[:h, :w])
    rays = camera.rays(u, v)
    sky = Sky(scene)
    below = camera.sees_ground(rays)
    where = np.flatnonzero(below)
    view = rays[where]
    hits = camera.ground(view)
    albedo = Land(scene).colour(hits.x, hits.y, hits.iso, hits.sharp, view.astype(np.float32))
    _pave(scene, camera, albedo, where, around)
    lit = Sunlight(scene).shade(albedo, hits.x, hits.y, hits.iso)
    seen = haze(lit, hits.range, scene, sky)
    colour = np.empty((h * w, 3), np.float32)
    above = np.flatnonzero(~below)
    colour[above] = sky.colour(rays[above].astype(np.float32))
    colour[where] = seen
    return colour


def _pave(scene: Scene, camera: Camera, albedo: Array, where: NDArray[np.intp], around: Points) -> None:
    """Lay the pavement over `albedo` (N, 3), the ground at the pixels `where`: 3 x 3 rays around the runway."""
    if not scene.visible:
        return
    w = camera.size[1]
    x1, y1, x2, y2 = around
    column, row = where % w, where // w
    close = (
        (column >= x1 - _MARGIN) & (column <= x2 + _MARGIN) & (row >= y1 - _MARGIN) & (row <= y2 + _MARGIN)
    )
    for index, fine in ((np.flatnonzero(~close), 1), (np.flatnonzero(close), _FINE)):
        colour, cover = _pavement(scene, camera, where[index], fine)
        albedo[index] = albedo[index] * (1 - cover[:, None]) + colour


def _pavement(scene: Scene, camera: Camera, pixels: NDArray[np.intp], fine: int) -> tuple[Array, Array]:
    """Average the layer over fine x fine rays a pixel; rays above the horizon count as bare."""
    w = camera.size[1]
    shift = (np.arange(fine) + 0.5) / fine
    u = (pixels % w)[:, None] + np.tile(shift, fine)
    v = (pixels // w)[:, None] + np.repeat(shift, fine)
    rays = camera.rays(u.ravel(), v.ravel())
    below = camera.sees_ground(rays)
    colour, cover = np.zeros((len(rays), 3), np.float32), np.zeros(len(rays), np.float32)
    colour[below], cover[below] = _layers(scene, camera.ground(rays[below], step=1 / fine))
    count = fine * fine
    return colour.reshape(-1, count, 3).mean(1), cover.reshape(-1, count).mean(1)


def _layers(scene: Scene, hits: Hits) -> tuple[Array, Array]:
    colour, cover = pavement.layer(scene.runway, hits)
    if scene.second is not None:
        dx, dy = (np.float32(d) for d in scene.second_offset)
        moved = replace(hits, x=hits.x - dx, y=hits.y - dy)
        beside, share = pavement.layer(scene.second, moved)
        colour, cover = colour + beside * (1 - cover[:, None]), cover + share * (1 - cover)
    return colour, cover
