"""From counts of agreeing samples to certified pixels: binomial tests, corrected for their number."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from onelip.core import checks, errors

CORRECTIONS = ("holm", "bonferroni", "kfwer")
_EXACT = 1e6  # a smallest n beyond this is told to float64 precision, not to the last sample


class FeasibilityWarning(UserWarning):
    """So few samples were asked for that not even a unanimous pixel can be certified."""


def certify_counts(
    agreements: Any, n: int, tau: float, alpha: float, correction: str = "holm", k: int = 1
) -> Any:
    r"""Decide for which pixels more than a share tau of all noisy predictions agrees.

    For each pixel the null hypothesis is that its class has a probability of at most tau; its p-value is
    :math:`P(\mathrm{Bin}(n, \tau) \ge a)` with a the agreements. All pixels are tested together:

    - "bonferroni": p <= alpha / s for s pixels;
    - "holm": the i-th smallest p (i = 1, 2, ...) is rejected while p <= alpha / (s - i + 1), up to the first failure;
    - "kfwer": the same with k alpha / s for i <= k and k alpha / (s + k - i) after that.

    p takes only n + 1 values and falls with the count, so a step-down ends at one count: all pixels with at least
    as many agreements are certified. The cost is one histogram, whatever the number of pixels.

    Args:
        agreements: integer array or tensor of any shape, each in 0..n; all its entries are tested together.
        n: samples behind each count. They must not be those that chose the class of the pixel.
        tau: in [0.5, 1).
        alpha: probability of error that is accepted, in (0, 1).
        correction: "holm", "bonferroni" or "kfwer".
        k: for "kfwer", how many false certificates are one too many; the other two always hold for k = 1.

    Returns:
        Boolean array or tensor (as `agreements`) of the same shape: certified or not.

    Guarantee: statistical. With probability at least 1 - alpha fewer than k of the certified pixels are null
    (k = 1: none), however the pixels depend on each other. No threshold exceeds alpha.

    Raises:
        InputError: for counts that are no integers or outside 0..n, and for unusable n, tau, alpha, correction, k.

    Warns:
        FeasibilityWarning: n is too small for any pixel; the text says the smallest n that can work.

    Example:
        >>> certify_counts(np.array([10, 20, 19]), 20, 0.6, 0.01).tolist()
        [False, True, True]
        >>> certify_counts(np.array([10, 20, 19]), 20, 0.6, 0.001, "bonferroni").tolist()
        [False, True, False]

    Source: M. Fischer, M. Baader, M. Vechev, Scalable certified segmentation via randomized smoothing, 2021;
    S. Holm, 1979; E. Lehmann, J. Romano, Generalizations of the familywise error rate, 2005.
    """
    counts = _checked_counts(agreements, checks.positive_int("n", n))
    pixels = counts.numel()
    if pixels:
        warn_if_hopeless(pixels, n, tau, alpha, correction, k)
        lowest = lowest_count(histogram(counts, n), tau=tau, alpha=alpha, correction=correction, k=k)
    else:
        _checked_test(1, tau, alpha, correction, k)
        lowest = n + 1
    certified = counts >= lowest
    return certified if isinstance(agreements, Tensor) else certified.numpy()


def lowest_count(counts: Tensor, *, tau: float, alpha: float, correction: str = "holm", k: int = 1) -> int:
    """Smallest number of agreements that is certified; n + 1 when none is.

    Args:
        counts: (n + 1,) histogram: how many pixels have 0, 1, ..., n agreements.
        tau: as in `certify_counts`, like the rest.
        alpha: level.
        correction: "holm", "bonferroni" or "kfwer".
        k: for "kfwer".

    Example:
        >>> lowest_count(torch.tensor([0, 0, 0, 4, 60]), tau=0.5, alpha=0.5, correction="kfwer", k=16)
        3
    """
    pixels = int(counts.sum())
    errors_allowed = _checked_test(pixels, tau, alpha, correction, k)
    n = counts.numel() - 1
    falling = counts.flip(0).cpu().numpy().astype(np.int64)
    p_values = binom.sf(np.arange(n, -1, -1) - 1, n, tau)
    before = (
        np.cumsum(falling) - falling
    )  # pixels with more agreements: all of them come first in the step-down
    passed = np.zeros_like(before) if correction == "bonferroni" else before
    # The pixels of one count have one p-value and thresholds that grow: all pass if their first one does.
    left = np.maximum(pixels - np.maximum(passed + 1 - errors_allowed, 0), 1)
    thresholds = errors_allowed * alpha / left
    failed = (falling > 0) & (p_values > thresholds)
    certified = int(failed.argmax()) if failed.any() else n + 1
    # Counts that no pixel has need no decision; ending at one that occurs keeps the answer meaningful.
    taken = np.flatnonzero(falling[:certified])
    return n - int(taken[-1]) if taken.size else n + 1


def smallest_n(pixels: int, tau: float, alpha: float, correction: str = "holm", k: int = 1) -> int:
    r"""Samples without which not even a pixel with unanimous samples can be certified.

    The smallest n with :math:`\tau^n \le \alpha / s` (k alpha / s for "kfwer"), s being the number of pixels.

    Args:
        pixels: how many are tested together.
        tau: in [0.5, 1).
        alpha: in (0, 1).
        correction: "holm", "bonferroni" or "kfwer".
        k: for "kfwer".

    Returns:
        n >= 1.

    Raises:
        InputError: for unusable arguments.

    Example:
        >>> from scipy.special import ndtr
        >>> smallest_n(1024**2, float(ndtr(0.1 / 0.2)), 1e-3)
        57
    """
    allowed = _checked_test(checks.positive_int("pixels", pixels), tau, alpha, correction, k)
    threshold = allowed * alpha / pixels
    quotient = math.log(threshold) / math.log(tau)
    if quotient > _EXACT:
        return math.ceil(quotient)
    n = max(1, math.floor(quotient) - 1)
    while binom.sf(n - 1, n, tau) > threshold:  # the test itself decides, not the logarithms
        n += 1
    return n


def warn_if_hopeless(pixels: int, n: int, tau: float, alpha: float, correction: str, k: int) -> None:
    """Warn when n samples cannot certify any pixel, and say how many could."""
    needed = smallest_n(pixels, tau, alpha, correction, k)
    if n < needed:
        warnings.warn(
            errors.explain(
                "smoothing: no pixel can be certified",
                received=f"n={n} samples for {pixels} pixels at tau={tau:.4g}, alpha={alpha:g}",
                expected=f"n >= {needed}, the smallest n that can work",
                why="even unanimous samples leave too large a p-value",
                fix=f"n={needed} or more, a larger sigma, a smaller eps or a larger alpha",
            ),
            FeasibilityWarning,
            stacklevel=3,
        )


def histogram(counts: Tensor, n: int) -> Tensor:
    """(n + 1,) int64: how many entries are 0, 1, ..., n."""
    return torch.bincount(counts.flatten(), minlength=n + 1)


def _checked_counts(agreements: Any, n: int) -> Tensor:
    values = agreements if isinstance(agreements, Tensor) else np.asarray(agreements)
    integer = (
        not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
        if isinstance(values, Tensor)
        else np.issubdtype(values.dtype, np.integer)
    )
    if not integer:
        raise errors.InputError(
            errors.explain(
                "`agreements` holds no counts", received=values.dtype, expected=f"integers in 0..n={n}"
            )
        )
    if isinstance(values, Tensor):
        counts = values.detach().to(torch.int64)
    else:
        counts = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64).reshape(values.shape))
    if counts.numel() and not 0 <= int(counts.min()) <= int(counts.max()) <= n:
        raise errors.InputError(
            errors.explain(
                "`agreements` has counts out of range",
                received=f"values from {int(counts.min())} to {int(counts.max())}",
                expected=f"0..n={n}",
            )
        )
    return counts


def _checked_test(pixels: int, tau: float, alpha: float, correction: str, k: int) -> int:
    """Check the parameters of the test and return how many errors are one too many."""
    check_tau(tau)
    check_alpha(alpha)
    checks.positive_int("k", k)
    if correction not in CORRECTIONS:
        raise errors.InputError(
            errors.explain(
                "`correction` is unknown", received=repr(correction), expected=", ".join(CORRECTIONS)
            )
        )
    # More than `pixels` errors cannot happen: a larger k would only lift thresholds above alpha.
    return min(k, pixels) if correction == "kfwer" else 1


def check_tau(tau: Any) -> float:
    """Check tau: in [0.5, 1)."""
    value = checks.number("tau", tau, low=0.5, high=1.0)
    if value == 1.0:
        raise errors.InputError(
            errors.explain(
                "`tau` is out of range",
                received=tau,
                expected="0.5 <= tau < 1",
                why="no number of samples proves a probability of 1",
            )
        )
    return value


def check_alpha(alpha: Any) -> float:
    """Check alpha: in (0, 1)."""
    value = checks.number("alpha", alpha, low=0.0, high=1.0)
    if value in (0.0, 1.0):
        raise errors.InputError(
            errors.explain("`alpha` is out of range", received=alpha, expected="0 < alpha < 1, as 0.001")
        )
    return value
