"""Box-filtered patterns: what a pixel sees of an interval or a pulse train, in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError, explain

Array = NDArray[np.float32]
_THINNEST = np.float32(1e-3)  # metres: narrower windows would divide rounding errors by almost nothing


def cover(c: Array, a: float | Array, b: float | Array, w: Array | float) -> Array:
    r"""Return the share of the window [c - w/2, c + w/2] that the interval [a, b] covers.

    Formula:
        clip((min(b, c + w/2) - max(a, c - w/2)) / w, 0, 1)

    Args:
        c: Centres of the windows, metres.
        a: Start of the interval, metres.
        b: End of the interval, metres; nothing is covered where b <= a.
        w: Widths of the windows, metres; below 1 mm they count as 1 mm.

    Returns:
        Shares in [0, 1], float32, of the broadcast shape.

    Example:
        >>> cover(np.float32([0, 1, 2]), 0, 1, 1.0).tolist()
        [0.5, 0.5, 0.0]
    """
    width = np.maximum(w, _THINNEST)
    half = 0.5 * width
    share = (np.minimum(b, c + half) - np.maximum(a, c - half)) / width
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def pulses(c: Array, w: Array | float, *, period: float, on: float, start: float | Array = 0.0) -> Array:
    r"""Return the share of the window [c - w/2, c + w/2] that a periodic train of pulses covers.

    Pulse k covers [start + k period, start + k period + on].

    Formula:
        (F(c + w/2 - start) - F(c - w/2 - start)) / w with F(t) = floor(t/p) on + min(t - p floor(t/p), on)

    Args:
        c: Centres of the windows, metres.
        w: Widths of the windows, metres; below 1 mm they count as 1 mm.
        period: Distance between two pulses, metres.
        on: Length of a pulse, metres, at most the period.
        start: Where a pulse begins, metres.

    Returns:
        Shares in [0, 1], float32: 0 or 1 where w is small, on / period where w is large.

    Raises:
        InputError: `on` is not in [0, period], or `period` is not positive.

    Example:
        >>> pulses(np.float32([1, 4, 0]), np.float32([1, 1, 10]), period=5, on=2).tolist()
        [1.0, 0.0, 0.4000000059604645]
    """
    if not (period > 0 and 0 <= on <= period):
        raise InputError(
            explain(
                "a train of pulses has no such pulse",
                received=f"period={period}, on={on}",
                expected="period > 0 and 0 <= on <= period, metres",
                fix="give lengths in metres",
            )
        )
    width = np.maximum(w, _THINNEST)
    middle = c - start
    low = _filled(middle - 0.5 * width, period, on)
    share = (_filled(middle + 0.5 * width, period, on) - low) / width
    return np.asarray(np.clip(share, 0.0, 1.0), np.float32)


def _filled(t: Array, period: float, on: float) -> Array:
    """The integral of the pulse train from 0 to t."""
    whole = np.floor(t / period)
    return np.asarray(whole * on + np.minimum(t - whole * period, on))
