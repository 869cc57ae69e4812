"""Projected gradient ascent on a batch of images, keeping what is best by the true score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.base import Goal
from onelip.attacks.outputs import bounded, detached
from onelip.attacks.projection import Noise, direction, norms, per_image, project
from onelip.core import checks

_RATE = 0.5
_MOMENTUM = 0.75


@dataclass(eq=False)
class Best:
    """Best perturbations of a batch so far, by rank. That of undefined images is nan, and stays."""

    delta: Tensor
    score: Tensor

    def offer(self, delta: Tensor, score: Tensor) -> None:
        """Take over what is strictly better."""
        better = score > self.score
        self.delta = torch.where(per_image(better, delta).bool(), delta, self.delta)
        self.score = torch.where(better, score, self.score)

    def done(self, top: float) -> bool:
        """Whether no image can be improved: all are at the top, or undefined."""
        return not bool((self.score < top).any())


@dataclass(eq=False)
class Ascent:
    """Gradient ascent of one goal on one batch.

    Attributes:
        model: in eval mode, its parameters without gradients.
        goal: what to reach.
        images: (B, C, H, W) in the model's dtype.
        state: of `goal.prepare`.
        p: norm.
        queries: images sent forward so far.
    """

    model: nn.Module
    goal: Goal
    images: Tensor
    state: Any
    p: float
    queries: int = 0

    def run(
        self,
        start: Tensor,
        eps: Tensor,
        *,
        steps: int,
        loss: Any,
        best: Best,
        noise: Noise,
    ) -> None:
        """Ascend from a start within balls of the given sizes, offering every iterate to `best`.

        Momentum steps with a cosine schedule, from half the radius of the ball to zero.

        Args:
            start: (B, C, H, W) perturbations inside the balls.
            eps: (B,).
            steps: gradient steps; one more forward pass judges the last iterate.
            loss: prepared loss of the pixels, or one of the goal's own.
            best: updated in place.
            noise: for directions where the gradient is zero.
        """
        delta, previous = start, start
        for i in range(steps):
            gradient, score = self._gradient(delta, i / steps, loss)
            best.offer(delta, score)
            if best.done(self.goal.top):
                return
            size = per_image(eps * _RATE * 0.5 * (1.0 + math.cos(math.pi * i / steps)), delta)
            step = size * direction(gradient, self.p, noise)
            ahead = project(delta + step, self.images, eps, self.p)
            if i > 0:
                blend = delta + _MOMENTUM * (ahead - delta) + (1.0 - _MOMENTUM) * (delta - previous)
                ahead = project(blend, self.images, eps, self.p)
            delta, previous = ahead, delta
        best.offer(delta, self.score(delta))

    @torch.no_grad()
    def gain(self, eps: Tensor, loss: Any, noise: Noise) -> Tensor:
        """(B,) how far one gradient step to the surface of the ball moves all outputs, over its length."""
        nothing = torch.zeros_like(self.images)
        gradient, _ = self._gradient(nothing, 0.0, loss)
        step = per_image(eps, nothing) * direction(gradient, self.p, noise)
        step = project(step, self.images, eps, self.p)
        self.queries += 2 * step.shape[0]
        ahead, here = (bounded(self.goal.ask(self.model, self.images + d)).double() for d in (step, nothing))
        moved = norms(ahead - here, self.p)
        found: Tensor = moved / norms(step, self.p).clamp_min(1e-300)
        return found

    @torch.no_grad()
    def score(self, delta: Tensor) -> Tensor:
        """(B,) rank of perturbed images: their true score, or a finer order."""
        self.queries += delta.shape[0]
        return self.goal.rank(self.goal.ask(self.model, self.images + delta), self.state)

    def _gradient(self, delta: Tensor, progress: float, loss: Any) -> tuple[Tensor, Tensor]:
        self.queries += delta.shape[0]
        delta = delta.detach().requires_grad_()
        with torch.enable_grad():
            outputs = self.goal.ask(self.model, self.images + delta)
            total = self.goal.loss(outputs, self.state, progress, loss).nan_to_num().sum()
            found = torch.autograd.grad(total, delta, allow_unused=True)[0] if total.requires_grad else None
        gradient = torch.zeros_like(delta) if found is None else found.detach()
        return gradient, self.goal.rank(detached(outputs), self.state)


@contextmanager
def frozen(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """The model with parameters that ask for no gradient; as it was afterwards.

    Raises:
        TrainModeError: when any part of it is in train mode.
    """
    checks.eval_mode(model, name)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield model
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
