"""Training of detectors: boxes, average precision and what logits certify on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..certify import detection_from_raw
from ..certify.boxes.parts import part_constants
from ..certify.boxes.sums import Constants
from ..metrics.detection import score_detections
from ..models import LipModel
from ..models.assignment import Target
from ..models.decoding import locations, postprocess
from ..models.detection import Detector, Raw
from .box_loss import BoxLoss
from .loading import BoxBatch
from .module import Training
from .recipe import Recipe

_LOWEST = 0.01  # score: average precision wants detections of nearly any


class BoxTraining(Training):
    """A detector.

    Logged after each validation: `map50`, `map`, at the recipe's threshold `recall` and `false_alarms` (detections an
    image that find nothing), and for constrained models, for each eps and any perturbation of that norm of each image,

    - `certified_recall@eps`: share of the objects that are found;
    - `certified_silent@eps`: share of the images without a false detection;
    - `certified_safe@eps`: share of the objects that are found in such an image.

    With a free regression an object is found when a location inside its box fires for its class, and a location outside
    that fires is a false detection; with a Lipschitz one it takes a box with IoU 0.5, after suppression.

    What a cap of the model could cut counts as lost.

    Guarantee: certificates of the float32 heads on the validation images, with the proven bound of the weights as they
    are. They are meant for watching a training; `onelip.certify.detection` gives the values to report.
    """

    def __init__(self, model: LipModel, loss: nn.Module, recipe: Recipe, *, steps: int) -> None:
        super().__init__(model, loss, recipe, steps=steps)
        self.names = tuple(f"class {k}" for k in range(model.classes))
        self._found: list[dict[str, Tensor]] = []
        self._there: list[dict[str, Tensor]] = []
        self._parts: dict[tuple[int, int], dict[str, Constants]] = {}
        self._proofs: list[Tensor] = []  # of each image (2, E): objects that are found, false detections

    def outputs(self, images: Tensor) -> tuple[Raw, Tensor | None]:
        """Return logits, distances, locations and strides of a batch, and its centre-ness if there is any."""
        return _heads(self.model, images)

    def objective(self, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        assert isinstance(self.loss, BoxLoss)
        with torch.autocast(outputs[0].logits.device.type, enabled=False):
            terms: dict[str, Tensor] = self.loss(*outputs, target)
            return terms

    def validation_step(self, batch: BoxBatch, _: int) -> None:
        """Keep detections, objects and what the logits of each image certify."""
        images, targets = batch
        model = self._folded[0]
        assert isinstance(model, Detector)
        raw, centre = _heads(model, images)
        size, rank = images.shape[-2:], None if centre is None else nn.functional.logsigmoid(centre)
        detections = postprocess(
            raw,
            model.threshold_logit(_LOWEST),
            size,
            nms=model.nms,
            temperature=model.temperature,
            per_level=model.per_level,
            per_image=model.per_image,
            order=None if rank is None else model.temperature * rank,
        )
        self._found += [_on_cpu(detection) for detection in detections]
        self._there += [_on_cpu(target) for target in targets]
        if self.certifies:
            parts = self._constants(model, images)
            certificate = detection_from_raw(
                raw,
                targets,
                size=size,
                lipschitz=self.bound(images),
                logits=parts.get("logits"),
                boxes=parts.get("boxes"),
                threshold=self.recipe.loss.threshold,
                temperature=model.temperature,
                kappa=model.kappa if model.regression_kind == "lipschitz" else None,
                nms=model.nms,
                by_logit=centre is None,
                per_level=model.per_level,
                per_image=model.per_image,
            )
            eps = self.recipe.val.eps
            self._proofs += torch.stack([certificate.found(eps), certificate.alarms(eps)]).unbind(2)

    def _constants(self, model: Detector, images: Tensor) -> dict[str, Constants]:
        """Proven constants of the parts of the folded weights for images of this size, once in a validation."""
        height, width = int(images.shape[-2]), int(images.shape[-1])
        if (height, width) not in self._parts:
            self._parts[height, width] = part_constants(
                model, (height, width), p=2, in_channels=int(images.shape[1])
            )
        return self._parts[height, width]

    def on_validation_epoch_end(self) -> None:
        """Close the counts, over the images of all processes."""
        found, there, proofs = (_gathered(part) for part in (self._found, self._there, self._proofs))
        self._found, self._there, self._proofs, self._parts = [], [], [], {}
        scores = score_detections(found, there, classes=self.names, threshold=self.recipe.loss.threshold)
        measured = {
            "map50": scores.map50,
            "map": scores.map50_95,
            "recall": scores.recall,
            "false_alarms": scores.false_positives,
        }
        if self.certifies:
            kept, alarms = torch.stack(proofs).unbind(1)  # (B, E) each; nan where a cap could bind: lost
            kept, silent = kept.nan_to_num(0.0), (alarms == 0).double()
            objects = scores.objects or float("nan")
            for k, eps in enumerate(self.recipe.val.eps):
                measured[f"certified_recall@{eps:g}"] = float(kept[:, k].sum()) / objects
                measured[f"certified_silent@{eps:g}"] = float(silent[:, k].mean())
                measured[f"certified_safe@{eps:g}"] = float((kept * silent)[:, k].sum()) / objects
        self.close(measured)


def _heads(model: LipModel, images: Tensor) -> tuple[Raw, Tensor | None]:
    """Return the heads in float32; half precision would displace locations."""
    assert isinstance(model, Detector)
    raw, centre = model.heads(images)
    where = locations(images.shape[-2:], model.strides, dtype=torch.float32, device=images.device)
    heads = Raw(raw.logits.float(), raw.regression.float(), *where)
    return heads, None if centre is None else centre.float()


def _gathered(part: list[Any]) -> list[Any]:
    """Return the entries of all processes, in order of their rank."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return part
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return [entry for one in parts for entry in one]


def _on_cpu(entries: Target) -> dict[str, Tensor]:
    return {name: values.cpu() for name, values in entries.items()}
