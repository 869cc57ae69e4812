"""From a recipe to a trained model in a folder."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger

from .. import models
from ..core import runtime
from ..core.errors import ConfigError, OnelipError, explain
from ..core.files import atomic_write, write_json
from .callbacks import History, Keeper, Row
from .loading import train_loader, val_loader
from .module import RECORD
from .recipe import Recipe
from .recipe_files import Overrides, load_recipe, to_toml
from .resume import AtomicCheckpoints, begin_with, check_same_recipe, read_checkpoint
from .tasks import MEASURED, Parts, make_model, make_training, open_parts, unseen

log = logging.getLogger("onelip.train")


@dataclass(frozen=True)
class FitResult:
    """What a training left behind.

    Attributes:
        folder: The output folder: `model/`, `checkpoints/last.ckpt`, `metrics.csv`, `recipe.toml`, `results.json`,
            `tensorboard/`.
        recipe: The recipe, complete.
        model: The trained model, in eval mode.
        history: One row an epoch.
    """

    folder: Path
    recipe: Recipe
    model: models.LipModel
    history: tuple[Row, ...]

    @property
    def metrics(self) -> Row:
        """The last row that was measured."""
        return next((row for row in reversed(self.history) if any(key in row for key in MEASURED)), {})


def fit(
    recipe: str | Path | Recipe,
    *,
    out: str | Path,
    resume: bool | str | Path = False,
    overrides: Overrides = (),
    progress: bool | None = None,
) -> FitResult:
    """Train a model.

    Every number that is drawn depends on (seed, epoch, image) alone: a training that is killed and resumed on the
    same machine ends with the same weights, bit for bit, as one that was not.

    Args:
        recipe: Name of a shipped recipe, path of a TOML file, or a recipe.
        out: Output folder.
        resume: True continues from `out/checkpoints/last.ckpt` where it exists and starts anew where it does not; a
            path continues from that checkpoint.
        overrides: See `load_recipe`.
        progress: Show a progress bar; default: when the error stream is a terminal.

    Returns:
        The trained model and its history.

    Raises:
        ConfigError: the recipe is wrong, or `out` already holds a training and `resume` is not set.
        DataError: the data cannot be opened or read.
        IntegrityError: the checkpoint, or that of `model.start`, is damaged, or of another model or recipe (the text
            names the key).
        StorageError: the disk is full; the last checkpoint stays.
        NonFiniteError: the loss became NaN or infinite.
        KeyboardInterrupt: interrupted; the last checkpoint stays.

    Guarantee:
        None on the model: `onelip.lipschitz` proves the bound of the weights that come out, whatever came in.
    """
    settings = load_recipe(recipe, overrides)
    folder = Path(out)
    last = folder / "checkpoints" / "last.ckpt"
    start = _starting_point(resume, last, settings)
    if settings.run.threads:
        torch.set_num_threads(settings.run.threads)
    parts = open_parts(settings)
    torch.manual_seed(settings.seed)
    model = make_model(settings, len(parts.train.classes), parts.channels)
    if settings.model.start and start is None:
        begin_with(model, settings.model.start)
    atomic_write(folder / "recipe.toml", to_toml(settings))
    began = time.perf_counter()
    history = _run(settings, model, parts, folder, start, progress)
    model.eval()
    result = FitResult(folder, settings, model, tuple(history))
    _save(result, parts, time.perf_counter() - began)
    return result


def _starting_point(resume: bool | str | Path, last: Path, recipe: Recipe) -> Path | None:
    """Return the checkpoint to continue from; refuse to overwrite a training by accident."""
    if resume is False:
        if last.exists():
            raise ConfigError(
                explain(
                    f"{last.parent.parent} already holds a training",
                    why="it would be overwritten",
                    fix="continue it with resume (--resume), or choose another folder",
                )
            )
        return None
    start = last if resume is True else Path(resume)
    if resume is True and not start.exists():
        log.info("no checkpoint in %s yet: starting from the beginning", last.parent)
        return None
    check_same_recipe(read_checkpoint(start).get(RECORD), recipe)  # before anything is written
    return start


def _run(
    recipe: Recipe,
    model: models.LipModel,
    parts: Parts,
    folder: Path,
    start: Path | None,
    progress: bool | None,
) -> list[Row]:
    """Let Lightning train, and hand every error on as what it is."""
    bar = sys.stderr.isatty() if progress is None else progress
    history = History(folder, quiet=bar)
    keeper = Keeper(folder, recipe, size=parts.size)
    trainer = _trainer(recipe, folder, [history, keeper], bar)
    rank, world = trainer.global_rank, trainer.world_size
    batches = train_loader(parts.train, recipe, rank=rank, world=world)
    module = make_training(recipe, model, parts, steps=len(batches) * recipe.optim.epochs)
    handler = signal.getsignal(signal.SIGINT)
    log.info(
        "%s: %d training and %d validation images, %d steps an epoch, %d parameters",
        *(
            recipe.name,
            len(parts.train),
            len(parts.val),
            len(batches),
            sum(p.numel() for p in model.parameters()),
        ),
    )
    missed, total = unseen(parts.val, model, recipe.loss.radius)
    if missed:
        log.warning("%d of %d validation objects lie between all locations: use finer strides", missed, total)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
            loader = val_loader(parts.val, recipe, rank=rank, world=world)
            trainer.fit(module, batches, loader, ckpt_path=start, weights_only=True)
    except OnelipError as error:
        raise _unwrapped(error) from error
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
        raise
    return history.rows


def _unwrapped(error: OnelipError) -> OnelipError:
    """Return the error that a loading process met, without the traceback that torch writes into its text."""
    text = str(error)
    if "Original Traceback" not in text:
        return error
    return type(error)(text.rsplit(f"{type(error).__name__}: ", 1)[-1].strip())


def _trainer(recipe: Recipe, folder: Path, callbacks: list[Any], bar: bool) -> pl.Trainer:
    run = recipe.run
    for name in ("pytorch_lightning", "faster_coco_eval"):
        logging.getLogger(name).setLevel(logging.WARNING)
    spread = run.devices * run.nodes > 1
    return pl.Trainer(
        accelerator=runtime.device(run.device).type,
        devices=run.devices,
        num_nodes=run.nodes,
        strategy="ddp" if spread else "auto",
        max_epochs=recipe.optim.epochs,
        check_val_every_n_epoch=recipe.val.every,
        gradient_clip_val=recipe.optim.clip or None,
        callbacks=[*callbacks, *([RichProgressBar()] if bar else [])],
        logger=TensorBoardLogger(folder, name="tensorboard", version="", sub_dir=None),
        plugins=[AtomicCheckpoints()],
        use_distributed_sampler=False,  # EpochOrder shares the images out itself
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # no step logs anything: History logs once an epoch
        enable_checkpointing=True,
        enable_progress_bar=bar,
        enable_model_summary=False,
    )


def _save(result: FitResult, parts: Parts, seconds: float) -> None:
    """Write the model and the results, once, from the first process."""
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_rank()
    ):
        return
    result.model.cpu().save(result.folder / "model", size=parts.size)
    write_json(
        result.folder / "results.json",
        {
            "kind": "train",
            "recipe": result.recipe.flat(),
            "metrics": {k: v if math.isfinite(v) else None for k, v in result.metrics.items()},
            "classes": list(parts.val.classes),
            "size": list(parts.size),
            "padded_size": list(result.model.padded_size(parts.size)),
            "stride": result.model.multiple_of,
            "seconds": seconds,
            "versions": runtime.versions(),
            "machine": runtime.machine(),
        },
    )
    log.info("saved the model to %s", result.folder / "model")
