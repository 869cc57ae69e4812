"""Convolutions of bounded norm: what the orthogonal and the spectral ones share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards
from .guards import Pair
from .kernels import orthogonal_kernel
from .reparam import Reparametrized
from .stiefel import random_orthonormal


class _Conv(Reparametrized):
    """Geometry, bias and forward pass. `rows`/`columns` are the channels of the map whose weight is built."""

    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = "zeros",
        scale: float = 1.0,
        learnable_scale: bool = False,
        mode: str = "project",
    ) -> None:
        guards.check_channels(in_channels, out_channels, groups)
        guards.check_scale(scale)
        guards.check_choice("mode", mode, ("project", "retract"))
        super().__init__(scale, learnable_scale=learnable_scale, mode=mode)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = guards.pair("kernel_size", kernel_size)
        self.stride = guards.pair("stride", stride)
        self.dilation = guards.pair("dilation", dilation)
        guards.check_geometry(self.kernel_size, self.stride, self.dilation)
        same, self.output_padding = self._size_keeping()
        self.padding = same if padding is None else guards.pair("padding", padding, least=0)
        if padding is not None:
            self.output_padding = (0, 0)
        self.padding_mode = padding_mode
        guards.check_padding(padding_mode, self.padding, same)
        # a transposed layer is the adjoint of the convolution with the same weight tensor
        ins, outs = (out_channels, in_channels) if self.transposed else (in_channels, out_channels)
        self._ins, self._outs = ins // groups, outs // groups
        self._make_parameters()
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def _make_parameters(self) -> None:
        raise NotImplementedError

    def _size_keeping(self) -> tuple[Pair, Pair]:
        """Return the padding (and output padding) for which a size n becomes ceil(n / s), or n * s."""
        excess = [
            max(d * (k - 1) + 1 - s, 0) if self.transposed or k == s else d * (k - 1)
            for k, s, d in zip(self.kernel_size, self.stride, self.dilation, strict=True)
        ]
        if self.transposed:
            padding = tuple(-(-e // 2) for e in excess)
            return (padding[0], padding[1]), (excess[0] % 2, excess[1] % 2)
        return (excess[0] // 2, excess[1] // 2), (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `(B, C, H, W)` images with the effective weight."""
        weight = self.weight.to(self.coeff.dtype)
        if self.transposed:
            return F.conv_transpose2d(
                x,
                weight,
                self.bias,
                self.stride,
                self.padding,
                self.output_padding,
                self.groups,
                self.dilation,
            )
        if self.padding_mode == "circular":
            guards.check_divisible(x.shape[-2], x.shape[-1], self.stride)
            (top, left) = self.padding
            x = F.pad(x, (left, left, top, top), mode="circular")
            return F.conv2d(x, weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Describe the layer as torch does."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        for name, usual in (
            ("padding", (0, 0)),
            ("dilation", (1, 1)),
            ("groups", 1),
            ("padding_mode", "zeros"),
        ):
            value = getattr(self, name)
            text += f", {name}={value}" if value != usual else ""
        return (
            text
            + f", scale={float(self.coeff):.4g}"
            + (f", mode={self.mode!r}" if self.mode != "project" else "")
        )


class OrthogonalConv2d(_Conv):
    r"""Convolution that keeps the l2 norm: its matrix has orthonormal rows or columns, times `scale`.

    The kernel is `B * (P_1 + (I - P_1) z) * ... `: a strided orthonormal matrix `B` of side equal to the stride,
    composed with two-tap orthogonal filters until it has `kernel_size` taps. Free matrices are stored; their
    orthonormal factors are computed on the fly by matrix products (`mode="project"`), or stored orthonormal and
    restored by `onelip.layers.retract_` after each optimiser step (`mode="retract"`, needs a higher learning
    rate of its own).

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
        width = max(self._kept_columns, -(-rows // phases))
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


class OrthogonalConvTranspose2d(OrthogonalConv2d):
    """Transposed convolution that keeps the l2 norm: the adjoint of an `OrthogonalConv2d`, times `scale`.

    With `kernel_size == stride` (the default, 2) every output pixel is written once and the map is orthogonal
    at every size. Default padding: size `n` becomes `n * stride`. Arguments, errors and source as there; zero
    padding only.

    Shapes: `(B, in_channels, H, W)` to `(B, out_channels, H * s, W * s)`.

    Guarantee: norm at most `|coeff| * (1 + 3e-6)` in float32; `onelip.lipschitz` proves the constant.

    Example:
        >>> layer = OrthogonalConvTranspose2d(8, 4)
        >>> layer(torch.zeros(1, 8, 5, 7)).shape
        torch.Size([1, 4, 10, 14])
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 2,
        *,
        stride: int | Pair = 2,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = "zeros",
        scale: float = 1.0,
        learnable_scale: bool = False,
        mode: str = "project",
    ) -> None:
        guards.check_choice("padding_mode of a transposed convolution", padding_mode, ("zeros",))
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            scale=scale,
            learnable_scale=learnable_scale,
            mode=mode,
        )
