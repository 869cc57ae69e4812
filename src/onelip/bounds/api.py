"""The front door of the bound engine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ..core import checks
from ..core.errors import InputError, UnknownLayerError, explain
from . import (  # noqa: F401 - fill the tables
    rules_elementwise,
    rules_linear,
    rules_orthogonium,
    rules_pool,
    rules_resize,
    rules_structure,
    rules_torchlip,
)  # fmt: skip
from .engine import Engine
from .guards import check_model, undisturbed
from .interop import register_imported
from .result import Bound
from .stability import drift_assumptions
from .tracing import trace
from .value import Value

_MARGIN = 1 + 1e-12  # float64 rounding of the running products and sums


def lipschitz(
    model: nn.Module, size: Sequence[int], *, p: float = 2.0, in_channels: int | None = None
) -> Bound:
    """Prove an upper bound on the Lipschitz constant of a model, for its weights as they are now.

    L such that ||f(x) - f(y)||_p <= L ||x - y||_p for all inputs x, y of one image, f being all outputs of the model
    jointly. Layers are bounded by proven rules, never by what they claim to be; the graph combines them: chains
    multiply, sums add, concatenations take the p-sum, disjoint parts of one tensor share their budget, also after
    further cuts, maps, sums and joins.

    Args:
        model: any module in eval mode with one tensor input (B, ...).
        size: (H, W) of an image, or the full shape of one input: (C, H, W), or (N,) for vectors; for signals
            (C, L), pass (L,) and `in_channels`.
        p: 1, 2 or infinity, the norm on both sides.
        in_channels: C, when it cannot be read off the model.

    Guarantee: sound upper bound in exact arithmetic; computed in float64 with rounding margins.

    Raises:
        UnknownLayerError: a layer, operation, hook or code path has no rule. Nothing is guessed.
        TrainModeError, PrecisionError, NonFiniteError: see their texts.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()).eval()
    >>> _ = nn.init.dirac_(model[0].weight)
    >>> lipschitz(model, (16, 16)).value < 1.00001
    True

    Source: composition rules of Szegedy et al. 2014, section 4.3; see docs for each layer's constant.
    """
    p = checks.norm(p)
    register_imported()
    check_model(model)
    shape = input_shape(model, size, in_channels)
    tensors = [*model.parameters(), *model.buffers()]
    like = next((t for t in tensors if t.is_floating_point()), torch.empty(0))
    engine, result = _walk(model, like, shape, p, batch=2)
    alone = _walk(model, like, shape, p, batch=1)[1]
    if not math.isclose(alone.constant, result.constant, rel_tol=1e-4):
        raise UnknownLayerError(
            explain(
                "the constant depends on how many images are in the batch",
                received=f"{result.constant:.6g} for two images, {alone.constant:.6g} for one",
                why="the output is then no function of one image",
            )
        )
    assumptions = [
        f"the l_{'inf' if math.isinf(p) else int(p)} norm of the whole input and of all outputs jointly",
        "exact arithmetic; certificates add the rounding of their forward pass",
        *(f"rule registered by the user: {name}" for name in sorted(engine.user_rules)),
        *drift_assumptions(model),
    ]
    constant = max(result.constant, alone.constant) * _MARGIN
    return Bound(constant, tuple(engine.rows), tuple(assumptions), p, shape)


def _walk(
    model: nn.Module, like: torch.Tensor, shape: tuple[int, ...], p: float, *, batch: int
) -> tuple[Engine, Value]:
    """Trace and bound for one batch size. Two sizes must agree: code may squeeze, count or branch on the batch."""
    sample = torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)
    with undisturbed(model):
        graph = trace(model, sample)
    engine = Engine(graph, shape, p, like, batch)
    with torch.no_grad():
        return engine, engine.run()


def input_shape(model: nn.Module, size: Sequence[int], in_channels: int | None = None) -> tuple[int, ...]:
    """Return the shape of one input: a size of two numbers gets the channels of the model in front."""
    shape = checks.size(size)
    if len(shape) == 1 and in_channels is not None:  # the length of a signal
        return (checks.positive_int("in_channels", in_channels), *shape)
    if len(shape) != 2:
        if in_channels is not None and len(shape) == 3 and shape[0] != in_channels:
            raise InputError(explain("size and in_channels differ", received=(shape, in_channels)))
        return shape
    channels = in_channels if in_channels is not None else _channels(model)
    return (checks.positive_int("in_channels", channels), *shape)


def _channels(model: nn.Module) -> int:
    for module in model.modules():
        channels = getattr(module, "in_channels", None)
        if isinstance(channels, int):
            return channels
    return 3
