"""Rules for the layers of other packages, registered once the user has imported them; nothing is imported here."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn

from ..core.errors import UnknownLayerError, explain
from .engine import Engine
from .shapes import twin
from .table import ALL_NORMS, MODULES, Rule, RuleFunction
from .tracing import trace
from .value import Value

F = TypeVar("F", bound=RuleFunction)
_WAITING: dict[str, list[tuple[str, Rule]]] = {}  # module path -> class names and their rules


def teach(path: str, *names: str, norms: Iterable[float] = ALL_NORMS) -> Callable[[F], F]:
    """Keep a rule for the classes `names` of the module `path` until that module is imported by someone."""

    def keep(function: F) -> F:
        waiting = _WAITING.setdefault(path, [])
        waiting += [(name, Rule(name, function, tuple(norms), aliases=False)) for name in names]
        return function

    return keep


def register_imported() -> None:
    """Register the rules of the packages that are imported by now; a rule of the user's own stays."""
    for path in [path for path in _WAITING if path in sys.modules]:
        module = sys.modules[path]
        for name, rule in _WAITING.pop(path):
            cls = getattr(module, name, None)
            if isinstance(cls, type) and cls not in MODULES:
                MODULES.add(cls, rule)


def inner_constant(block: nn.Module, x: Value) -> float:
    """Bound a module inside a block whose rule needs its constant."""
    like = next((t for t in block.parameters() if t.is_floating_point()), torch.empty(0))
    sample = torch.zeros(x.shape, dtype=like.dtype, device=like.device)
    engine = Engine(trace(twin(block).eval(), sample), x.shape[1:], x.p, like, x.shape[0])
    result = engine.run()
    if engine.user_rules:
        raise UnknownLayerError(
            explain(
                f"a block of {type(block).__name__} is bounded by rules of the user, which must show at the top",
                received=sorted(engine.user_rules),
                fix="register one rule for the whole block",
            )
        )
    if result.shape != x.shape:
        raise UnknownLayerError(
            explain("a residual branch changes the shape", received=result.shape, expected=x.shape)
        )
    return result.constant


def residual_of_gradient(norm: float) -> float:
    """Bound x -> x - 2 V^T phi(V x + b), ||V|| <= norm, phi of slopes in [0, 1]: I - 2 V^T D V with 0 <= D <= 1.

    Its spectrum lies in [1 - 2 norm^2, 1].
    """
    return max(1.0, 2.0 * norm * norm - 1.0)


def require(condition: bool, layer: Any, why: str) -> None:
    """Refuse a configuration that a rule does not cover."""
    if not condition:
        raise UnknownLayerError(explain(f"this {type(layer).__name__} has no proven constant", why=why))


def reflections(x: Value, scale: float = 1.0) -> Value:
    """Bound continuous piecewise reflections and rotations of pairs: isometries, rows of at most sqrt(2)."""
    constant = scale if x.p == 2 else scale * math.sqrt(2)
    return x.times(constant * (1 + 1e-9), because="continuous reflections of pairs")
