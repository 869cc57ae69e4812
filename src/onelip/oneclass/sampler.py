"""Negatives pulled from a prior towards a level set of the score: the corrected Newton-Raphson sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ValueAndGradient = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class NewtonSampler:
    """Moves points of a prior along the gradient of f towards `f = level`, inside a box.

    Formula: `steps` times `z <- clip(z + s (level - f(z)) grad f / ||grad f||^2)` with
    `s = eta / steps * u`, `u` uniform in [0, 1], one for each point. For a linear f and a wide box the share
    `(1 - s) ** steps` of the distance to the level is kept. With `eta = 1` (as published) that share is never
    below 1/3 and negatives never reach the boundary; `eta = steps` spreads them over all of the way.

    Args:
        low: (d,) lower corner of the box.
        high: (d,) upper corner.
        steps: number of steps; 0 only clips.
        eta: factor of the step, at most `2 * steps`, beyond which steps move away.
        level: level aimed at.
        two_sided: also pull points above the level back down to it; otherwise these stay.

    Guarantee: heuristic; results lie in the box. The projection is idempotent.

    Source: Bethune et al., "Robust one-class classification with signed distance function using 1-Lipschitz neural
        networks", ICML 2023, algorithm 1; the factor eta is ours.
    """

    low: Tensor
    high: Tensor
    steps: int
    eta: float
    level: float = 0.0
    two_sided: bool = False

    def __call__(self, z: Tensor, f: ValueAndGradient, share: Tensor) -> Tensor:
        """Return the moved points.

        Args:
            z: (n, d) points of the prior.
            f: returns f (n,) and its gradient (n, d).
            share: (n,) u of each point, in [0, 1].
        """
        z = self.project(z)
        if self.steps == 0:
            return z
        step = self.eta / self.steps * share
        for _ in range(self.steps):
            value, gradient = f(z)
            missing = self.level - value
            if not self.two_sided:
                missing = missing.clamp_min(0.0)
            length = gradient.square().sum(1) + 1e-8
            z = self.project(z + (step * missing / length)[:, None] * gradient)
        return z

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest points of the box."""
        return torch.minimum(torch.maximum(z, self.low), self.high)


def automatic_eta(features: int, steps: int) -> float:
    """Return the factor of the step: `steps` from 4 features on, 1 below, where long steps flood the support."""
    return float(max(steps, 1)) if features >= 4 else 1.0
