"""Dense matrices of layers: the brute-force oracle of these tests."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def matrix(linear, shape: tuple[int, ...]) -> Tensor:
    """Return the matrix of an affine map of one image of this shape, float64."""
    size = torch.Size(shape).numel()
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    images = linear(basis) - linear(torch.zeros_like(basis[:1]))
    return images.reshape(size, -1).T


def singular_values(linear, shape: tuple[int, ...]) -> Tensor:
    return torch.linalg.svdvals(matrix(linear, shape))
