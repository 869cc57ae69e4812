"""Adapter to PyOD, an optional package that is imported when it is asked for."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ..core.errors import MissingExtraError, explain
from .base import Array, CertifiedDetector


def as_pyod(detector: CertifiedDetector, contamination: float = 0.1) -> Any:
    """Wrap a detector for PyOD: scores high = abnormal, labels 0 and 1.

    Returns:
        A `pyod.models.base.BaseDetector` with `fit`, `decision_function` (minus `score_samples`), and what PyOD
        derives: `decision_scores_`, `threshold_`, `labels_`, `predict`, `predict_proba`, `predict_confidence`. Its
        `detector_` is the fitted clone, with `certified_radius` and `lipschitz_` for the same scores. PyOD's threshold
        is not the detector's offset: distances to it are `abs(scores - threshold_) / lipschitz_`, less rounding.

    Raises:
        MissingExtraError: PyOD is not installed.
        ValueError: PyOD's, for a contamination outside of (0, 0.5].
    """
    try:
        adapter = _adapter()
    except ImportError as error:
        raise MissingExtraError(
            explain("PyOD is not installed", received=error, fix="pip install pyod")
        ) from error
    return adapter(detector, contamination=contamination)


@cache
def _adapter() -> type:
    """Make the class, once: its base is in PyOD."""
    from pyod.models.base import BaseDetector

    class PyODDetector(BaseDetector):  # type: ignore[misc]
        """A certified detector with PyOD's conventions, see `onelip.oneclass.as_pyod`."""

        def __init__(self, detector: CertifiedDetector, contamination: float = 0.1) -> None:
            super().__init__(contamination=contamination)
            self.detector = detector

        def fit(self, X: ArrayLike, y: Any = None) -> Any:
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

    PyODDetector.__qualname__ = "PyODDetector"  # where pickle looks for it, see __getattr__
    return PyODDetector


def __getattr__(name: str) -> Any:
    """Hand out the class to pickle."""
    if name == "PyODDetector":
        return _adapter()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
