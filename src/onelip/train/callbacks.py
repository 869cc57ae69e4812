"""What happens beside the training: history and CSV, one line an epoch, signs of life, checkpoints."""

from __future__ import annotations

import csv
import io
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint

from ..core.files import atomic_write
from .module import Training
from .recipe import Recipe

log = logging.getLogger("onelip.train")
_SIGN_OF_LIFE = 60.0  # seconds between two lines within an epoch
_TOLD = {"pixel_accuracy", "accuracy", "margin", "miou", "map50", "map", "recall", "false_alarms"}
_TOLD_FOR_EPS = ("certified@", "certified_recall@", "certified_safe@")

Row = dict[str, float]


class History(Callback):
    """One row an epoch: learning rate, loss, time and everything measured; also as `metrics.csv`.

    The rows are part of the checkpoint, so that a resumed training goes on with exactly the rows of its past.
    """

    def __init__(self, out: Path, *, quiet: bool = False) -> None:
        self.path, self.quiet = out / "metrics.csv", quiet
        self.rows: list[Row] = []
        self._losses: list[dict[str, Any]] = []
        self._images = 0
        self._began = self._first = self._spoke = 0.0
        self._epochs_here = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        del trainer, pl_module
        self._first = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch."""
        del trainer, pl_module
        self._losses, self._images = [], 0
        self._began = self._spoke = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Collect the loss; now and then say that it goes on."""
        self._losses.append({name: value.detach() for name, value in outputs.items()})
        self._images += len(batch[0]) * trainer.world_size
        now = time.perf_counter()
        if not self.quiet and now - self._spoke > _SIGN_OF_LIFE:
            self._spoke = now
            done, total = batch_idx + 1, int(trainer.num_training_batches)
            left = (now - self._began) / done * (total - done)
            log.info(
                "  epoch %d: step %d/%d, %s left in it", trainer.current_epoch + 1, done, total, _span(left)
            )
        del pl_module

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of the training part of the epoch."""
        del trainer, pl_module
        self._trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of the epoch."""
        assert isinstance(pl_module, Training)
        now = time.perf_counter()
        measured = pl_module.measured
        trained = (self._trained if measured else now) - self._began
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": float(trainer.optimizers[0].param_groups[0]["lr"]),
            **_means(self._losses),
            "seconds": now - self._began,
            "images_per_second": self._images / max(trained, 1e-9),
            **measured,
        }
        pl_module.measured = {}
        self.rows.append(row)
        self._epochs_here += 1
        named = {
            f"val/{k}" if k in measured else f"train/{k}": row[k] for k in row if k not in {"epoch", "step"}
        }
        for logger in trainer.loggers:
            logger.log_metrics(named, trainer.global_step)
        if trainer.is_global_zero:
            atomic_write(self.path, to_csv(self.rows))
            self._tell(row, trainer, now)

    def _tell(self, row: Row, trainer: pl.Trainer, now: float) -> None:
        total = int(trainer.max_epochs or 0)
        left = (now - self._first) / self._epochs_here * (total - row["epoch"])
        parts = [f"epoch {row['epoch']:.0f}/{total}", f"loss {row['loss']:.4f}"]
        parts += [f"{k} {v:.4f}" for k, v in row.items() if k in _TOLD or k.startswith("certified")]
        parts += [
            f"{row['seconds']:.1f} s",
            f"{row['images_per_second']:.1f} images/s",
            f"{_span(left)} left",
        ]
        log.info(", ".join(parts))

    def state_dict(self) -> dict[str, Any]:
        """Keep the rows in the checkpoint."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the past from the checkpoint."""
        self.rows = [dict(row) for row in state_dict["rows"]]


class Keeper(Checkpoint):
    """Writes `checkpoints/last.ckpt` at the end of epochs, after everything that belongs to the epoch is done.

    After a measured epoch it also writes the model as it is, so that a training can be looked at while it goes on.
    """

    def __init__(self, out: Path, recipe: Recipe, *, size: tuple[int, int]) -> None:
        self.out, self.recipe, self.size = out, recipe, size

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is due."""
        assert isinstance(pl_module, Training)
        epoch, last = trainer.current_epoch + 1, trainer.current_epoch + 1 == trainer.max_epochs
        if last or epoch % self.recipe.run.checkpoint_every == 0:
            trainer.save_checkpoint(self.out / "checkpoints" / "last.ckpt")
        if trainer.is_global_zero and not last and epoch % self.recipe.val.every == 0:
            pl_module.model.save(self.out / "model", size=self.size)


def to_csv(rows: list[Row]) -> str:
    """Write rows as CSV; a value that was not measured in an epoch is empty.

    >>> to_csv([{"epoch": 1}, {"epoch": 2, "miou": 0.5}]).split()
    ['epoch,miou', '1,', '2,0.5']
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _means(losses: list[dict[str, Any]]) -> Row:
    """Return the mean of the loss and of each of its parts over the steps."""
    names = losses[0] if losses else {"loss": None}
    return {name: float(sum(float(x[name]) for x in losses) / max(1, len(losses))) for name in names}


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
