"""The checked input of a criterion: logits, labels and constants of one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from onelip.certify.costs import leave_cost, to_cost, top_two
from onelip.core import checks, errors

Classifier = Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class Scores:
    """Checked logits and labels of a batch: what a criterion reads."""

    logits: Tensor
    target: Tensor | None
    ignore_index: int
    lipschitz: tuple[float, ...] = ()
    p: float = 2.0
    classifier: Classifier | None = None

    @cached_property
    def valid(self) -> Tensor:
        """(B, H, W) bool: pixels that count."""
        if self.target is None:
            shape = (self.logits.shape[0], *self.logits.shape[2:])
            return torch.ones(shape, dtype=torch.bool, device=self.logits.device)
        return self.target != self.ignore_index

    @cached_property
    def labels(self) -> Tensor:
        """(B, H, W) int64: the target, with class 0 at void pixels so that it can be used as an index."""
        if self.target is None:
            return self.prediction
        return self.target.where(self.valid, torch.zeros_like(self.target))

    @cached_property
    def prediction(self) -> Tensor:
        """(B, H, W) int64: predicted class, the lowest index of a tie."""
        return top_two(self.logits)[2]

    @cached_property
    def top(self) -> Tensor:
        """(B, H, W): the largest logit."""
        return self.logits.amax(1)

    def predicts(self, k: int) -> Tensor:
        """(B, H, W) bool: class k is predicted, the lowest index of a tie."""
        own = self.logits[:, k]
        lower = self.logits[:, :k].amax(1) < own if k else torch.ones_like(own, dtype=torch.bool)
        return lower & (own == self.top)

    def leave_cost(self, labels: Tensor) -> Tensor:
        """(B, H, W) float64: signed cost of taking these labels away."""
        return leave_cost(self.logits, labels, p=self.p, classifier=self.classifier)

    def to_cost(self, k: int) -> Tensor:
        """(B, H, W) float64, >= 0: cost of turning each pixel into class k."""
        return to_cost(self.logits, k, p=self.p, classifier=self.classifier)


def image_constants(lipschitz: Any, batch: int) -> tuple[float, ...]:
    """One checked Lipschitz constant for each image of the batch."""
    if isinstance(lipschitz, Tensor):
        lipschitz = lipschitz.tolist()
    if not isinstance(lipschitz, (list, tuple)):
        return (checks.lipschitz(lipschitz),) * batch
    if len(lipschitz) != batch:
        raise errors.InputError(
            errors.explain(
                "certify: `lipschitz` does not fit the batch",
                received=f"{len(lipschitz)} constants",
                expected=f"one number, or {batch}, one for each image",
            )
        )
    return tuple(checks.lipschitz(value) for value in lipschitz)
