"""Norms of the linear layers, for p = 1, 2 and infinity, remembered by the content of the weight."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from ..core import checks
from ..core.errors import InputError, explain
from .convolution import spectral_conv_norm
from .matrix import MARGIN, exact, matrix_norm

_CACHE: OrderedDict[tuple[object, ...], float] = OrderedDict()
_CACHE_SIZE = 4096


def _remembered(weight: torch.Tensor, key: tuple[object, ...], compute: Callable[[], float]) -> float:
    """Return compute(), remembered under the bytes of the weight: a changed weight can never meet an old norm."""
    content = weight.detach().cpu().contiguous()
    if content.dtype == torch.float32:
        content = content.double()  # exact: the float64 copy of a model meets the norms of the model itself
    digest = hashlib.sha256(content.view(torch.uint8).numpy().tobytes() if content.numel() else b"").digest()
    full = (digest, tuple(content.shape), content.dtype, *key)
    if full not in _CACHE:
        _CACHE[full] = compute()
        if len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    _CACHE.move_to_end(full)
    return _CACHE[full]


def linear_norm(weight: torch.Tensor, p: float = 2.0) -> float:
    """Return a proven upper bound on the l_p norm of x -> W x, weight (out, in).

    Guarantee: sound, float64 with rounding margins; p = 1 and infinity are exact sums.

    Raises:
        PrecisionError: the weight is not float32 or float64.  NonFiniteError: it holds NaN or infinities.

    >>> round(linear_norm(torch.eye(3) * 2), 6)
    2.0
    """
    p = checks.norm(p)
    return _remembered(weight, ("linear", p), lambda: matrix_norm(weight, p))


def conv_norm(
    weight: torch.Tensor,
    *,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    p: float = 2.0,
    transposed: bool = False,
) -> float:
    """Return a proven upper bound on the l_p norm of a convolution with zero padding, for any input size.

    The weight is laid out as torch does: (out, in / groups, *k), or (in, out / groups, *k) when transposed; a
    transposed convolution is the adjoint of the convolution with the same tensor, so its l_2 norm is the same and
    its l_1 norm is that one's l_infinity norm.

    Guarantee: sound upper bound; p = 1 and infinity are exact up to borders, p = 2 see `spectral_conv_norm`.

    Raises:
        PrecisionError: the weight is not float32 or float64.  NonFiniteError: it holds NaN or infinities.

    >>> round(conv_norm(torch.ones(1, 1, 3, 3)), 1)   # the box filter sums 9 pixels
    9.0
    """
    p = checks.norm(p)
    axes = weight.dim() - 2
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    if transposed and p != 2:
        p = 1.0 if math.isinf(p) else math.inf
    key = ("conv", strides, dilations, groups, p)
    if p == 2:
        return _remembered(
            weight, key, lambda: spectral_conv_norm(weight, stride=strides, dilation=dilations, groups=groups)
        )
    return _remembered(weight, key, lambda: _sum_norm(exact(weight), strides, dilations, groups, p))


def _sum_norm(
    w: torch.Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int, p: float
) -> float:
    """Row sums (p infinity), or column sums (p = 1): one column per input channel and phase of the stride."""
    if w.numel() == 0:
        return 0.0
    if math.isinf(p):
        return float(w.abs().flatten(1).sum(1).max()) * MARGIN
    mass = w.abs().unflatten(0, (groups, -1)).sum(1)  # (groups, in / groups, *k): summed over outputs
    for axis, (s, d) in enumerate(zip(stride, dilation, strict=True)):
        step, dim = s // math.gcd(s, d), 2 + axis
        # An input pixel meets only the taps of its own phase; lay the phases side by side among the channels.
        phases = [
            mass.index_select(dim, torch.arange(r, mass.shape[dim], step))
            for r in range(min(step, mass.shape[dim]))
        ]
        mass = torch.cat([phase.sum(dim, keepdim=True) for phase in phases], dim=1)
    return float(mass.max()) * MARGIN


def per_axis(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Spread a number over the axes."""
    if isinstance(value, int):
        return (value,) * axes
    result = tuple(int(v) for v in value)
    if len(result) == 1:
        return result * axes
    if len(result) != axes:
        raise InputError(
            explain("one number per axis is needed", received=result, expected=f"{axes} numbers")
        )
    return result


def copies_factor(copies: float, p: float) -> float:
    """Return the norm of a map that repeats each entry at most `copies` times: copies^(1/p)."""
    return 1.0 if math.isinf(p) else float(copies) ** (1.0 / p)


def most_copies(n: int, before: int, after: int, mode: str) -> int:
    """Return how often the most repeated of n entries occurs after padding an axis, counted exactly."""
    if mode in ("constant", "zeros"):
        return 1
    index = torch.arange(n, dtype=torch.float64).reshape(1, 1, n)
    return int(torch.bincount(F.pad(index, (before, after), mode=mode).long().flatten()).max())


def circular_copies(n: int, out: int, stride: int, before: int, after: int) -> int:
    """Return the multiplicity of circular padding followed by a convolution of this stride.

    On a torus whose side the stride divides, the padded convolution *is* the convolution on the torus, whose
    frequencies are among those of the lattice: nothing is counted twice.
    """
    if n % stride == 0 and out <= n // stride:
        return 1
    return most_copies(n, before, after, "circular")
