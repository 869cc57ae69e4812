"""Rules for the layers of deel-torchlip, from their effective weights and settings, never from what they promise."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..core.errors import UnknownLayerError, explain
from .interop import reflections, require, teach
from .norms import copies_factor, per_axis
from .rules_elementwise import spread
from .rules_linear import conv_rule, need_dims, scale_norm
from .rules_pool import adaptive_avg_pool2d, avg_pool_module
from .shapes import twin
from .sums import add
from .value import Value

_MODULES = "deel.torchlip.modules."


def _coefficient(layer: Any) -> float:
    return abs(float(layer._coefficient_lip))


def _symmetric_copies(pad: Any, x: Value) -> int:
    """Count how often the most repeated pixel occurs after a padding module, by padding the pixels' numbers."""
    spatial = x.shape[2:]
    index = torch.arange(math.prod(spatial), dtype=torch.float64).reshape(1, 1, *spatial)
    return int(torch.bincount(pad(index).long().flatten()).max())


@teach("deel.torchlip.functional", "SymmetricPad")
def symmetric_pad(layer: Any, x: Value) -> Value:
    """Bound symmetric padding by its most repeated pixel."""
    need_dims(x, 3 if layer.onedim else 4)
    copies = _symmetric_copies(layer, x)
    return x.times(copies_factor(copies, x.p), because=f"symmetric padding, at most {copies} copies")


@teach(_MODULES + "unconstrained", "PadConv1d", "PadConv2d")
@teach(_MODULES + "conv", "SpectralConv1d", "SpectralConv2d", "FrobeniusConv2d")
def pad_conv(layer: Any, x: Value) -> Value:
    """Bound a convolution behind its own padding."""
    if str(layer.old_padding_mode).lower() == "symmetric":
        need_dims(x, layer.weight.dim())
        require(layer.padding_mode == "zeros", layer, "it pads twice")
        copies = _symmetric_copies(layer.pad, x)
        # the padded image is larger; the kernel's norm holds for any size
        return conv_rule(layer, x, layer.weight).times(
            copies_factor(copies, x.p), because=f"operator norm behind a padding of at most {copies} copies"
        )
    token = object()
    require(
        not isinstance(layer.pad, torch.nn.Module) and layer.pad(token) is token, layer, "its padding changed"
    )
    return conv_rule(layer, x, layer.weight)


@teach(_MODULES + "pooling", "ScaledAvgPool2d")
def scaled_average(layer: Any, x: Value) -> Value:
    """Bound scaled average pooling exactly, partial windows and divisors included."""
    scale = _coefficient(layer) * abs(float(layer.scalingFactor))
    return avg_pool_module(layer, x).times(scale, because="exact norm of each axis, scaled")


@teach(_MODULES + "pooling", "ScaledAdaptiveAvgPool2d")
def scaled_global_average(layer: Any, x: Value) -> Value:
    """Bound the scaled global average."""
    need_dims(x, 4)
    scale = _coefficient(layer) * math.sqrt(x.shape[2] * x.shape[3]) * (1 + 1e-12)
    return adaptive_avg_pool2d(x, layer.output_size).times(scale, because="exact norm, scaled")


@teach(_MODULES + "pooling", "ScaledL2NormPool2d")
def l2_pool(layer: Any, x: Value) -> Value:
    """Bound the Euclidean norm of disjoint windows; torch scales partial windows up, they are refused."""
    need_dims(x, 4)
    kernel = per_axis(layer.kernel_size, 2)
    require(layer.norm_type == 2, layer, "only the Euclidean norm is covered")
    require(layer.stride is None or per_axis(layer.stride, 2) == kernel, layer, "its windows overlap")
    partial = any(n % k for n, k in zip(x.shape[2:], kernel, strict=True))
    require(
        not (layer.ceil_mode and partial), layer, "ceil_mode makes partial windows, which torch scales up"
    )
    return x.times(
        _coefficient(layer) * _window_norm(math.prod(kernel), x.p), because="norm of disjoint windows"
    )


@teach(_MODULES + "pooling", "ScaledAdaptativeL2NormPool2d")
def global_l2_pool(layer: Any, x: Value) -> Value:
    """Bound the Euclidean norm of each channel."""
    need_dims(x, 4)
    return x.times(
        _coefficient(layer) * _window_norm(math.prod(x.shape[2:]), x.p), because="norm of one window"
    )


def _window_norm(size: int, p: float) -> float:
    return math.sqrt(size) * (1 + 1e-12) if math.isinf(p) else 1.0


@teach(_MODULES + "activation", "GroupSort", "GroupSort2", "FullSort")
def group_sort(layer: Any, x: Value) -> Value:
    """Bound sorted groups of channels."""
    return x.times(_coefficient(layer), because="sorting permutes values")


@teach(_MODULES + "activation", "MaxMin")
def concatenated_relu(layer: Any, x: Value) -> Value:
    """Bound (relu(x), relu(-x)): one of the two stands still, and together they move as x does."""
    require(layer._dim is None or int(layer._dim) % len(x.shape) != 0, layer, "it joins along the batch")
    return x.times(_coefficient(layer), because="positive and negative parts")


@teach(_MODULES + "activation", "LPReLU")
def lipschitz_prelu(layer: Any, x: Value) -> Value:
    """Bound PReLU with clamped slope; the slope one of positive values ignores the coefficient."""
    slope = min(scale_norm(layer.weight), _coefficient(layer))
    return x.times(max(1.0, slope) * (1 + 1e-12), because="larger of the two slopes")


@teach(_MODULES + "activation", "HouseHolder")
def householder(layer: Any, x: Value, axis: int = 1) -> Value:
    """Bound reflections of pairs of channels (the layer ignores its coefficient)."""
    angles = layer.theta.numel()
    require(axis == 1 and 2 * angles in (2, x.shape[1]), layer, "its angles do not fit the channels")
    return reflections(x)


def _shift(x: Value, vector: Any) -> float:
    """Return by how much adding a vector of one number a channel repeats entries: one, unless it broadcasts."""
    if vector is None:
        return 1.0
    return spread(x, vector.detach().reshape(1, -1, *[1] * (len(x.shape) - 2)))


@teach(_MODULES + "normalization", "LayerCentering")
def layer_centering(layer: Any, x: Value) -> Value:
    """Bound the subtraction of a mean."""
    dims = [
        int(d) % len(x.shape) for d in (layer.dim if isinstance(layer.dim, list | tuple) else [layer.dim])
    ]
    require(bool(dims) and 0 not in dims, layer, "a mean over the batch mixes images")
    return x.times((1.0 if x.p == 2 else 2.0) * _shift(x, layer.bias), because="identity minus a mean")


@teach(_MODULES + "normalization", "ScaleBiasLayer")
def scale_bias(layer: Any, x: Value) -> Value:
    """Bound one scale and a translation."""
    if isinstance(layer.scalar, torch.Tensor) and layer.scalar.numel() != 1:
        raise UnknownLayerError(explain("only one scale is covered", received=tuple(layer.scalar.shape)))
    return x.times(scale_norm(layer.scalar) * _shift(x, layer.bias), because="|scale|")


@teach(_MODULES + "normalization", "BatchLipNorm", "BatchCentering")
def batch_lip_norm(layer: Any, x: Value) -> Value:
    """Bound (x - mean) * scale with stored statistics, brought up to date as the first call in eval mode does."""
    current: Any = twin(layer)
    current.update_running_values()
    scale = 1.0
    if layer.normalize:
        scale = scale_norm(current.get_scaling(training=False)) * (1 + 1e-6)
    shift = _shift(x, current.running_sum_bmean) * _shift(x, layer.bias)
    return x.times(scale * shift, because="one scale for all channels, from stored statistics")


@teach(_MODULES + "residual", "LipResidual")
def lip_residual(layer: Any, x: Value, y: Value) -> Value:
    """Bound s x + (1 - s) y."""
    require(x.shape == y.shape, layer, "its branches differ in shape")
    s = float(torch.sigmoid(layer.alpha.detach().double()))
    return add([(s, x), (1 - s, y)], because="convex sum")
