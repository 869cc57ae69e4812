"""Detectors with a calibrated offset, and the choice of alarms among many p-values."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.oneclass import inputs
from onelip.oneclass.inputs import SLACK
from onelip.oneclass.threshold import Threshold, conformal_threshold


class Scorer(Protocol):
    """What is calibrated: a fitted detector with scores, a proven constant and an offset."""

    lipschitz_: float
    offset_: float

    def score_samples(self, X: Any) -> Any:
        """(n,) scores, high = normal."""


D = TypeVar("D", bound=Scorer)


def calibrate(
    detector: D,
    X_cal: ArrayLike,
    alpha: float,
    eps: float = 0.0,
    confidence: float | None = None,
    *,
    units: str = "standardized",
    slack: float = SLACK,
) -> D:
    """Copy of a detector whose `predict` raises false alarms at a rate <= alpha, whatever a perturbation <= eps does.

    Args:
        detector: fitted, with `score_samples`, `lipschitz_` and `offset_`; it is left as it is.
        X_cal: (n, d) normal points that it was not fitted on.
        alpha: rate of false alarms, in (0, 1).
        eps: l2 norm of the perturbation.
        confidence: None or 1 - delta, see `conformal_threshold`.
        units: of eps: "standardized", those of `lipschitz_`; "raw", those of the columns: a raw ball of radius eps
            lies in a standardised ball of radius eps / min(scale_) (1 where the detector has no scale_).
        slack: share of 1 + |score| for rounding.

    Returns:
        A deep copy with `offset_` = the threshold and `threshold_`, the `Threshold` that it comes from.

    Guarantee:
        That of `conformal_threshold`, if predict(X) is -1 exactly where score_samples(X) < offset_.

    Raises:
        InputError: the detector lacks an attribute (is it fitted?), arguments out of range.
        DataError: too few points; the text says how many are needed.

    Example:
        >>> from types import SimpleNamespace
        >>> toy = SimpleNamespace(score_samples=lambda X: -np.abs(X[:, 0]), lipschitz_=1.0, offset_=-9.0, scale_=[2.0])
        >>> found = calibrate(toy, np.linspace(-1, 1, 99)[:, None], 0.1, eps=0.5, units="raw")
        >>> found.threshold_.rank, round(found.offset_, 3), toy.offset_
        (10, -1.168, -9.0)
    """
    missing = [name for name in ("score_samples", "lipschitz_", "offset_") if not hasattr(detector, name)]
    if missing:
        raise InputError(
            explain(
                "this detector cannot be calibrated",
                received=f"{type(detector).__name__} without {', '.join(missing)}",
                expected="a fitted detector with score_samples, lipschitz_ and offset_",
                fix="detector.fit(X) first; the calibration points must be others",
            )
        )
    eps = inputs.one_eps(eps)
    if inputs.choice("units", units, ("standardized", "raw")) == "raw":
        scale = float(np.min(getattr(detector, "scale_", 1.0)))
        eps = float(np.nextafter(eps / checks.lipschitz(scale, "scale_"), np.inf)) if eps > 0 else 0.0
    threshold = conformal_threshold(
        detector.score_samples(X_cal),
        alpha,
        eps=eps,
        lipschitz=detector.lipschitz_,
        confidence=confidence,
        slack=slack,
    )
    return with_threshold(detector, threshold)


def with_threshold(detector: D, threshold: Threshold) -> D:
    """Give a deep copy of a detector with this threshold as `offset_` and `threshold_`."""
    result: Any = copy.deepcopy(detector)
    result.offset_, result.threshold_ = threshold.value, threshold
    found: D = result
    return found


def benjamini_hochberg(
    p: ArrayLike, q: float, *, dependence: str = "positive"
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    r"""Which of m p-values are alarms, with a bounded expected share of false ones (FDR).

    The alarms are the r smallest, r the largest with p_(r) <= r q / (m c); c = 1 for `dependence="positive"`, c = 1 +
    1/2 + ... + 1/m for "any" (Benjamini-Yekutieli).

    Args:
        p: (m,) in [0, 1].
        q: bound of the FDR, in (0, 1).
        dependence: "positive" or "any", see Guarantee.

    Returns:
        (m,) bool, in the order of `p`; tied p-values share their fate.

    Guarantee:
        "positive": FDR <= q for independent or positively dependent p-values, as are conformal ones of one
        calibration set without attack (Bates et al. 2023). "any": FDR <= q however they depend, so also for
        `robust_pvalues` under an attacker who sees all points and moves them together; against that attacker
        "positive" promises no more than q (1 + 1/2 + ... + 1/m).

    Raises:
        InputError: p-values outside [0, 1] or of a wrong shape, q outside (0, 1), an unknown dependence.

    Example:
        >>> benjamini_hochberg([0.01, 0.9, 0.03, 0.5], 0.1)
        array([ True, False,  True, False])
        >>> benjamini_hochberg([0.01, 0.9, 0.03, 0.5], 0.1, dependence="any")
        array([ True, False, False, False])
    """
    values = inputs.score_array(p, "p")
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            explain(
                "`p` are no p-values",
                received=f"values from {values.min():.4g} to {values.max():.4g}",
                expected="numbers in [0, 1]",
            )
        )
    rate = inputs.open_share("q", q)
    count = len(values)
    harmonic = 1.0 if inputs.choice("dependence", dependence, ("positive", "any")) == "positive" else 0.0
    harmonic = harmonic or float((1.0 / np.arange(1, count + 1)).sum())
    ordered = np.sort(values)
    passed = np.flatnonzero(ordered <= np.arange(1, count + 1) * rate / (count * harmonic))
    cut = ordered[passed[-1]] if len(passed) else -1.0
    alarms: np.ndarray[Any, np.dtype[np.bool_]] = values <= cut
    return alarms
