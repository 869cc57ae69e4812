"""Sorted scores of both classes, the ends to which an attacker takes them, and plain metrics of those ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from onelip.core import checks
from onelip.oneclass import inputs
from onelip.oneclass.inputs import Array

ATTACKERS = ("both", "normals", "anomalies")


@dataclass(frozen=True, eq=False)
class Reach:
    """Sorted scores, and the sorted ends to which an attacker takes them.

    `plain`: nothing moves; `still`: no anomaly moves.
    """

    normal: Array
    low: Array
    high: Array
    plain: bool
    still: bool

    @property
    def pairs(self) -> int:
        """Number of pairs of a normal and an anomaly."""
        return len(self.low) * len(self.high)


@dataclass(frozen=True, eq=False)
class Scores:
    """Checked scores of both classes with all that says how far they move."""

    normal: Array
    anomaly: Array
    lipschitz: float
    attacker: str
    slack: float

    @classmethod
    def checked(
        cls, normal: ArrayLike, anomaly: ArrayLike, lipschitz: Any, attacker: Any, slack: Any
    ) -> Scores:
        """Check all arguments."""
        slack = inputs.slack_share(slack)
        return cls(
            np.sort(inputs.score_array(normal, "scores_normal", slack)),
            np.sort(inputs.score_array(anomaly, "scores_anomaly", slack)),
            checks.lipschitz(lipschitz),
            inputs.choice("attacker", attacker, ATTACKERS),
            slack,
        )

    def reach(self, eps: float) -> Reach:
        """Ends of the scores at one eps."""
        low, high = self.normal, self.anomaly
        if eps > 0 and self.attacker != "anomalies":
            low = np.sort(inputs.moved(low, eps, self.lipschitz, self.slack, up=False), kind="stable")
        if eps > 0 and self.attacker != "normals":
            high = np.sort(inputs.moved(high, eps, self.lipschitz, self.slack, up=True), kind="stable")
        return Reach(self.normal, low, high, eps == 0, eps == 0 or self.attacker == "normals")

    def values(self, statistic: Statistic, eps: Array) -> Array:
        """(E,) float64: a statistic at each eps."""
        return np.array([statistic(self.reach(float(e))) for e in eps], dtype=np.float64)


Statistic = Callable[[Reach], float]


def auroc_of(reach: Reach) -> float:
    """Share of pairs ranked right; ties count half where nothing moves, and are lost elsewhere."""
    above = len(reach.low) - np.searchsorted(reach.low, reach.high, side="right")
    won = int(above.sum())
    if not reach.plain:
        return inputs.ratio_down(won, reach.pairs)
    level = len(reach.low) - np.searchsorted(reach.low, reach.high, side="left")
    return (won + int(level.sum())) / (2 * reach.pairs)


def aupr_of(reach: Reach) -> float:
    """Average precision; ties of anomalies are one step where none moves, and broken at worst elsewhere."""
    false = np.searchsorted(reach.low, reach.high, side="right")
    order = np.arange(1, len(reach.high) + 1)
    if reach.still:
        order = np.searchsorted(reach.high, reach.high, side="right")
    value = math.fsum(order / (order + false)) / len(order)
    # three roundings of 2^-53 each; a mean of ones is exact
    return value if reach.plain or not false.any() else value * (1 - 2.0**-50)


def tpr_of(reach: Reach, fpr: float, calibration: str) -> float:
    """Share of anomalies below the threshold that at most `fpr` of the chosen normals are below."""
    normal = reach.normal if calibration == "clean" else reach.low
    threshold = normal[inputs.share_of(fpr, len(normal))]
    return inputs.ratio_down(int((reach.high < threshold).sum()), len(reach.high))


def f1_of(reach: Reach, threshold: float) -> float:
    """F1 of the anomalies, those below the threshold."""
    true, false = int((reach.high < threshold).sum()), int((reach.low < threshold).sum())
    return inputs.ratio_down(2 * true, true + false + len(reach.high))
