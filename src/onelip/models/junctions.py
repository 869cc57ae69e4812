"""Junctions of the unconstrained twin: what a `Fork` and a `Blend` are when no budget has to be kept."""

from __future__ import annotations

from torch import Tensor, nn


class Copies(nn.Module):
    """Give every branch the tensor itself.

    >>> import torch
    >>> len(Copies(3)(torch.ones(1)))
    3
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the tensor `parts` times."""
        return (x,) * self.parts

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.parts}"


class Sum(nn.Module):
    """Add branches.

    >>> import torch
    >>> Sum()(torch.ones(1), torch.ones(1)).item()
    2.0
    """

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Return the sum of tensors of one shape."""
        total = first
        for other in others:
            total = total + other
        return total
