"""The base of all goals about boxes: which detections count for an object, and what they cost."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.base import Goal
from onelip.attacks.boxes.heads import Heads, iou
from onelip.attacks.boxes.objects import Objects, objects, receive
from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.models.assignment import centre_region

HAIR = 0.1
"""By how much a logit has to be beyond the threshold to count as won, in units of the temperature."""
SLACK = 0.05
"""IoU below the needed one from which on a box is watched: it may come back."""
SUPPORTS = ("box", "location")
_TINY = 1e-24
_FINER = 0.999


@dataclass(frozen=True, kw_only=True)
class BoxGoal(Goal):
    """A goal about detections and objects; the model is a detector, the target a list with boxes and labels.

    Args:
        threshold: score above which a detection counts.
        iou: overlap with an object from which on a detection is on it.
        support: what is on an object: "box", a final detection after suppression whose box overlaps it; "location", a
            candidate whose location is inside the object, wherever its box is: what can be certified with free
            distances.
        enough: score at which the goal is reached; None: any more than on the clean image.
    """

    threshold: float = 0.5
    iou: float = 0.5
    support: str = "box"
    enough: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("threshold", self.threshold), ("iou", self.iou)):
            if not 0.0 < checks.number(name, value) < 1.0:
                raise InputError(
                    explain(f"{self.name}: `{name}` is out of range", received=value, expected="in (0, 1)")
                )
        choice(self.name, "support", self.support, SUPPORTS)
        if self.enough is not None:
            checks.number("enough", self.enough)

    def ask(self, model: nn.Module, images: Tensor) -> Heads:
        """The raw heads of a detector, before threshold and suppression; raises InputError for any other model."""
        return Heads.ask(model, images, self.threshold)

    def receive(self, target: Any, device: torch.device) -> Any:
        """Boxes and labels of each image, on the device of the model."""
        return receive(target, device)

    def prepare(self, outputs: Heads, target: Any) -> Objects:
        """The objects, checked; raises InputError where they do not fit the images."""
        return objects(
            target,
            images=outputs.logits.shape[0],
            classes=outputs.classes,
            size=outputs.layout.size,
            goal=self.name,
        )

    @property
    @abstractmethod
    def losses(self) -> tuple[str, ...]:
        """The forms of the loss that are tried one after the other."""

    def reached(self, score: Tensor, clean: Tensor) -> Tensor:
        """The score is enough, or, where nothing was said, above that of the clean image."""
        return score > clean if self.enough is None else score >= self.enough

    def present(self, heads: Heads, state: Objects) -> Tensor:
        """(B, G, K) bool: something is on an object that says a class."""
        if self.support == "location":
            firing = (heads.logits > heads.layout.level).to(heads.logits)
            found: Tensor = self.region(heads, state).to(firing).transpose(1, 2) @ firing > 0
            return found
        rows = []
        for found_here, boxes in zip(heads.detections(), state.boxes, strict=True):
            on = iou(found_here["boxes"].double()[:, None], boxes[None]) >= self.iou
            says = nn.functional.one_hot(found_here["labels"], heads.classes).bool()
            rows.append((on[:, :, None] & says[:, None, :]).any(0))
        return torch.stack(rows)

    def missed(self, heads: Heads, state: Objects) -> Tensor:
        """(B, G) bool: objects on which nothing says their class."""
        own = self.present(heads, state).gather(2, state.labels.clamp_min(0)[..., None])[..., 0]
        return state.real & ~own

    def false_alarms(self, heads: Heads, state: Objects) -> Tensor:
        """(B,) float64: final detections that are on no object of their class."""
        counts = []
        for b, found in enumerate(heads.detections()):
            on = iou(found["boxes"].double()[:, None], state.boxes[b][None]) >= self.iou
            true = (on & (found["labels"][:, None] == state.labels[b][None])).any(1)
            counts.append(float((~true).sum()))
        return torch.tensor(counts, dtype=torch.float64, device=heads.logits.device)

    def region(self, heads: Heads, state: Objects) -> Tensor:
        """(B, N, G) bool: locations inside an object."""
        return centre_region(heads.layout.locations, heads.layout.strides, state.boxes, math.inf)

    def near(self, heads: Heads, state: Objects) -> Tensor:
        """(B, N, G) bool: locations that count for an object or may soon do."""
        if self.support == "location":
            return self.region(heads, state)
        return (overlap(heads.detach(), state) >= self.iou - SLACK) & state.real[:, None]


def overlap(heads: Heads, state: Objects) -> Tensor:
    """(B, N, G) IoU of the box of every location with every object, with gradients."""
    return iou(heads.boxes[:, :, None], state.boxes.to(heads.regression)[:, None])


def own(heads: Heads, labels: Tensor) -> Tensor:
    """(B, N, G) logits of the classes of the objects, above the threshold, in units of the temperature."""
    index = labels.clamp_min(0)[:, None].expand(-1, heads.logits.shape[1], -1)
    return (heads.logits.gather(2, index) - heads.layout.level) / heads.layout.temperature


def together(gaps: Tensor, counted: Tensor) -> Tensor:
    """(B, G) l2 norm of the gaps (B, N, G) that count: what it costs to close all of them."""
    return (gaps.masked_fill(~counted, 0.0).square().sum(1) + _TINY).sqrt()


def pursued(cost: Tensor, real: Tensor, progress: float) -> Tensor:
    """(B, G) bool: what is won, to keep it, and the next ones in order of their cost: at first all, in the end one.

    An attack that spends its budget on everything wins nothing that is dear; the cheapest ones first is what the
    certificate's count assumes too.

    Example:
        >>> costs = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
        >>> pursued(costs, costs > -1, 1.0).tolist(), pursued(costs, costs > -1, 0.5).tolist()
        ([[True, False, True, False]], [[True, False, True, True]])
    """
    price = torch.where(real, cost.detach(), torch.inf)
    won = price <= 2 * _TINY**0.5
    left = (price.isfinite() & ~won).sum(1)
    more = ((1.0 - progress) * left).ceil().clamp_min(1)
    return cheapest(price, won.sum(1) + more)


def cheapest(price: Tensor, number: Tensor) -> Tensor:
    """(B, M) bool: so many items of each image, (B,), those of the smallest finite price (B, M), the first of ties.

    Example:
        >>> cheapest(torch.tensor([[2.0, 1.0, 1.0, 1.0]]), torch.tensor([2])).tolist()
        [[False, True, True, False]]
    """
    order = price.argsort(dim=1, stable=True)
    first = torch.arange(price.shape[1], device=price.device) < number[:, None]
    return torch.zeros_like(first).scatter(1, order, first) & price.isfinite()


def finer(won: Tensor, cost: Tensor, real: Tensor) -> Tensor:
    """(B,) float64: share of the objects that are won, and a fraction of one more by what the others still cost."""
    count = real.sum(1).double()
    left = real & ~won
    nearness = (1.0 / (1.0 + cost.double())).where(left & cost.isfinite(), 0.0).sum(1)
    fraction = _FINER * nearness / left.sum(1).clamp_min(1)
    return (won.sum(1).double() + fraction) / count


def choice(goal: str, name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise unless an option is one of the known ones."""
    if value not in known:
        raise InputError(
            explain(f"{goal}: `{name}` is unknown", received=repr(value), expected=", ".join(known))
        )
