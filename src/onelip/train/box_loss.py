"""What a detector minimises: classification at all locations, boxes and centre-ness where an object is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..layers import CenternessLoss, FocalHingeLoss, FocalLoss, GIoULoss
from ..models.assignment import Target, assign
from ..models.decoding import decode
from ..models.detection import Raw
from .recipe import LossPart


class BoxLoss(nn.Module):
    """Sum of the classification loss, the GIoU loss of the boxes and the loss of the centre-ness, weighted.

    Args:
        part: the loss of a recipe, "fcos" or "fcos-hinge".
    """

    def __init__(self, part: LossPart) -> None:
        super().__init__()
        self.part = part
        self.classification = classification_loss(part)
        self.boxes, self.centre = GIoULoss(), CenternessLoss()

    def forward(self, raw: Raw, centre: Tensor | None, targets: list[Target]) -> dict[str, Tensor]:
        """Return the loss, "loss", and its parts before they are weighted, from the heads of a batch in float32.

        Args:
            raw: logits (B, N, K), distances (B, N, 4), locations and strides.
            centre: centre-ness logits (B, N), or None.
            targets: one for each image.
        """
        found = assign(raw.locations, raw.strides, targets, radius=self.part.radius)
        some = found.labels >= 0
        predicted = decode(raw.locations, raw.strides, raw.regression)
        terms = {
            "loss_class": self.classification(raw.logits, found.labels),
            "loss_box": self.boxes(predicted[some], found.boxes[some]),
        }
        loss = terms["loss_class"] + self.part.box_weight * terms["loss_box"]
        if centre is not None:
            sides = torch.cat(
                [raw.locations - found.boxes[..., :2], found.boxes[..., 2:] - raw.locations], -1
            )
            terms["loss_centre"] = self.centre(centre[some], sides[some])
            loss = loss + self.part.centre_weight * terms["loss_centre"]
        return {"loss": loss, **terms}


def classification_loss(part: LossPart) -> FocalLoss | FocalHingeLoss:
    """Build the loss of logits (..., K) and labels (...); score = sigmoid(tau z)."""
    temperature = 1.0 / part.tau
    theta = temperature * (math.log(part.threshold) - math.log1p(-part.threshold))
    kind = FocalHingeLoss if part.name == "fcos-hinge" else FocalLoss
    return kind(
        margin=part.margin,
        alpha=part.focal_alpha,
        gamma=part.gamma,
        temperature=temperature,
        threshold=theta,
    )
