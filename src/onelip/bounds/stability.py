"""Weights that change as they are read: some libraries re-estimate them at every call."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize


def drift_assumptions(model: nn.Module) -> list[str]:
    """Name the layers whose effective weight differs between two reads; their bound holds for the weights read."""
    drifting = []
    for name, module in model.named_modules():
        computed = list(module.parametrizations) if parametrize.is_parametrized(module) else []
        if isinstance(getattr(type(module), "weight", None), property):
            computed.append("weight")
        for attribute in computed:
            first, second = getattr(module, attribute), getattr(module, attribute)
            if isinstance(first, torch.Tensor) and not torch.equal(first, second):
                drifting.append(name or type(module).__name__)
                break
    if not drifting:
        return []
    shown = ", ".join(drifting[:3]) + (" ..." if len(drifting) > 3 else "")
    return [f"weights re-estimated at each call ({shown}): holds for those read now; onelip.fold fixes them"]
