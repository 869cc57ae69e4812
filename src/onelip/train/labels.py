"""Training of classifiers: one class an image; accuracy, margin and certified accuracy on the way."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from ..certify import pair_constants
from ..certify.labels.radius import predict
from ..data.labels import ClassificationDataset
from ..metrics import CertifiedAccuracy
from ..models import LipModel
from .centring import centre_bias
from .loading import Batch
from .module import Training
from .recipe import Recipe

_CENTRED = ("hkr", "soft-hkr", "lse-hkr")


class ClassTraining(Training):
    """A classifier.

    Logged after each validation: `accuracy`; `margin`, the mean of the label's logit minus the largest other one; and
    for constrained models `lipschitz`, the joint bound of all logits, and for each eps `certified@eps`, the share of
    the images that stay right under any perturbation of that l2 norm, from the proven constants of pairs of classes.

    After its last step, and before the last validation, the biases of the classes are fitted where the recipe asks for
    it: see `onelip.train.centring`. So checkpoint, saved model and last row are of one and the same model.

    Guarantee of the logged `certified@eps`: a certificate of the float32 logits on the validation images, with the
    proven constants of the weights as they are. It is meant for watching a training; `onelip.certify.classification`
    gives the value to report, from float64 logits.

    Args:
        model: (B, C, H, W) to (B, K).
        loss: of logits (B, K) and labels (B,).
        recipe: the training.
        steps: of all epochs together.
        source: the images that the biases are fitted on.
    """

    def __init__(
        self,
        model: LipModel,
        loss: nn.Module,
        recipe: Recipe,
        *,
        steps: int,
        source: ClassificationDataset,
    ) -> None:
        super().__init__(model, loss, recipe, steps=steps)
        self.source = source
        self.accuracy, self.margin = MeanMetric(), MeanMetric()
        self.certified = CertifiedAccuracy(recipe.val.eps or (0.0,))
        self._pairs: dict[tuple[int, ...], Tensor] = {}

    def objective(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Return the loss of logits and labels."""
        return {"loss": self.loss(outputs.float(), target)}

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Keep weights where they belong; after the last step of all, fit the biases of the classes."""
        super().on_train_batch_end(*arguments)
        last = self.current_epoch + 1 == self.trainer.max_epochs and self.trainer.is_last_batch
        part = self.recipe.loss
        if last and part.centre_bias and part.name in _CENTRED:
            centre_bias(self.model, self.source, batch=self.recipe.val.batch)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Add a batch to what is measured."""
        images, target = batch
        logits = self._folded[0](images).float()
        self.accuracy.update((predict(logits) == target).float())
        own = logits.gather(1, target[:, None])
        rival = logits.scatter(1, target[:, None], float("-inf")).amax(1)
        self.margin.update(own[:, 0] - rival)
        if self.certifies:
            self.bound(images)
            self.certified.update(logits, target, self._constants(images))

    def _constants(self, images: Tensor) -> Tensor:
        """Proven constants of the pairs of classes for images of this size, once in a validation."""
        channels, height, width = (int(n) for n in images.shape[1:])
        if (height, width) not in self._pairs:
            self._pairs[height, width] = pair_constants(
                self._folded[0], (height, width), in_channels=channels
            )
        return self._pairs[height, width]

    def on_validation_epoch_end(self) -> None:
        """Close the means over the validation images."""
        measured = {"accuracy": float(self.accuracy.compute()), "margin": float(self.margin.compute())}
        self.accuracy.reset()
        self.margin.reset()
        if self.certifies:
            values = self.certified.compute().values.tolist()
            pairs = zip(self.recipe.val.eps, values, strict=True)
            measured |= {f"certified@{eps:g}": float(value) for eps, value in pairs}
            self.certified.reset()
            self._pairs = {}
        self.close(measured)
