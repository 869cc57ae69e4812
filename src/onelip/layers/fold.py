"""Folding: every reparametrised layer becomes a plain one, at the same place, with its weight baked in."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from .conv import _Conv
from .linear import OrthogonalLinear
from .norm import BatchCentering, ChannelBias

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@torch.no_grad()
def fold(model: ModuleT) -> ModuleT:
    """Return a copy of `model` in eval mode, with plain weights: same outputs, the speed of a plain network.

    Layers with a computed weight become `nn.Conv2d`, `nn.ConvTranspose2d` or `nn.Linear`, centring layers
    become `ChannelBias`; names of modules stay. `model` itself is not changed. Folding twice changes nothing.

    Guarantee: the weights are the effective ones, bit for bit; outputs agree up to the summation order.

    Example:
        >>> from onelip.layers import OrthogonalConv2d
        >>> fold(nn.Sequential(OrthogonalConv2d(3, 4, 3)))
        Sequential(
          (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
        )
    """
    plain = _replace(copy.deepcopy(model).eval())
    for module in plain.modules():
        if isinstance(getattr(module, "folded", None), bool):
            module.folded = True  # type: ignore[assignment]
    return plain  # type: ignore[return-value]


def _replace(module: nn.Module) -> nn.Module:
    plain = _plain(module)
    if plain is not None:
        return plain
    for name, child in module.named_children():
        replacement = _replace(child)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _plain(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _Conv):
        return _conv(module)
    if isinstance(module, OrthogonalLinear):
        weight = module.weight
        return _filled(
            nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None), module, weight
        )
    if isinstance(module, BatchCentering):
        folded = ChannelBias(module.bias.shape[1]).to(module.bias)
        folded.bias.copy_(module.bias - module.running_mean)
        return folded.eval()
    return None


def _conv(module: _Conv) -> nn.Module:
    kind = nn.ConvTranspose2d if module.transposed else nn.Conv2d
    extra = {"output_padding": module.output_padding} if module.transposed else {}
    plain = kind(
        module.in_channels,
        module.out_channels,
        module.kernel_size,
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
        bias=module.bias is not None,
        padding_mode=module.padding_mode,
        **extra,
    )
    return _filled(plain, module, module.weight)


def _filled(plain: nn.Module, source: nn.Module, weight: Tensor) -> nn.Module:
    plain.to(device=weight.device, dtype=weight.dtype).eval()
    plain.weight.copy_(weight)  # type: ignore[operator, union-attr]
    if getattr(source, "bias", None) is not None:
        plain.bias.copy_(source.bias)  # type: ignore[operator, union-attr]
    return plain
