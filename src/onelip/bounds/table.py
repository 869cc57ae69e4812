"""The table of rules: which function bounds which layer, operation or method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core import checks
from ..core.registry import Registry

RuleFunction = Callable[..., Any]
F = TypeVar("F", bound=RuleFunction)
ALL_NORMS = (1.0, 2.0, math.inf)


@dataclass(frozen=True)
class Rule:
    """A bound for one kind of layer or operation.

    Attributes:
        name: name shown in the table of a bound.
        function: takes the layer (modules only) and the arguments of the call, tensors that depend on the input as
            `Value`; returns a `Value`, or a tuple with one `Value` (None if unusable) per output.
        norms: the norms for which the constant it returns holds.
        aliases: whether the output may share memory with the input (in-place operations ask).
        shapes: whether the function takes `outputs`, the shape (or shapes) of what the operation returns.
        builtin: False for rules that users register; they are named in the assumptions.
    """

    name: str
    function: RuleFunction
    norms: tuple[float, ...] = ALL_NORMS
    aliases: bool = True
    builtin: bool = True
    shapes: bool = False


MODULES: Registry[Rule] = Registry()
OPERATIONS: dict[str, Rule] = {}


def rule(*classes: type, norms: Iterable[float] = (2.0,), name: str | None = None) -> Callable[[F], F]:
    """Teach the bound engine a layer.

    The decorated function takes the layer and the values of the call, `(layer, x, *args, **kwargs)`, and returns
    `x.times(constant, because="...")` with a constant such that the layer moves at most that many times as far as x
    does. A subclass is covered as long as it overrides nothing that computes.

    Args:
        classes: the layer classes.
        norms: the norms p for which the constant holds; `x.p` tells the one asked for. Default: p = 2 only.
        name: name in the table, by default the class's.

    Guarantee: the bound is as sound as the rule; try it with `onelip.testing.check_rule`.

    Raises:
        InputError: a norm is none of 1, 2, infinity.

    >>> import torch
    >>> class Halve(torch.nn.Module):
    ...     def forward(self, x): return x / 2
    >>> @rule(Halve, norms=(1, 2, float("inf")))
    ... def halve(layer, x):
    ...     return x.times(0.5, because="division by two")
    """
    accepted = tuple(checks.norm(p) for p in norms)

    def register(function: F) -> F:
        for cls in classes:
            MODULES.add(cls, Rule(name or cls.__name__, function, accepted, builtin=_is_ours(function)))
        return function

    return register


def _is_ours(function: RuleFunction) -> bool:
    return getattr(function, "__module__", "").startswith("onelip.")


def module_rule(
    *classes: type, aliases: bool = False, norms: Iterable[float] = ALL_NORMS
) -> Callable[[F], F]:
    """Register a built-in rule for modules: it holds for every norm and makes a fresh tensor unless told otherwise."""

    def register(function: F) -> F:
        for cls in classes:
            MODULES.add(cls, Rule(cls.__name__, function, tuple(norms), aliases))
        return function

    return register


def operation(
    *names: str, aliases: bool = False, shapes: bool = False, norms: Iterable[float] = ALL_NORMS
) -> Callable[[F], F]:
    """Register a built-in rule for an operation under the names it has as function, method and aten operator."""

    def register(function: F) -> F:
        for name in names:
            OPERATIONS[name] = Rule(name, function, tuple(norms), aliases, shapes=shapes)
        return function

    return register
