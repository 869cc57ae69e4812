"""Guards and directed rounding of the functions on scores: bad input raises and never becomes a number."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onelip.core import checks
from onelip.core.errors import InputError, NonFiniteError, PrecisionError, explain

Array: TypeAlias = NDArray[np.float64]

SLACK = 1e-9  # of 1 + |score|: what two evaluations of a float64 score may lose to rounding
_ROUNDING = 1.0 + 2.0**-50  # covers the at most five roundings (2^-53 each) behind a reach


def score_array(value: Any, name: str, slack: float = SLACK) -> Array:
    """Check scores: real, finite, (n,) with n >= 1, of a precision that `slack` covers; float64 copy."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise InputError(
            explain(f"`{name}` are not real numbers", received=array.dtype, expected="float64 scores (n,)")
        )
    if array.ndim != 1:
        raise InputError(
            explain(
                f"`{name}` have the wrong shape",
                received=array.shape,
                expected="(n,): one score a sample",
                fix=f"{name}.ravel()" if array.size == max(array.shape, default=0) else None,
            )
        )
    if array.size == 0:
        raise InputError(explain(f"`{name}` are empty", expected="at least one score"))
    coarse = array.dtype.kind == "f" and array.dtype.itemsize < 8
    if coarse and slack < 64 * np.finfo(array.dtype).eps:
        raise PrecisionError(
            explain(
                f"`{name}` are too coarse for the slack of rounding",
                received=f"{array.dtype} with slack={slack:g}",
                expected="float64",
                why="their rounding errors would not be covered",
                fix=f"score in float64, or state slack>={64 * np.finfo(array.dtype).eps:.1g}",
            )
        )
    result = array.astype(np.float64)
    wrong = int((~np.isfinite(result)).sum())
    if wrong:
        raise NonFiniteError(
            explain(
                f"`{name}` are not finite",
                received=f"{wrong} NaN or infinite values of {result.size}",
                why="no comparison with them means anything, so no certificate can",
            )
        )
    return result


def eps_array(value: Any, name: str = "eps") -> Array:
    """Turn a number or a sequence of numbers into (E,) float64, each finite and >= 0."""
    try:
        result = np.atleast_1d(np.asarray(value, dtype=np.float64)).copy()
    except (TypeError, ValueError) as error:
        raise InputError(
            explain(f"`{name}` is not a list of numbers", received=repr(value), expected="e.g. [0.0, 0.1]")
        ) from error
    if result.ndim != 1 or result.size == 0:
        raise InputError(
            explain(f"`{name}` has the wrong shape", received=result.shape, expected="(E,), E >= 1")
        )
    wrong = ~(np.isfinite(result) & (result >= 0))
    if wrong.any():
        index = int(wrong.argmax())
        raise InputError(
            explain(
                f"`{name}` has an unusable entry",
                received=f"{result[index]} at index {index}",
                expected="finite numbers >= 0",
            )
        )
    return result


def one_eps(value: Any) -> float:
    """Check a single eps: a finite number >= 0."""
    return checks.number("eps", value, low=0.0)


def slack_share(value: Any) -> float:
    """Check the slack, a share of 1 + |score|: a number in [0, 0.5]."""
    return checks.number("slack", value, low=0.0, high=0.5)


def open_share(name: str, value: Any) -> float:
    """Check a probability that is neither 0 nor 1."""
    result = checks.number(name, value, low=0.0, high=1.0)
    if result in (0.0, 1.0):
        raise InputError(
            explain(
                f"`{name}` is out of range",
                received=repr(value),
                expected="a number in (0, 1), ends left out",
            )
        )
    return result


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    """Check a word against the known ones."""
    if not isinstance(value, str) or value not in known:
        raise InputError(
            explain(f"`{name}` is unknown", received=repr(value), expected=" or ".join(map(repr, known)))
        )
    return value


def share_of(share: float, count: int) -> int:
    """Largest integer k with k <= share * count, for the share as it is written: 0.29 of 100 is 29.

    >>> share_of(0.29, 100), int(0.29 * 100)
    (29, 28)
    """
    return int(Fraction(repr(float(share))) * count)


def moved(scores: Array, eps: float, lipschitz: float, slack: float, *, up: bool) -> Array:
    """(n,): as far as an attacker moves scores, L * eps + slack * (1 + |score|), rounded for the attacker.

    Each end lies strictly beyond the exact one, so what ties in real numbers is lost here. The map is monotone in the
    score up to these roundings.
    """
    with np.errstate(over="ignore"):
        reach = (lipschitz * eps + slack * (1.0 + np.abs(scores))) * _ROUNDING
        reach = np.nextafter(reach, np.inf)
        end = scores + reach if up else scores - reach
        ends: Array = np.nextafter(end, np.inf if up else -np.inf)
        return ends


def ratio_down(part: int, whole: int) -> float:
    """Give part / whole as a float that is never above it."""
    value = part / whole
    return float(np.nextafter(value, -np.inf)) if Fraction(value) > Fraction(part, whole) else value


def ratio_up(part: int, whole: int) -> float:
    """Give part / whole as a float that is never below it."""
    value = part / whole
    return float(np.nextafter(value, np.inf)) if Fraction(value) < Fraction(part, whole) else value
