"""Spectral convolutions: an orthonormal matrix of all taps, divided by how often a pixel is read."""

from __future__ import annotations

import math

from torch import Tensor, nn

from .conv import LipschitzConv, Transposed
from .linear import OrthogonalLinear
from .stiefel import random_orthonormal


class SpectralConv2d(LipschitzConv):
    r"""Convolution whose reshaped kernel is orthonormal, divided by `sqrt(ceil(kh / sh) * ceil(kw / sw))`.

    Each pixel is read at most `ceil(k / s)` times per axis, hence the divisor. Cheaper and looser than
    `OrthogonalConv2d`: equal to it for `kernel_size == stride`, otherwise the true norm is often 0.2 to 0.9, which
    `onelip.lipschitz` measures and turns into larger certificates.

    Arguments as in `OrthogonalConv2d`; groups of one channel are allowed.

    Guarantee: norm at most `|coeff| * (1 + 1e-6)` in float32; `onelip.lipschitz` proves the constant.

    Raises:
        InputError: the setting has a norm above 1.

    Example:
        >>> import torch
        >>> SpectralConv2d(3, 8, 3, stride=2)(torch.zeros(1, 3, 9, 9)).shape
        torch.Size([1, 8, 5, 5])

    Source: Serrurier et al., "Achieving robustness in classification using optimal transport with hinge
        regularization", CVPR 2021.
    """

    def _make_parameters(self) -> None:
        kh, kw = self.kernel_size
        self.base = nn.Parameter(random_orthonormal(self.groups, self._outs, self._ins * kh * kw))

    def _free(self) -> list[Tensor]:
        return [self.base]

    def _assemble(self, matrices: list[Tensor]) -> Tensor:
        reads = math.prod(-(-k // s) for k, s in zip(self.kernel_size, self.stride, strict=True))
        shape = (self.groups * self._outs, self._ins, *self.kernel_size)
        return matrices[0].reshape(shape) / math.sqrt(reads)


class SpectralConvTranspose2d(Transposed, SpectralConv2d):
    """Transposed convolution with a spectral kernel: the adjoint of a `SpectralConv2d`, times `scale`.

    Arguments as in `OrthogonalConvTranspose2d`; the same layer when `kernel_size == stride`.

    Guarantee: norm at most `|coeff| * (1 + 1e-6)` in float32; `onelip.lipschitz` proves the constant.

    Example:
        >>> import torch
        >>> SpectralConvTranspose2d(8, 4)(torch.zeros(1, 8, 5, 7)).shape
        torch.Size([1, 4, 10, 14])
    """


class SpectralLinear(OrthogonalLinear):
    """Linear layer with all singular values equal to `scale`: the same as `OrthogonalLinear`.

    Guarantee: norm at most `|coeff| * (1 + 1e-6)` in float32; `onelip.lipschitz` proves the constant.

    Example:
        >>> import torch
        >>> SpectralLinear(3, 5)(torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """
