"""Pooling scaled to norm 1: no window overlaps another, none hangs over the border."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards


class ScaledAvgPool2d(nn.Module):
    """Average over disjoint `k x k` windows, times `k`: an isometry on constant windows.

    Formula: `sum(window) / k`. Rows and columns that fill no window are dropped.

    Guarantee: norm 1 for p = 2, `1 / k` for p = 1 and `k` for p = infinity.

    Raises:
        InputError: the window is no positive integer (or two).

    Example:
        >>> ScaledAvgPool2d(2)(torch.ones(1, 1, 4, 4)).flatten()
        tensor([2., 2., 2., 2.])
    """

    def __init__(self, kernel_size: int | guards.Pair) -> None:
        super().__init__()
        self.kernel_size = guards.pair("kernel_size", kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Pool `(B, C, H, W)`."""
        return F.avg_pool2d(x, self.kernel_size) * math.sqrt(math.prod(self.kernel_size))

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.kernel_size}"


class ScaledL2NormPool2d(nn.Module):
    """Euclidean norm over disjoint `k x k` windows, or over the whole image (`kernel_size=None`).

    Formula: `sqrt(sum(window ** 2))`. Rows and columns that fill no window are dropped. The gradient at a zero
    window is 0.

    Guarantee: 1-Lipschitz for p = 1 and 2; sqrt(pixels of a window) for p = infinity.

    Raises:
        InputError: the window is no positive integer (or two).

    Example:
        >>> ScaledL2NormPool2d(2)(torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])).item()
        5.0
    """

    def __init__(self, kernel_size: int | guards.Pair | None = 2) -> None:
        super().__init__()
        self.kernel_size = None if kernel_size is None else guards.pair("kernel_size", kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Pool `(B, C, H, W)`; the global pool gives `(B, C, 1, 1)`."""
        if self.kernel_size is None:
            whole: Tensor = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
            return whole
        kh, kw = self.kernel_size
        rows, columns = x.shape[-2] // kh, x.shape[-1] // kw
        windows = x[..., : rows * kh, : columns * kw].reshape(*x.shape[:-2], rows, kh, columns, kw)
        pooled: Tensor = torch.linalg.vector_norm(windows, dim=(-3, -1))
        return pooled

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        return f"{self.kernel_size}"


class ScaledGlobalAvgPool2d(nn.Module):
    """Average over all pixels, times the root of their number.

    Formula: `sum(x) / sqrt(H * W)`, shape `(B, C, 1, 1)`.

    Guarantee: norm 1 for p = 2, `1 / sqrt(H W)` for p = 1, `sqrt(H W)` for p = infinity.

    Example:
        >>> ScaledGlobalAvgPool2d()(torch.ones(1, 1, 3, 3)).item()
        3.0
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool `(B, C, H, W)` to `(B, C, 1, 1)`."""
        return x.sum((-2, -1), keepdim=True) / math.sqrt(x.shape[-2] * x.shape[-1])
