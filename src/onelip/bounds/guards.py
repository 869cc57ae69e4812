"""Refusals that come before any rule: a model that is not a plain function of one image is not bounded."""

from __future__ import annotations

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
