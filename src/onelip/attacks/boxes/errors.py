"""Any error of a detector: the untargeted attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from onelip.attacks.boxes.base import BoxGoal, choice
from onelip.attacks.boxes.heads import Heads
from onelip.attacks.boxes.objects import Objects
from onelip.models.assignment import assign


@dataclass(frozen=True, kw_only=True)
class DetectionErrors(BoxGoal):
    r"""Any errors: the score is the number of objects that are not found plus that of false detections.

    Maximises the focal loss of training over all locations and classes. It mostly makes false detections, of which
    there can be many more than objects: it is no attack on what is found, for which there is `VanishBoxes`.

    Args:
        threshold: score above which a detection counts.
        iou: overlap from which on a detection is on an object.
        enough: number of errors at which the goal is reached; None: any more than on the clean image.

    Example:
        >>> DetectionErrors().losses
        ('focal',)

    Source: Chow et al., 2020 (TOG), untargeted.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "support", self.support, ("box",))

    @property
    def losses(self) -> tuple[str, ...]:
        """One form."""
        return ("focal",)

    def score(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) objects that are not found, plus false detections."""
        return self.missed(outputs, state).sum(1).double() + self.false_alarms(outputs, state)

    def loss(self, outputs: Heads, state: Objects, progress: float, pixel_loss: Any) -> Tensor:  # noqa: ARG002
        """(B,) focal loss of the true objects."""
        found = self._assigned(outputs, state)
        positive = found.labels[..., None] == torch.arange(outputs.classes, device=found.labels.device)
        z = outputs.logits / outputs.layout.temperature
        wrong = torch.where(positive, -z, z)  # the larger, the more wrong
        focus = torch.where(positive, 0.25, 0.75) * torch.sigmoid(wrong).square()
        return (focus * F.softplus(wrong)).flatten(1).sum(1)

    def _assigned(self, outputs: Heads, state: Objects) -> Any:
        """Which location is trained for which object, found once for each layout."""
        at, strides = outputs.layout.locations, outputs.layout.strides
        key = (outputs.layout.size, len(at), *strides.unique().tolist())
        if key not in state.memo:
            targets = [
                {"boxes": boxes[real], "labels": labels[real]}
                for boxes, labels, real in zip(state.boxes, state.labels, state.real, strict=True)
            ]
            state.memo[key] = assign(at, strides, targets)
        return state.memo[key]
