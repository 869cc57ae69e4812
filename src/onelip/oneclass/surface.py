"""Signed distance fields learned from point clouds in space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from ..core import checks
from ..core.errors import InputError, explain
from .base import Array, U
from .distance import SignedDistance
from .mesh import Mesh, march

_PAIRS = 4_000_000  # of points and queries at a time


@dataclass(frozen=True, eq=False)
class DistanceField:
    """A learned signed distance to a surface, in the units of its points; positive inside.

    Formula: `scale * (f((p - centre) / scale) - level)` with f the score of `detector`, so that 0 is the surface.

    Attributes:
        detector: fitted `SignedDistance` on the normalised points, not standardised (that would bend distances).
        centre: (3,).
        scale: root mean square of the centred coordinates.
        level: value of f that stands for the surface.
        low, high: (3,) region of the points, padded.
    """

    detector: SignedDistance
    centre: Array
    scale: float
    level: float
    low: Array
    high: Array

    @property
    def lipschitz(self) -> float:
        """Proven constant of the field, the same in any unit."""
        return self.detector.lipschitz_

    def __call__(self, points: ArrayLike) -> Array:
        """(n,) values at (n, 3) points."""
        p = _space(points, "points")
        return self.scale * (self.detector.score_samples((p - self.centre) / self.scale) - self.level)

    def clearance(self, points: ArrayLike) -> Array:
        """(n,) radii of balls that the surface `field = 0` provably does not enter: safe steps of a sphere tracer.

        Formula: `(|field| - rounding) / lipschitz`. Guarantee: sound for the learned surface, whatever the true one is.
        """
        value = np.abs(self(points))
        p = (np.asarray(points, dtype=np.float64) - self.centre) / self.scale
        norms = np.linalg.norm(p, axis=1)
        slack = self.scale * (
            2 * self.detector._error(2 * norms + value / self.scale + 1) + 64 * U * (1 + norms)
        )
        result: Array = np.maximum(value - slack, 0.0) / self.lipschitz * (1 - 16 * U)
        return result

    def mesh(self, *, resolution: int = 64, level: float = 0.0) -> Mesh:
        """Return the surface where the field is `level` (0: the surface; in units of the points), see `march`.

        Raises:
            MissingExtraError: scikit-image is not installed.
            InputError: the field does not cross the level.
        """
        return march(self, self.low, self.high, level=level, resolution=resolution)


def fit_surface(
    points: ArrayLike,
    normals: ArrayLike | None = None,
    *,
    level: str = "margin",
    interior: int = 4000,
    margin: float = 0.05,
    lam: float = 20.0,
    pad: float = 0.3,
    steps: int = 1500,
    batch_size: int = 256,
    random_state: Any = None,
    **options: Any,
) -> DistanceField:
    """Learn the signed distance to the surface that points were taken from.

    With normals the inside is found by the winding number and the field is signed: a solid. Without, the points
    themselves are the support and the level set is a thin shell around them: an unsigned distance.

    Args:
        points: (n, 3), n >= 16.
        normals: (n, 3) outward normals; their lengths do not matter.
        level: the value that stands for the surface: "margin", the one at which the support ends by the theory of the
            loss, or "points", the median over the points.
        interior: number of interior points that are drawn.
        margin: m, in units of the normalised points; small details need a small one.
        lam: weight of the hinges; 100 fits no tighter, with a flatter field far away.
        pad: padding of the region, times the range of the points.
        steps: of the training.
        batch_size: of the training.
        random_state: of the training and the drawn points.
        **options: others of `SignedDistance`.

    Guarantee: the field is Lipschitz with the proven constant. That it is the distance is a heuristic; measure with
        `chamfer`.

    Raises:
        InputError: the points are not (n, 3) numbers, all in one place, or too few; normals that do not fit, or that
            enclose nothing; an unknown level.

    Source: Bethune et al., ICML 2023, section on implicit surfaces; inside and outside as in Coiffier and Bethune,
        "1-Lipschitz Neural Distance Fields", SGP 2024.
    """
    if level not in ("margin", "points"):
        raise InputError(explain("unknown level", received=repr(level), expected='"margin" or "points"'))
    p = _space(points, "points", least=16)
    centre = (p.min(axis=0) + p.max(axis=0)) / 2
    scale = float(np.sqrt(((p - centre) ** 2).mean()))
    if not scale > 1e-12 * (1 + float(np.abs(p).max())):
        raise InputError(explain("the points are all in one place", received=f"spread {scale:.3g}"))
    q = (p - centre) / scale
    seed = _seed(random_state)
    rows, outside = q, None
    if normals is not None:
        inside, outside = sides(q, normals, interior, pad=pad, seed=seed)
        rows = np.concatenate((q, inside))
    detector = SignedDistance(
        margin=margin,
        lam=lam,
        pad=pad,
        steps=steps,
        batch_size=batch_size,
        standardize=False,
        random_state=seed,
        **options,
    )
    detector._outside = outside
    detector.fit(rows)
    known = margin if level == "margin" else float(np.median(detector.score_samples(q)))
    room = pad * max(float((p.max(axis=0) - p.min(axis=0)).max()), 1e-9) / 2
    return DistanceField(detector, centre, scale, known, p.min(axis=0) - room, p.max(axis=0) + room)


def winding(points: ArrayLike, normals: ArrayLike, queries: ArrayLike) -> Array:
    """Return how often the surface of oriented points winds around each query, (q,): about 1 inside, 0 outside.

    Formula: `sum_i a_i n_i . (p_i - x) / (4 pi ||p_i - x||^3)`, the area a_i of a point estimated by the disc that its
    six nearest neighbours fill. Estimate: wrong within about one spacing of the surface.

    Source: Barill et al., "Fast winding numbers for soups and clouds", 2018 (without their tree).
    """
    p, x = _space(points, "points", least=16), _space(queries, "queries")
    n = _space(normals, "normals")
    if n.shape != p.shape or not (np.linalg.norm(n, axis=1) > 0).all():
        raise InputError(
            explain(
                "not one normal for each point", received=n.shape, expected=f"{p.shape}, none of length 0"
            )
        )
    n = n / np.linalg.norm(n, axis=1, keepdims=True)
    reach = cKDTree(p).query(p, 7)[0][:, -1]
    weighted = n * (math.pi * reach**2 / 6)[:, None]
    size = max(1, _PAIRS // len(p))
    least = 0.25 * float(np.median(reach)) ** 2 + np.finfo(float).tiny
    parts = []
    for i in range(0, len(x), size):
        # differences of products of coordinates: no (q, n, 3) array
        block = x[i : i + size]
        square = (block**2).sum(1)[:, None] - 2 * block @ p.T + (p**2).sum(1)
        numerator = (weighted * p).sum(1) - block @ weighted.T
        parts.append((numerator / np.maximum(square, least) ** 1.5).sum(1) / (4 * math.pi))
    return np.concatenate(parts)


def sides(
    points: ArrayLike, normals: ArrayLike, count: int, *, pad: float = 0.3, seed: int = 0
) -> tuple[Array, Array]:
    """Draw points inside and outside the surface of oriented points, uniform in its padded box, (count, 3) each.

    Raises:
        InputError: fewer than one in a thousand points of the box is inside: the normals look inwards, or the surface
            is not closed.
    """
    p, wanted = _space(points, "points", least=16), checks.positive_int("count", count)
    random = np.random.default_rng(seed)
    low, high = p.min(axis=0), p.max(axis=0)
    room = pad * np.maximum(high - low, 1.0)
    found: tuple[list[Array], list[Array]] = ([], [])
    tried = 0
    while min(sum(map(len, part)) for part in found) < wanted:
        drawn = random.uniform(low - room, high + room, (2048, 3))
        within = winding(p, normals, drawn) > 0.5
        found[0].append(drawn[within])
        found[1].append(drawn[~within])
        tried += len(drawn)
        most = sum(map(len, found[0]))
        if tried >= 8192 and most < tried / 1000:
            raise InputError(
                explain(
                    "the normals enclose nothing",
                    received=f"{most} of {tried} points inside",
                    expected="outward normals of a closed surface",
                    fix="pass -normals, or no normals for an unsigned distance",
                )
            )
    return np.concatenate(found[0])[:wanted], np.concatenate(found[1])


def _space(value: ArrayLike, name: str, *, least: int = 1) -> Array:
    points = np.asarray(value, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < least or not np.isfinite(points).all():
        raise InputError(
            explain(
                f"{name} are no points in space",
                received=f"shape {points.shape}"
                + ("" if np.isfinite(points).all() else " with NaN or infinities"),
                expected=f"(n, 3) finite numbers, n >= {least}",
            )
        )
    return points


def _seed(random_state: Any) -> int:
    from sklearn.utils import check_random_state

    if isinstance(random_state, int) and not isinstance(random_state, bool):
        return random_state
    return int(check_random_state(random_state).randint(2**31 - 1))
