"""Where negatives start: distributions around the standardised training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError, explain
from .base import Array

NAMES = ("box", "gauss", "marginals")


@dataclass(frozen=True)
class Prior:
    """A mixture of distributions over the padded box of the training rows.

    - `box`: uniform in the box.
    - `gauss`: independent normals, deviation `max(max_j, -min_j) / 2` for feature j.
    - `marginals`: each feature drawn from its own training values, independently, and the row stretched by a
      factor uniform in [1, 2] away from the mean: ordinary values in combinations that do not occur.

    Attributes:
        low, high: (d,) the training range, padded on each side by `pad` times its width (at least by `pad`, so that
            constant features get negatives too).
        names: the parts, of equal weight.
        spread: (d,) deviations of `gauss`.
        rows: (n, d) training values of `marginals`, (0, d) if unused; points to draw from, for the part "given", which
            has no name for users.
    """

    low: Array
    high: Array
    names: tuple[str, ...]
    spread: Array
    rows: Array

    @classmethod
    def around(cls, Z: Array, name: str = "box", pad: float = 0.5) -> Prior:
        """Return the prior around training rows.

        Args:
            Z: (n, d) standardised rows.
            name: a name or several joined by "+", such as "box+gauss".
            pad: padding of the box.

        Raises:
            InputError: an unknown name.
        """
        names = parse(name)
        least, most = Z.min(axis=0), Z.max(axis=0)
        room = pad * np.maximum(most - least, 1.0)
        spread = np.maximum(np.maximum(most, -least) / 2, 1e-3)
        rows = Z.copy() if "marginals" in names else Z[:0].copy()
        return cls(least - room, most + room, names, spread, rows)

    def draw(self, count: int, random: np.random.RandomState) -> Array:
        """Return (count, d) points, clipped to the box."""
        cuts = np.linspace(0, count, len(self.names) + 1).round().astype(int)
        parts = [
            self._part(name, int(b - a), random)
            for name, a, b in zip(self.names, cuts, cuts[1:], strict=False)
        ]
        return np.clip(np.concatenate(parts), self.low, self.high)

    def _part(self, name: str, count: int, random: np.random.RandomState) -> Array:
        d = len(self.low)
        if name == "box":
            return self.low + (self.high - self.low) * random.random_sample((count, d))
        if name == "gauss":
            return self.spread * random.standard_normal((count, d))
        if name == "given":
            given: Array = self.rows[random.randint(len(self.rows), size=count)]
            return given
        drawn = self.rows[random.randint(len(self.rows), size=(count, d)), np.arange(d)]
        stretched: Array = drawn * random.uniform(1, 2, size=(count, 1))
        return stretched


def parse(name: object) -> tuple[str, ...]:
    """Split the name of a prior.

    >>> parse("box+gauss")
    ('box', 'gauss')
    """
    names = tuple(name.split("+")) if isinstance(name, str) else ()
    if not names or not set(names) <= set(NAMES):
        raise InputError(
            explain(
                "unknown prior",
                received=repr(name),
                expected=f'one of {", ".join(NAMES)}, several joined by "+", or "auto"',
            )
        )
    return names
