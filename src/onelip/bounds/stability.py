"""Weights that change as they are read: some libraries re-estimate them at every call."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize


def drift_assumptions(model: nn.Module) -> list[str]:
    """Name the layers whose effective weight differs between two reads; their bound holds for the weights read."""
    drifting = []
    for name, module in model.named_modules():
        if not parametrize.is_parametrized(module) and not isinstance(
            getattr(type(module), "weight", None), property
        ):
            continue
        first, second = module.weight, module.weight
        if isinstance(first, torch.Tensor) and not torch.equal(first, second):
            drifting.append(name or type(module).__name__)
    if not drifting:
        return []
    shown = ", ".join(drifting[:3]) + (" ..." if len(drifting) > 3 else "")
    return [f"weights re-estimated at each call ({shown}): holds for those read now; onelip.fold fixes them"]
