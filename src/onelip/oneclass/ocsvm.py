"""`CertifiedOCSVM`: the one-class support vector machine with its Lipschitz constant."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.svm import OneClassSVM
from sklearn.utils._param_validation import Interval, StrOptions

from .base import Array, CertifiedDetector, U, _norms

_BYTES = 64_000_000


class CertifiedOCSVM(CertifiedDetector):
    """One-class support vector machine with a Gaussian kernel, and a proven constant of its score.

    Formula: `score = sum_i a_i exp(-gamma ||z - z_i||^2)` with `a_i >= 0`, `sum a_i = 1` (scikit-learn's score divided
    by the sum of its coefficients, so that scores lie in [0, 1]).

    Guarantee: the slope of `exp(-gamma r^2)` is at most `sqrt(2 gamma / e)`, at `r = 1 / sqrt(2 gamma)`, so
    `lipschitz_ = sum_i a_i sqrt(2 gamma / e)`, rounded up, is sound. It is loose where training rows lie on all sides.

    Args:
        nu: upper bound of the share of training rows outside, in (0, 1].
            Small ones leave few support vectors, at the border, where scores are low and certificates weak.
        gamma: "scale", `1 / (d * variance)` of the standardised rows, or a number > 0.
        contamination, standardize: see `CertifiedDetector`.

    Example:
        >>> X = np.random.RandomState(0).normal(size=(200, 2))
        >>> detector = CertifiedOCSVM().fit(X)
        >>> detector.predict([[0, 0], [6, 6]])
        array([ 1, -1])

    Source: Schoelkopf et al., "Estimating the support of a high-dimensional distribution", 2001.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CertifiedDetector._parameter_constraints,
        "nu": [Interval(Real, 0, 1, closed="right")],
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
    }

    def __init__(
        self,
        nu: float = 0.5,
        gamma: float | str = "scale",
        *,
        contamination: float | str = "auto",
        standardize: bool = True,
    ) -> None:
        self.nu = nu
        self.gamma = gamma
        self.contamination = contamination
        self.standardize = standardize

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:  # noqa: ARG002
        variance = float(Z.var())
        self.gamma_ = float(self.gamma) if self.gamma != "scale" else 1.0 / (Z.shape[1] * (variance or 1.0))
        machine = OneClassSVM(kernel="rbf", nu=self.nu, gamma=self.gamma_).fit(Z)
        weights = np.maximum(np.asarray(machine.dual_coef_, dtype=np.float64)[0], 0.0)
        self._take(np.ascontiguousarray(machine.support_vectors_), weights / weights.sum())

    def _take(self, rows: Array, weights: Array) -> None:
        self.support_vectors_, self.coefficients_ = rows, weights
        self._largest = float(_norms(rows).max())

    def _scores(self, Z: Array) -> Array:
        rows, size = self.support_vectors_, max(1, _BYTES // (8 * len(self.support_vectors_)))
        parts = []
        for i in range(0, len(Z), size):
            z = Z[i : i + size]
            squares = (z * z).sum(1)[:, None] + (rows * rows).sum(1) - 2 * (z @ rows.T)
            parts.append(np.exp(-self.gamma_ * np.maximum(squares, 0.0)) @ self.coefficients_)
        return np.concatenate(parts)

    def _error(self, norms: Array) -> Array:
        """Bound the rounding of the squared distances, times the slope gamma of exp there, of exp, and of the sum."""
        d, n = self.support_vectors_.shape[1], len(self.coefficients_)
        squares = 4 * (d + 12) * U * (norms + self._largest) ** 2
        # the kernel is never off by more than its range
        kernel = np.minimum(self.gamma_ * squares * (1 + 1e-6), 1.0)
        error: Array = (kernel + (n + 16) * 2 * U) * float(self.coefficients_.sum()) * (1 + 1e-6)
        return error

    def _prove(self) -> float:
        total = math.fsum(self.coefficients_.tolist())
        return total * math.sqrt(2 * self.gamma_ / math.e) * (1 + 1e-12)

    def _arrays(self) -> dict[str, Array]:
        return {"rows": self.support_vectors_, "weights": self.coefficients_}

    def _facts(self) -> dict[str, Any]:
        return {"gamma_": self.gamma_}

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
        self.gamma_ = float(facts["gamma_"])
        self._take(arrays["rows"], arrays["weights"])
