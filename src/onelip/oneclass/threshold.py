r"""Thresholds whose false-alarm rate holds under attack, and p-values that stay valid under attack.

Calibration scores are of normal points that the detector was not trained on, exchangeable with the normals to come.
A point is flagged when its score is below the threshold (predict: -1). If f is L-Lipschitz, a perturbation of norm <=
eps lowers a score by at most D = L * eps, so a threshold lowered by D flags under attack only what the threshold
itself would flag without.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from onelip.core import checks
from onelip.core.errors import DataError, explain
from onelip.oneclass import inputs
from onelip.oneclass.inputs import SLACK, Array


@dataclass(frozen=True)
class Threshold:
    """A calibrated threshold: flag what scores below `value`.

    Attributes:
        value: the threshold, lowered by lipschitz * eps and by the slack of rounding.
        alpha: promised rate of false alarms.
        rank: k: `value` is the k-th smallest calibration score, lowered.
        n: number of calibration scores.
        eps: norm of the perturbations that the promise covers.
        lipschitz: constant of the score.
        confidence: None: the promise is a mean over calibration sets; otherwise the probability, over calibration
            sets, that the rate of this very threshold is at most alpha.
        slack: share of 1 + |score| for rounding.
    """

    value: float
    alpha: float
    rank: int
    n: int
    eps: float = 0.0
    lipschitz: float = 1.0
    confidence: float | None = None
    slack: float = SLACK

    def flag(self, scores: ArrayLike) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(n,) bool: which scores are alarms (strictly below the threshold)."""
        return inputs.score_array(scores, "scores", self.slack) < self.value

    def __str__(self) -> str:
        under = f" under any perturbation of norm <= {self.eps:g}" if self.eps else ""
        sure = f" with confidence {self.confidence:g} over calibration sets" if self.confidence else ""
        return (
            f"flag scores below {self.value:.6g}: false alarms <= {self.alpha:g}{under}{sure} "
            f"(rank {self.rank} of {self.n})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return asdict(self)


def conformal_rank(n: int, alpha: float, confidence: float | None = None) -> int:
    r"""Rank k of the calibration score that is the threshold; 0 where n is too small.

    Marginal: k = floor(alpha (n + 1)). For exchangeable scores P(f < s_(k)) <= k / (n + 1), ties or not.
    With confidence 1 - delta: the largest k with BetaCDF(alpha; k, n + 1 - k) >= 1 - delta. For a continuous law the
    rate below s_(k) is Beta(k, n + 1 - k); ties only lower it, as the comparison is strict.

    Args:
        n: number of calibration scores, >= 1.
        alpha: promised rate, in (0, 1), taken as it is written (0.29 of 100 is 29).
        confidence: 1 - delta in (0, 1), or None.

    Returns:
        The rank, 0 <= k <= n.

    Raises:
        InputError: arguments out of range.

    Example:
        >>> conformal_rank(1000, 0.1), conformal_rank(1000, 0.1, 0.95), conformal_rank(100, 0.05, 0.95)
        (100, 85, 2)

    Source: Vovk, Conditional validity of inductive conformal predictors, 2012.
    """
    checks.positive_int("n", n)
    alpha = inputs.open_share("alpha", alpha)
    if confidence is None:
        return inputs.share_of(alpha, n + 1)
    confidence = inputs.open_share("confidence", confidence)
    low, high = (
        0,
        n,
    )  # the coverage falls in k: bisection between a rank that holds (0: no alarms) and one beyond
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _coverage(n, middle, alpha) >= confidence else (low, middle - 1)
    return low


def _coverage(n: int, k: int, alpha: float) -> float:
    """BetaCDF(alpha; k, n + 1 - k) less 1e-12, far more than the error of its evaluation."""
    from scipy.special import betainc

    return float(betainc(k, n + 1 - k, alpha)) - 1e-12


def smallest_calibration(alpha: float, confidence: float | None = None) -> int:
    """Smallest number of calibration scores with which `conformal_threshold` does not refuse.

    Raises:
        InputError: arguments out of (0, 1).

    Example:
        >>> smallest_calibration(0.1), smallest_calibration(0.1, 0.95), smallest_calibration(0.01, 0.95)
        (9, 29, 299)
    """
    alpha = inputs.open_share("alpha", alpha)
    if confidence is None:
        guess = 1.0 / alpha - 1.0
    else:
        guess = math.log1p(-inputs.open_share("confidence", confidence)) / math.log1p(-alpha)
    n = max(1, math.floor(guess) - 2)
    while conformal_rank(n, alpha, confidence) < 1:
        n += 1
    return n


def conformal_threshold(
    calibration_scores: ArrayLike,
    alpha: float,
    *,
    eps: float = 0.0,
    lipschitz: float = 1.0,
    confidence: float | None = None,
    slack: float = SLACK,
) -> Threshold:
    r"""Threshold with a promised rate of false alarms under every perturbation of norm <= eps.

        tau = s_(k) - L eps,    flag x when f(x) < tau

    A normal x is flagged after some perturbation only if f(x) - L eps < s_(k) - L eps, that is f(x) < s_(k), which
    happens with probability <= alpha by the choice of k (`conformal_rank`). The slack of rounding is subtracted too:
    s -> s - L eps - slack (1 + |s|) is increasing, so the same argument holds for computed scores. At eps = 0 the
    threshold is s_(k) itself.

    Args:
        calibration_scores: (n,) of normals that the detector was not trained on, in any order.
        alpha: rate, in (0, 1).
        eps: norm, >= 0, in the units of `lipschitz`.
        lipschitz: proven constant of the score, > 0.
        confidence: None: the rate holds on average over calibration sets and points; 1 - delta: with this probability
            over independent calibration sets the rate of this threshold is <= alpha (PAC).
        slack: share of 1 + |score| for rounding.

    Returns:
        The threshold with all that it rests on.

    Guarantee:
        P(some perturbation of norm <= eps makes a new normal an alarm) <= alpha, for exchangeable scores (marginal)
        or independent ones (PAC); drift and poisoned calibration points are not covered.

    Raises:
        DataError: too few scores for alpha; the text says how many are needed.
        InputError: non-finite scores, alpha or confidence outside (0, 1), eps < 0, lipschitz <= 0.

    Example:
        >>> found = conformal_threshold(range(19), 0.1, eps=0.5, slack=0.0)
        >>> found.rank, round(found.value, 6)
        (2, 0.5)
        >>> print(found)
        flag scores below 0.5: false alarms <= 0.1 under any perturbation of norm <= 0.5 (rank 2 of 19)

    Source: Vovk et al., Algorithmic Learning in a Random World, 2005; the shift by L eps is immediate.
    """
    slack, shift, constant = inputs.slack_share(slack), inputs.one_eps(eps), checks.lipschitz(lipschitz)
    alpha = inputs.open_share("alpha", alpha)
    scores = np.sort(inputs.score_array(calibration_scores, "calibration_scores", slack))
    n = len(scores)
    rank = conformal_rank(n, alpha, confidence)
    if rank < 1:
        needed = smallest_calibration(alpha, confidence)
        sure = "" if confidence is None else f" with confidence {confidence:g}"
        raise DataError(
            explain(
                "there are too few calibration scores",
                received=f"{n} for alpha={alpha:g}{sure}",
                expected=f"at least {needed}",
                why="with fewer, even the smallest score as threshold cannot promise this rate",
                fix=f"hold out {needed} normal points, or raise alpha",
            )
        )
    chosen = scores[rank - 1 : rank]
    value = inputs.moved(chosen, shift, constant, slack, up=False) if shift > 0 else chosen
    sure_of = None if confidence is None else float(confidence)
    return Threshold(float(value[0]), alpha, rank, n, shift, constant, sure_of, slack)


def false_alarm_bound(
    heldout_scores: ArrayLike,
    threshold: float,
    *,
    eps: float = 0.0,
    lipschitz: float = 1.0,
    confidence: float = 0.95,
    slack: float = SLACK,
) -> float:
    r"""Upper bound of the rate of false alarms under attack, for a threshold that these scores did not choose.

    With k = #{s_i - L eps <= threshold} of n independent normals (< at eps = 0), the Clopper-Pearson bound
    BetaQuantile(confidence; k + 1, n - k), 1 where k = n.

    Args:
        heldout_scores: (n,) of normals used neither for training nor for the threshold.
        threshold: flag below it.
        eps: norm, >= 0.
        lipschitz: proven constant, > 0.
        confidence: in (0, 1), probability over held-out sets that the bound holds.
        slack: share of 1 + |score| for rounding.

    Raises:
        InputError: arguments out of range, non-finite scores.

    Example:
        >>> round(false_alarm_bound(range(100), 5.0), 3)
        0.102
    """
    from scipy.special import betaincinv

    slack, shift, constant = inputs.slack_share(slack), inputs.one_eps(eps), checks.lipschitz(lipschitz)
    scores = inputs.score_array(heldout_scores, "heldout_scores", slack)
    cut, sure = checks.number("threshold", threshold), inputs.open_share("confidence", confidence)
    low = inputs.moved(scores, shift, constant, slack, up=False) if shift > 0 else scores
    k, n = int((low < cut).sum()), len(scores)
    return 1.0 if k == n else min(1.0, float(betaincinv(k + 1, n - k, sure)) * (1 + 1e-9))


def robust_pvalues(
    calibration_scores: ArrayLike,
    scores: ArrayLike,
    *,
    eps: float = 0.0,
    lipschitz: float = 1.0,
    slack: float = SLACK,
) -> Array:
    r"""Conformal p-values of "this point is normal" that stay super-uniform under attack.

        p(x) = (1 + #{i: s_i <= f(x) + L eps}) / (n + 1)

    For a normal x moved to x' by at most eps, f(x') + L eps >= f(x), so p(x') is at least the clean p-value of x,
    which is super-uniform for exchangeable scores: P(p <= t) <= t for every t and every attack. p <= k / (n + 1) is the
    same as a flag by the threshold of rank k. The p-value is rounded for the attacker; ties and slack only raise it.

    Args:
        calibration_scores: (n,) of normals that the detector was not trained on.
        scores: (m,) of the points to test, attacked or not.
        eps: norm, >= 0.
        lipschitz: proven constant, > 0.
        slack: share of 1 + |score| for rounding.

    Returns:
        (m,) float64 in [1 / (n + 1), 1].

    Guarantee:
        Super-uniform for each normal point under any attack of norm <= eps; one-sided, no promise of power.

    Raises:
        InputError: as `conformal_threshold`.

    Example:
        >>> robust_pvalues(range(9), [-1.0, 0.5, 20.0])
        array([0.1, 0.2, 1. ])
        >>> robust_pvalues(range(9), [-1.0, 0.5], eps=1.25)
        array([0.2, 0.3])

    Source: Bates et al., Testing for outliers with conformal p-values, 2023 (without attack).
    """
    slack, shift, constant = inputs.slack_share(slack), inputs.one_eps(eps), checks.lipschitz(lipschitz)
    ours = inputs.score_array(calibration_scores, "calibration_scores", slack)
    tested = inputs.score_array(scores, "scores", slack)
    low = np.sort(inputs.moved(ours, shift, constant, slack, up=False) if shift > 0 else ours)
    below: Array = np.searchsorted(low, tested, side="right").astype(np.float64)
    return (1.0 + below) / (len(ours) + 1.0)
