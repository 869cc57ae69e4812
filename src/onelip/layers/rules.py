"""Bounds of the layers of this package, each from the weight as it is now."""

from __future__ import annotations

import math

from ..bounds.norms import linear_norm
from ..bounds.rules_linear import conv_rule, conv_transpose
from ..bounds.sums import add
from ..bounds.table import module_rule
from ..bounds.value import Value
from ..core.errors import UnknownLayerError, explain
from .activation import Abs, GroupSort, Householder, MaxMin
from .conv import LipschitzConv
from .energy import Blend, Fork
from .linear import OrthogonalLinear, UnitNormLinear
from .norm import BatchCentering, ChannelBias, InputNormalization, LayerCentering
from .orthogonal import OrthogonalConv2d, OrthogonalConvTranspose2d
from .pool import ScaledAvgPool2d, ScaledGlobalAvgPool2d, ScaledL2NormPool2d
from .spectral import SpectralConv2d, SpectralConvTranspose2d, SpectralLinear

_SLACK = 1 + 1e-12
"""Covers the rounding of a square root or quotient in float64."""


@module_rule(OrthogonalConv2d, SpectralConv2d)
def convolution(layer: LipschitzConv, x: Value) -> Value:
    """Bound by the effective kernel and the padding at hand."""
    return conv_rule(layer, x, layer.weight)


@module_rule(OrthogonalConvTranspose2d, SpectralConvTranspose2d)
def transposed_convolution(layer: LipschitzConv, x: Value) -> Value:
    """Bound by the effective kernel: the adjoint of a convolution."""
    return conv_transpose(layer, x)


@module_rule(OrthogonalLinear, SpectralLinear, UnitNormLinear)
def linear(layer: OrthogonalLinear, x: Value) -> Value:
    """Bound by the norm of the effective matrix."""
    return x.times(linear_norm(layer.weight, x.p), because="norm of the matrix")


@module_rule(MaxMin, GroupSort)
def sorting(layer: MaxMin | GroupSort, x: Value) -> Value:  # noqa: ARG001
    """Sorting is a permutation on each of finitely many pieces, and continuous."""
    return x.times(1.0, because="sorting permutes values")


@module_rule(Abs)
def absolute(layer: Abs, x: Value) -> Value:  # noqa: ARG001
    """The absolute value changes signs."""
    return x.times(1.0, because="slope -1 or 1")


@module_rule(Householder)
def householder(layer: Householder, x: Value) -> Value:  # noqa: ARG001
    """A reflection of pairs: orthogonal, at most sqrt(2) in the other norms."""
    if x.p == 2:
        return x.times(1.0, because="reflections, continuous")
    return x.times(math.sqrt(2) * _SLACK, because="rows and columns of a reflection of pairs")


@module_rule(BatchCentering, ChannelBias)
def translation(layer: BatchCentering | ChannelBias, x: Value) -> Value:  # noqa: ARG001
    """In eval mode a constant is added (a model in train mode never gets here)."""
    return x.times(1.0, because="translation")


@module_rule(LayerCentering)
def layer_centering(layer: LayerCentering, x: Value) -> Value:  # noqa: ARG001
    """Subtracting the mean: an orthogonal projection; row and column sums stay below 2."""
    if x.p == 2:
        return x.times(1.0, because="orthogonal projection")
    return x.times(2.0, because="identity minus a mean")


@module_rule(InputNormalization)
def input_normalization(layer: InputNormalization, x: Value) -> Value:
    """Division by the standard deviations."""
    return x.times(_SLACK / float(layer.std.double().min()), because="1 / smallest standard deviation")


@module_rule(ScaledAvgPool2d)
def scaled_average(layer: ScaledAvgPool2d, x: Value) -> Value:
    """Disjoint windows: each output is sum / sqrt(n)."""
    return x.times(_mean_norm(math.prod(layer.kernel_size), x.p), because="disjoint windows, sum / sqrt(n)")


@module_rule(ScaledGlobalAvgPool2d)
def scaled_global_average(layer: ScaledGlobalAvgPool2d, x: Value) -> Value:  # noqa: ARG001
    """One window."""
    return x.times(_mean_norm(math.prod(x.shape[-2:]), x.p), because="one window, sum / sqrt(n)")


@module_rule(ScaledL2NormPool2d)
def l2_pool(layer: ScaledL2NormPool2d, x: Value) -> Value:
    """Disjoint windows: a norm moves at most as far as its argument, in l2 and so in l1."""
    size = math.prod(x.shape[-2:] if layer.kernel_size is None else layer.kernel_size)
    constant = math.sqrt(size) * _SLACK if math.isinf(x.p) else 1.0
    return x.times(constant, because="Euclidean norm of disjoint windows")


@module_rule(Fork)
def fork(layer: Fork, x: Value) -> tuple[Value, ...]:
    """Copies by weights as they are now; what later joins them finds that they are copies of one tensor."""
    weights = layer.weights.detach().double().abs().tolist()[: layer.parts]
    return tuple(x.times(weight, because="its share of a fork") for weight in weights)


@module_rule(Blend)
def blend(layer: Blend, *branches: Value) -> Value:
    """A weighted sum: Cauchy-Schwarz over what the branches are together, or the sum of their constants."""
    if len({v.shape for v in branches}) != 1:
        raise UnknownLayerError(
            explain("branches of a blend differ in shape", received=[v.shape for v in branches])
        )
    weights = layer.weights.detach().double().abs().tolist()[: layer.parts]
    return add(
        zip(weights, branches, strict=True),
        joint=True,
        because="weighted sum of branches, squares of weights sum to 1",
    )


def _mean_norm(size: int, p: float) -> float:
    """Norm of sum / sqrt(n), with the rounding of the factor as the layer computes it (float32 at worst)."""
    slack = 1 + 2.0**-22
    if p == 2:
        return slack
    return slack * (math.sqrt(size) if math.isinf(p) else 1 / math.sqrt(size))
