"""Checkpoints that are whole or absent, and that continue only the training that wrote them."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import nn

from ..core.errors import IntegrityError, explain
from ..core.files import atomic_write
from .recipe import Recipe

# Keys that may change when a training goes on: they do not decide what is learned.
_FREE = ("name", "run.", "val.", "data.root", "data.cache", "data.workers")


class AtomicCheckpoints(CheckpointIO):
    """Writes through a temporary file and a rename; reads plain tensors and numbers only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; on a full disk the previous one stays."""
        del storage_options
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        atomic_write(path, buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; code inside it is never executed.

        Raises:
            IntegrityError: the file is truncated or no checkpoint.
        """
        del weights_only
        return read_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of plain tensors, numbers and texts.

    Raises:
        IntegrityError: the file is missing, truncated or no checkpoint.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise IntegrityError(
            explain(
                f"{path} cannot be read as a checkpoint",
                received=str(error).splitlines()[0] if str(error) else type(error).__name__,
                fix="start again without resume, or restore the file",
            )
        ) from error
    return checkpoint


def begin_with(model: nn.Module, training: str | Path) -> None:
    """Give a model the last weights of another training of the same model.

    Raises:
        IntegrityError: the training has no readable checkpoint, or its weights are those of another model.
    """
    path = Path(training) / "checkpoints" / "last.ckpt"
    found = read_checkpoint(path).get("state_dict", {})
    state = {k.removeprefix("model."): v for k, v in found.items() if k.startswith("model.")}
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    received = {k: tuple(v.shape) for k, v in state.items()}
    wrong = [k for k in sorted({*shapes, *received}) if shapes.get(k) != received.get(k)]
    if wrong:
        raise IntegrityError(
            explain(
                f"{path} holds the weights of another model",
                received=f"{wrong[0]} of shape {received.get(wrong[0])}",
                expected=f"shape {shapes.get(wrong[0])}",
                fix="give the folder of a training with the same [model]",
            )
        )
    model.load_state_dict(state)


def check_same_recipe(record: Any, recipe: Recipe) -> None:
    """Refuse a checkpoint that another recipe wrote.

    Raises:
        IntegrityError: a key that decides what is learned differs; the text names it.
    """
    if not isinstance(record, dict) or "recipe" not in record:
        raise IntegrityError(
            explain("this checkpoint was not written by onelip", fix="resume from OUT/checkpoints/last.ckpt")
        )
    # Keys younger than the checkpoint had the value that is their default now.
    then: dict[str, Any] = json.loads(json.dumps(Recipe().flat())) | json.loads(record["recipe"])
    now: dict[str, Any] = json.loads(json.dumps(recipe.flat()))
    changed = [k for k in sorted({*then, *now}) if then.get(k) != now.get(k) and not k.startswith(_FREE)]
    if changed:
        detail = "; ".join(f"{k} was {then.get(k)!r} and is {now.get(k)!r}" for k in changed[:4])
        raise IntegrityError(
            explain(
                "the checkpoint is of another training",
                received=detail,
                why="going on would mix two trainings and could not be repeated",
                fix="resume with the recipe in OUT/recipe.toml, or start in another folder",
            )
        )
