"""Training of segmentation: labels a pixel, accuracy, mIoU and certified accuracy on the way."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from ..certify import PixelAccuracy
from ..metrics import Certified
from ..models import LipModel
from .loading import Batch
from .module import Training
from .recipe import Recipe

_VOID = 255


class PixelTraining(Training):
    """A segmentation model.

    Guarantee of the logged `certified@eps`: a certificate of the float32 logits on the validation images, with the
    proven bound of the weights as they are. It is meant for watching a training; `onelip.certify` gives the value to
    report, from float64 logits.
    """

    def __init__(self, model: LipModel, loss: nn.Module, recipe: Recipe, *, steps: int) -> None:
        super().__init__(model, loss, recipe, steps=steps)
        self.confusion = MulticlassConfusionMatrix(model.classes, ignore_index=_VOID)
        self.certified = Certified(
            PixelAccuracy(ignore_index=_VOID), eps=recipe.val.eps or (0.0,), average="micro"
        )

    def objective(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Return the loss of logits and labels."""
        return {"loss": self.loss(outputs.float(), target)}

    def validation_step(self, batch: Batch, _: int) -> None:
        """Add a batch to the clean and certified counts."""
        images, target = batch
        logits = self._folded[0](images).float()
        self.confusion.update(logits, target)
        if self.certifies:
            self.certified.update(logits, target, lipschitz=self.bound(images))

    def on_validation_epoch_end(self) -> None:
        """Close the counts: clean accuracy, mIoU and certified accuracy over the validation images."""
        matrix = self.confusion.compute().double()
        hits, union = matrix.diag(), matrix.sum(0) + matrix.sum(1) - matrix.diag()
        measured = {
            "pixel_accuracy": float(hits.sum() / matrix.sum()),
            "miou": float(
                (hits / union)[union > 0].mean()
            ),  # over the classes that labels or predictions show
        }
        self.confusion.reset()
        if self.certifies:
            curve = self.certified.compute()
            pairs = zip(self.recipe.val.eps, curve.values.tolist(), strict=True)
            measured |= {f"certified@{eps:g}": float(value) for eps, value in pairs}
            self.certified.reset()
        self.close(measured)
