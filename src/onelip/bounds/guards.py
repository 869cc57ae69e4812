"""Refusals that come before any rule: a model that is not a plain function of one image is not bounded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from ..core.errors import NonFiniteError, PrecisionError, TrainModeError, UnknownLayerError, explain

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def check_model(model: nn.Module) -> None:
    """Refuse train mode, hooks, half precision, autocast and non-finite weights, anywhere in the model."""
    if not isinstance(model, nn.Module):
        raise UnknownLayerError(
            explain("only modules are bounded", received=type(model).__name__, expected="nn.Module")
        )
    _check_arithmetic()
    if any(getattr(torch_module, f"_global{name}") for name in _HOOKS):
        raise UnknownLayerError(explain("global module hooks are active", why="a hook may change any output"))
    for name, module in model.named_modules():
        place = f"`{name or 'model'}` ({type(module).__name__})"
        if module.training:
            raise TrainModeError(
                explain(
                    f"{place} is in train mode",
                    why="its output depends on the batch or on chance, so no constant per image exists",
                    fix="model.eval()",
                )
            )
        if any(getattr(module, hooks) for hooks in _HOOKS):
            raise UnknownLayerError(
                explain(
                    f"{place} has forward hooks",
                    why="a hook may change the output",
                    fix="remove them, or onelip.fold",
                )
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _check_tensor(name, tensor)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Refuse code that draws random numbers or writes into the model while it is traced: it is no fixed function."""
    chance, tensors = _chance(), _tensors(model)
    try:
        yield
        drawn, written = chance != _chance(), tensors != _tensors(model)
    finally:
        random.setstate(chance[0])
        torch.set_rng_state(torch.tensor(list(chance[1]), dtype=torch.uint8))
    if drawn:
        raise UnknownLayerError(explain("the forward pass is random", why="its output is no function"))
    if written:
        raise UnknownLayerError(
            explain("the forward pass writes into the model's own tensors", why="calls would then differ")
        )


def _chance() -> tuple[tuple[object, ...], bytes]:
    return random.getstate(), torch.get_rng_state().numpy().tobytes()


def _tensors(model: nn.Module) -> list[tuple[str, int, int]]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return [(name, id(tensor), tensor._version) for name, tensor in named]


def _check_arithmetic() -> None:
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise PrecisionError(
            explain(
                "autocast is active",
                why="weights computed in half precision exceed their constant by up to 4 % a layer",
                fix="leave the autocast block before asking for a bound",
            )
        )


def _check_tensor(name: str, tensor: torch.Tensor) -> None:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    if tensor.dtype not in (torch.float32, torch.float64):
        raise PrecisionError(
            explain(
                f"`{name}` has a precision that cannot be bounded", received=tensor.dtype, fix="model.float()"
            )
        )
    if not bool(tensor.isfinite().all()):
        raise NonFiniteError(
            explain(
                f"`{name}` is not finite",
                received="NaN or infinite weights",
                fix="restore an earlier checkpoint",
            )
        )
