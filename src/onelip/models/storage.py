"""Models on disk: strict, atomic, hashed, and bounded again on every load."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors

from .._version import __version__
from ..bounds import lipschitz
from ..core import checks
from ..core.errors import DataError, InputError, IntegrityError, OnelipError, explain
from ..core.files import atomic_folder, read_json, write_json
from ..layers.fold import fold
from .card import model_card
from .config import ModelConfig
from .zoo import build, registered

if TYPE_CHECKING:
    from .base import LipModel

FORMAT = 1
WEIGHTS, RECORD, CARD = "model.safetensors", "config.json", "README.md"
_KEYS = {"format", "onelip", "model", "lipschitz", "weights_sha256", "sha256"}
SLACK = 1e-6  # a bound may differ in its last digits between versions of torch


def save(model: LipModel, path: str | Path, *, size: tuple[int, int] | None = None) -> None:
    """Write a model as a folder: folded weights, configuration with bound and hashes, model card.

    The folder appears whole or not at all; a model that was there before stays on failure. What was written is
    rebuilt and compared with the model before it is put in place.

    Args:
        model: a model made by `create`, trained or not. It is not changed.
        path: the folder.
        size: input size (h, w) of the recorded bound; by default the model's `default_size`.

    Raises:
        InputError: the model is not what its configuration builds (changed layers, an unregistered class).
        StorageError: the folder could not be written.
        BoundError: no bound can be proven.

    Example:
        >>> import tempfile, onelip
        >>> model = onelip.models.create("mlp", classes=2, size="XS", in_channels=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(folder + "/model")
        ...     onelip.load(folder + "/model").folded
        True
    """
    folded = fold(model)
    raw = serialize(folded)
    _check_faithful(model, folded, raw)
    height, width = size or model.default_size
    bound = lipschitz(folded, (height, width), in_channels=model.in_channels)
    record: dict[str, Any] = {
        "format": FORMAT,
        "onelip": __version__,
        "model": model.config,
        "lipschitz": {"value": bound.value, "p": float(bound.p), "size": [height, width]},
        "weights_sha256": hashlib.sha256(raw).hexdigest(),
    }
    record["sha256"] = _digest(record)
    with atomic_folder(path) as folder:
        (folder / WEIGHTS).write_bytes(raw)
        write_json(folder / RECORD, record)
        (folder / CARD).write_text(
            model_card(
                record, tuple(bound.assumptions), dense=model.dense, kind=model.kind, output=model.output
            ),
            encoding="utf-8",
        )


def load(path: str | Path) -> LipModel:
    """Read a model: folded, in eval mode, on the CPU.

    Args:
        path: a folder written by `save`, or a name from `onelip.pretrained()`.

    Returns:
        The model, with the very weights that were saved.

    Guarantee:
        The weights and the configuration are those that were written (SHA-256: this detects damage and mix-ups; it
        is no signature), every tensor was there and none was left over, and the bound, proven again from the
        weights, is not above the recorded one.

    Raises:
        DataError: no such model, or a file of it is missing or unreadable.
        IntegrityError: the content is not what its record says.
    """
    from .shipped import find

    folder = find(path)
    record = read_json(folder / RECORD)
    config = _check_record(record, folder)
    try:
        raw = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise DataError(explain(f"{folder / WEIGHTS} cannot be read", received=error.strerror)) from error
    if hashlib.sha256(raw).hexdigest() != record["weights_sha256"]:
        raise _broken(folder / WEIGHTS, "the weights are not those that were saved (SHA-256 differs)")
    model = restore(config, raw, folder)
    _check_bound(model, record["lipschitz"], folder)
    return model


def read_config(path: str | Path) -> ModelConfig:
    """Read what a stored model is, without its weights.

    Raises:
        DataError: no such model, or its record is missing or unreadable.
        IntegrityError: the record was changed or describes no model.
    """
    from .shipped import find

    folder = find(path)
    return _check_record(read_json(folder / RECORD), folder)


def serialize(folded: LipModel) -> bytes:
    """Return the weights of a folded model in safetensors' format; equal weights give equal bytes."""
    state = {k: v.detach().cpu().contiguous() for k, v in folded.state_dict().items()}
    coarse = [k for k, v in state.items() if v.is_floating_point() and v.dtype != torch.float32]
    if coarse:
        raise InputError(
            explain(
                "only float32 models are saved",
                received=f"{state[coarse[0]].dtype} in {coarse[0]}",
                why="a conversion would change the weights that the bound is proven for",
                fix="save the model before converting it",
            )
        )
    return write_tensors(state, metadata={"format": "pt"})


def restore(config: ModelConfig, raw: bytes, source: str | Path) -> LipModel:
    """Build the folded skeleton of a configuration and fill it with the weights, all of them and no others."""
    try:
        state = read_tensors(raw)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _broken(source, f"the weights cannot be read: {error}") from error
    try:
        model = build(config, folded=True)
    except InputError as error:
        raise _broken(source, f"it describes no model: {error}") from error
    expected = {k: (tuple(v.shape), v.dtype) for k, v in model.state_dict().items()}
    received = {k: (tuple(v.shape), v.dtype) for k, v in state.items()}
    if received != expected:
        raise _broken(source, "the weights are those of another model: " + _difference(received, expected))
    for name, value in model.normalize.state_dict().items():
        if not torch.equal(value, state[f"normalize.{name}"]):
            raise _broken(source, f"the input normalisation of weights and configuration differ ({name})")
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _check_record(record: Any, folder: Path) -> ModelConfig:
    if not isinstance(record, dict) or set(record) != _KEYS or record["format"] != FORMAT:
        keys = sorted(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise _broken(folder / RECORD, f"it is not a model record of format {FORMAT}", keys, sorted(_KEYS))
    _check_recorded_bound(record["lipschitz"], folder)
    if _digest(record) != record["sha256"]:
        raise _broken(folder / RECORD, "its content was changed after it was written (SHA-256 differs)")
    try:
        return ModelConfig.from_dict(record["model"])
    except InputError as error:
        raise _broken(folder / RECORD, f"it describes no model: {error}") from error


def _check_recorded_bound(bound: Any, folder: Path) -> None:
    try:
        usable = set(bound) == {"value", "p", "size"} and len(checks.size(bound["size"])) == 2
        usable = usable and checks.norm(bound["p"]) > 0 and isinstance(bound["value"], float)
        usable = usable and checks.lipschitz(bound["value"]) > 0
    except (InputError, TypeError):
        usable = False
    if not usable:
        raise _broken(folder / RECORD, "it records no bound", bound, "value > 0, p and size (h, w)")


def _check_bound(model: LipModel, recorded: dict[str, Any], folder: Path) -> None:
    height, width = recorded["size"]
    value = lipschitz(model, (height, width), p=recorded["p"], in_channels=model.in_channels).value
    if not value <= recorded["value"] * (1 + SLACK):
        raise _broken(
            folder / RECORD,
            "the bound proven from the weights is above the recorded one",
            value,
            f"at most {recorded['value']}",
        )


def _check_faithful(model: LipModel, folded: LipModel, raw: bytes) -> None:
    """Raise unless configuration and weights alone give back the function that is about to be saved."""
    changed = type(model) is not registered(model.name) or "forward" in vars(model)
    if not changed:
        try:
            twin = restore(ModelConfig.from_dict(model.config), raw, "the model")
        except OnelipError as error:
            raise InputError(_unfaithful(str(error))) from error
        probe = torch.rand(
            1, model.in_channels, *model.default_size, generator=torch.Generator().manual_seed(0)
        )
        with torch.no_grad():
            changed = twin.settings != model.settings
            changed |= not torch.allclose(twin(probe), folded.cpu()(probe), rtol=1e-5, atol=1e-6)
    if changed:
        raise InputError(_unfaithful(type(model).__name__))


def _unfaithful(received: str) -> str:
    return explain(
        "the model is not what its configuration builds",
        received=received,
        why="a stored model is rebuilt from its configuration: it would compute something else when loaded",
        fix="write the change as a LipModel subclass registered with @onelip.models.architecture",
    )


def _difference(received: dict[str, Any], expected: dict[str, Any]) -> str:
    missing = sorted(expected.keys() - received.keys())
    extra = sorted(received.keys() - expected.keys())
    changed = sorted(k for k in expected.keys() & received.keys() if expected[k] != received[k])
    parts = [("missing", missing), ("left over", extra), ("of other shape or type", changed)]
    return ", ".join(f"{len(names)} {what} (first {names[0]})" for what, names in parts if names)


def _digest(record: dict[str, Any]) -> str:
    content = {k: v for k, v in record.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _broken(path: str | Path, what: str, received: object = None, expected: object = None) -> IntegrityError:
    return IntegrityError(
        explain(
            f"{path}: {what}",
            received=received,
            expected=expected,
            why="a certificate for other weights than these would be worthless",
            fix="restore the folder from its source, or save the model again",
        )
    )
