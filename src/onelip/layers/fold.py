"""Folding: every reparametrised layer becomes a plain one, at the same place, with its weight baked in."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..core import errors
from ..core.registry import overridden
from .energy import EnergyShares
from .norm import BatchCentering, ChannelBias
from .reparam import Reparametrized, full_precision

ModuleT = TypeVar("ModuleT", bound=nn.Module)
_PLAIN = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv1d, nn.ConvTranspose1d, nn.Linear)
_KNOWN = ("onelip.", "torch.nn.", "orthogonium.", "deel.torchlip.")


@torch.no_grad()
def fold(model: ModuleT) -> ModuleT:
    """Return a copy of `model` in eval mode, with plain weights: same outputs, the speed of a plain network.

    Layers with a computed weight (of onelip, orthogonium, deel-torchlip, or by torch.nn.utils.parametrize)
    become `nn.Conv2d`, `nn.ConvTranspose2d` or `nn.Linear`, centring layers become `ChannelBias`, the shares
    of forks and blends constants; names of modules stay. Other layers are kept. `model` itself is not changed.
    Folding twice changes nothing.

    deel-torchlip keeps in eval mode the weight of the last forward pass in train mode, which an optimiser step
    makes stale; there the weight of the parameters as they are now is baked in.

    Guarantee: weights of onelip layers are the effective ones bit for bit; each other layer is compared with its
    replacement on a random input. Outputs agree up to rounding.

    Raises:
        UnknownLayerError: a layer of onelip has hooks, or its class or forward was changed.
        IntegrityError: the output of a folded layer of another package differs from the layer's own.

    Example:
        >>> from onelip.layers import OrthogonalConv2d
        >>> fold(nn.Sequential(OrthogonalConv2d(3, 4, 3)))
        Sequential(
          (0): Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
        )
    """
    plain: Any = _replace(copy.deepcopy(model).eval(), {})
    for module in plain.modules():
        if isinstance(getattr(module, "folded", None), bool):
            module.folded = True
    folded: ModuleT = plain
    return folded


def _replace(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Replace below `module` in place; a layer used in two places stays one layer."""
    if module not in done:
        done[module] = _plain(module)
        if done[module] is module:
            for name, child in module._modules.items():
                if child is not None:
                    module._modules[name] = _replace(child, done)
    return done[module]


def _plain(module: nn.Module) -> nn.Module:
    if isinstance(module, BatchCentering | Reparametrized | EnergyShares):
        _check_untouched(module)
    if isinstance(module, EnergyShares):
        return _constants(module)
    if isinstance(module, BatchCentering):
        folded = ChannelBias(module.bias.shape[1]).to(module.bias)
        folded.bias.copy_(module.bias - module.running_mean)
        return folded.eval()
    if isinstance(module, Reparametrized):
        return _bake(module, module.weight)
    if isinstance(module, _PLAIN) and _has_computed_weight(module):
        return _foreign(module)
    if parametrize.is_parametrized(module):
        _strip(module)
    return module


def _constants(module: EnergyShares) -> nn.Module:
    """Turn the learned weights of a fork or blend into constants."""
    if module.fixed is None:
        module.fixed = module.weights.detach().clone()
        del module.logits
    return module


def _check_untouched(module: nn.Module) -> None:
    """Refuse to replace a layer that does more than the known class it is of: the replacement would not do it."""
    written = [cls for cls in type(module).__mro__ if cls.__module__ != "torch.nn.utils.parametrize"]
    base = next(cls for cls in written if cls.__module__.startswith(_KNOWN))
    changed = overridden(type(module), base, module)
    if module._forward_hooks or module._forward_pre_hooks:
        changed = "its output, by a hook"
    if changed:
        raise errors.UnknownLayerError(
            errors.explain(
                f"a layer {type(module).__name__} cannot be folded",
                received=f"a {base.__name__} that changes {changed}",
                why="the plain layer that replaces it would compute something else",
                fix="hold the layer in a module that does the rest, and remove hooks",
            )
        )


def _strip(module: Any) -> None:
    """Turn parametrised tensors into plain ones.

    torch's own removal deletes properties from the class, which the copy shares with the model it came from.
    """
    values = {name: (getattr(module, name).clone(), entry) for name, entry in module.parametrizations.items()}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, (value, entry) in values.items():
        if list(entry.parameters(recurse=False)):
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)


def _has_computed_weight(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module) or isinstance(getattr(type(module), "weight", None), property)


def _foreign(module: nn.Module) -> nn.Module:
    """Fold a layer of another package: evaluate once, bake, compare."""
    _check_untouched(module)
    weight = _current_weight(module)
    plain = _bake(module, weight)
    probe = _probe(plain)
    expected, found = module(probe), plain(probe)
    same_shape = expected.shape == found.shape
    difference = float((expected - found).abs().max()) if same_shape else float("inf")
    if not difference <= 1e-4 * max(1.0, float(probe.abs().max())):
        raise errors.IntegrityError(
            errors.explain(
                f"folding changes the output of {type(module).__name__}",
                received=f"a largest difference of {difference:.3g}",
                expected="agreement up to rounding",
                why="its forward pass does more than a plain layer with its weight",
                fix="replace the layer, or fold it by hand",
            )
        )
    return plain


def _current_weight(module: nn.Module) -> Tensor:
    """Evaluate the weight; deel-torchlip refreshes what eval mode returns only in train mode."""
    with full_precision(next(module.parameters()).device):
        if any(type(m).__module__.startswith("deel.torchlip") for m in module.modules()):
            module.train()
            _ = module.weight
            module.eval()
        weight: Any = module.weight
        return torch.Tensor.clone(weight)


def _bake(source: Any, weight: Tensor) -> nn.Module:
    """Make the plain layer of the same geometry."""
    options: dict[str, Any] = {"bias": source.bias is not None}
    if weight.dim() == 2:
        plain: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], **options)
    else:
        transposed = isinstance(source, (nn.ConvTranspose1d, nn.ConvTranspose2d)) or (
            isinstance(source, Reparametrized) and bool(getattr(source, "transposed", False))
        )
        for name in ("stride", "padding", "dilation", "groups", "padding_mode"):
            options[name] = getattr(source, name)
        if transposed:
            options["output_padding"] = source.output_padding
        kind: Any = getattr(nn, f"Conv{'Transpose' if transposed else ''}{weight.dim() - 2}d")
        plain = kind(source.in_channels, source.out_channels, source.kernel_size, **options)
    plain.to(device=weight.device, dtype=weight.dtype).eval()
    made: Any = plain
    made.weight.copy_(weight)
    if source.bias is not None:
        made.bias.copy_(source.bias)
    return plain


def _probe(plain: Any) -> Tensor:
    """Draw an input large enough for the layer, without touching the global random numbers."""
    if isinstance(plain, nn.Linear):
        shape: tuple[int, ...] = (2, plain.in_features)
    else:
        axes = zip(plain.kernel_size, plain.stride, plain.dilation, strict=True)
        sides = [2 * s * (d * (k - 1) + 1) for k, s, d in axes]
        shape = (1, plain.in_channels, *sides)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(plain.weight)
