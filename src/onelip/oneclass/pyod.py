"""Adapter to PyOD, an optional package that is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from ..core.errors import MissingExtraError, explain
from .base import CertifiedDetector


def as_pyod(detector: CertifiedDetector, contamination: float = 0.1) -> Any:
    """Wrap a detector for PyOD: scores high = abnormal, labels 0 and 1.

    Returns:
        A `pyod.models.base.BaseDetector` with `fit`, `decision_function` (minus `score_samples`), and what PyOD
        derives: `decision_scores_`, `threshold_`, `labels_`, `predict`, `predict_proba`, `predict_confidence`. Its
        `detector_` is the fitted clone, with `certified_radius` and `lipschitz_` for the same scores. PyOD's threshold
        is not the detector's offset: radii to it are `abs(scores - threshold_) / lipschitz_`, less rounding.

    Raises:
        MissingExtraError: PyOD is not installed.
        ValueError: PyOD's, for a contamination outside of (0, 0.5].
    """
    try:
        from .pyod_class import PyODDetector
    except ImportError as error:
        raise MissingExtraError(
            explain("PyOD is not installed", received=error, fix="pip install pyod")
        ) from error
    return PyODDetector(detector, contamination=contamination)
