"""Choosing prior, margin and lambda without anomalies, by the mass-volume curve of held-out normal rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from .base import Array
from .priors import Prior

# "gauss" and "marginals" alone are left out: they leave far regions without negatives, and no held-out normal row tells
PRIORS = ("box", "box+gauss", "box+marginals")
MARGINS = (0.05, 0.2, 1.0)
LAMBDAS = (10.0, 30.0)
EPS = 0.25
GAIN = 0.01  # less is noise, and the earlier choice stays
_REFERENCE = 2000


@dataclass(frozen=True)
class Choice:
    """What is chosen."""

    prior: str
    margin: float
    lam: float


Trial = Callable[[Array, Choice, np.random.RandomState], Callable[[Array], Array]]


def choose(
    trial: Trial, Z: Array, start: Choice, random: np.random.RandomState, *, only_prior: bool = False
) -> tuple[Choice, list[dict[str, Any]]]:
    """Choose one option after the other: the prior, then the margin, then lambda.

    A quarter of the rows is held out. Each choice is trained on the rest from the same seed and judged by
    `certified_mass_volume` against a reference that is the same for all: half uniform in the training range,
    half training values of each feature shuffled on their own.

    Args:
        trial: trains with a choice and returns its score.
        Z: (n, d) standardised training rows.
        start: first choice, kept where nothing is better by 0.01.
        random: draws the split, the reference and the seed.
        only_prior: keep margin and lambda.

    Returns:
        The choice, and one record of each that was tried: prior, margin, lam, score.

    Guarantee: heuristic. Nothing is known about anomalies; the reference stands for them.
    """
    order = random.permutation(len(Z))
    cut = max(1, len(Z) // 4)
    held, rest = Z[order[:cut]], Z[order[cut:]]
    reference = _reference(Z, random)
    seed = random.randint(2**31 - 1)
    tried: dict[Choice, float] = {}

    def score(choice: Choice) -> float:
        if choice not in tried:
            f = trial(rest, choice, np.random.RandomState(seed))
            tried[choice] = certified_mass_volume(f(held), f(reference), EPS)
        return tried[choice]

    best = start
    axes: list[tuple[str, tuple[Any, ...]]] = [("prior", PRIORS), ("margin", MARGINS), ("lam", LAMBDAS)]
    for name, values in axes[:1] if only_prior else axes:
        for value in values:
            other = replace(best, **{name: value})
            if score(other) > score(best) + GAIN:
                best = other
    return best, [{**asdict(choice), "score": value} for choice, value in tried.items()]


def _reference(Z: Array, random: np.random.RandomState) -> Array:
    half, d = _REFERENCE // 2, Z.shape[1]
    shuffled = Z[random.randint(len(Z), size=(half, d)), np.arange(d)]
    return np.concatenate((Prior.around(Z, "box", pad=0.0).draw(half, random), shuffled))


def certified_mass_volume(normal: Array, reference: Array, eps: float) -> float:
    """Return the area over the mass-volume curve when every score may be moved by eps against us.

    Formula: the share of pairs with `f(normal) - eps > f(reference) + eps`. For a uniform reference and eps = 0 that
    is 1 minus the mean, over all levels of recall, of the volume that is accepted at that level.

    >>> certified_mass_volume(np.array([1.0, 2.0]), np.array([0.0, 1.5]), 0.1)
    0.75
    """
    below = np.searchsorted(np.sort(reference), normal - 2 * eps, side="left")
    return float(below.mean() / len(reference))
