r"""Certified metrics of anomaly scores: what every attack in a closed ball leaves of them, in O(n log n).

Scores are high for normal points. If f is L-Lipschitz, a perturbation of norm <= eps moves a score by at most
D = L * eps, so an attacker can at worst replace

    normals    s -> s - D        anomalies    s -> s + D,

and every metric here is monotone: it does not grow when a normal sinks or an anomaly rises. Hence the metric of the
shifted scores bounds the metric after every attack, also after attacks that move each point by its own amount. The
proof of each monotonicity stands in its function.

Ties and rounding. The ball is closed: both ends can be reached. For eps > 0 a pair that can be tied counts as lost.
For a gap of exactly 2 D (D with one attacker) the infimum of an AUROC that gives ties half would be 1/2; zero is the
infimum of the share of pairs ranked strictly right, and the only value that no rounding of the scores makes wrong. At
eps = 0 nothing moves, and the plain metric is returned (ties half), so a curve of tied scores may jump just right of
0: any eps > 0 turns a tie around. `slack` covers rounding in the scores themselves: the computed score of a moved point
may lie beyond the computed clean one by at most D + slack * (1 + |score|). Results are rounded down (upper bounds up).
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.oneclass import inputs
from onelip.oneclass.inputs import SLACK, Array
from onelip.oneclass.reach import Scores, aupr_of, auroc_of, f1_of, tpr_of

CALIBRATIONS = ("attacked", "clean")


def certified_auroc(
    scores_normal: ArrayLike,
    scores_anomaly: ArrayLike,
    eps: ArrayLike,
    lipschitz: float = 1.0,
    *,
    attacker: str = "both",
    slack: float = SLACK,
) -> Array:
    r"""Area under the ROC curve that no attack in the ball can push lower.

        AUROC(eps) = #{(i, j): s_i - D > a_j + D} / (n m),    D = L eps, at eps = 0 with ties half

    Monotone: each pair is lost for a smaller s_i or a larger a_j once it is lost.

    Args:
        scores_normal: (n,) float64, high = normal.
        scores_anomaly: (m,) float64.
        eps: (E,) or a number, norms of perturbations in the units of `lipschitz`.
        lipschitz: proven constant of the score, > 0 (a Bound is accepted).
        attacker: who is moved: "both", "normals" or "anomalies" (the gap to close is then D instead of 2 D).
        slack: rounding of the scores, see the module.

    Returns:
        (E,) float64.

    Guarantee:
        Sound lower bound of the AUROC after any attack (ties then counted half or not); attained up to ties and slack.

    Raises:
        InputError: empty, non-finite or misshapen scores, eps < 0, lipschitz <= 0, an unknown attacker.

    Example:
        >>> certified_auroc([1.0, 2.0], [-1.0, 1.0], [0.0, 0.25, 1.0])
        array([0.875, 0.75 , 0.25 ])
        >>> certified_auroc([1.0, 2.0], [-1.0, 1.0], 1.0, attacker="normals")
        array([0.5])

    Source: Bethune et al., Robust One-Class Classification with Signed Distance Function using 1-Lipschitz Neural
    Networks, ICML 2023.
    """
    scores = Scores.checked(scores_normal, scores_anomaly, lipschitz, attacker, slack)
    return scores.values(auroc_of, inputs.eps_array(eps))


def certified_aupr(
    scores_normal: ArrayLike,
    scores_anomaly: ArrayLike,
    eps: ArrayLike,
    lipschitz: float = 1.0,
    *,
    attacker: str = "both",
    slack: float = SLACK,
) -> Array:
    r"""Average precision of the anomalies that no attack in the ball can push lower.

        AP(eps) = mean over j = 1..m of  j / (j + F_j),    F_j = #{i: s_i - D <= a_(j) + D}

    with a_(1) <= a_(2) <= ... the anomalies. Why shifting all is the worst case: the usual average precision takes tied
    anomalies as one step, and is not monotone: an anomaly that rises to tie with another shares its step, and an
    attacker may break ties. The form above breaks them at worst (j instead of the end of the step), so it is never
    above the usual one, and it is monotone: raising anomalies raises each order statistic a_(j) or leaves it, lowering
    normals adds to the F_j, and j / (j + F) falls in F. With attacker="normals" ties of anomalies stay, and count as
    usual.

    Args:
        scores_normal: (n,) float64, high = normal.
        scores_anomaly: (m,) float64.
        eps: (E,) or a number.
        lipschitz: proven constant of the score, > 0.
        attacker: "both", "normals" or "anomalies".
        slack: rounding of the scores, see the module.

    Returns:
        (E,) float64; at eps = 0 the average precision of scikit-learn.

    Guarantee:
        Sound lower bound of the average precision after any attack, attained up to ties and slack.

    Raises:
        InputError: as `certified_auroc`.

    Example:
        >>> certified_aupr([1.0, 2.0], [-1.0, 1.5], [0.0, 0.5]).round(4)
        array([0.8333, 0.75  ])
    """
    scores = Scores.checked(scores_normal, scores_anomaly, lipschitz, attacker, slack)
    return scores.values(aupr_of, inputs.eps_array(eps))


def certified_tpr(
    scores_normal: ArrayLike,
    scores_anomaly: ArrayLike,
    eps: ArrayLike,
    lipschitz: float = 1.0,
    *,
    fpr: float = 0.05,
    calibration: str = "attacked",
    attacker: str = "both",
    slack: float = SLACK,
) -> Array:
    r"""Share of anomalies that are flagged (score < threshold) whatever the attack, at a share of false alarms.

    The threshold is the (k+1)-th smallest of n normals, k the largest integer <= fpr * n: at most k of them are below.

    - `calibration="attacked"`: of the attacked normals, s - D. One threshold, fixed before the attack, then holds
      both promises: at most fpr of these normals are flagged under any attack, and at least this share of anomalies is.
      It is also the worst point of the ROC curve after the attack: for attacked scores (s', a') let M be the largest
      share of a' below a threshold that at most k of s' are below, attained at the (k+1)-th smallest s'. Lower s' lower
      this order statistic, higher a' leave fewer below: M is monotone, so shifting all scores is the worst case.
    - `calibration="clean"`: of the clean normals; false alarms are held without attack alone. Only the anomalies are
      moved, and the share is monotone in each of their scores; attacker="normals" changes nothing.

    Args:
        scores_normal: (n,) float64, high = normal.
        scores_anomaly: (m,) float64.
        eps: (E,) or a number.
        lipschitz: proven constant of the score, > 0.
        fpr: allowed share of these normals, in [0, 1).
        calibration: "attacked" or "clean": which normals set the threshold.
        attacker: "both", "normals" or "anomalies".
        slack: rounding of the scores, see the module.

    Returns:
        (E,) float64.

    Guarantee:
        Sound lower bound on these samples. For new samples set the threshold by `conformal_threshold`.

    Raises:
        InputError: as `certified_auroc`, fpr outside [0, 1), an unknown calibration.

    Example:
        >>> certified_tpr([1.0, 2.0], [-1.0, 0.5], [0.0, 0.5], fpr=0.0)
        array([1. , 0.5])
        >>> certified_tpr([1.0, 2.0], [-1.0, 0.25], 0.5, fpr=0.0, calibration="clean")
        array([1.])
    """
    scores = Scores.checked(scores_normal, scores_anomaly, lipschitz, attacker, slack)
    fpr, calibration = tpr_options(fpr, calibration)
    return scores.values(lambda reach: tpr_of(reach, fpr, calibration), inputs.eps_array(eps))


def tpr_options(fpr: Any, calibration: Any) -> tuple[float, str]:
    """Check the options of `certified_tpr`."""
    share = checks.number("fpr", fpr, low=0.0, high=1.0)
    if share == 1:
        raise InputError(explain("`fpr` is out of range", received=repr(fpr), expected="a number in [0, 1)"))
    return share, inputs.choice("calibration", calibration, CALIBRATIONS)


def certified_f1(
    scores_normal: ArrayLike,
    scores_anomaly: ArrayLike,
    eps: ArrayLike,
    lipschitz: float = 1.0,
    *,
    threshold: float,
    attacker: str = "both",
    slack: float = SLACK,
) -> Array:
    r"""F1 of the anomalies (flagged when score < threshold) that no attack in the ball can push lower.

        F1(eps) = 2 TP / (TP + FP + m),    TP = #{a_j + D < threshold},    FP = #{s_i - D <= threshold}

    Monotone: it grows with TP and falls with FP (m is fixed), TP falls when an anomaly rises, FP grows when a
    normal sinks; both extremes are reached at once. The threshold is fixed before the attack.

    Args:
        scores_normal: (n,) float64, high = normal.
        scores_anomaly: (m,) float64.
        eps: (E,) or a number.
        lipschitz: proven constant of the score, > 0.
        threshold: the detector's `offset_`.
        attacker: "both", "normals" or "anomalies".
        slack: rounding of the scores, see the module.

    Returns:
        (E,) float64; at eps = 0 the plain F1 (FP = #{s_i < threshold}).

    Guarantee:
        Sound lower bound after any attack, attained up to ties and slack.

    Raises:
        InputError: as `certified_auroc`, a threshold that is not finite.

    Example:
        >>> certified_f1([1.0, 2.0], [-1.0, 0.0], [0.0, 0.75], threshold=0.5)
        array([1. , 0.5])
    """
    scores = Scores.checked(scores_normal, scores_anomaly, lipschitz, attacker, slack)
    cut = checks.number("threshold", threshold)
    return scores.values(lambda reach: f1_of(reach, cut), inputs.eps_array(eps))
