"""Checkpoints of the published certified segmentation network, read without their code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError, IntegrityError, explain
from ..layers import BatchCentering, MaxMin
from ..layers.fold import fold
from .base import LipModel
from .zoo import create

# Segments that only name a wrapper. Dropped on both sides before names are compared, so that
# `encoder.encoder.0.mod.parametrizations.weight.original` and `encoder.encoder.0.weight.original` agree.
_WRAPPERS = frozenset({"mod", "module", "conv", "source", "parametrizations"})
_BRANCHES = "aspp.convs.module_list."
_UNIT = "lipconstant"  # the source's own bookkeeping of activations and centrings: must say 1
_OURS = ("normalize.mean", "normalize.std")


def import_reference(
    path: str | Path,
    classes: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    *,
    size: str = "S",
) -> LipModel:
    r"""Read a published checkpoint of the certified DeepLabV3 (orthogonal convolutions, RMS scaling).

    Layout: a flat state dict of float32 tensors. `encoder.encoder.{3i}`, `aspp.convs.module_list.{0..3}`,
    `aspp.project.0`, `upsampling.{0, 2, 5, 8}` and `classifier` are convolutions, each with its scale `coeff` and
    Orthogonium's free parameters (`weight.original`, or `weight_1.original` and `weight_2.original` at stride
    2, with the vectors `u` and `v` of the power iteration); the centring layers between them have `bias` and
    `running_mean`. Size S has 112 such tensors and 27 `lipconstant`, 139 in all. The wrapper segments `mod`,
    `module`, `conv` and `parametrizations` may be in a name or not.

    The network is built from Orthogonium's layers, filled strictly and folded.

    Args:
        path: the file, as `torch.save` wrote it; only tensors are read, no code.
        classes: number of classes K of the checkpoint.
        mean: input mean the network was trained with: it is not in the file.
        std: input standard deviation, likewise.
        size: the network's size.

    Returns:
        A folded DeepLabV3 in eval mode, ready for `onelip.lipschitz`, `save` and certificates.

    Guarantee:
        Every tensor of the file is used and every weight comes from the file. The bound is computed from the
        weights: nothing the file says about its own constant is believed.

    Raises:
        DataError: the file cannot be read as a flat dict of tensors.
        IntegrityError: tensors are missing, left over, of another shape, or a `lipconstant` is not 1.
        MissingExtraError: the package orthogonium is not installed.

    Source: the layout of the published checkpoint for Kvasir, size S, whose constant is 6.53197.
    """
    state = _canonical(_read(path), path)
    units = [name for name in state if name.rsplit(".", 1)[-1] == _UNIT]
    model = create("deeplabv3", classes=classes, size=size, constraint="orthogonium", mean=mean, std=std)
    _check_units({name: state.pop(name) for name in units}, model, path)
    own = model.state_dict()
    filled = {name: own[name] for name in own if name in _OURS or name.endswith(".batches")}
    free = {_short(name): name for name in own if name not in filled}
    if state.keys() != free.keys():
        raise _refusal(path, _named("missing", free.keys() - state.keys(), state.keys() - free.keys()))
    for short, name in free.items():
        if state[short].shape != own[name].shape or state[short].dtype != torch.float32:
            found = f"{short} of shape {tuple(state[short].shape)} and {state[short].dtype}"
            raise _refusal(path, f"{found} where {tuple(own[name].shape)}, torch.float32 belongs")
        if not bool(state[short].isfinite().all()):
            raise _refusal(path, f"{short} is not finite")
        filled[name] = state[short]
    # There the scale multiplies the whole layer, c (W x + b); here the weight alone, (c W) x + c b.
    filled["classifier.bias"] = state["classifier.coeff"] * state["classifier.bias"]
    model.load_state_dict(filled, strict=True)
    return fold(model.eval())


def _read(path: str | Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        raise DataError(
            explain(f"{path} cannot be read as a checkpoint of tensors", received=error)
        ) from error
    flat = isinstance(state, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    )
    if not flat or not state:
        raise DataError(
            explain(
                f"{path} is no flat state dict", received=type(state).__name__, expected="names to tensors"
            )
        )
    return dict(state)


def _canonical(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Rename to the zoo's modules, without wrapper segments; two tensors never share a name."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = _short(
            name.replace("encoder.encoder.", "encoder.", 1).replace(_BRANCHES, "aspp.branches.", 1)
        )
        if short in renamed:
            raise _refusal(path, f"{name} and another tensor both mean {short}")
        renamed[short] = tensor
    return renamed


def _short(name: str) -> str:
    return ".".join(segment for segment in name.split(".") if segment not in _WRAPPERS)


def _check_units(units: dict[str, Tensor], model: LipModel, path: str | Path) -> None:
    modules = dict(model.named_modules())
    for name, value in units.items():
        place = name.rpartition(".")[0]
        known = isinstance(modules.get(place), MaxMin | BatchCentering)
        if not known or value.numel() != 1 or value.item() != 1.0:
            raise _refusal(
                path, f"{name} = {value.tolist()} where an activation or centring of constant 1 belongs"
            )


def _named(what: str, missing: Any, extra: Any) -> str:
    parts = [
        f"{len(names)} {label} (first {min(names)})"
        for label, names in ((what, missing), ("left over", extra))
        if names
    ]
    return ", ".join(parts)


def _refusal(path: str | Path, found: str) -> IntegrityError:
    return IntegrityError(
        explain(
            f"{path} is not the network it should be",
            received=found,
            expected="exactly the tensors of the published layout",
            why="a network with other or left-over weights would get a certificate that is not its own",
            fix="check `classes` and `size`",
        )
    )
