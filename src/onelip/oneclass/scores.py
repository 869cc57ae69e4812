"""Scores of a test set, and every certified metric of them over eps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.oneclass import inputs
from onelip.oneclass.curves import ScoreCurve
from onelip.oneclass.inputs import SLACK
from onelip.oneclass.metrics import tpr_options
from onelip.oneclass.reach import Scores, aupr_of, auroc_of, f1_of, tpr_of

# Metric -> its options with their defaults.
_OPTIONS: dict[str, dict[str, Any]] = {
    "auroc": {},
    "aupr": {},
    "tpr": {"fpr": 0.05, "calibration": "attacked"},
    "f1": {"threshold": None},
}


class CertifiedScores:
    """Scores of a test set with their constant: every certified metric of them, over eps.

    Args:
        scores_normal: (n,) float64, high = normal.
        scores_anomaly: (m,) float64.
        lipschitz: proven constant, > 0 (a Bound is accepted).
        slack: share of 1 + |score| for rounding.

    Raises:
        InputError: as `certified_auroc`.

    Example:
        >>> found = CertifiedScores([1.0, 2.0, 3.0], [-1.0, 0.5]).curve("auroc", [0.0, 0.5, 2.0])
        >>> found
        ScoreCurve(auroc, 3 normals, 2 anomalies, attacker moves both)
          clean 1.0000; certified at eps  0: 1.0000  0.5: 0.8333  2: 0.0000
        >>> round(found.area(), 4)
        0.2083
    """

    def __init__(
        self,
        scores_normal: ArrayLike,
        scores_anomaly: ArrayLike,
        lipschitz: float = 1.0,
        *,
        slack: float = SLACK,
    ) -> None:
        self._scores = Scores.checked(scores_normal, scores_anomaly, lipschitz, "both", slack)

    @classmethod
    def of(
        cls, detector: Any, X: ArrayLike, anomalous: ArrayLike, *, slack: float = SLACK
    ) -> CertifiedScores:
        """Score a labelled test set in one call of a fitted detector.

        Args:
            detector: with `score_samples` and `lipschitz_`.
            X: (n, d).
            anomalous: (n,), 1 or True for anomalies, 0 or False for normals.
            slack: share of 1 + |score| for rounding.

        Raises:
            InputError: labels that are not 0 or 1, of another number than the scores, or of one class only.
        """
        scores, labels = np.asarray(detector.score_samples(X)), np.asarray(anomalous)
        if labels.shape != scores.shape or not np.isin(labels, (0, 1)).all():
            raise InputError(
                explain(
                    "`anomalous` are no labels of these points",
                    received=f"shape {labels.shape}, values {np.unique(labels)[:5].tolist()}",
                    expected=f"0 or 1, shape {scores.shape}",
                )
            )
        chosen = labels.astype(bool)
        return cls(scores[~chosen], scores[chosen], detector.lipschitz_, slack=slack)

    def curve(
        self,
        metric: str,
        eps: ArrayLike,
        *,
        attacker: str = "both",
        bootstrap: int = 0,
        level: float = 0.95,
        seed: int = 0,
        **options: Any,
    ) -> ScoreCurve:
        """Compute a certified metric over eps, with intervals if asked.

        The bootstrap is stratified: normals and anomalies are drawn with replacement, each class its own number; all
        eps share the draws. A threshold of F1 stays as it is, one of "tpr" is set anew in each draw.

        Args:
            metric: "auroc", "aupr", "tpr" (options fpr=0.05, calibration="attacked") or "f1" (option threshold).
            eps: (E,) strictly increasing.
            attacker: "both", "normals" or "anomalies".
            bootstrap: number of draws, 0 for none. About 200 for an interval of 95 %.
            level: of the percentile intervals, in (0, 1).
            seed: of the draws, an integer >= 0.
            options: of the metric.

        Guarantee:
            Values: sound lower bounds on these scores. Intervals: an estimate of how they vary over test sets.

        Raises:
            InputError: an unknown metric or option, eps that do not increase, options out of range.
        """
        grid = inputs.eps_array(eps)
        if (np.diff(grid) <= 0).any():
            raise InputError(
                explain(
                    "`eps` does not increase", received=grid.tolist(), expected="strictly increasing values"
                )
            )
        statistic = _statistic(inputs.choice("metric", metric, tuple(_OPTIONS)), options)
        count, sure = _draws(bootstrap, seed), inputs.open_share("level", level)
        base = self._scores
        scores = Scores.checked(base.normal, base.anomaly, base.lipschitz, attacker, base.slack)
        rng = np.random.default_rng(seed)
        everything = np.concatenate([[0.0], grid])  # the first is the plain value
        drawn = [_again(scores, rng).values(statistic, everything) for _ in range(count)]
        draws = np.array(drawn).reshape(count, len(everything))
        values = scores.values(statistic, everything)
        return ScoreCurve(
            metric=metric,
            eps=grid,
            values=values[1:],
            clean=float(values[0]),
            attacker=attacker,
            lipschitz=scores.lipschitz,
            normals=len(scores.normal),
            anomalies=len(scores.anomaly),
            options=dict(statistic.keywords),
            draws=draws[:, 1:],
            clean_draws=draws[:, 0],
            level=sure,
            seed=seed,
        )


def _again(scores: Scores, rng: np.random.Generator) -> Scores:
    """Draw each class with replacement; sorted indices keep the scores sorted."""
    normal, anomaly = (
        values[np.sort(rng.integers(0, len(values), len(values)))]
        for values in (scores.normal, scores.anomaly)
    )
    return Scores(normal, anomaly, scores.lipschitz, scores.attacker, scores.slack)


def _draws(bootstrap: Any, seed: Any) -> int:
    for name, value in (("bootstrap", bootstrap), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InputError(
                explain(f"`{name}` is not usable", received=repr(value), expected="an integer >= 0")
            )
    return int(bootstrap)


def _statistic(metric: str, options: dict[str, Any]) -> partial[float]:
    """Bind the options of a metric, checked."""
    known = _OPTIONS[metric]
    unknown = sorted(set(options) - set(known))
    if unknown:
        expected = ", ".join(known) or "none"
        raise InputError(
            explain(f"`{metric}` has no such option", received=", ".join(unknown), expected=expected)
        )
    chosen = {**known, **options}
    if metric == "tpr":
        share, calibration = tpr_options(chosen["fpr"], chosen["calibration"])
        return partial(tpr_of, fpr=share, calibration=calibration)
    if metric == "f1":
        return partial(f1_of, threshold=checks.number("threshold", chosen["threshold"]))
    return partial(auroc_of if metric == "auroc" else aupr_of)
