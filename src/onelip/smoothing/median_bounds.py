r"""Which order statistics bound a median that noise shifts, and how the probability of error is shared among them.

For a real function f and Gaussian noise N with standard deviation :math:`\sigma` let h(x) be the median of f(x + N),
the smallest y with :math:`P(f(x + N) \le y) \ge 1/2`. For every x' within :math:`\epsilon` of x

.. math:: Q_x(\Phi(-\epsilon / \sigma)) \le h(x') \le Q_x(\Phi(\epsilon / \sigma))

with the quantiles Q_x(p), the smallest y with :math:`P(f(x + N) \le y) \ge p`. Of n samples the k-th smallest is below
Q(p) with a probability of at most P(Bin(n, p) >= k), and above it of at most P(Bin(n, p) < k).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from onelip.smoothing.result import needed_share

COLUMNS = 6  # x1, y1, x2, y2, label, score
STATISTICS = 1 + 2 * COLUMNS  # of a bin: how many detections it has; of a slot: both sides of each column
_ROUNDING = 1e-9  # of a risk: far above the rounding of a binomial tail


class Ranks:
    r"""Ranks of the order statistics, counted from 1 for the smallest sample to n for the largest.

    alpha is shared equally among the families (radii, thresholds, bins). Of a family, 1 / 13 is for the number of
    detections, and :math:`1 / (13 j (j + 1))` for each of the 12 statistics of slot j = 1, 2, ...: the sum over any
    number of slots is below alpha, so that none has to be left out beforehand.

    Args:
        n: samples.
        eps: radii.
        sigma: standard deviation of the noise.
        alpha: probability that any of all statistics fails.
        families: among how many families alpha is shared.

    Example:
        >>> ranks = Ranks(1000, [0.0, 0.1], 0.25, 0.001, families=2)
        >>> ranks.upper(1), ranks.lower(1)
        (array([566, 717]), array([435, 284]))
        >>> ranks.upper(20) - ranks.upper(1)  # later slots are bounded with less risk
        array([17, 16])
    """

    def __init__(self, n: int, eps: Sequence[float], sigma: float, alpha: float, families: int) -> None:
        self.n = n
        self.shares = [min(needed_share(value, sigma), 1.0) for value in eps]
        self.risk = alpha / (families * STATISTICS)

    @cached_property
    def _tails(self) -> list[NDArray[np.float64]]:
        """For each radius P(Bin > i), i = 0, ..., n, falling to 0."""
        return [binom.sf(np.arange(self.n + 1), self.n, share) for share in self.shares]

    def upper(self, slot: int = 0) -> NDArray[np.int64]:
        """(E,): rank of a sample that is not below the upper quantile; n + 1 where there is none.

        Args:
            slot: from 1; 0 for the number of detections.
        """
        risk = self.slot_risk(slot) * (1.0 - _ROUNDING)
        # The smallest k with P(Bin >= k) <= risk: tail i belongs to k = i + 1.
        return np.array([int(np.argmax(tail <= risk)) + 1 for tail in self._tails], dtype=np.int64)

    def lower(self, slot: int = 0) -> NDArray[np.int64]:
        """(E,): rank of a sample that is not above the lower quantile; 0 where there is none. The mirror image."""
        return self.n + 1 - self.upper(slot)

    def slot_risk(self, slot: int) -> float:
        """Probability of error that one statistic of a slot may have; slot 0: the number of detections."""
        return self.risk / (slot * (slot + 1)) if slot else self.risk
