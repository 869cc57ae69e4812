"""Solids whose signed distance is known in closed form, to measure learned surfaces against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..core import checks
from .base import Array


class Shape(Protocol):
    """A solid around the origin."""

    def distance(self, points: ArrayLike) -> Array:
        """(n,) signed distance of (n, 3) points to the surface: positive inside, as scores are."""
        ...

    def sample(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        """Points uniform on the surface and their outward unit normals, (count, 3) each."""
        ...


@dataclass(frozen=True)
class Sphere:
    """A ball of a radius.

    Formula: `r - ||p||`.

    >>> Sphere(2.0).distance([[0, 0, 1], [3, 0, 0]])
    array([ 1., -1.])
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        checks.number("radius", self.radius, low=1e-9)

    def distance(self, points: ArrayLike) -> Array:
        """(n,) exact."""
        result: Array = self.radius - np.linalg.norm(np.asarray(points, dtype=np.float64), axis=1)
        return result

    def sample(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        """Uniform on the sphere."""
        normals = np.random.default_rng(seed).standard_normal((count, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        return self.radius * normals, normals


@dataclass(frozen=True)
class Torus:
    """A torus around the z axis.

    Formula: `r - ||(||(x, y)|| - R, z)||`.

    >>> Torus(1.0, 0.25).distance([[1.0, 0, 0], [0, 0, 0]])
    array([ 0.25, -0.75])
    """

    major: float = 1.2
    minor: float = 0.5

    def __post_init__(self) -> None:
        checks.number("minor", self.minor, low=1e-9)
        checks.number("major", self.major, low=self.minor)

    def distance(self, points: ArrayLike) -> Array:
        """(n,) exact."""
        p = np.asarray(points, dtype=np.float64)
        result: Array = self.minor - np.hypot(np.hypot(p[:, 0], p[:, 1]) - self.major, p[:, 2])
        return result

    def sample(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        """Uniform on the torus: the inner side is smaller, so points there are kept less often."""
        random = np.random.default_rng(seed)
        turns = np.empty(0)
        while len(turns) < count:
            tried = random.uniform(0, 2 * math.pi, 2 * count)
            kept = random.random(2 * count) * (self.major + self.minor) < self.major + self.minor * np.cos(
                tried
            )
            turns = np.concatenate((turns, tried[kept]))
        v, u = turns[:count], random.uniform(0, 2 * math.pi, count)
        normals = np.column_stack((np.cos(v) * np.cos(u), np.cos(v) * np.sin(u), np.sin(v)))
        middle = np.column_stack((np.cos(u), np.sin(u), np.zeros(count))) * self.major
        return middle + self.minor * normals, normals


@dataclass(frozen=True)
class Box:
    """A cuboid with given half sides.

    Formula: with `q = |p| - h`: `-||max(q, 0)|| - min(max(q), 0)`.

    >>> Box((1.0, 2.0, 3.0)).distance([[0, 0, 0], [1, 2, 5], [2, 3, 0]]).round(3)
    array([ 1.   , -2.   , -1.414])
    """

    half: tuple[float, float, float] = (1.0, 0.6, 0.3)

    def __post_init__(self) -> None:
        for side in self.half:
            checks.number("half", side, low=1e-9)

    def distance(self, points: ArrayLike) -> Array:
        """(n,) exact."""
        q = np.abs(np.asarray(points, dtype=np.float64)) - np.asarray(self.half)
        result: Array = -np.linalg.norm(np.maximum(q, 0.0), axis=1) - np.minimum(q.max(axis=1), 0.0)
        return result

    def sample(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        """Uniform on the six faces."""
        random, half = np.random.default_rng(seed), np.asarray(self.half)
        area = half.prod() / half
        axis = random.choice(3, count, p=area / area.sum())
        points = random.uniform(-1, 1, (count, 3)) * half
        normals = np.zeros((count, 3))
        normals[np.arange(count), axis] = random.choice([-1.0, 1.0], count)
        points[np.arange(count), axis] = normals[np.arange(count), axis] * half[axis]
        return points, normals
