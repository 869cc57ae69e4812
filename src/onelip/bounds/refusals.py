"""Texts of refusal for layers and operations without a rule."""

from __future__ import annotations

import difflib

from torch import nn

from ..core.errors import UnknownLayerError, explain
from .table import MODULES, OPERATIONS

_DIVIDES = "dividing by the standard deviation or norm of the input has no global constant"
_ATTENTION = "attention grows with the values of its input and has no global constant"
_WHY = {
    **dict.fromkeys(
        ("LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "RMSNorm"), _DIVIDES
    ),
    **dict.fromkeys(
        ("normalize", "layer_norm", "group_norm", "instance_norm", "rms_norm", "LocalResponseNorm"), _DIVIDES
    ),
    **dict.fromkeys(
        ("MultiheadAttention", "TransformerEncoderLayer", "scaled_dot_product_attention"), _ATTENTION
    ),
}
_GUESS = "nothing is certified on a guess"


def unknown_layer(place: str, layer: nn.Module) -> UnknownLayerError:
    """Build the error for a layer without a rule: where, what, the nearest known names, what to do."""
    cls = type(layer)
    parent = next((c.__name__ for c in cls.__mro__[1:] if c in MODULES), None)
    near = MODULES.close_matches(cls.__name__)
    changed = f", which changes what its parent {parent} computes" if parent or cls in MODULES else ""
    return UnknownLayerError(
        explain(
            f"`{place}` is a {cls.__name__}, for which no rule holds",
            received=f"{cls.__module__}.{cls.__qualname__}{changed}",
            expected=f"a layer with a rule, such as {', '.join(near)}" if near else "a layer with a rule",
            why=_WHY.get(cls.__name__, _GUESS),
            fix=f"register one with @onelip.rule({cls.__name__}), "
            + (
                "or hold a layer in a module instead of inheriting from it"
                if changed
                else "or use another layer"
            ),
        )
    )


def unknown_operation(place: str, name: str) -> UnknownLayerError:
    """Build the error for an operation without a rule."""
    near = difflib.get_close_matches(name, OPERATIONS, n=3, cutoff=0.4)
    return UnknownLayerError(
        explain(
            f"`{place}` calls `{name}`, for which no rule holds",
            expected=f"an operation with a rule, such as {', '.join(near)}" if near else None,
            why=_WHY.get(name, _GUESS),
            fix="move it into a module and register a rule for that: @onelip.rule(MyModule)",
        )
    )
