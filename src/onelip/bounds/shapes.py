"""Shapes without arithmetic: every operation runs once on stand-ins that carry a shape and nothing else."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .value import Value


def twin(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module, also of one that still holds results of its last training step."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:  # torch refuses to copy these
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging failures that are caught here and told as one sentence."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


class StandIns:
    """Knows the stand-in tensor of every `Value`, and makes those of new ones."""

    def __init__(self, shape: Sequence[int], like: torch.Tensor, batch: int) -> None:
        self.batch = batch
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._of: dict[int, torch.Tensor] = {}
        self._alive: list[Value] = []  # so that ids stay unique
        with self.mode:
            self.sample = torch.empty(batch, *shape, dtype=like.dtype, device=like.device)

    def store(self, value: Value, stand_in: torch.Tensor) -> Value:
        """Return the value with the shape of its stand-in, which is remembered."""
        value = replace(value, shape=tuple(int(n) for n in stand_in.shape))
        self._of[id(value)] = stand_in
        self._alive.append(value)
        return value

    def of(self, argument: Any) -> Any:
        """Replace every value in an argument by its stand-in."""
        return _replace(argument, lambda value: self._of[id(value)])

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a function on stand-ins."""
        with self.mode, torch.no_grad(), _quiet():
            return function(*self.of(args), **self.of(kwargs))

    def call_layer(self, layer: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a throw-away copy of a layer on stand-ins (layers may cache or store what they compute).

        Code that inspects values cannot run on stand-ins: it runs on zeros, for real.
        """
        mode = self.mode
        try:
            return self.call(twin(layer), args, kwargs)
        except Exception:
            with torch.no_grad():
                output = twin(layer)(*_replace(args, self._zeros), **_replace(kwargs, self._zeros))
            with mode:
                return _replace(
                    output, lambda t: torch.empty(t.shape, dtype=t.dtype, device=t.device), torch.Tensor
                )

    def _zeros(self, value: Value) -> torch.Tensor:
        return torch.zeros(value.shape, dtype=self.sample.dtype, device=self.sample.device)


def _replace(argument: Any, change: Callable[[Any], Any], kind: type = Value) -> Any:
    if isinstance(argument, kind):
        return change(argument)
    if isinstance(argument, torch.Size):
        return argument
    if isinstance(argument, tuple | list):
        return type(argument)(_replace(a, change, kind) for a in argument)
    if isinstance(argument, dict):
        return {k: _replace(v, change, kind) for k, v in argument.items()}
    if isinstance(argument, slice):
        return slice(*(_replace(a, change, kind) for a in (argument.start, argument.stop, argument.step)))
    return argument


def values_in(argument: Any) -> list[Value]:
    """Return the values that occur in an argument, in order."""
    found: list[Value] = []
    _replace(argument, found.append)
    return found
