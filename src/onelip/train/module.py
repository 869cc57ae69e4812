"""One training step, for Lightning; what is measured on the way is the subclasses' part."""

from __future__ import annotations

import json
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ..bounds import lipschitz
from ..core.errors import NonFiniteError, explain
from ..layers import fold, retract_
from ..models import LipModel
from .adversary import attacked
from .loading import mixed_seed
from .objective import log_scale
from .recipe import OptimPart, Recipe
from .resume import check_same_recipe

RECORD = "onelip"  # where a checkpoint keeps the recipe


class Training(pl.LightningModule):
    """A model, its loss and the schedule; a subclass says what the loss sees and what is measured.

    Attributes:
        measured: What the last validation found, until the history takes it.
        proven: The largest bound of the last validation.
        certifies: Whether validation certifies: the model is constrained and `val.eps` names budgets.
    """

    scale_start: Tensor

    def __init__(self, model: LipModel, loss: nn.Module, recipe: Recipe, *, steps: int) -> None:
        super().__init__()
        self.model, self.loss, self.recipe, self.steps = model, loss, recipe, steps
        self.measured: dict[str, float] = {}
        self.proven: float | None = None
        self.certifies = model.config["constraint"] is not None and len(recipe.val.eps) > 0
        start = log_scale(model)
        self.register_buffer("scale_start", torch.zeros(()) if start is None else start.detach().clone())
        self._folded: list[LipModel] = []  # in a list: it is no part of what is trained or saved
        self._bounds: dict[tuple[int, int], float] = {}

    def outputs(self, images: Tensor) -> Any:
        """Return what the loss needs of the model, computed in the precision of the recipe."""
        return self.model(images)

    def objective(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Return the loss, "loss", and any of its parts that are worth a column, in float32."""
        raise NotImplementedError

    def on_train_epoch_start(self) -> None:
        """Make everything that draws numbers a function of (seed, epoch): resuming then needs no generator state."""
        torch.manual_seed(mixed_seed(self.recipe.seed, self.current_epoch, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Any], _: int) -> dict[str, Tensor]:
        """Return the loss of a batch."""
        images, target = batch
        if self.recipe.run.channels_last:
            images = images.to(memory_format=torch.channels_last)
        part = self.recipe.augment
        if part.attack:
            self.loss.eval()  # what a loss remembers is of the images that are learned from
            images = attacked(
                self.model,
                images,
                lambda moved: self._terms(moved, target)["loss"],
                eps=part.attack,
                steps=part.attack_steps,
            )
            self.loss.train()
        terms = self._terms(images, target)
        loss = terms["loss"]
        now = log_scale(self.model)
        if now is not None:
            loss = loss + self.recipe.loss.scale_penalty * (now - self.scale_start).abs()
        if not torch.isfinite(loss):
            raise NonFiniteError(
                explain(
                    f"the loss is {float(loss.detach())} in epoch {self.current_epoch}",
                    why="training diverged; the last checkpoint is from before",
                    fix="lower optim.lr, or set optim.clip=1.0",
                )
            )
        return {**{name: term.detach() for name, term in terms.items()}, "loss": loss}

    def _terms(self, images: Tensor, target: Any) -> dict[str, Tensor]:
        half = self.recipe.optim.precision == "bf16"
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
            outputs = self.outputs(images)
        return self.objective(outputs, target)

    def on_train_batch_end(self, *_: Any) -> None:
        """Bring the weights of `mode = "retract"` back to orthonormal ones."""
        retract_(self.model)

    def configure_optimizers(self) -> Any:
        """AdamW, and a learning rate set at every step."""
        part = self.recipe.optim
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=part.lr,
            betas=(part.betas[0], part.betas[1]),
            weight_decay=part.weight_decay,
        )
        per_epoch = self.steps // part.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, per_epoch, part))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_start(self) -> None:
        """Fold the weights of now."""
        self._folded = [fold(self.model)]
        self._bounds = {}

    def bound(self, images: Tensor) -> float:
        """Return the proven bound of the folded weights for images of this size."""
        height, width = int(images.shape[-2]), int(images.shape[-1])
        if (height, width) not in self._bounds:
            self._bounds[height, width] = lipschitz(self._folded[0], (height, width)).value
        return self._bounds[height, width]

    def close(self, measured: dict[str, float]) -> None:
        """Take what a validation found; a subclass calls it last."""
        self.measured = measured
        if self.certifies:
            self.proven = max(self._bounds.values(), default=None)
            self.measured |= {"lipschitz": self.proven} if self.proven is not None else {}
        self._folded = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which training this is."""
        checkpoint[RECORD] = {"recipe": json.dumps(self.recipe.flat()), "steps": self.steps}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another training."""
        check_same_recipe(checkpoint.get(RECORD), self.recipe)


def _rate(step: int, per_epoch: int, part: OptimPart) -> float:
    """Return the learning rate at a step as a part of `lr`: linear warmup, then a cosine to `min_lr`."""
    warmup, total = part.warmup * per_epoch, part.epochs * per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
    low = part.min_lr / part.lr
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
