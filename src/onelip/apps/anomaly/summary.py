"""What is kept of the scores while a file goes by: histogram, shares that are certified, the most abnormal rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onelip.apps.anomaly.tables import Array
from onelip.oneclass import CertifiedDetector, CertifiedScores

CURVE = 26  # points of a curve
TOP, FEATURES = 8, 6  # most abnormal rows, and features shown of each
_BINS = 4096


class Histogram:
    """Counts over equal bins whose range doubles as it must: one pass, fixed memory.

    Example:
        >>> found = Histogram()
        >>> found.add(np.array([0.0, 1.0]), None)
        >>> found.add(np.array([5.0]), None)
        >>> int(found.counts.sum()), found.high >= 5.0
        (3, True)
    """

    def __init__(self) -> None:
        self.low, self.width = math.nan, 0.0
        self.counts = np.zeros((2, _BINS), dtype=np.int64)  # normals or unlabelled rows, anomalies

    @property
    def high(self) -> float:
        """Right end."""
        return self.low + _BINS * self.width

    def add(self, scores: Array, labels: Array | None) -> None:
        """Count some scores."""
        least, most = float(scores.min()), float(scores.max())
        if not self.width:
            self.low = least
            self.width = max((most - least) / _BINS * (1 + 1e-9), 1e-9 * (1 + abs(least)))
        while most >= self.high:
            self._double(up=True)
        while least < self.low:
            self._double(up=False)
        places = np.clip(((scores - self.low) / self.width).astype(np.int64), 0, _BINS - 1)
        kinds = np.zeros(len(scores), dtype=np.int64) if labels is None else labels.astype(np.int64)
        np.add.at(self.counts, (kinds, places), 1)

    def _double(self, *, up: bool) -> None:
        pairs = self.counts.reshape(2, _BINS // 2, 2).sum(2)
        self.counts = np.zeros_like(self.counts)
        half = slice(0, _BINS // 2) if up else slice(_BINS // 2, None)
        self.counts[:, half] = pairs
        self.low = self.low if up else self.low - _BINS * self.width
        self.width *= 2

    def to_dict(self, bins: int = 60) -> dict[str, Any]:
        """JSON-ready: edges and counts of at most `bins` bins, the lowest percent of the rows apart where it is far."""
        total = self.counts.sum(0)
        below = total.cumsum() - total
        used = np.flatnonzero(total)
        first, last = int(used[0]), int(used[-1]) + 1
        kept = int(np.flatnonzero(below <= 0.01 * total.sum())[-1])
        start = kept if last - kept < (last - first) / 3 else first
        step = max(1, math.ceil((last - start) / bins))
        cuts = np.arange(start, last, step)
        counts = [np.add.reduceat(row[:last], cuts).tolist() for row in self.counts]
        edges = self.low + self.width * np.append(cuts, cuts[-1] + step)
        return {
            "edges": edges.tolist(),
            "rows": counts[0],
            "anomalies": counts[1],
            "left_of_them": [int(row[:start].sum()) for row in self.counts],
        }


class Summary:
    """What results.json says about scored rows.

    Args:
        detector: that scores them.
        eps: of the tables, increasing from 0, in standardised units.
    """

    def __init__(self, detector: CertifiedDetector, eps: Sequence[float]) -> None:
        self.detector = detector
        self.eps = list(eps)
        self.rows = self.flagged = self.anomalies = 0
        self._proven = np.zeros(len(self.eps), dtype=np.int64)
        self._histogram = Histogram()
        self._kept: list[tuple[Array, Array]] = []
        self._top: Array | None = None  # columns: number, score, features

    def add(self, start: int, X: Array, labels: Array | None, scores: Array, radius: Array) -> None:
        """Count one block of rows."""
        self.rows += len(scores)
        self.flagged += int((scores - self.detector.offset_ < 0).sum())
        self._proven += (radius[:, None] >= np.asarray(self.eps)).sum(0)
        self._histogram.add(scores, labels)
        if labels is not None:
            self.anomalies += int(labels.sum())
            self._kept.append((scores, labels.astype(bool)))
        few = np.argsort(scores, kind="stable")[:TOP]
        mine: Array = np.column_stack((few + start, scores[few], X[few]))
        both: Array = mine if self._top is None else np.concatenate((self._top, mine))
        self._top = both[np.argsort(both[:, 1], kind="stable")[:TOP]]

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON-ready sections `scores`, `certified`, `metrics` and `abnormal`."""
        return {
            "scores": {
                "rows": self.rows,
                "flagged": self.flagged,
                "anomalies": self.anomalies if self._kept else None,
                "offset": self.detector.offset_,
                "histogram": self._histogram.to_dict(),
            },
            "certified": [
                {"eps": e, "rows": int(n), "share": int(n) / self.rows}
                for e, n in zip(self.eps, self._proven, strict=True)
            ],
            "metrics": self._metrics(),
            "abnormal": self._abnormal(names),
        }

    def _metrics(self) -> dict[str, Any] | None:
        """Certified metrics of all labelled rows; None unless there are both kinds."""
        if not self.anomalies or self.anomalies == sum(len(s) for s, _ in self._kept):
            return None
        scores, labels = (np.concatenate(part) for part in zip(*self._kept, strict=True))
        constant = max(self.detector.lipschitz_, np.finfo(float).tiny)  # 0 for a score that never changes
        found = CertifiedScores(scores[~labels], scores[labels], constant)
        options: dict[str, dict[str, Any]] = {
            "auroc": {},
            "aupr": {},
            "tpr": {},
            "f1": {"threshold": self.detector.offset_},
        }
        curves = {name: found.curve(name, self.eps, **more) for name, more in options.items()}
        grid = np.linspace(0.0, max(self.eps[-1], 0.1), CURVE)
        return {
            "attacker": "both",
            "normals": int((~labels).sum()),
            "anomalies": int(labels.sum()),
            "clean": {name: curve.clean for name, curve in curves.items()},
            "rows": [
                {"eps": e, **{name: float(curve.values[i]) for name, curve in curves.items()}}
                for i, e in enumerate(self.eps)
            ],
            "curve": {"eps": grid.tolist(), "auroc": found.curve("auroc", grid).values.tolist()},
        }

    def _abnormal(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The rows with the lowest scores, and the features that take the largest part in it."""
        if self._top is None:
            return []
        numbers, scores, X = self._top[:, 0], self._top[:, 1], self._top[:, 2:]
        parts = contributions(self.detector, X)
        radius = self.detector.certified_radius(X)
        rows = []
        for i, number in enumerate(numbers):
            order = np.argsort(-np.abs(parts[i]), kind="stable")[:FEATURES]
            features = [
                {
                    "name": names[j],
                    "value": float(X[i, j]),
                    "typical": float(self.detector.mean_[j]),
                    "spread": float(self.detector.scale_[j]),
                    "contribution": float(parts[i, j]),
                }
                for j in order
            ]
            rows.append(
                {
                    "row": int(number) + 1,
                    "score": float(scores[i]),
                    "decision": float(scores[i] - self.detector.offset_),
                    "radius": number_or_text(float(radius[i])),
                    "features": features,
                }
            )
        return rows


def number_or_text(value: float) -> float | str:
    """A number for JSON: infinity as "inf"."""
    return value if math.isfinite(value) else "inf"


def contributions(detector: CertifiedDetector, X: Array) -> Array:
    """How much each feature takes part in a row being abnormal, (n, d): `-decision * g_j^2 / ||g||^2`.

    By the detector's own gradient where it has one, else by central differences of the score. Estimate: the gradient is
    local.
    """
    own = getattr(detector, "contributions", None)
    if own is not None:
        found: Array = own(X)
        return found
    step = 1e-4 * detector.scale_
    gradient = np.empty_like(X)
    for i, row in enumerate(X):
        both = detector.score_samples(np.concatenate((row + np.diag(step), row - np.diag(step))))
        gradient[i] = (both[: len(row)] - both[len(row) :]) / 2e-4
    squares = gradient**2
    total = squares.sum(1, keepdims=True)
    shares = np.divide(squares, total, out=np.full_like(X, 1 / X.shape[1]), where=total > 0)
    result: Array = -shares * detector.decision_function(X)[:, None]
    return result
