"""Rules of linear layers: convolutions, matrices, normalisation by constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.errors import UnknownLayerError, explain
from .norms import circular_copies, conv_norm, copies_factor, linear_norm, most_copies, per_axis
from .table import module_rule, operation
from .value import Value

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def need_dims(x: Value, dims: int, *, more: bool = False) -> None:
    """Refuse a tensor with too few dimensions: torch would take its batch for channels or features."""
    if len(x.shape) != dims and not (more and len(x.shape) > dims):
        raise UnknownLayerError(
            explain(
                "the input has no batch dimension of its own", received=x.shape, expected=f"{dims} dimensions"
            )
        )


def conv_padding(
    kernel: Sequence[int], dilation: Sequence[int], padding: str | int | Sequence[int]
) -> list[tuple[int, int]]:
    """Return the (before, after) padding of each axis, with torch's meaning of "same" and "valid"."""
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    if isinstance(padding, str):
        raise UnknownLayerError(
            explain("unknown padding", received=padding, expected='numbers, "same" or "valid"')
        )
    return [(q, q) for q in per_axis(padding, len(kernel))]


def padding_copies(layer: Any, x: Value, kernel: Sequence[int]) -> int:
    """Return how often the padding of a convolution layer may count one pixel, for the size at hand.

    `kernel` is the extent of the effective weight: some libraries grow it beyond `layer.kernel_size`.
    """
    mode = layer.padding_mode
    if mode == "zeros":
        return 1
    stride, dilation = layer.stride, layer.dilation
    copies = 1
    for axis, (before, after) in enumerate(conv_padding(layer.kernel_size, dilation, layer.padding)):
        n, k, s, d = x.shape[2 + axis], kernel[axis], stride[axis], dilation[axis]
        out = (n + before + after - d * (k - 1) - 1) // s + 1
        if mode == "circular":
            copies *= circular_copies(n, out, s, before, after)
        else:
            copies *= most_copies(n, before, after, mode)
    return copies


def conv_rule(layer: Any, x: Value, weight: torch.Tensor) -> Value:
    """Bound any layer that convolves as nn.Conv*d does, with the effective weight given."""
    need_dims(x, weight.dim())
    constant = conv_norm(weight, stride=layer.stride, dilation=layer.dilation, groups=layer.groups, p=x.p)
    copies = padding_copies(layer, x, weight.shape[2:])
    if copies == 1:
        return x.times(constant, because="operator norm of the kernel, any size")
    because = f"operator norm times {layer.padding_mode} padding that repeats a pixel {copies} times"
    return x.times(constant * copies_factor(copies, x.p), because=because)


@module_rule(*_CONV)
def conv(layer: Any, x: Value) -> Value:
    """Bound a convolution by its effective weight (parametrised or folded)."""
    return conv_rule(layer, x, layer.weight)


@module_rule(*_CONV_TRANSPOSE)
def conv_transpose(layer: Any, x: Value, output_size: Any = None) -> Value:
    """Bound a transposed convolution: the adjoint of a convolution; padding and output padding crop or extend."""
    need_dims(x, layer.weight.dim())
    if layer.padding_mode != "zeros":
        raise UnknownLayerError(explain("transposed padding is unknown", received=layer.padding_mode))
    constant = conv_norm(
        layer.weight,
        stride=layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
        p=x.p,
        transposed=True,
    )
    return x.times(constant, because="adjoint of a convolution, any size")


@module_rule(nn.Linear)
def linear(layer: Any, x: Value) -> Value:
    """Bound a dense layer by the norm of its effective weight."""
    need_dims(x, 2, more=True)
    return x.times(linear_norm(layer.weight, x.p), because="norm of the matrix")


@module_rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
def batch_norm(layer: Any, x: Value) -> Value:
    """Bound batch normalisation with stored statistics: a scale per channel."""
    if layer.running_var is None:
        raise UnknownLayerError(
            explain(
                "normalisation by batch statistics has no constant",
                received=f"{type(layer).__name__}(track_running_stats=False)",
                fix="keep running statistics, or use a centring layer of onelip.layers",
            )
        )
    return _batch_norm(x, layer.running_var, layer.weight, layer.eps)


def _batch_norm(x: Value, variance: torch.Tensor, weight: torch.Tensor | None, eps: float) -> Value:
    scale = (variance.detach().double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.detach().double()
    return x.times(float(scale.abs().max()) * (1 + 1e-12), because="largest |weight| / sqrt(variance + eps)")


@operation("batch_norm", "_native_batch_norm_legit_no_training")
def batch_norm_function(
    x: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *_: Any,
) -> Value:
    """Bound functional batch normalisation; torch.nn.functional and aten order the tensors differently."""
    if training or running_var is None:
        raise UnknownLayerError(
            explain("normalisation by batch statistics has no constant", fix="use eval mode")
        )
    return _batch_norm(x, running_var, weight, eps)


@operation("aten::batch_norm")  # also torch.batch_norm
def batch_norm_aten(
    x: Value,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Value:
    """Bound aten batch normalisation (weight and bias come first)."""
    return batch_norm_function(x, mean, var, weight, bias, training, momentum, eps)


def _functional_conv(
    x: Value, weight: Any, stride: Any, dilation: Any, groups: int, transposed: bool
) -> Value:
    if not isinstance(weight, torch.Tensor) or isinstance(x, torch.Tensor):
        raise UnknownLayerError(explain("a convolution whose kernel depends on the input has no constant"))
    need_dims(x, weight.dim())
    constant = conv_norm(
        weight, stride=stride, dilation=dilation, groups=groups, p=x.p, transposed=transposed
    )
    return x.times(constant, because="operator norm of the kernel, any size")


@operation("conv1d", "conv2d", "conv3d")
def conv_function(
    input: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    """Bound functional convolutions, which pad with zeros."""
    return _functional_conv(input, weight, stride, dilation, groups, transposed=False)


@operation("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose_function(
    input: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    """Bound functional transposed convolutions."""
    return _functional_conv(input, weight, stride, dilation, groups, transposed=True)


@operation("linear")
def linear_function(input: Value, weight: Any, bias: Any = None) -> Value:
    """Bound x W^T + b."""
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2 or isinstance(input, torch.Tensor):
        raise UnknownLayerError(explain("a matrix that depends on the input has no constant"))
    need_dims(input, 2, more=True)
    return input.times(linear_norm(weight, input.p), because="norm of the matrix")


@operation("matmul")
def matmul(a: Any, b: Any) -> Value:
    """Bound a product with one constant matrix, x @ M or M @ x."""
    if isinstance(a, Value) and isinstance(b, torch.Tensor) and b.dim() == 2 and len(a.shape) > 1:
        return a.times(linear_norm(b.mT, a.p), because="norm of the matrix")
    if isinstance(b, Value) and isinstance(a, torch.Tensor) and a.dim() == 2 and len(b.shape) > 2:
        return b.times(linear_norm(a, b.p), because="norm of the matrix")
    raise UnknownLayerError(explain("a product of two tensors that depend on the input has no constant"))


@operation("constant_pad_nd")
def constant_pad(x: Value, amounts: Sequence[int], value: float = 0.0) -> Value:
    """Bound constant padding (aten)."""
    return pad(x, amounts)


@operation("pad", aliases=True)
def pad(input: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Value:
    """Bound padding (or cropping, when negative): constants shift, other modes repeat pixels."""
    copies = 1
    for i in range(0, len(pad), 2):
        axis = len(input.shape) - 1 - i // 2
        if axis == 0:
            raise UnknownLayerError(explain("padding along the batch mixes images", received=tuple(pad)))
        copies *= most_copies(input.shape[axis], int(pad[i]), int(pad[i + 1]), mode)
    return input.times(copies_factor(copies, input.p), because=f"{mode} padding, at most {copies} copies")


@module_rule(
    nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, aliases=True
)
def pad_module(layer: Any, x: Value) -> Value:
    """Bound the padding modules of two dimensions."""
    modes = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate", nn.CircularPad2d: "circular"}
    mode = next((m for cls, m in modes.items() if isinstance(layer, cls)), "constant")
    return pad(x, layer.padding, mode)


def entries(constant: torch.Tensor | float) -> torch.Tensor:
    """Return the entries of a constant in float64; a number may be meant exactly or as the float32 it becomes."""
    if isinstance(constant, torch.Tensor):
        return constant.detach().double()
    number = torch.tensor([constant], dtype=torch.float64)
    return torch.cat([number, number.float().double()])


def scale_norm(scale: torch.Tensor | float) -> float:
    """Return the largest |scale| of an elementwise product, whatever the norm."""
    largest = float(entries(scale).abs().max())
    return largest if math.isfinite(largest) else math.inf
