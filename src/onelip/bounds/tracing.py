"""From a module to a graph: torch.fx with the known layers as leaves, torch.export for user code with control flow."""

from __future__ import annotations

from collections.abc import Iterator
from operator import getitem
from typing import Any

import torch
from torch import fx, nn

from ..core.errors import UnknownLayerError, explain
from .table import MODULES

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


class LeafTracer(fx.Tracer):
    """Traces a model, keeping every layer that has a rule, and every torch layer, as one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Return whether a module is bounded as a whole.

        A child of a known layer counts, also when it changes what its parent computes: it is then refused by name
        instead of being followed line by line, because code that claims to be a convolution should be one.
        """
        if any(cls in MODULES for cls in type(m).__mro__):
            return True
        return type(m).__module__.startswith("torch.nn.modules") and not isinstance(m, _CONTAINERS)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Follow loops over the outputs of a layer of this package that tells how many they are."""
        if obj.node.op == "call_module":
            layer = self.root.get_submodule(str(obj.node.target))
            found = MODULES.find(type(layer), layer)
            count = getattr(layer, "outputs", None)
            if found is not None and found[1].builtin and isinstance(count, int):
                return iter([self.create_proxy("call_function", getitem, (obj, i), {}) for i in range(count)])
        return super().iter(obj)


class _Root(nn.Module):
    """Holds the model as a child, so that a model that is itself one known layer is a node too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x)


def trace(model: nn.Module, sample: torch.Tensor) -> fx.GraphModule:
    """Return the graph of a model.

    Raises:
        UnknownLayerError: neither tracer can follow the code.
    """
    root = _Root(model)
    try:
        graph = LeafTracer().trace(root)
        return fx.GraphModule(root, graph)
    except Exception as error:
        try:
            return _export(root, sample)
        except Exception as second:
            raise UnknownLayerError(
                explain(
                    f"the code of {type(model).__name__} cannot be followed",
                    received=f"torch.fx: {_first_line(error)}; torch.export: {_first_line(second)}",
                    why="control flow that depends on the values of the input jumps, and has no constant",
                    fix="write it without such branches, or register a rule: @onelip.rule(MyModule)",
                )
            ) from error


def _export(root: nn.Module, sample: torch.Tensor) -> fx.GraphModule:
    program = torch.export.export(root, (sample,), strict=False)
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
