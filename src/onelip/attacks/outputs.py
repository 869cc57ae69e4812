"""What an attack does with the outputs of a model, whether they are one tensor or more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from onelip.attacks.projection import per_image


class Outputs(ABC):
    """Outputs of a batch that are not one tensor of logits, as those of a detector."""

    @abstractmethod
    def __getitem__(self, part: slice) -> Self:
        """The outputs of some of the images."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of classes K."""

    @abstractmethod
    def detach(self) -> Self:
        """The same without gradients."""

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The outputs of several batches as those of one."""

    @abstractmethod
    def choose(self, keep: Tensor, other: Self) -> Self:
        """These outputs where `keep`, (B,) bool, and the others elsewhere."""

    @abstractmethod
    def bounded(self) -> Tensor:
        """(B, M) what the Lipschitz constant of the model bounds jointly."""

    @abstractmethod
    def predictions(self) -> list[Any]:
        """What the model says of each image."""


def join(parts: Sequence[Any]) -> Any:
    """Outputs of several batches as those of one."""
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else type(parts[0]).join(parts)


def choose(keep: Tensor, outputs: Any, other: Any) -> Any:
    """Outputs where `keep`, (B,) bool, and the others elsewhere."""
    if isinstance(outputs, Outputs):
        return outputs.choose(keep, other)
    return torch.where(per_image(keep, outputs).bool(), outputs, other)


def bounded(outputs: Any) -> Tensor:
    """What the Lipschitz constant of the model bounds: all logits, or what the outputs say."""
    found: Tensor = outputs.bounded() if isinstance(outputs, Outputs) else outputs
    return found


def classes(outputs: Any) -> int:
    """Number of classes K; two for the single logit of a classifier."""
    if isinstance(outputs, Outputs):
        return int(outputs.classes)
    return 2 if outputs.dim() == 2 and outputs.shape[1] == 1 else int(outputs.shape[1])


def detached(outputs: Any) -> Any:
    """Outputs without gradients."""
    if isinstance(outputs, Tensor | Outputs):
        return outputs.detach()
    if isinstance(outputs, list | tuple):
        return [detached(part) for part in outputs]
    return {k: detached(v) for k, v in outputs.items()} if isinstance(outputs, dict) else outputs
