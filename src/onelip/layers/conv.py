"""Convolutions of bounded norm: what the orthogonal and the spectral ones share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards
from .guards import Pair
from .reparam import Reparametrized


class LipschitzConv(Reparametrized):
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


class Transposed(LipschitzConv):
    """Mixin: the adjoint geometry, with the defaults of a doubling layer."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 2,
        *,
        stride: int | Pair = 2,
        padding_mode: str = "zeros",
        **options: Any,
    ) -> None:
        guards.check_choice("padding_mode of a transposed convolution", padding_mode, ("zeros",))
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, **options)
