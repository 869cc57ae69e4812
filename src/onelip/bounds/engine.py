"""The bound engine: one pass over the graph of a model, a proven constant at every node."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from ..core.errors import BoundError, PrecisionError, UnknownLayerError, explain
from .refusals import unknown_layer, unknown_operation
from .result import Layer
from .shapes import StandIns, twin, values_in
from .table import MODULES, OPERATIONS, Rule
from .value import Value, join

_QUESTIONS = ("size", "dim", "numel", "stride", "is_contiguous", "ndimension")
_ATTRIBUTES = ("shape", "dtype", "device", "ndim", "is_cuda")
_RANDOM = frozenset(
    "rand randn rand_like randn_like bernoulli randint randperm multinomial normal".split()  # noqa: SIM905
)
_MOVES = ("the same entries", "a part of the entries")


def operation_name(node: fx.Node) -> str:
    """Return the name under which the operation of a node is looked up."""
    target = node.target
    if inspect.isfunction(target) and not target.__module__.startswith("torch."):
        return f"{target.__module__}.{target.__qualname__}"  # wrapped user code may be called `relu` and be anything
    if isinstance(target, torch._ops.OpOverload):
        name = target._schema.name.split("::")[-1]
    else:
        name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
    # A few names mean one thing in torch.nn.functional and another as a method, torch function or operator.
    special = f"aten::{name}"
    return name if target is getattr(F, name, None) or special not in OPERATIONS else special


class Engine:
    """Walks a graph; every tensor that depends on the input becomes a `Value`, everything else is computed."""

    def __init__(
        self, graph: fx.GraphModule, shape: Sequence[int], p: float, like: torch.Tensor, batch: int = 2
    ) -> None:
        self.graph = graph
        self.modules = dict(graph.named_modules())
        self.p = p
        self.stand_ins = StandIns(shape, like, batch)
        self.env: dict[fx.Node, Any] = {}  # Values, and plain values that do not depend on the input
        self.rows: list[Layer] = []
        self.user_rules: set[str] = set()

    def run(self) -> Value:
        """Return the joint constant of all outputs."""
        for node in self.graph.graph.nodes:
            if node.op == "output":
                values = values_in(self._resolve(node.args[0]))
                if not values:
                    raise UnknownLayerError(explain("the output does not depend on the input"))
                return values[0] if len(values) == 1 else join(values, because="all outputs jointly")
            self.env[node] = self._step(node)
        raise UnknownLayerError(explain("the model returns nothing"))

    def _resolve(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda n: self.env[n])

    def _step(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.graph)
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        if not values_in((args, kwargs)):
            return self._constant(node, args, kwargs)
        if node.target is operator.getitem and isinstance(args[0], tuple | list | dict):
            return self._one_output(node, args[0][args[1]])
        if node.target is getattr:
            return self._attribute(node, *args)
        if node.op == "call_method" and node.target in _QUESTIONS:
            return self.stand_ins.call(_function(node), args, kwargs)
        return self._apply(node, args, kwargs)

    def _placeholder(self, node: fx.Node) -> Value:
        if any(isinstance(v, Value) for v in self.env.values()):
            raise UnknownLayerError(
                explain("the model takes several inputs", received=node.target, expected="one tensor")
            )
        return self.stand_ins.store(Value(1.0, self.p, because="input"), self.stand_ins.sample)

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Compute what does not depend on the input, for real; nothing may write into the model meanwhile."""
        if node.op == "call_module":
            with torch.no_grad():
                return twin(self.modules[str(node.target)])(*args, **kwargs)
        name = operation_name(node)
        if any(isinstance(a, torch.Tensor) for a in args[:1]) and _writes(node, name):
            raise UnknownLayerError(explain(f"`{node.name}` writes into a weight or constant", received=name))
        if name in _RANDOM:
            raise UnknownLayerError(
                explain(f"`{node.name}` is random", received=name, why="the output is no function")
            )
        with torch.no_grad():
            return _function(node)(*args, **kwargs)

    def _attribute(self, node: fx.Node, owner: Any, name: str) -> Any:
        """Shapes, types and devices are constants; other attributes of a tensor are refused."""
        if not isinstance(owner, Value):  # the fields of torch.max, torch.sort, torch.topk
            return self._one_output(node, owner[0] if name == "values" else None)
        if name not in _ATTRIBUTES:
            raise UnknownLayerError(
                explain(f"`{node.name}` reads `.{name}` of a tensor that depends on the input")
            )
        return getattr(self.stand_ins.of(owner), name)

    def _one_output(self, node: fx.Node, result: Any) -> Any:
        if result is None:
            raise UnknownLayerError(
                explain(f"`{node.name}` uses an output that jumps (indices)", why="it has no constant")
            )
        return result

    def _apply(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """Bound one layer or operation by its rule."""
        if node.op == "call_module":
            layer = self.modules[str(node.target)]
            place = str(node.target).removeprefix("model").removeprefix(".") or type(layer).__name__
            found = MODULES.find(type(layer), layer)
            if found is None:
                raise unknown_layer(place, layer)
            rule, inplace = found[1], bool(getattr(layer, "inplace", False))
            stand_in = self._try(place, lambda: self.stand_ins.call_layer(layer, args, kwargs))
            arguments = (layer, *args)
        else:
            place, name = node.name, operation_name(node)
            known = OPERATIONS.get(name) or OPERATIONS.get(name.removesuffix("_"))
            if known is None or kwargs.get("out") is not None:
                raise unknown_operation(place, name if known is None else f"{name}(out=...)")
            rule, inplace, arguments = known, _writes(node, name), args
            stand_in = self._try(place, lambda: self.stand_ins.call(_function(node), args, kwargs))
        if inplace:
            self._check_inplace(node)
        return self._finish(place, rule, self._call(rule, place, stand_in, arguments, kwargs), stand_in)

    def _try(self, place: str, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception as error:
            text = f"`{place}` cannot run on a batch of {self.stand_ins.batch} such images"
            sample = tuple(self.stand_ins.sample.shape)
            raise UnknownLayerError(
                explain(text, received=f"{sample}: {error}", fix="check size and in_channels")
            ) from error

    def _call(self, rule: Rule, place: str, stand_in: Any, args: Any, kwargs: Any) -> Any:
        if self.p not in rule.norms:
            text = f"the rule of `{place}` ({rule.name}) does not hold for this norm"
            raise UnknownLayerError(explain(text, received=f"p={self.p:g}", expected=f"p in {rule.norms}"))
        if not rule.builtin:
            self.user_rules.add(rule.name)
        if rule.shapes:
            shapes = stand_in.shape if isinstance(stand_in, torch.Tensor) else [t.shape for t in stand_in]
            kwargs = {**kwargs, "outputs": shapes}
        try:
            return rule.function(*args, **kwargs)
        except BoundError as error:
            raise type(error)(f"`{place}`: {error}") from error
        except (TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
            text = f"`{place}` ({rule.name}) is used in a way that its rule does not cover"
            raise UnknownLayerError(explain(text, received=error)) from error

    def _finish(self, place: str, rule: Rule, result: Any, stand_in: Any) -> Any:
        if isinstance(result, tuple) and not isinstance(stand_in, torch.Tensor):
            pairs = zip(result, tuple(stand_in), strict=True)
            return tuple(None if v is None else self._checked(place, v, t) for v, t in pairs)
        if not isinstance(result, Value) or not isinstance(stand_in, torch.Tensor):
            text = f"the rule of `{place}` ({rule.name}) must return a Value for each output"
            raise UnknownLayerError(
                explain(text, received=type(result).__name__, fix="return x.times(constant)")
            )
        value = self._checked(place, result, stand_in)
        if value.because not in _MOVES:
            self.rows.append(Layer(place, rule.name, value.local, value.constant, value.because))
        return value

    def _checked(self, place: str, value: Value, stand_in: torch.Tensor) -> Value:
        """Check that the batch came through untouched and that no precision was lost."""
        batch = self.stand_ins.batch
        if stand_in.dim() == 0 or stand_in.shape[0] != batch:
            raise UnknownLayerError(
                explain(
                    f"`{place}` does not keep the images of a batch apart",
                    received=f"shape {tuple(stand_in.shape)} from a batch of {batch}",
                    expected="the batch as first dimension",
                )
            )
        wanted = self.stand_ins.sample.dtype
        if stand_in.dtype != wanted:
            raise PrecisionError(
                explain(f"`{place}` changes the precision", received=stand_in.dtype, expected=wanted)
            )
        if not math.isfinite(value.constant):
            raise BoundError(explain(f"`{place}` has no finite constant", received=value.constant))
        return self.stand_ins.store(value, stand_in)

    def _check_inplace(self, node: fx.Node) -> None:
        """Refuse in-place operations on memory that is read again: the graph would not show the change."""
        target = next(iter(node.all_input_nodes))
        while len(target.users) == 1 and isinstance(self.env[target], Value):
            if target.op == "placeholder" or not self._may_alias(target):
                return
            target = next(iter(target.all_input_nodes))
        raise UnknownLayerError(
            explain(
                f"`{node.name}` works in place on `{target.name}`, which is used again or belongs to the model",
                why="whoever reads it later sees the changed values",
                fix="use the out-of-place operation",
            )
        )

    def _may_alias(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            found = MODULES.find(type(self.modules[str(node.target)]))
            return bool(node.all_input_nodes) and (found is None or found[1].aliases)
        rule = OPERATIONS.get(operation_name(node))
        return bool(node.all_input_nodes) and (rule is None or rule.aliases)


def _function(node: fx.Node) -> Callable[..., Any]:
    """Return what a function or method node calls."""
    if node.op == "call_method":
        return _method(str(node.target))
    assert callable(node.target)
    return node.target


def _method(name: str) -> Callable[..., Any]:
    return lambda owner, *args, **kwargs: getattr(owner, name)(*args, **kwargs)


def _writes(node: fx.Node, name: str) -> bool:
    """Return whether an operation changes one of its arguments."""
    if name in ("iadd", "isub", "imul", "itruediv") or (name.endswith("_") and not name.endswith("__")):
        return True
    inplace = node.kwargs.get("inplace", False)
    if inspect.isfunction(node.target):  # Python code of torch.nn.functional: `inplace` may come by position
        with suppress(TypeError, ValueError):
            bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
            inplace = bound.arguments.get("inplace", False)
    return bool(inplace) or node.kwargs.get("out") is not None
