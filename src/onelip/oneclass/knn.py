"""`CertifiedKNN`: the distance to the nearest training rows, 1-Lipschitz for free."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.utils._param_validation import Interval, StrOptions

from .base import Array, CertifiedDetector, U, _norms

_BYTES = 64_000_000  # of one block of distances
_EXTRA = 8  # candidates beyond k


class CertifiedKNN(CertifiedDetector):
    """Outlier detector by the distance to the k nearest training rows, with the certificate it has always had.

    Formula: `score = -mean of the k smallest ||z - z_i||` (or minus the largest of them).

    Guarantee: each distance is 1-Lipschitz, so is the j-th smallest of them, and so are means of those: `lipschitz_`
    is 1 in standardised units. On clean training rows this is hard to beat, clean and certified; where the training
    rows hold anomalies these are each other's neighbours, and `SignedDistance` does better.

    Args:
        k: neighbours; all training rows if there are fewer.
        method: "mean" of the k distances, or "largest", the k-th.
        contamination, standardize: see `CertifiedDetector`. With "auto" a training row does not count as its own
            neighbour when the offset is set.

    Example:
        >>> X = np.random.RandomState(0).normal(size=(200, 2))
        >>> detector = CertifiedKNN().fit(X)
        >>> detector.predict([[0, 0], [6, 6]])
        array([ 1, -1])
        >>> detector.lipschitz_
        1.0

    Source: Ramaswamy, Rastogi, Shim, SIGMOD 2000; Angiulli, Pizzuti, PKDD 2002.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CertifiedDetector._parameter_constraints,
        "k": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"mean", "largest"})],
    }

    def __init__(
        self,
        k: int = 5,
        *,
        method: str = "mean",
        contamination: float | str = "auto",
        standardize: bool = True,
    ) -> None:
        self.k = k
        self.method = method
        self.contamination = contamination
        self.standardize = standardize

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:  # noqa: ARG002
        self._take(Z.copy())

    def _take(self, rows: Array) -> None:
        self.rows_ = rows
        self._largest = float(_norms(rows).max())
        # trees pay off for few features only; they and cdist sum squared differences, without cancellation
        self._tree = cKDTree(rows) if rows.shape[1] <= 10 else None

    def _scores(self, Z: Array) -> Array:
        return self._combined(self._distances(Z, min(int(self.k), len(self.rows_))))

    def _training_scores(self, Z: Array) -> Array:
        others = min(int(self.k), len(Z) - 1)
        return self._combined(self._distances(Z, others + 1)[:, 1:])

    def _combined(self, distances: Array) -> Array:
        score: Array = -(distances.mean(axis=1) if self.method == "mean" else distances[:, -1])
        return score

    def _distances(self, Z: Array, k: int) -> Array:
        """Return the k smallest distances of each row, ascending, (n, k)."""
        if self._tree is not None:
            found: Array = self._tree.query(Z, k=np.arange(1, k + 1))[0]
            return found
        return np.concatenate([self._block(Z[part], k) for part in self._parts(len(Z), k)])

    def _parts(self, count: int, k: int) -> Iterator[slice]:
        size = max(1, _BYTES // (8 * max(len(self.rows_), (k + _EXTRA) * self.rows_.shape[1])))
        return (slice(i, i + size) for i in range(0, count, size))

    def _block(self, Z: Array, k: int) -> Array:
        """Find candidates by a matrix product, measure these without cancellation, and check that none was missed."""
        rows, many = self.rows_, min(k + _EXTRA, len(self.rows_))
        squares = (Z * Z).sum(1)[:, None] + (rows * rows).sum(1) - 2 * (Z @ rows.T)
        near = np.argpartition(squares, many - 1, axis=1)[:, :many]
        exact = np.sort(np.sqrt(((Z[:, None] - rows[near]) ** 2).sum(2)), axis=1)[:, :k]
        if many < len(rows):
            missed = np.take_along_axis(squares, near, 1).max(
                1
            )  # all others are at least this far, but for rounding
            error = 4 * (Z.shape[1] + 8) * U * (np.linalg.norm(Z, axis=1) + self._largest) ** 2
            unsure = ~(exact[:, -1] ** 2 * (1 + 1e-12) < missed - error)
            if unsure.any():
                exact[unsure] = np.sort(cdist(Z[unsure], rows), axis=1)[:, :k]
        return exact

    def _error(self, norms: Array) -> Array:
        """Bound the rounding: each distance has a relative error of at most (d / 2 + 6) u, the mean of k adds k u.

        The standardised row is off by `3 u ||z||`, which moves a distance by as much.
        """
        d, k = self.rows_.shape[1], min(int(self.k), len(self.rows_))
        error: Array = (d / 2 + k + 12) * 2 * U * (norms + self._largest)
        return error

    def _prove(self) -> float:
        return 1.0

    def _arrays(self) -> dict[str, Array]:
        return {"rows": self.rows_}

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:  # noqa: ARG002
        self._take(arrays["rows"])
