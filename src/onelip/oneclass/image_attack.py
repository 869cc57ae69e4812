"""Attacks on the scores of pictures: projected gradient steps in l2 balls, with restarts."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..core import checks
from . import inputs
from .base import Array
from .images import ImageSignedDistance

_BATCH = 128


def attack_scores(
    detector: ImageSignedDistance,
    X: ArrayLike,
    eps: ArrayLike,
    *,
    up: bool,
    steps: int = 20,
    restarts: int = 3,
    seed: int = 0,
) -> Array:
    """Push the scores of pictures up or down within closed l2 balls, and return the furthest ones found, (E, n).

    Steps of `2.5 eps / steps` along the gradient of unit length, projected to the ball and to [0, 1]; the first start
    is the picture with the best perturbation of the next smaller eps, the others are random. All in the float64
    network that scores.

    Args:
        detector: fitted.
        X: pictures.
        eps: (E,) or a number, norms of pixels.
        up: raise the scores (what an anomaly wants) or lower them (what is done to normal pictures).
        steps: gradient steps of each start.
        restarts: number of starts for each eps.
        seed: of the random starts.

    Guarantee: scores of pictures in the ball and in [0, 1]: no score is beyond what an attacker can reach, and none is
        on the wrong side of the clean one. With `certified_auroc` on the same pictures,
        clean >= attacked >= certified.

    Raises:
        InputError: eps is negative or not finite, steps or restarts are not positive.
        ValueError: pictures that do not fit.

    Source: Madry et al., 2018.
    """
    sizes = inputs.eps_array(eps)
    checks.positive_int("steps", steps)
    checks.positive_int("restarts", restarts)
    Z = detector._checked(X)
    random = np.random.default_rng(seed)
    parts = []
    for i in range(0, len(Z), _BATCH):
        x = detector._pictures(Z[i : i + _BATCH])
        parts.append(_balls(detector, x, sizes, 1.0 if up else -1.0, steps, restarts, random))
    return np.concatenate(parts, axis=1)


def _balls(
    detector: ImageSignedDistance,
    x: Tensor,
    sizes: Array,
    sign: float,
    steps: int,
    restarts: int,
    random: np.random.Generator,
) -> Array:
    """(E, b) furthest scores of a batch."""
    best, found = detector._value_and_gradient(x)[0], torch.zeros_like(x)
    results, before = {0.0: best.numpy().copy()}, 0.0
    for size in sorted(set(sizes.tolist()) - {0.0}):
        for start in range(restarts):
            delta = found * (size / before) if before else found
            if start:
                delta = torch.from_numpy(random.standard_normal(x.shape))
                delta = delta * (size / _norm(delta))
            best, found = _ascend(detector, x, (delta, best, found), sign, size, steps)
        results[size], before = best.numpy().copy(), size
    return np.stack([results[size] for size in sizes.tolist()])


def _ascend(
    detector: ImageSignedDistance,
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    sign: float,
    size: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    delta, best, found = state
    for step in range(steps + 1):
        # clipping to the cube moves towards x, so the norm stays
        delta = delta * (size / _norm(delta)).clamp_max(1.0)
        delta = (x + delta).clamp(0, 1) - x
        delta = delta * (size * (1 - 1e-12) / _norm(delta)).clamp_max(1.0)
        value, gradient = detector._value_and_gradient(x + delta)
        better = sign * value > sign * best
        best = torch.where(better, value, best)
        found = torch.where(better[:, None, None, None], delta, found)
        if step < steps:
            delta = delta + sign * 2.5 * size / steps * gradient / _norm(gradient)
    return best, found


def _norm(t: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(t.flatten(1), dim=1)
    return norms.clamp_min(1e-30)[:, None, None, None]
