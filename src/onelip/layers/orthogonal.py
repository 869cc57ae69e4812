"""Orthogonal convolutions: every singular value is the scale."""

from __future__ import annotations

from torch import Tensor, nn

from . import guards
from .conv import LipschitzConv, Transposed
from .kernels import orthogonal_kernel
from .stiefel import random_orthonormal


class OrthogonalConv2d(LipschitzConv):
    r"""Convolution that keeps the l2 norm: its matrix has orthonormal rows or columns, times `scale`.

    The kernel is `B * (P_1 + (I - P_1) z) * ...`: an orthonormal matrix `B` of side equal to the stride,
    composed with two-tap orthogonal filters until it has `kernel_size` taps. Free matrices are stored; their
    orthonormal factors are computed on the fly by matrix products (`mode="project"`), or stored and restored
    by `onelip.layers.retract_` after each optimiser step (`mode="retract"`, with a learning rate of its own).

    Shapes: `(B, in_channels, H, W)` to `(B, out_channels, ceil(H / s), ceil(W / s))` with the default padding
    (rounded down when `kernel_size == stride`).

    Guarantee: norm at most `|coeff| * (1 + 3e-6)` in float32 for zero padding; `onelip.lipschitz` proves the
    constant of the weights at hand. With zero padding energy is lost at the border; with circular padding
    nothing is lost.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: odd, or equal to the stride.
        stride: coprime with `dilation`.
        padding: None keeps the size at stride 1 (`dilation * (kernel_size - 1) // 2`; 0 if kernel = stride).
        dilation: spacing of the taps.
        groups: groups, each of at least 2 channels.
        bias: whether to learn a bias.
        padding_mode: "zeros" or "circular".
        scale: factor on the weight, see `rms_gain`.
        learnable_scale: whether the factor (`coeff`) is trained.
        mode: "project" or "retract".

    Raises:
        InputError: the setting has a norm above 1 or nothing to train.

    Example:
        >>> import torch
        >>> layer = OrthogonalConv2d(4, 4, 3, padding_mode="circular")
        >>> x = torch.randn(1, 4, 8, 8)
        >>> torch.allclose(layer(x).norm(), x.norm(), rtol=1e-4)
        True

    Source: Li et al., NeurIPS 2019 (BCOP); Boissin et al., "An adaptive orthogonal convolution scheme", 2025.
    """

    def _make_parameters(self) -> None:
        (kh, kw), (sh, sw) = self.kernel_size, self.stride
        phases, g = sh * sw, self.groups
        ins, outs = self._ins, self._outs
        # at stride 1 the cheaper of the kernel and its transpose is built
        self._swapped = phases == 1 and outs > ins
        rows, self._kept_columns = (ins, outs) if self._swapped else (outs, ins)
        # the base has orthonormal rows on all inputs, or orthonormal columns on at least the kept inputs
        width = max(self._kept_columns, rows // phases)
        guards.check_trainable(width, self.kernel_size, self.stride)
        count = kh - sh + kw - sw
        self.base = nn.Parameter(random_orthonormal(g, rows, width * phases))
        self.projectors = nn.Parameter(random_orthonormal(count, g, width, width // 2)) if count else None

    def _free(self) -> list[Tensor]:
        return [self.base] if self.projectors is None else [self.base, self.projectors]

    def _assemble(self, matrices: list[Tensor]) -> Tensor:
        base = matrices[0]
        projectors = matrices[1] if len(matrices) == 2 else base.new_zeros(0)
        kernel = orthogonal_kernel(
            base, projectors, inputs=self._kept_columns, size=self.kernel_size, stride=self.stride
        )
        return (kernel.transpose(1, 2) if self._swapped else kernel).flatten(0, 1).contiguous()


class OrthogonalConvTranspose2d(Transposed, OrthogonalConv2d):
    """Transposed convolution that keeps the l2 norm: the adjoint of an `OrthogonalConv2d`, times `scale`.

    With `kernel_size == stride` (the default, 2) every output pixel is written once and the map is orthogonal
    at every size. Default padding: size `n` becomes `n * stride`. Arguments, errors and source as there; zero
    padding only.

    Shapes: `(B, in_channels, H, W)` to `(B, out_channels, H * s, W * s)`.

    Guarantee: norm at most `|coeff| * (1 + 3e-6)` in float32; `onelip.lipschitz` proves the constant.

    Example:
        >>> import torch
        >>> layer = OrthogonalConvTranspose2d(8, 4)
        >>> layer(torch.zeros(1, 8, 5, 7)).shape
        torch.Size([1, 4, 10, 14])
    """
