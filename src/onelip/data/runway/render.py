"""One picture of a scene, with its label: land, pavement, buildings, light, haze, sky and sensor put together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, explain
from .buildings import Buildings
from .camera import Array, Camera, Hits, Points
from .land import Land
from .light import Sunlight, haze
from .mask import box, polygon_mask
from .pavement import Layer, Pavement, over
from .scene import Scene
from .sensor import expose
from .sky import Sky
from .taxiways import Taxiways
from .world import corners

_MARGIN = 10  # pixels around the box of the runway that are rendered with 3 x 3 rays
_FINE = 3
Pixels = NDArray[np.intp]


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
        The mask is that of the four corners' quadrilateral, which is the exact picture of the runway: a pixel is
        labelled where at least half of it sees the runway. The bytes depend on the arguments alone.

    Raises:
        InputError: the camera is not above the ground, or the runway not wholly before it.

    Example:
        >>> from onelip import data
        >>> drawn = render(data.runways(1, 64).scene(0), (64, 64))
        >>> drawn.image.shape, drawn.corners.shape, drawn.box is None
        ((64, 64, 3), (4, 2), False)
    """
    points = outline(scene, size)
    colours = _colours(scene, Camera(scene.pose, size), box(points))
    image = expose(colours.reshape(*size, 3), scene)
    return Rendered(image, label(scene, size), points, box(points) if scene.visible else None, scene)


def outline(scene: Scene, size: tuple[int, int]) -> Points:
    """Return the corners (4, 2) of the runway in pixels: near left, near right, far right, far left.

    Raises:
        InputError: a corner is not more than 1 m before the camera, so that it has no picture.
    """
    points, depth = Camera(scene.pose, size).project(corners(scene.runway))
    if not depth.min() > 1:  # so that NaN is caught too
        raise InputError(
            explain(
                "the runway is not wholly before the camera",
                received=f"a corner at a depth of {depth.min():.4g} m",
                expected="more than 1 m for all four",
                why="the label is the polygon of their pictures",
                fix="move the camera back or turn it toward the runway",
            )
        )
    return points


def label(scene: Scene, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask (h, w) of a scene without its picture: 1 runway, 0 background."""
    return polygon_mask(outline(scene, size), size) if scene.visible else np.zeros(size, np.uint8)


class _Paved:
    """All that is paved in a scene, the runway on top."""

    def __init__(self, scene: Scene) -> None:
        self.taxiways = Taxiways(scene)
        self.runway = Pavement(scene.runway, scene.rng("pavement"))
        self.second = Pavement(scene.second, scene.rng("second")) if scene.second is not None else None
        self.offset = scene.second_offset

    def layer(self, hits: Hits) -> Layer:
        """Return colour times cover (N, 3), and cover (N,) in [0, 1]."""
        found = over(self.runway.layer(hits), self.taxiways.layer(hits))
        if self.second is None:
            return found
        dx, dy = (np.float32(d) for d in self.offset)
        return over(found, self.second.layer(replace(hits, x=hits.x - dx, y=hits.y - dy)))


def _colours(scene: Scene, camera: Camera, around: Points) -> Array:
    """Return the linear colours (H * W, 3); `around` is the box of the runway in pixels."""
    h, w = camera.size
    rays = _rays(camera, np.arange(h * w), 1)
    below = camera.sees_ground(rays)
    where, above = np.flatnonzero(below), np.flatnonzero(~below)
    view, hits = rays[where].astype(np.float32), camera.ground(rays[where])
    albedo = Land(scene).colour(hits.x, hits.y, hits.iso, hits.sharp, view)
    paved = _Paved(scene) if scene.visible else None
    if paved is not None:
        _pave(paved, camera, albedo, hits, where, around)
    sky, sunlight = Sky(scene), Sunlight(scene)
    colour = np.empty((h * w, 3), np.float32)
    colour[above] = sky.colour(rays[above].astype(np.float32))
    lit = sunlight.shade(albedo, hits.x, hits.y, hits.iso)
    colour[where] = haze(lit, hits.range, scene, sky)
    # Pixels that the horizon crosses are part sky.
    clear = np.clip(0.5 + (rays[where, 2] + camera.dip) * camera.focal, 0, 1)
    edge = np.flatnonzero(clear > 0)
    mirrored = view[edge] * np.array([1, 1, -1], np.float32)
    share = clear[edge, None].astype(np.float32)
    colour[where[edge]] += (sky.colour(mirrored) - colour[where[edge]]) * share
    if paved is not None:
        _build(scene, camera, colour, Buildings(scene, paved.taxiways), sky, sunlight)
    return colour


def _rays(camera: Camera, pixels: Pixels, fine: int) -> Points:
    """Return fine x fine rays (N * fine^2, 3) through each pixel, numbered by rows."""
    shift = (np.arange(fine) + 0.5) / fine
    u = (pixels % camera.size[1])[:, None] + np.tile(shift, fine)
    v = (pixels // camera.size[1])[:, None] + np.repeat(shift, fine)
    return camera.rays(u.ravel(), v.ravel())


def _within(camera: Camera, around: Points, margin: float) -> Pixels:
    """Return the pixels of the picture within `margin` of a box."""
    h, w = camera.size
    x1, y1 = np.clip(np.floor(around[:2] - margin), 0, (w, h)).astype(int)
    x2, y2 = np.clip(np.ceil(around[2:] + margin), 0, (w, h)).astype(int)
    return np.asarray(np.add.outer(np.arange(y1, y2) * w, np.arange(x1, x2)).ravel())


def _pave(paved: _Paved, camera: Camera, albedo: Array, hits: Hits, where: Pixels, around: Points) -> None:
    """Lay the pavement over `albedo` (N, 3), the ground at the pixels `where`: 3 x 3 rays around the runway."""
    inside = np.zeros(camera.size[0] * camera.size[1], bool)
    inside[_within(camera, around, _MARGIN)] = True
    close = inside[where]
    coarse = np.flatnonzero(~close)
    colour, cover = paved.layer(hits.take(coarse))
    albedo[coarse] = albedo[coarse] * (1 - cover[:, None]) + colour
    near = np.flatnonzero(close)
    rays = _rays(camera, where[near], _FINE)
    below = camera.sees_ground(rays)  # the others, above the horizon, count as bare
    colour, cover = np.zeros((len(rays), 3), np.float32), np.zeros(len(rays), np.float32)
    colour[below], cover[below] = paved.layer(camera.ground(rays[below], step=1 / _FINE))
    count = _FINE * _FINE
    colour, cover = colour.reshape(-1, count, 3).mean(1), cover.reshape(-1, count).mean(1)
    albedo[near] = albedo[near] * (1 - cover[:, None]) + colour


def _build(
    scene: Scene, camera: Camera, colour: Array, buildings: Buildings, sky: Sky, sunlight: Sunlight
) -> None:
    """Put the buildings and their shadows into `colour` (H * W, 3), with 3 x 3 rays where they are."""
    places = []
    for building in buildings.boxes:
        points, depth = camera.project(buildings.extent(building))
        if depth.min() > 1:
            places.append(_within(camera, box(points), 1))
    pixels = np.unique(np.concatenate(places)) if places else np.empty(0, np.intp)
    if not pixels.size:
        return
    rays = _rays(camera, pixels, _FINE)
    albedo, cover, distance = buildings.trace(camera.position, rays)
    x, y = (camera.position[:2] + distance[:, None] * rays[:, :2]).astype(np.float32).T
    lit = sunlight.shade(albedo, x, y, distance / np.float32(camera.focal))
    seen = haze(lit, distance, scene, sky) * cover[:, None]
    count = _FINE * _FINE
    share = cover.reshape(-1, count).mean(1)[:, None]
    colour[pixels] = colour[pixels] * (1 - share) + seen.reshape(-1, count, 3).mean(1)
