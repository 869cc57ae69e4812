"""Rules of pooling, resampling and reductions; separable maps are measured exactly, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import UnknownLayerError, explain
from .matrix import matrix_norm
from .norms import copies_factor, per_axis
from .rules_elementwise import maximum
from .rules_linear import need_dims
from .table import module_rule, operation
from .value import Value


def axis_norm(n: int, p: float, apply: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Return the norm of a linear map of one axis, from its matrix: `apply` takes (1, n, n, 1), a basis in channels."""
    basis = torch.eye(n, dtype=torch.float64).reshape(1, n, n, 1)
    with torch.no_grad():
        columns = apply(basis).reshape(n, -1)
    return matrix_norm(columns.mT, p)


def _pair(value: Any) -> tuple[int, int]:
    first, second = per_axis(value, 2)
    return first, second


@lru_cache(maxsize=1024)
def _average_norm(
    n: int, p: float, kernel: int, stride: int, padding: int, ceil_mode: bool, include_pad: bool, sums: bool
) -> float:
    divisor = 1 if sums else None

    def apply(basis: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(
            basis, (kernel, 1), (stride, 1), (padding, 0), ceil_mode, include_pad, divisor_override=divisor
        )

    return axis_norm(n, p, apply)


@operation("avg_pool2d")
def avg_pool2d(
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Bound average pooling exactly: it is the Kronecker product of one map per axis, windows and divisors alike."""
    need_dims(input, 4)
    kernel, pad = _pair(kernel_size), _pair(padding)
    strides = _pair(stride) if stride not in (None, [], ()) else kernel
    norms = [
        _average_norm(
            input.shape[2 + i],
            input.p,
            kernel[i],
            strides[i],
            pad[i],
            ceil_mode,
            count_include_pad,
            bool(divisor_override),
        )
        for i in range(2)
    ]
    return input.times(math.prod(norms) / abs(divisor_override or 1), because="exact norm of each axis")


@module_rule(nn.AvgPool2d)
def avg_pool_module(layer: Any, x: Value) -> Value:
    """Bound nn.AvgPool2d."""
    return avg_pool2d(
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        layer.divisor_override,
    )


@lru_cache(maxsize=1024)
def _adaptive_norm(n: int, out: int, p: float) -> float:
    return axis_norm(n, p, lambda basis: F.adaptive_avg_pool2d(basis, (out, 1)))


@operation("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def adaptive_avg_pool2d(input: Value, output_size: Any) -> Value:
    """Bound adaptive average pooling exactly."""
    need_dims(input, 4)
    sizes = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    outs = [input.shape[2 + i] if s is None else int(s) for i, s in enumerate(sizes)]
    norms = [_adaptive_norm(input.shape[2 + i], outs[i], input.p) for i in range(2)]
    return input.times(math.prod(norms), because="exact norm of each axis")


@module_rule(nn.AdaptiveAvgPool2d)
def adaptive_avg_pool_module(layer: Any, x: Value) -> Value:
    """Bound nn.AdaptiveAvgPool2d."""
    return adaptive_avg_pool2d(x, layer.output_size)


def overlapping_windows(x: Value, kernel_size: Any, stride: Any, dilation: Any, axes: int) -> int:
    """Return how many windows share a pixel at most: prod ceil(k / (s / gcd(s, d)))."""
    need_dims(x, axes + 2)
    kernel, dilations = per_axis(kernel_size, axes), per_axis(dilation, axes)
    strides = per_axis(stride, axes) if stride not in (None, [], ()) else kernel
    terms = zip(kernel, strides, dilations, strict=True)
    return math.prod(math.ceil(k / (s // math.gcd(s, d))) for k, s, d in terms)


def _max_pool(
    axes: int,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Bound max pooling: a pixel wins in the windows that hold it, and in no other."""
    if return_indices:
        raise UnknownLayerError(
            explain("max pooling with indices jumps and has no constant", fix="return_indices=False")
        )
    windows = overlapping_windows(input, kernel_size, stride, dilation, axes)
    return input.times(copies_factor(windows, input.p), because=f"a pixel lies in at most {windows} windows")


_MAX_POOLS: dict[type, int] = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
for _axes in _MAX_POOLS.values():
    operation(f"max_pool{_axes}d")(partial(_max_pool, _axes))


@module_rule(*_MAX_POOLS)
def max_pool_module(layer: Any, x: Value) -> Value:
    """Bound max pooling modules."""
    return _max_pool(
        next(axes for cls, axes in _MAX_POOLS.items() if isinstance(layer, cls)),
        x,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.ceil_mode,
        layer.return_indices,
    )


def _adaptive_windows(n: int, out: int) -> int:
    counts = torch.zeros(n, dtype=torch.int64)
    for i in range(out):
        counts[i * n // out : -(-(i + 1) * n // out)] += 1
    return int(counts.max())


@operation("adaptive_max_pool2d")
def adaptive_max_pool2d(input: Value, output_size: Any, return_indices: bool = False) -> Value:
    """Bound adaptive max pooling by the exact overlap of its windows."""
    if return_indices:
        raise UnknownLayerError(explain("max pooling with indices jumps and has no constant"))
    need_dims(input, 4)
    sizes = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    windows = math.prod(
        _adaptive_windows(input.shape[2 + i], input.shape[2 + i] if s is None else int(s))
        for i, s in enumerate(sizes)
    )
    return input.times(copies_factor(windows, input.p), because=f"a pixel lies in at most {windows} windows")


@module_rule(nn.AdaptiveMaxPool2d)
def adaptive_max_pool_module(layer: Any, x: Value) -> Value:
    """Bound nn.AdaptiveMaxPool2d."""
    return adaptive_max_pool2d(x, layer.output_size, layer.return_indices)


def reduced(x: Value, dim: Any, name: str) -> int:
    """Return how many entries a reduction over `dim` joins, refusing the batch."""
    if dim is None or dim == []:
        raise UnknownLayerError(
            explain(f"{name} over everything mixes the images of a batch", fix="name the dimensions")
        )
    dims = {int(d) % len(x.shape) for d in (dim if isinstance(dim, Sequence) else [dim])}
    if 0 in dims:
        raise UnknownLayerError(
            explain(f"{name} along the batch mixes images", received=f"dim={dim}", fix="dim >= 1")
        )
    return math.prod(x.shape[d] for d in dims)


@operation("sum")
def sum_(x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """Bound a sum of n entries: n^(1 - 1/p)."""
    n = reduced(x, dim, "sum")
    return x.times(n / copies_factor(n, x.p), because=f"sum of {n} entries")


@operation("mean")
def mean(x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """Bound a mean of n entries: n^(-1/p)."""
    n = reduced(x, dim, "mean")
    return x.times((1 + 1e-12) / copies_factor(n, x.p), because=f"mean of {n} entries")


@operation("amax", "amin")
def extremum(x: Value, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """Bound a largest or smallest entry: it moves no further than the furthest entry."""
    reduced(x, dim, "amax")
    return x.times(1.0, because="moves no further than its entries")


_SORTED = "sorting is an isometry piece by piece"


@operation("max", "min")
def extremum_with_index(x: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Bound extrema of two tensors, or along a dimension; the indices of the latter jump: using them is refused."""
    pair = dim if other is None else other
    if isinstance(pair, torch.Tensor | Value):
        return maximum(x, pair)
    reduced(x, dim, "max")
    return x.times(1.0, because="moves no further than its entries"), None


@operation("sort")
def sort(x: Value, dim: int = -1, descending: bool = False, **_: Any) -> tuple[Value, None]:
    """Bound sorted values."""
    reduced(x, dim, "sort")
    return x.times(1.0, because=_SORTED), None


@operation("topk")
def topk(x: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Value, None]:
    """Bound the k largest values; unsorted, their order may jump."""
    if not sorted:
        raise UnknownLayerError(explain("the order of topk(sorted=False) may jump", fix="sorted=True"))
    reduced(x, dim, "topk")
    return x.times(1.0, because=_SORTED), None


@operation("norm")
def norm(x: Value, p: Any = "fro", dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """Bound torch.norm, which calls the order p."""
    return vector_norm(x, p, dim)


@operation("linalg_vector_norm", "vector_norm")
def vector_norm(x: Value, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    """Bound a Euclidean norm along dimensions: the reverse triangle inequality, for p = 2 and 1."""
    reduced(x, dim, "a norm")
    if ord not in (2, "fro", 2.0) or math.isinf(x.p):
        raise UnknownLayerError(
            explain("only Euclidean norms are covered, for p = 1 and 2", received=(ord, x.p))
        )
    return x.times(1.0, because="reverse triangle inequality")
