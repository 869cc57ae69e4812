"""Training of detectors: boxes, average precision and what logits certify on the way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..certify.budget import budgets
from ..metrics.detection import score_detections
from ..models import LipModel
from ..models.assignment import Target, distances
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
    image that find nothing), and for constrained models, for each eps, shares of objects and of images

    - `certified_recall@eps`: objects inside whose box a location keeps firing for their class, under any perturbation
      of norm eps of its image (the box that it predicts is not looked at);
    - `certified_silent@eps`: images in which no location outside the objects fires, under any perturbation.

    Guarantee of both: certificates of the float32 logits on the validation images, with the proven bound of the weights
    as they are. They are meant for watching a training; `onelip.certify.detection` gives the values to report.
    """

    def __init__(self, model: LipModel, loss: nn.Module, recipe: Recipe, *, steps: int) -> None:
        super().__init__(model, loss, recipe, steps=steps)
        self.names = tuple(f"class {k}" for k in range(model.classes))
        self._found: list[dict[str, Tensor]] = []
        self._there: list[dict[str, Tensor]] = []
        self._proofs: list[tuple[Tensor, Tensor]] = []  # of each image: kept objects (E,), silent (E,)

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
        detections = postprocess(
            raw,
            model.threshold_logit(_LOWEST),
            images.shape[-2:],
            nms=model.nms,
            temperature=model.temperature,
            per_level=model.per_level,
            per_image=model.per_image,
            order=None if centre is None else model.temperature * nn.functional.logsigmoid(centre),
        )
        self._found += [_on_cpu(detection) for detection in detections]
        self._there += [_on_cpu(target) for target in targets]
        if self.certifies:
            theta = model.threshold_logit(self.recipe.loss.threshold)
            eps = torch.tensor(self.recipe.val.eps, dtype=torch.float64)
            for logits, target in zip(raw.logits.double(), targets, strict=True):
                items = logits.numel()
                budget = budgets(eps, lipschitz=self.bound(images), p=2.0, items=items).to(logits.device)
                proof = certified(logits - theta, raw.locations, target, budget)
                self._proofs.append((proof[0].cpu(), proof[1].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Close the counts, over the images of all processes."""
        found, there, proofs = (_gathered(part) for part in (self._found, self._there, self._proofs))
        self._found, self._there, self._proofs = [], [], []
        scores = score_detections(found, there, classes=self.names, threshold=self.recipe.loss.threshold)
        measured = {
            "map50": scores.map50,
            "map": scores.map50_95,
            "recall": scores.recall,
            "false_alarms": scores.false_positives,
        }
        if self.certifies:
            kept, silent = (torch.stack(part).double() for part in zip(*proofs, strict=True))
            for k, eps in enumerate(self.recipe.val.eps):
                objects = scores.objects or float("nan")
                measured[f"certified_recall@{eps:g}"] = float(kept[:, k].sum()) / objects
                measured[f"certified_silent@{eps:g}"] = float(silent[:, k].mean())
        self.close(measured)


def certified(above: Tensor, points: Tensor, target: Target, budget: Tensor) -> tuple[Tensor, Tensor]:
    r"""What a ball of logits certifies about one image: how many objects stay, and whether the rest is silent.

    An object is lost for :math:`\sum_i \max(0, z_i - \theta)^2` over the locations inside its box, each of them given
    to the smallest box of its class that holds it, and not for less; several objects cost the sum. A location outside
    the boxes of a class fires for it for :math:`(\theta - z)^2`, if it does not fire already.

    Args:
        above: (N, K) float64, logits minus threshold.
        points: (N, 2) locations.
        target: the objects.
        budget: (E,) float64, closed.

    Returns:
        (E,) int64 and (E,) bool.
    """
    boxes, labels = target["boxes"].to(above), target["labels"].to(above.device)
    inside = distances(points, boxes).amin(-1) > 0  # (N, G)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    objects, costs = torch.zeros_like(above, dtype=torch.bool), above.new_zeros(len(labels))
    for k in labels.unique().tolist():
        mine = (labels == k).nonzero()[:, 0]
        own = inside[:, mine]
        objects[:, k] = own.any(1)
        owner = mine[torch.where(own, area[mine], torch.inf).argmin(1)]
        costs.index_add_(0, owner, above[:, k].clamp_min(0).square() * objects[:, k])
    lost = (costs.sort().values.cumsum(0)[:, None] <= budget).sum(0)
    rest = above[~objects]
    gap = (-rest).clamp_min(0).square().min() if rest.numel() else above.new_tensor(torch.inf)
    return len(labels) - lost, gap > budget  # one that fires has no gap


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
