"""Detections that should appear where nothing is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, generalized_box_iou_loss

from onelip.attacks.boxes.base import HAIR, BoxGoal, cheapest, choice, overlap, pursued, together
from onelip.attacks.boxes.false import check_count, check_sizes, false_objects
from onelip.attacks.boxes.heads import Heads
from onelip.attacks.boxes.objects import Objects
from onelip.models.assignment import assign
from onelip.models.decoding import decode

_FINER = 0.999
_AHEAD = 0.5
_WATCHED = 400


@dataclass(frozen=True, kw_only=True)
class FabricateBoxes(BoxGoal):
    r"""Make a few false objects be detected: the score is the number of false detections after suppression.

    Each image gets `count` random boxes where nothing is, the same for every model and eps. The detector's own
    assignment of objects to locations says which locations should fire for them. Forms of the loss, T being the
    temperature and :math:`\theta` the logit of the threshold:

    - "focal": :math:`\sum \alpha (1 - s)^2 (-\log s)`, :math:`s = \mathrm{sigmoid}(z / T)`, over these locations, and
      :math:`1 - \mathrm{GIoU}` of their boxes: false training;
    - "margin": :math:`\sum_f \min_i \max(0, \theta - z_i + \kappa)`: one location is enough for each box, and the dear
      boxes are let go one after the other;
    - "all": both from every start, and the better.

    A detection is false that is on no object of its class, wherever it is.

    Args:
        count: least and largest number of false boxes in an image.
        form: of the loss.
        sizes: (M, 2) widths and heights in pixels, as those of the training boxes, from which one is drawn for each
            false box; None: between 1/16 and 1/3 of the shorter side of the image.
        boxes: let the boxes be pulled to the false objects, too.
        seed: of the false boxes; those of an image depend on its content and on nothing else.
        threshold: score above which a detection counts.
        iou: overlap from which on a detection is on an object.
        enough: number of false detections at which the goal is reached; None: any more than on the clean image.

    Example:
        >>> FabricateBoxes(count=(5, 10)).losses
        ('focal',)
    """

    count: Sequence[int] = (5, 10)
    form: str = "focal"
    sizes: Tensor | None = None
    boxes: bool = True
    seed: int = 0

    forms: ClassVar[tuple[str, ...]] = ("focal", "margin")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.name, self.count)
        check_sizes(self.name, self.sizes)
        choice(self.name, "form", self.form, (*self.forms, "all"))
        choice(self.name, "support", self.support, ("box",))

    @property
    def losses(self) -> tuple[str, ...]:
        """The form, or all of them."""
        return self.forms if self.form == "all" else (self.form,)

    def prepare(self, outputs: Heads, target: Any) -> Objects:
        """The objects, and the false ones."""
        state = super().prepare(outputs, target)
        return replace(
            state, false=false_objects(outputs, state, count=self.count, sizes=self.sizes, seed=self.seed)
        )

    def score(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) number of final detections that are on no object of their class."""
        return self.false_alarms(outputs, state)

    def rank(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) the number, and a fraction by how near the false objects are to being detected."""
        cost, exists = self.costs(outputs, wanted(outputs, state))
        near = (1.0 / (1.0 + cost.double())).where(exists, 0.0).sum(1) / exists.sum(1).clamp_min(1)
        return self.score(outputs, state) + _FINER * near

    def costs(self, heads: Heads, found: Wanted) -> tuple[Tensor, Tensor]:
        """(B, F) gap of the easiest location of each false object, and (B, F) where there is one."""
        number = max(int(found.owner.max()) + 1, 1)
        mine = found.owner[..., None] == torch.arange(number, device=found.owner.device)
        gap = (HAIR - _above(heads, found)).clamp_min(0.0)
        cost = gap[..., None].masked_fill(~mine, torch.inf).amin(1)
        exists = cost.isfinite()
        return cost.where(exists, 0.0), exists

    def loss(self, outputs: Heads, state: Objects, progress: float, pixel_loss: Any) -> Tensor:
        """(B,) minus the focal loss of the false objects, or the gaps of those that are pursued."""
        found = wanted(outputs, state)
        fires = found.owner >= 0
        if pixel_loss == "margin":
            cost, exists = self.costs(outputs, found)
            total = cost.masked_fill(~pursued(cost, exists, progress), 0.0).sum(1)
        else:
            z = _above(outputs, found) + outputs.layout.level / outputs.layout.temperature
            total = (0.25 * torch.sigmoid(-z).square() * F.softplus(-z)).masked_fill(~fires, 0.0).sum(1)
        return -total - (_giou(outputs, found) if self.boxes else 0.0)


@dataclass(frozen=True, kw_only=True)
class FabricateCount(BoxGoal):
    r"""Make as many false detections as can be: the score is their number.

    Minimises :math:`\big(\sum \max(0, \theta - z + \kappa)^2\big)^{1/2}` over the pairs of location and class that are
    on no object and either fire or are next in the order of their gap :math:`\theta - z`. The number of next ones
    falls from half of those that fire to one: early steps look far, late ones spend everything on the last pair that
    can be won. The cheapest pairs first is what the certificate's count assumes.

    Args:
        after_nms: count final detections, and pull at most one location of a cluster; False: count pairs above the
            threshold, which is what is certified.
        threshold: score above which a detection counts.
        iou: overlap from which on a detection is on an object.
        enough: number of false detections at which the goal is reached; None: any more than on the clean image.

    Example:
        >>> FabricateCount().enough is None
        True
    """

    after_nms: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "support", self.support, ("box",))

    @property
    def losses(self) -> tuple[str, ...]:
        """One form."""
        return ("count",)

    def score(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) number of false detections, or of false pairs above the threshold."""
        if self.after_nms:
            return self.false_alarms(outputs, state)
        firing = (outputs.logits > outputs.layout.level) & self.elsewhere(outputs, state)
        return firing.flatten(1).sum(1).double()

    def rank(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) the number, and a fraction by how near the next pair is."""
        gap = self._gaps(outputs, state).flatten(1)
        following = gap.masked_fill(gap <= 0, torch.inf).amin(1).double()
        return self.score(outputs, state) + _FINER / (1.0 + following)

    def elsewhere(self, heads: Heads, state: Objects) -> Tensor:
        """(B, N, K) bool: pairs whose box is on no object of the class."""
        on = (overlap(heads.detach(), state) >= self.iou) & state.real[:, None]
        classes = F.one_hot(state.labels.clamp_min(0), heads.classes).to(heads.logits)
        return ~(on.to(classes) @ classes > 0)

    def _gaps(self, heads: Heads, state: Objects) -> Tensor:
        """(B, N, K) by how much pairs are below the threshold, in temperatures; infinite where they do not count."""
        gap = HAIR - (heads.logits - heads.layout.level) / heads.layout.temperature
        return gap.masked_fill(~self.elsewhere(heads, state), torch.inf)

    def loss(self, outputs: Heads, state: Objects, progress: float, pixel_loss: Any) -> Tensor:  # noqa: ARG002
        """(B,) minus the gaps of the pairs that are pursued."""
        gap = self._gaps(outputs, state)
        if self.after_nms:
            gap = gap.masked_fill(~peaks(outputs), torch.inf)
        gap = gap.flatten(1)
        won = (gap <= 0).sum(1)
        more = ((1.0 - progress) * (_AHEAD * won).clamp_min(gap.shape[1] / 100)).ceil().clamp_min(1)
        close = cheapest(gap.detach(), won + more)
        return -together(gap.clamp_min(0.0)[..., None], close[..., None])[:, 0]


class Wanted(NamedTuple):
    """What each location should say: class (-1: nothing) and box of a false object, and its number."""

    labels: Tensor
    boxes: Tensor
    owner: Tensor


def wanted(heads: Heads, state: Objects) -> Wanted:
    """Which location should fire for which false object: as in training, and the nearest one where that has none."""
    at, strides = heads.layout.locations, heads.layout.strides
    key = (heads.layout.size, len(at), *strides.unique().tolist())
    if key not in state.memo:
        state.memo[key] = _assigned(at, strides, state.false)
    found: Wanted = state.memo[key]
    return found


def _assigned(at: Tensor, strides: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> Wanted:
    labels, boxes, index = assign(at, strides, targets)
    for b, false in enumerate(targets):
        missing = set(range(len(false["labels"]))) - set(index[b].tolist())
        for f in missing:
            box = false["boxes"][f]
            away = (at.to(box) - (box[:2] + box[2:]) / 2).square().sum(1)
            away = away.masked_fill((strides != strides.min()) | (index[b] >= 0), torch.inf)
            i = int(away.argmin())
            labels[b, i], boxes[b, i], index[b, i] = false["labels"][f], box, f
    return Wanted(labels, boxes, index)


def peaks(heads: Heads) -> Tensor:
    """(B, N, K) bool: of the pairs with the largest logits, those that no other would suppress."""
    kept = torch.zeros_like(heads.logits.flatten(1), dtype=torch.bool)
    boxes, classes = heads.boxes.detach(), heads.classes
    for b, logits in enumerate(heads.logits.detach().flatten(1)):
        values, pairs = logits.topk(min(_WATCHED, logits.numel()))
        found = batched_nms(boxes[b, pairs // classes], values, pairs % classes, heads.layout.nms)
        kept[b, pairs[found]] = True
    return kept.reshape(heads.logits.shape)


def _above(heads: Heads, found: Wanted) -> Tensor:
    """(B, N) logits of the wanted classes above the threshold, in temperatures."""
    z = heads.logits.gather(2, found.labels.clamp_min(0)[..., None])[..., 0]
    return (z - heads.layout.level) / heads.layout.temperature


def _giou(heads: Heads, found: Wanted) -> Tensor:
    """(B,) sum over the wanted locations of 1 - GIoU of their boxes with the false ones."""
    at, strides = heads.layout.locations.to(heads.regression), heads.layout.strides.to(heads.regression)
    boxes = decode(at, strides, heads.regression)
    fires = found.owner >= 0
    wanted_boxes = torch.where(fires[..., None], found.boxes.to(boxes), boxes.detach())
    loss: Tensor = generalized_box_iou_loss(boxes, wanted_boxes)
    return loss.masked_fill(~fires, 0.0).sum(1)
