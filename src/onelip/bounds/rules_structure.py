"""Rules of everything that only moves, cuts, repeats or joins entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.errors import PrecisionError, UnknownLayerError, explain
from .norms import copies_factor
from .rules_elementwise import contraction
from .rules_pool import overlapping_windows
from .table import module_rule, operation
from .value import Value, cells, join, offsets


def _not_batch(x: Value, dims: Any, name: str) -> list[int]:
    result = [int(d) % len(x.shape) for d in (dims if isinstance(dims, Sequence) else [dims])]
    if 0 in result:
        raise UnknownLayerError(
            explain(f"{name} along the batch mixes images", received=dims, expected="dimensions >= 1")
        )
    return result


@operation(
    "reshape", "view", "flatten", "squeeze", "unsqueeze", "contiguous", "clone", "detach", "alias", "unflatten",
    "_unsafe_view", "view_as", "reshape_as", "requires_grad_", "lift_fresh_copy", "cpu", "cuda",
    aliases=True,
)  # fmt: skip
def reshape(x: Value, *_: Any, **__: Any) -> Value:
    """Bound a change of shape; the engine checks that the batch stays the first dimension, with its size."""
    return x.times(1.0, because="the same entries")


@operation("to", "type", "float", "double", "_to_copy", "type_as", "_assert_tensor_metadata", aliases=True)
def cast(x: Value, *args: Any, **kwargs: Any) -> Value:
    """Bound a change of device or precision; the engine refuses any loss of precision by the type of the result."""
    del args, kwargs
    return x.times(1.0, because="the same entries")


@operation(
    "half",
    "bfloat16",
    "int",
    "long",
    "round",
    "floor",
    "ceil",
    "trunc",
    "sign",
    "argmax",
    "argmin",
    "item",
    "bool",
)
def rounding(x: Value, *_: Any, **__: Any) -> Value:
    """Refuse what jumps or loses precision."""
    raise PrecisionError(
        explain(
            "rounding, casts to few bits and decisions jump and have no constant", received=f"on {x.shape}"
        )
    )


def _axes(x: Value, dims: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    flat = [d for v in (*dims, *kwargs.values()) for d in (v if isinstance(v, Sequence) else [v])]
    return [int(d) % len(x.shape) for d in flat]


@operation("permute", aliases=True)
def permute(x: Value, *dims: Any, **kwargs: Any) -> Value:
    """Bound a permutation of dimensions: the batch must stay first (checked here: sizes cannot tell)."""
    if _axes(x, dims, kwargs)[0] != 0:
        raise UnknownLayerError(explain("moving the batch dimension mixes images", received=dims or kwargs))
    return x.times(1.0, because="the same entries")


@operation("transpose", "movedim", "swapaxes", "swapdims", "moveaxis", aliases=True)
def transpose(x: Value, *dims: Any, **kwargs: Any) -> Value:
    """Bound an exchange of two dimensions other than the batch."""
    if 0 in _axes(x, dims, kwargs):
        raise UnknownLayerError(explain("moving the batch dimension mixes images", received=dims or kwargs))
    return x.times(1.0, because="the same entries")


@operation("flip")
def flip(x: Value, *dims: Any, **kwargs: Any) -> Value:
    """Bound a reversal along dimensions other than the batch."""
    _not_batch(x, _axes(x, dims, kwargs), "flipping")
    return x.times(1.0, because="the same entries")


@operation("roll")
def roll(x: Value, shifts: Any, dims: Any = None) -> Value:
    """Bound a cyclic shift along dimensions other than the batch."""
    if dims is None or dims in ((), []):
        raise UnknownLayerError(
            explain("rolling without dimensions mixes the images of a batch", fix="pass dims")
        )
    _not_batch(x, dims, "rolling")
    return x.times(1.0, because="the same entries")


@operation("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle")
def shuffle(x: Value, *_: Any, **__: Any) -> Value:
    """Bound rearrangements between channels and pixels."""
    return x.times(1.0, because="the same entries")


@module_rule(
    nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Flatten, nn.Unflatten, nn.Identity, aliases=True
)
def rearrange_module(layer: Any, x: Value) -> Value:
    """Bound modules that only rearrange entries."""
    if isinstance(layer, nn.Unflatten | nn.Flatten):
        _not_batch(x, layer.dim if isinstance(layer, nn.Unflatten) else layer.start_dim, "flattening")
    return x.times(1.0, because="the same entries")


@module_rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, aliases=True)
def dropout_module(layer: Any, x: Value) -> Value:
    """Bound dropout in eval mode: the identity."""
    return x.times(1.0, because="identity in eval mode")


@operation("dropout", "dropout2d", "feature_dropout", "alpha_dropout", aliases=True)
def dropout(x: Value, p: float = 0.5, training: bool = True, inplace: bool = False, **_: Any) -> Value:
    """Bound functional dropout, which is the identity only with training=False."""
    if training and p > 0:
        raise UnknownLayerError(
            explain("dropout is active", why="its output is random", fix="training=self.training, eval()")
        )
    return contraction(x)


@operation("cat", "concat", "concatenate")
def cat(tensors: Sequence[Any], dim: int = 0) -> Value:
    """Bound a concatenation: p-sum of branches, maximum over disjoint parts of one tensor; constants cost nothing."""
    values = [t for t in tensors if isinstance(t, Value)]
    _not_batch(values[0], dim, "concatenating")
    return join(values, because="concatenation")


@operation("stack")
def stack(tensors: Sequence[Any], dim: int = 0) -> Value:
    """Bound stacking along a new dimension that is not the first."""
    values = [t for t in tensors if isinstance(t, Value)]
    if int(dim) % (len(values[0].shape) + 1) == 0:
        raise UnknownLayerError(explain("stacking in front of the batch mixes images", received=f"dim={dim}"))
    return join(values, because="stacking")


def _pieces(x: Value, dim: int, sizes: Sequence[int]) -> tuple[Value, ...]:
    axis = _not_batch(x, dim, "splitting")[0]
    return tuple(x.piece(cells(axis, block), "a part of the entries") for block in offsets(sizes))


@operation(
    "chunk",
    "split",
    "split_with_sizes",
    "unsafe_chunk",
    "unsafe_split",
    "tensor_split",
    aliases=True,
    shapes=True,
)
def split(x: Value, amount: Any = None, dim: int = 0, *, outputs: Any, **_: Any) -> tuple[Value, ...]:
    """Bound a split into consecutive parts, which remember that they are disjoint."""
    axis = _not_batch(x, dim, "splitting")[0]
    sizes = [shape[axis] for shape in outputs]
    if sum(sizes) != x.shape[axis]:  # tensor_split at places out of order repeats entries
        raise UnknownLayerError(
            explain("parts of a split overlap", received=sizes, expected=f"sizes that sum to {x.shape[axis]}")
        )
    blocks = offsets(sizes)
    return tuple(x.piece(cells(axis, block), "a part of the entries") for block in blocks)


@operation("unbind", aliases=True)
def unbind(x: Value, dim: int = 0) -> tuple[Value, ...]:
    """Bound a split into single slices."""
    axis = _not_batch(x, dim, "unbinding")[0]
    return tuple(x.piece(cells(axis, [i]), "a part of the entries") for i in range(x.shape[axis]))


@operation("select", "narrow", aliases=True)
def narrow(x: Value, dim: int, start: int, length: int = 1) -> Value:
    """Bound a contiguous part."""
    axis = _not_batch(x, dim, "selecting")[0]
    first = int(start) % x.shape[axis]
    return x.piece(cells(axis, range(first, first + int(length))), "a part of the entries")


@operation("slice", aliases=True)
def slice_(x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Value:
    """Bound a strided part (aten)."""
    kept = range(*slice(start, end, step).indices(x.shape[dim]))
    if int(dim) % len(x.shape) == 0:
        if len(kept) != x.shape[0]:
            raise UnknownLayerError(explain("selecting images of a batch is not a function of one image"))
        return x.times(1.0, because="the same entries")
    return x.piece(cells(int(dim) % len(x.shape), kept), "a part of the entries")


@operation("getitem", aliases=True)
def getitem(x: Value, index: Any) -> Value:
    """Bound indexing by integers, slices, None and Ellipsis, which keep entries at most once."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(e, int | slice | None | type(...)) or isinstance(e, bool) for e in entries):
        raise UnknownLayerError(
            explain(
                "indexing by tensors or lists may repeat entries",
                received=index,
                fix="use index_select or slices",
            )
        )
    if ... in entries:
        at = entries.index(...)
        missing = len(x.shape) - sum(e is not None and e is not ... for e in entries)
        entries[at : at + 1] = [slice(None)] * missing
    kept: dict[int, frozenset[int]] = {}
    axis = 0
    for position, entry in enumerate(entries):
        if entry is None:
            if position == 0:
                raise UnknownLayerError(
                    explain("a new dimension in front of the batch mixes images", received=index)
                )
            continue
        n = x.shape[axis]
        block = [range(n)[entry]] if isinstance(entry, int) else range(n)[entry]
        if axis == 0 and (isinstance(entry, int) or list(block) != list(range(n))):
            raise UnknownLayerError(
                explain("selecting images of a batch is not a function of one image", received=index)
            )
        if axis > 0 and len(block) < n:
            kept[axis] = frozenset(block)
        axis += 1
    return x.piece(kept, "a part of the entries") if kept else x.times(1.0, because="the same entries")


@operation("index_select")
def index_select(x: Value, dim: int, index: torch.Tensor) -> Value:
    """Bound a gathering by constant indices: the most repeated entry counts."""
    _not_batch(x, dim, "selecting")
    copies = int(torch.bincount(index.flatten()).max())
    return x.times(copies_factor(copies, x.p), because=f"an entry is used at most {copies} times")


@operation("expand", "expand_as", "repeat", "tile", "repeat_interleave", "broadcast_to", shapes=True)
def repeat(x: Value, *args: Any, outputs: Any, **kwargs: Any) -> Value:
    """Bound a repetition of every entry alike, by the growth of the tensor."""
    if any(isinstance(v, torch.Tensor | Value) for v in (*args, *kwargs.values())):
        raise UnknownLayerError(
            explain("repetition by a tensor of counts is not covered", fix="repeat all entries alike")
        )
    copies = math.prod(outputs) / math.prod(x.shape)
    return x.times(copies_factor(max(copies, 1.0), x.p), because=f"each entry occurs {copies:g} times")


@operation("unfold", "im2col")
def unfold(x: Value, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Value:
    """Bound the collection of windows: an entry occurs once in each of its windows."""
    windows = overlapping_windows(x, kernel_size, stride, dilation, axes=2)
    return x.times(copies_factor(windows, x.p), because=f"an entry lies in at most {windows} windows")


@operation("aten::unfold")
def unfold_method(x: Value, dimension: int, size: int, step: int) -> Value:
    """Bound Tensor.unfold, which cuts overlapping blocks along one dimension."""
    _not_batch(x, dimension, "unfolding")
    copies = math.ceil(int(size) / int(step))
    return x.times(copies_factor(copies, x.p), because=f"an entry lies in at most {copies} blocks")


@module_rule(nn.Unfold)
def unfold_module(layer: Any, x: Value) -> Value:
    """Bound nn.Unfold."""
    return unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
