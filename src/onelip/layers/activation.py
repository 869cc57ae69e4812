"""Activations that keep the norm of the gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import guards


class MaxMin(nn.Module):
    """Sort channel `c` with channel `c + C/2`: larger values first.

    Formula: `cat(max(a, b), min(a, b))` with `a, b` the two halves of the channels (dimension 1).

    Guarantee: 1-Lipschitz for p = 1, 2 and infinity; the Jacobian is a permutation almost everywhere.

    Raises:
        InputError: the number of channels is odd.

    Example:
        >>> MaxMin()(torch.tensor([[1.0, 5.0, 2.0, 3.0]]))
        tensor([[2., 5., 1., 3.]])

    Source: Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Sort pairs along dimension 1."""
        if x.shape[1] % 2:
            guards.refuse("MaxMin needs pairs of channels", f"{x.shape[1]} channels", "an even number")
        first, second = x.chunk(2, dim=1)
        return torch.cat((torch.maximum(first, second), torch.minimum(first, second)), dim=1)
