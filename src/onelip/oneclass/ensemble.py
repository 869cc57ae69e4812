"""`CertifiedEnsemble`: mean, minimum or maximum of certified scores, with the certificate that follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import StrOptions

from ..core.errors import InputError, explain
from .base import Array, CertifiedDetector, U
from .distance import SignedDistance
from .knn import CertifiedKNN


class CertifiedEnsemble(CertifiedDetector):
    """Outlier detector that combines the scores of certified detectors and keeps a certificate.

    Formula: `score = mean_i w_i s_i(z)`, `min_i w_i s_i(z)` or `max_i w_i s_i(z)`.

    Guarantee: `lipschitz_` is the mean of `w_i L_i`, or for min and max their largest, rounded up. The ensemble
    standardises once, and its members see standardised rows as they are: all constants are in the same unit.

    Args:
        estimators: detectors of `onelip.oneclass`, not fitted; they are cloned, `standardize` is switched off in the
            clones, and those without `random_state` get one. None: `SignedDistance(prior="box+gauss", lam=30)` and
            `CertifiedKNN()`, whose scores both are distances.
        how: "mean", "min" (normal only if all agree) or "max".
        weights: one number > 0 for each estimator, a factor on its score; None: all 1. Scores of
            `CertifiedOCSVM` lie in [0, 1] and are no distances: give it a weight.
        contamination, standardize: see `CertifiedDetector`.
        random_state: seeds the members.

    Attributes after `fit`: those of `CertifiedDetector`, and `estimators_`.

    Raises:
        ValueError: from `fit`: no estimators, an estimator without a certificate, weights of the wrong number or sign.

    Example:
        >>> X = np.random.RandomState(0).normal(size=(200, 2))
        >>> CertifiedEnsemble([CertifiedKNN(1), CertifiedKNN(20)], "min").fit(X).lipschitz_
        1.0

    Source: means and lattice operations of L-Lipschitz functions are L-Lipschitz.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CertifiedDetector._parameter_constraints,
        "estimators": [list, tuple, None],
        "how": [StrOptions({"mean", "min", "max"})],
        "weights": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimators: Sequence[CertifiedDetector] | None = None,
        how: str = "mean",
        *,
        weights: Sequence[float] | None = None,
        contamination: float | str = "auto",
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.how = how
        self.weights = weights
        self.contamination = contamination
        self.standardize = standardize
        self.random_state = random_state

    estimators_: list[CertifiedDetector]

    def _learn(self, Z: Array, random: np.random.RandomState) -> None:
        self.estimators_ = []
        for member in self._members():
            fresh = clone(member).set_params(standardize=False)
            if "random_state" in fresh.get_params() and fresh.get_params()["random_state"] is None:
                fresh.set_params(random_state=int(random.randint(2**31 - 1)))
            self.estimators_.append(fresh.fit(Z))
        self._weigh()

    def _members(self) -> list[CertifiedDetector]:
        if self.estimators is None:
            return [SignedDistance(prior="box+gauss", lam=30.0), CertifiedKNN()]
        members = list(self.estimators)
        if not members:
            raise InputError(explain("an ensemble needs estimators", received="an empty list"))
        for member in members:
            if not isinstance(member, CertifiedDetector):
                raise InputError(
                    explain(
                        "an estimator has no certificate",
                        received=type(member).__name__,
                        expected="detectors of onelip.oneclass",
                        why="the ensemble's constant is made of its members' proven ones",
                    )
                )
        return members

    def _weigh(self) -> None:
        count = len(self.estimators_)
        weights = np.ones(count) if self.weights is None else np.asarray(self.weights, dtype=np.float64)
        if weights.shape != (count,) or not (np.isfinite(weights).all() and (weights > 0).all()):
            raise InputError(
                explain(
                    "weights do not fit the estimators",
                    received=weights.tolist(),
                    expected=f"{count} finite numbers > 0",
                )
            )
        self._weights = weights
        origin = np.zeros((1, self.estimators_[0].n_features_in_))
        self._anchors = [abs(float(member._scores(origin)[0])) for member in self.estimators_]

    def _scores(self, Z: Array) -> Array:
        return self._combined(np.stack([member._scores(Z) for member in self.estimators_]))

    def _training_scores(self, Z: Array) -> Array:
        return self._combined(np.stack([member._training_scores(Z) for member in self.estimators_]))

    def _combined(self, scores: Array) -> Array:
        scores = scores * self._weights[:, None]
        if self.how == "mean":
            mean: Array = scores.mean(axis=0)
            return mean
        extreme: Array = scores.min(axis=0) if self.how == "min" else scores.max(axis=0)
        return extreme

    def _error(self, norms: Array) -> Array:
        """Bound the rounding: that of the members, and of their combination relative to the sizes of the scores."""
        total = np.zeros_like(norms)
        for weight, member, anchor in zip(self._weights, self.estimators_, self._anchors, strict=True):
            off = member._error(norms)
            size = anchor + member.lipschitz_ * norms + 2 * off + float(member._error(np.zeros(1))[0])
            each = weight * (off + (len(self._weights) + 4) * U * size) * (1 + 1e-6)
            total = total + each / len(self._weights) if self.how == "mean" else np.maximum(total, each)
        return total

    def _prove(self) -> float:
        parts = [
            float(w) * member._prove() for w, member in zip(self._weights, self.estimators_, strict=True)
        ]
        constant = math.fsum(parts) / len(parts) if self.how == "mean" else max(parts)
        exact = self.weights is None and all(part == 1.0 for part in parts)
        return 1.0 if exact else constant * (1 + 1e-15)

    def _arrays(self) -> dict[str, Array]:
        return {
            f"{i}.{name}": array
            for i, member in enumerate(self.estimators_)
            for name, array in member._arrays().items()
        }

    def _facts(self) -> dict[str, Any]:
        from .storage import describe

        return {"members": [describe(member) for member in self.estimators_]}

    def _restore(self, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
        from .storage import rebuild

        self.estimators_ = []
        for i, record in enumerate(facts["members"]):
            mine = {k.removeprefix(f"{i}."): v for k, v in arrays.items() if k.startswith(f"{i}.")}
            self.estimators_.append(rebuild(record, mine))
        self._weigh()
