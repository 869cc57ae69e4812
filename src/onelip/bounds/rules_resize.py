"""Rules of resizing: interpolation acts on each axis alone, so its norm is measured exactly, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import UnknownLayerError, explain
from .norms import per_axis
from .rules_pool import axis_norm
from .table import module_rule, operation
from .value import Value


@lru_cache(maxsize=1024)
def _resize_norm(
    n: int,
    p: float,
    size: int | None,
    scale: float | None,
    mode: str,
    align: bool | None,
    recompute: bool | None,
    antialias: bool,
) -> float:
    # Two equal columns: torch mistakes the axes of antialiased results of width one.
    def apply(basis: torch.Tensor) -> torch.Tensor:
        return F.interpolate(
            basis.expand(-1, -1, -1, 2).contiguous(),
            size=None if size is None else (size, 2),
            scale_factor=None if scale is None else (scale, 1.0),
            mode=mode,
            align_corners=align,
            recompute_scale_factor=recompute,
            antialias=antialias,
        )[..., 0]

    return axis_norm(n, p, apply)


@operation("interpolate", "upsample")
def interpolate(
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    """Bound resizing of images exactly, in any separable mode and size."""
    if len(input.shape) != 4:
        raise UnknownLayerError(
            explain("only images are resized", received=input.shape, expected="(B, C, H, W)")
        )
    sizes = (None, None) if size is None else per_axis(size, 2)
    scales: Sequence[float | None] = (None, None)
    if scale_factor is not None:
        scales = [
            float(s) for s in (scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,) * 2)
        ]
    if antialias and (sizes[1] if size is not None else int(input.shape[3] * (scales[1] or 1))) == 1:
        raise UnknownLayerError(
            explain("torch resizes to width one wrongly with antialias", fix="antialias=False")
        )
    norms = [
        _resize_norm(
            input.shape[2 + i],
            input.p,
            sizes[i],
            scales[i],
            mode,
            align_corners,
            recompute_scale_factor,
            antialias,
        )
        for i in range(2)
    ]
    return input.times(math.prod(norms), because=f"exact norm of each axis, {mode}")


def _aten(x: Value, size: Any, scales: Any, mode: str, align: bool | None = None) -> Value:
    """Bound the `vec` operators, which get a size or a list of scales."""
    if scales is not None and not isinstance(scales, Sequence):
        raise UnknownLayerError(explain("only resizing by a size or a list of scales is covered"))
    return interpolate(x, None if scales else size, scales or None, mode, align)


@operation("_upsample_nearest_exact2d")
def upsample_nearest_exact2d(x: Value, output_size: Any, scale_factors: Any = None, *_: Any) -> Value:
    """Bound aten nearest resizing with pixel centres."""
    return _aten(x, output_size, scale_factors, "nearest-exact")


@operation("upsample_nearest2d")
def upsample_nearest2d(x: Value, output_size: Any, scale_factors: Any = None, *_: Any) -> Value:
    """Bound aten nearest resizing."""
    return _aten(x, output_size, scale_factors, "nearest")


@operation("upsample_bilinear2d")
def upsample_bilinear2d(
    x: Value, output_size: Any, align_corners: bool, scale_factors: Any = None, *_: Any
) -> Value:
    """Bound aten bilinear resizing."""
    return _aten(x, output_size, scale_factors, "bilinear", align_corners)


@operation("upsample_bicubic2d")
def upsample_bicubic2d(
    x: Value, output_size: Any, align_corners: bool, scale_factors: Any = None, *_: Any
) -> Value:
    """Bound aten bicubic resizing."""
    return _aten(x, output_size, scale_factors, "bicubic", align_corners)


@module_rule(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample_module(layer: Any, x: Value) -> Value:
    """Bound resizing modules."""
    return interpolate(
        x, layer.size, layer.scale_factor, layer.mode, layer.align_corners, layer.recompute_scale_factor
    )
