"""Rules for the layers of Orthogonium; its convolutions and matrices are torch's, with a computed weight."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .interop import inner_constant, reflections, require, residual_of_gradient, teach
from .norms import conv_norm, linear_norm
from .rules_elementwise import spread
from .rules_linear import need_dims
from .value import Value

_LAYERS = "orthogonium.layers."


@teach(_LAYERS + "custom_activations", "Abs", "SoftHuber")
def slope_one(layer: Any, x: Value) -> Value:
    """Bound elementwise maps of slope at most one."""
    require(getattr(layer, "delta", 1.0) != 0, layer, "delta is zero")
    return x.times(1.0, because="slope at most 1")


@teach(_LAYERS + "custom_activations", "MaxMin")
def max_min(layer: Any, x: Value) -> Value:
    """Bound sorted pairs of channels."""
    require(int(layer.axis) % len(x.shape) != 0, layer, "sorting along the batch mixes images")
    return x.times(1.0, because="sorting permutes values")


@teach(_LAYERS + "custom_activations", "HouseHolder", "HouseHolder_Order_2")
def householder(layer: Any, x: Value) -> Value:
    """Bound reflections divided by sqrt(2); continuous for every angle (the pieces agree on their borders)."""
    need_dims(x, 4)
    angles = layer.theta.numel() if hasattr(layer, "theta") else layer.num_groups
    require(layer.axis == 1 and 2 * angles in (2, x.shape[1]), layer, "its angles do not fit the channels")
    return reflections(x, 1 / math.sqrt(2))


@teach(_LAYERS + "normalization", "BatchCentering2D")
def batch_centering(layer: Any, x: Value) -> Value:
    """Bound a translation (eval mode)."""
    return x.times(spread(x, layer.running_mean) * spread(x, layer.bias), because="translation")


@teach(_LAYERS + "normalization", "LayerCentering2D")
def layer_centering(layer: Any, x: Value) -> Value:
    """Bound the subtraction of the mean of each channel."""
    need_dims(x, 4)
    constant = 1.0 if x.p == 2 else 2.0
    return x.times(constant * spread(x, layer.bias), because="identity minus a mean")


@teach(_LAYERS + "channel_shuffle", "ChannelShuffle")
def channel_shuffle(layer: Any, x: Value) -> Value:
    """Bound a permutation of channels."""
    return x.times(1.0, because="a permutation of channels")


@teach(_LAYERS + "residual", "L2NormResidual")
def l2_norm_residual(layer: Any, x: Value) -> Value:
    """Bound sqrt(x^2 / 2 + f(x)^2 / 2 + eps), which moves at most as the half-sum of squares does."""
    require(layer.eps >= 0, layer, "eps is negative")
    branch = inner_constant(layer.fn, x)
    constant = (1 + branch) / math.sqrt(2) if x.p == 1 else math.sqrt((1 + branch * branch) / 2)
    return x.times(constant * (1 + 1e-12), because="root of the mean square of two branches")


_SLL = _LAYERS + "conv.SLL.sll_layer"


@teach(_SLL, "SDPBasedLipschitzResBlock", norms=(2.0,))
def sdp_convolution(layer: Any, x: Value) -> Value:
    """Bound x - 2 K^T relu(K x + b) by the norm of the effective kernel."""
    need_dims(x, 4)
    require(type(layer.activation) is nn.ReLU, layer, "its activation was changed")
    norm = conv_norm(layer.kernel, groups=layer.groups)
    return x.times(residual_of_gradient(norm), because="spectrum of I - 2 K^T D K")


@teach(_SLL, "SDPBasedLipschitzDense", norms=(2.0,))
def sdp_dense(layer: Any, x: Value) -> Value:
    """Bound x - 2 W^T (t relu(W x + b)) by the norm of sqrt(t) W."""
    require(type(layer.activation) is nn.ReLU, layer, "its activation was changed")
    t = layer.compute_t().detach().double()
    require(bool((t >= 0).all()), layer, "its scales are negative")
    norm = linear_norm(t.sqrt()[:, None] * layer.weight.detach().double())
    return x.times(residual_of_gradient(norm * (1 + 1e-6)), because="spectrum of I - 2 V^T D V")


@teach(_SLL, "AOCLipschitzResBlock", norms=(2.0,))
def aoc_residual(layer: Any, x: Value) -> Value:
    """Bound x - 2 K^T relu(K x + b), K without padding and its adjoint."""
    need_dims(x, 4)
    require(type(layer.activation) is nn.ReLU, layer, "its activation was changed")
    require(layer.padding_mode == "zeros" or layer.padding == 0, layer, "circular padding breaks the adjoint")
    norm = conv_norm(layer.in_conv.weight, groups=layer.groups)
    return x.times(residual_of_gradient(norm), because="spectrum of I - 2 K^T D K")


@teach(_SLL, "SLLxAOCLipschitzResBlock", norms=(2.0,))
def sll_aoc(layer: Any, x: Value) -> Value:
    """Bound Q (P x - 2 K^T relu(K P x + b)) by ||Q|| ||P|| and the norm of K.

    The kernels are fused in the layer; the two paths meet pixel by pixel only if their paddings agree.
    """
    need_dims(x, 4)
    require(type(layer.activation) is nn.ReLU, layer, "its activation was changed")
    kernel: torch.Tensor = layer.kernel
    aligned = 2 * layer.padding - (kernel.shape[-1] - 1) == layer.skip_kernel_size // 2
    require(aligned, layer, "the paddings of its two paths do not agree")
    before = conv_norm(layer.pre_conv.weight, groups=layer.groups)
    after = conv_norm(layer.post_conv.weight, stride=layer.stride, groups=layer.groups)
    inside = residual_of_gradient(conv_norm(kernel, groups=layer.groups))
    return x.times(
        before * inside * after * (1 + 1e-6), because="spectrum of I - 2 K^T D K between two kernels"
    )
