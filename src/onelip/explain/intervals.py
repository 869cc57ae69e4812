"""Bootstrap intervals: what a mean over few images is worth."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.core.runtime import generator


class Interval(NamedTuple):
    """A statistic and the ends of its interval."""

    value: float
    low: float
    high: float


def bootstrap(
    values: Tensor, *, level: float = 0.95, samples: int = 2000, statistic: str = "mean", seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean or median over images.

    Args:
        values: (N,), finite (the median also takes inf); drop undefined images before.
        level: of confidence, approximate: intervals of few or skewed values are too short.
        samples: draws of N values with replacement.
        statistic: "mean" or "median".
        seed: of the draws.

    Raises:
        InputError: no values, nan, or options that are not usable.

    Example:
        >>> found = bootstrap(torch.arange(100.0))
        >>> found.value, found.low < 49.5 < found.high
        (49.5, True)
    """
    if not isinstance(values, Tensor) or values.dim() != 1 or values.numel() == 0:
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InputError(explain("`values` has the wrong shape", received=shape, expected="(N,), N >= 1"))
    if statistic not in ("mean", "median"):
        raise InputError(
            explain("`statistic` is unknown", received=repr(statistic), expected="mean or median")
        )
    numbers = values.detach().double().cpu()
    if bool(numbers.isnan().any()) or (statistic == "mean" and not bool(numbers.isfinite().all())):
        checks.finite("values", numbers)
    confidence = checks.number("level", level, low=0.0, high=1.0)
    checks.positive_int("samples", samples)
    draw = generator(seed)

    def of(rows: Tensor) -> Tensor:
        if statistic == "mean":
            return rows.mean(1)
        ordered, n = rows.sort(dim=1).values, rows.shape[1]
        return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2

    chosen = [torch.randint(len(numbers), (1, len(numbers)), generator=draw) for _ in range(samples)]
    found = torch.cat([of(numbers[row]) for row in chosen]).sort().values
    tail = (1 - confidence) / 2
    first = min(int(tail * samples), samples - 1)
    return Interval(float(of(numbers[None])[0]), float(found[first]), float(found[samples - 1 - first]))
