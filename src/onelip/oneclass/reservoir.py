"""A bounded sample of all rows seen so far, for learning that goes on."""

from __future__ import annotations

import numpy as np

from .base import Array

SIZE = 2000


class Reservoir:
    """Rows, each of all that were offered with the same probability.

    Example:
        >>> kept = Reservoir(1, size=3).offer(np.arange(10.0)[:, None], np.random.RandomState(0))
        >>> len(kept.rows), kept.offered
        (3, 10)

    Source: Vitter, "Random sampling with a reservoir", ACM TOMS 1985, algorithm R.
    """

    def __init__(self, features: int, size: int = SIZE) -> None:
        self.rows: Array = np.zeros((0, features))
        self.size = size
        self.offered = 0

    def offer(self, Z: Array, random: np.random.RandomState) -> Reservoir:
        """Look at more rows (n, d), keep some, and return itself."""
        room = self.size - len(self.rows)
        self.rows = np.concatenate((self.rows, Z[:room]))
        self.offered += min(room, len(Z))
        rest = Z[room:]
        seen = np.arange(self.offered + 1, self.offered + 1 + len(rest))
        places = (random.random_sample(len(rest)) * seen).astype(np.int64)
        for row, place in zip(rest, places, strict=True):
            if place < self.size:
                self.rows[place] = row
        self.offered += len(rest)
        return self
