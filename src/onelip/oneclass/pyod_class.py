"""The class behind `as_pyod`; importing this module needs PyOD."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pyod.models.base import BaseDetector
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .base import Array, CertifiedDetector


class PyODDetector(BaseDetector):  # type: ignore[misc]
    """A certified detector with PyOD's conventions, see `onelip.oneclass.as_pyod`."""

    def __init__(self, detector: CertifiedDetector, contamination: float = 0.1) -> None:
        super().__init__(contamination=contamination)
        self.detector = detector

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fit a clone of the detector; y only tells PyOD the number of classes."""
        self._set_n_classes(y)
        self.detector_ = clone(self.detector).fit(X)
        self.decision_scores_ = self.decision_function(X)
        self._process_decision_scores()
        return self

    def decision_function(self, X: ArrayLike) -> Array:
        """Return minus the certified score: high = abnormal."""
        check_is_fitted(self, ["detector_"])
        scores: Array = -np.asarray(self.detector_.score_samples(X))
        return scores
