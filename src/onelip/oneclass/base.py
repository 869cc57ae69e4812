"""What all certified detectors share: scaling, scores, decisions, radii, files."""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ..core.errors import InputError, explain

Array = NDArray[np.float64]
U = 2.0**-53  # unit roundoff of float64
LARGEST = 1e140  # squares of larger numbers, and sums of them, overflow
_CHUNK = 32768
_AUTO = 0.05  # share of the training rows below the offset when contamination="auto"


class CertifiedDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of outlier detectors whose score is proven to be Lipschitz.

    Formulas: `z = (x - mean_) / scale_`; `|score(x) - score(y)| <= lipschitz_ * ||z_x - z_y||_2` for all x, y;
    `decision = score - offset_`; `predict` is +1 (normal) where the decision is >= 0, else -1.

    Shapes: `X` is (n, d); scores, decisions, answers and radii are (n,).

    Guarantee: no row within `certified_radius` of a row, the boundary included, gets another answer, rounding of
    the float64 arithmetic included. The radius says nothing about whether the answer is right.

    Attributes after `fit`: `mean_`, `scale_` (1 for constant columns: a change there counts in the column's own
    units), `offset_`, `lipschitz_`, `n_features_in_`, and `feature_names_in_` for tables with named columns.

    `contamination`: "auto" puts 5 % of the training rows below the offset; a number in (0, 0.5] that share. Neither
    bounds the false alarms on new rows.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "contamination": [Interval(Real, 0, 0.5, closed="right"), StrOptions({"auto"})],
        "standardize": ["boolean"],
    }
    contamination: float | str
    standardize: bool
    mean_: Array
    scale_: Array
    offset_: float
    lipschitz_: float
    n_features_in_: int

    # what a detector has to say, all in standardised units

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:
        """Fit to standardised rows."""
        raise NotImplementedError

    def _scores(self, Z: Array) -> Array:
        """Return the scores of standardised rows."""
        raise NotImplementedError

    def _error(self, norms: Array) -> Array:
        """Bound |computed - exact score| for rows of at most these norms; grows with the norm."""
        raise NotImplementedError

    def _prove(self) -> float:
        """Prove the Lipschitz constant of the fitted score."""
        raise NotImplementedError

    def _arrays(self) -> dict[str, Array]:
        """Return the fitted numbers to store."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """Return the fitted facts to store as JSON."""
        return {}

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
        """Take back what `_arrays` and `_facts` returned."""
        raise NotImplementedError

    def _training_scores(self, Z: Array) -> Array:
        """Return the scores that contamination="auto" looks at."""
        return self._in_chunks(Z)

    # the public methods

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Learn what normal rows look like.

        Args:
            X: (n, d) with n >= 2: numbers, finite, at most 1e140 in size.
            y: ignored.

        Raises:
            ValueError: with scikit-learn's message: NaN, infinities, one row, an option out of its range. Text in a
                table with named columns, and values that cannot be squared, have messages of their own.
        """
        self._validate_params()
        X = self._validated(X, reset=True)
        self._set_scaling(X)
        Z = self._standardised(X)
        self._learn(Z, check_random_state(getattr(self, "random_state", None)))
        self.lipschitz_ = self._prove()
        self._set_offset(Z)
        return self

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the scores: the higher, the more normal.

        Raises:
            ValueError: the rows are not what was fitted (features, their names, NaN), in scikit-learn's words.
        """
        return self._in_chunks(self._checked(X))

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the score minus `offset_`: negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return +1 for normal rows and -1 for anomalies."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def certified_radius(self, X: ArrayLike, units: str = "standardized") -> Array:
        """Return how far a row can move, in any direction, with the answer proven to stay.

        Formula: `(|decision| - rounding) / lipschitz_` in standardised units; times `min(scale_)` in raw units,
        because `||dx / scale|| <= ||dx|| / min(scale)`.

        Args:
            X: (n, d).
            units: "standardized", the l2 norm of `(x - x') / scale_`, or "raw", the l2 norm of `x - x'`.

        Guarantee: sound: the closed ball holds no row with another `predict`; 0 where nothing is proven.

        Raises:
            InputError: unknown units.
        """
        if units not in ("standardized", "raw"):
            raise InputError(
                explain("unknown units", received=repr(units), expected='"standardized" or "raw"')
            )
        Z = self._checked(X)
        decision = np.abs(self._in_chunks(Z) - self.offset_)
        radius = self._radius(decision, _norms(Z))
        return radius if units == "standardized" else radius * float(self.scale_.min()) * (1 - 8 * U)

    def feature_budgets(self, X: ArrayLike) -> Array:
        """Return (n, d): how much each feature alone may change, in its own units, with the answer proven to stay.

        Formula: `radius * scale_j`. The features share one budget: only one of them may use it up.
        """
        budgets: Array = self.certified_radius(X)[:, None] * self.scale_ * (1 - 8 * U)
        return budgets

    def certified_predict(self, X: ArrayLike, eps: float, units: str = "standardized") -> NDArray[np.int64]:
        """Return `predict` where it is proven to stay under any change of norm at most eps, 0 elsewhere.

        Raises:
            InputError: eps is negative, NaN or infinite, or the units are unknown.
        """
        budget: Any = eps
        if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 <= float(budget) < math.inf:
            raise InputError(
                explain("eps is not a budget", received=repr(eps), expected="a finite number >= 0")
            )
        return np.where(self.certified_radius(X, units) >= eps, self.predict(X), 0)

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector as a folder, without pickle; see `onelip.oneclass.load`.

        Raises:
            NotFittedError: it is not fitted.
            StorageError: the folder could not be written; what was there before is still there.
        """
        from .storage import save

        save(self, folder)

    # how

    def _radius(self, decision: Array, norms: Array) -> Array:
        """Turn distances of scores to the offset into radii, less the rounding of both scores that are compared."""
        if self.lipschitz_ == 0:
            return np.where(decision > 2 * self._error(norms), np.inf, 0.0)
        reach = decision / self.lipschitz_ * (1 + 8 * U)
        slack = self._error(norms) + self._error(norms + reach) + 8 * U * decision + np.finfo(float).tiny
        radius: Array = np.maximum(decision - slack, 0.0) / self.lipschitz_ * (1 - 8 * U)
        return radius

    def _set_scaling(self, X: Array) -> None:
        d = X.shape[1]
        self.mean_, self.scale_ = np.zeros(d), np.ones(d)
        if self.standardize:
            self.mean_ = X.mean(axis=0)
            spread = X.std(axis=0)
            flat = (X.max(axis=0) == X.min(axis=0)) | (spread <= 10 * U * len(X) * np.abs(self.mean_))
            self.scale_ = np.where(flat, 1.0, spread)

    def _set_offset(self, Z: Array) -> None:
        auto = self.contamination == "auto"
        scores = self._training_scores(Z) if auto else self._in_chunks(Z)
        share = _AUTO if auto else float(self.contamination)
        # a row exactly at the offset stays above it in any batch
        slack = 2 * float(self._error(_norms(Z).max(keepdims=True))[0])
        self.offset_ = float(np.percentile(scores, 100 * share)) - slack

    def _in_chunks(self, Z: Array) -> Array:
        if len(Z) <= _CHUNK:
            return self._scores(Z)
        return np.concatenate([self._scores(Z[i : i + _CHUNK]) for i in range(0, len(Z), _CHUNK)])

    def _checked(self, X: ArrayLike) -> Array:
        check_is_fitted(self, "lipschitz_")
        return self._standardised(self._validated(X, reset=False))

    def _validated(self, X: Any, *, reset: bool) -> Array:
        refuse_text(X)
        rows: Array = validate_data(
            self, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=2 if reset else 1
        )
        if float(np.abs(rows).max()) > LARGEST:
            raise too_large(float(np.abs(rows).max()))
        return rows

    def _standardised(self, X: Array) -> Array:
        with np.errstate(over="ignore"):
            Z: Array = (X - self.mean_) / self.scale_
        if not np.abs(Z).max() <= LARGEST:
            raise too_large(float(np.abs(Z).max()))
        return Z


def _norms(Z: Array) -> Array:
    """Return row norms, rounded up."""
    norms: Array = np.linalg.norm(Z, axis=1) * (1 + (Z.shape[1] + 8) * 2 * U)
    return norms


def too_large(value: float) -> InputError:
    """Return the error for values whose squares overflow."""
    return InputError(
        explain(
            "X holds values that are too large",
            received=f"{value:.3g}",
            expected=f"at most {LARGEST:.0e}, also in units of the training spread",
            why="their distances overflow, so no score and no radius would mean anything",
        )
    )


def refuse_text(X: Any) -> None:
    """Refuse a table with named columns that hold no numbers, and say which (duck-typed: pandas, polars)."""
    if not (hasattr(X, "columns") and hasattr(X, "__getitem__")):
        return
    bad = []
    for name in X.columns:
        column = np.asarray(X[name])
        if column.ndim == 1 and column.dtype.kind not in "biuf" and not _numeric(column):
            bad.append(str(name))
    if bad:
        raise InputError(
            explain(
                "X has columns that hold no numbers",
                received=", ".join(bad[:8]) + (f" and {len(bad) - 8} more" if len(bad) > 8 else ""),
                expected="numeric columns",
                fix="drop them, or encode them as numbers (one-hot, ordinal)",
            )
        )


def _numeric(column: NDArray[Any]) -> bool:
    try:
        column.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return column.dtype.kind == "O" and not any(isinstance(value, str) for value in column)
