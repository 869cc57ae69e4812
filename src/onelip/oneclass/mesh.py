"""Surfaces made of triangles: level sets of fields by marching cubes, files, distances between surfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ..core import checks
from ..core.errors import InputError, MissingExtraError, explain
from ..core.files import atomic_write
from .base import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Field = Callable[[Array], Array]
FORMATS = (".obj", ".off", ".ply")
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices: (V, 3) float64.
        faces: (F, 3) int64, counter-clockwise seen from outside.
    """

    vertices: Array
    faces: NDArray[np.int64]

    @property
    def area(self) -> float:
        """Area of all triangles."""
        return float(self._areas().sum())

    @property
    def volume(self) -> float:
        """Signed volume inside a closed surface: positive when its faces look outwards."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    @property
    def closed(self) -> bool:
        """Each edge belongs to exactly two triangles, once in each direction."""
        edges = np.concatenate([self.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0))])
        codes = edges[:, 0] * len(self.vertices) + edges[:, 1]
        back = edges[:, 1] * len(self.vertices) + edges[:, 0]
        return bool(len(np.unique(codes)) == len(codes) and np.isin(back, codes).all())

    def sample(self, count: int, seed: int = 0) -> Array:
        """Points uniform on the surface, (count, 3)."""
        random, areas = np.random.default_rng(seed), self._areas()
        chosen = random.choice(len(areas), checks.positive_int("count", count), p=areas / areas.sum())
        u, v = np.sqrt(random.random((count, 1))), random.random((count, 1))
        a, b, c = (self.vertices[self.faces[chosen, k]] for k in range(3))
        points: Array = (1 - u) * a + u * (1 - v) * b + u * v * c
        return points

    def save(self, path: str | Path) -> None:
        """Write the surface as text in the format of the suffix: .obj (Wavefront), .off (Geomview) or .ply (Stanford).

        Raises:
            InputError: another suffix.
            StorageError: the file could not be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise InputError(
                explain("unknown format of surfaces", received=path.name, expected=" or ".join(FORMATS))
            )
        first = suffix == ".obj"
        points = [" ".join(f"{x:.9g}" for x in vertex) for vertex in self.vertices.tolist()]
        corners = [" ".join(str(k + first) for k in face) for face in self.faces.tolist()]
        if first:
            lines = [f"v {p}" for p in points] + [f"f {c}" for c in corners]
        elif suffix == ".off":
            lines = ["OFF", f"{len(points)} {len(corners)} 0", *points, *(f"3 {c}" for c in corners)]
        else:
            head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
            head += [f"property double {axis}" for axis in "xyz"]
            head += [f"element face {len(corners)}", "property list uchar int vertex_indices", "end_header"]
            lines = [*head, *points, *(f"3 {c}" for c in corners)]
        atomic_write(path, "\n".join(lines) + "\n")

    def figure(
        self, *, axes: Any = None, colour: str = "#3a8fb7", view: tuple[float, float] = (28, -55)
    ) -> Figure:
        """Draw the surface with light from one side, on 3-D axes of matplotlib or on a new figure."""
        from matplotlib.colors import LightSource
        from matplotlib.figure import Figure

        if axes is None:
            figure = Figure(figsize=(5, 5), layout="constrained")
            axes = figure.add_subplot(projection="3d")
        drawn = axes.plot_trisurf(
            *self.vertices.T,
            triangles=self.faces,
            color=colour,
            lightsource=LightSource(azdeg=225, altdeg=60),
            linewidth=0,
            antialiased=False,
        )
        drawn.set_edgecolor("face")
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        for k, name in enumerate("xyz"):
            getattr(axes, f"set_{name}lim")(low[k], high[k])
        axes.set_proj_type("ortho")
        axes.set_box_aspect(np.maximum(high - low, 1e-9), zoom=1.02)
        axes.view_init(*view)
        axes.set_axis_off()
        drawn_on: Figure = axes.figure
        return drawn_on

    def _areas(self) -> Array:
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        areas: Array = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        return areas


def march(field: Field, low: ArrayLike, high: ArrayLike, *, level: float = 0.0, resolution: int = 64) -> Mesh:
    """Return the surface where a field has a value, by Lewiner's marching cubes on a regular grid.

    The field is high inside. Axes keep their order: the grid is built with "ij" indexing, so vertex k's first number
    is its x. Cells are cubes up to rounding of their number; the longest side of the region has `resolution` of them.

    Args:
        field: maps (n, 3) float64 to (n,).
        low: (3,) lower corner of the region.
        high: (3,) upper corner.
        level: value of the surface.
        resolution: cells along the longest side.

    Guarantee: a picture of the field: details smaller than a cell are lost, and the surface is open where it leaves the
        region.

    Raises:
        MissingExtraError: scikit-image is not installed.
        InputError: the region is empty, the field does not reach the level in it, or gives NaN.

    Example:
        >>> march(lambda p: 1 - np.linalg.norm(p, axis=1), [-2] * 3, [2] * 3).closed  # doctest: +SKIP
        True

    Source: Lewiner et al., "Efficient implementation of marching cubes' cases with topological guarantees", 2003.
    """
    marching_cubes = _marching_cubes()
    corners = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if (
        any(c.shape != (3,) or not np.isfinite(c).all() for c in corners)
        or not (corners[0] < corners[1]).all()
    ):
        raise InputError(
            explain(
                "the region is no box",
                received=f"{corners[0]} to {corners[1]}",
                expected="three finite numbers each, low < high",
            )
        )
    sides = corners[1] - corners[0]
    cells = np.maximum(
        np.ceil(sides / sides.max() * checks.positive_int("resolution", resolution)), 1
    ).astype(int)
    ticks = [np.linspace(a, b, n + 1) for a, b, n in zip(*corners, cells, strict=True)]
    grid = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.concatenate([np.asarray(field(grid[i : i + _CHUNK])) for i in range(0, len(grid), _CHUNK)])
    if not np.isfinite(values).all():
        raise InputError(explain("the field gives NaN or infinite values", expected="finite numbers"))
    if not values.min() < level < values.max():
        raise InputError(
            explain(
                "the field does not cross the level in the region",
                received=f"values from {values.min():.4g} to {values.max():.4g}",
                expected=f"values on both sides of {level:.4g}",
            )
        )
    vertices, faces, _, _ = marching_cubes(
        values.reshape(cells + 1), level, spacing=tuple(sides / cells), gradient_direction="ascent"
    )
    return Mesh(vertices.astype(np.float64) + corners[0], faces.astype(np.int64))


def chamfer(a: ArrayLike, b: ArrayLike, *, p: int = 1) -> float:
    """Return the Chamfer distance between two point sets.

    Formula: `mean_a min_b ||a - b||^p + mean_b min_a ||a - b||^p`, p = 1 or 2.

    Guarantee: exact for the points; for surfaces an estimate from above, by about the spacing of their samples.

    Raises:
        InputError: the sets are not (n, 3) and (m, 3), or p is neither 1 nor 2.

    Example:
        >>> chamfer([[0, 0, 0], [1, 0, 0]], [[0, 0, 0]])
        0.5
    """
    if p not in (1, 2):
        raise InputError(explain("unknown power", received=repr(p), expected="1 or 2"))
    return sum(float((distances**p).mean()) for distances in nearest(a, b))


def hausdorff(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Hausdorff distance between two point sets: the largest distance to the nearest point of the other.

    >>> hausdorff([[0, 0, 0], [1, 0, 0]], [[0, 0, 0]])
    1.0
    """
    return max(float(distances.max()) for distances in nearest(a, b))


def nearest(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return the distance of each point to the nearest one of the other set, (n,) and (m,)."""
    sets = []
    for name, value in (("a", a), ("b", b)):
        points = np.asarray(value, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
            raise InputError(
                explain(
                    f"{name} are no points in space", received=points.shape, expected="(n, 3) finite numbers"
                )
            )
        sets.append(points)
    first, second = sets
    return cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]


def _marching_cubes() -> Any:
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingExtraError(
            explain(
                "surfaces need scikit-image, which is not installed",
                fix="pip install 'onelip[surfaces]'",
            )
        ) from error
    return marching_cubes
