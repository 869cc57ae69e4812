"""What a recipe minimises: the loss, its class weights, and the penalty on learnable scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import layers
from ..data import SegmentationDataset
from ..data.summary import class_statistics
from .recipe import LossPart

_NONE = -100  # no label of a class: unlike pixels, images have no void one


def class_weights(part: LossPart, dataset: SegmentationDataset) -> list[float] | None:
    """Return the class weights of a recipe; a class that no training image shows weighs 0."""
    if part.weights == "none":
        return None
    return [weight**part.power for weight in class_statistics(dataset).median_frequency_weights]


def make_loss(part: LossPart, weight: list[float] | None, ignore_index: int) -> nn.Module:
    """Build the loss on logits (B, K, H, W) and labels (B, H, W)."""
    if part.name == "cosine":
        return layers.CosineLoss(per_pixel=part.per_pixel, ignore_index=ignore_index)
    if part.name == "hkr":
        return layers.HKRLoss(
            alpha=part.alpha, min_margin=part.margin, temperature=part.temperature, ignore_index=ignore_index
        )
    if part.name == "jaccard":
        return layers.JaccardLoss(part.tau, part.margin, ignore_index=ignore_index)
    return layers.TauCrossEntropy(part.tau, weight, ignore_index=ignore_index)


def make_class_loss(part: LossPart) -> nn.Module:
    """Build the loss of a classifier on logits (B, K) and labels (B,); no label is ignored."""
    if part.name == "hkr":
        return layers.HKRMulticlassLoss(part.alpha, part.margin, ignore_index=_NONE)
    if part.name == "soft-hkr":
        return layers.HKRLoss(part.alpha, part.margin, part.temperature, ignore_index=_NONE)
    if part.name == "lse-hkr":
        return layers.LseHKRLoss(part.alpha, part.margin, part.temperature, ignore_index=_NONE)
    return layers.TauCrossEntropy(part.temperature, ignore_index=_NONE)


def log_scale(model: nn.Module) -> Tensor | None:
    """Return the log of the product of all learnable scales, or None when there is none.

    In a chain it is the log of the Lipschitz constant up to a constant, so that its change is the change of the bound.
    """
    scales = [
        p for name, p in model.named_parameters() if name.rsplit(".", 1)[-1] == "coeff" and p.requires_grad
    ]
    return torch.stack([p.abs().log().sum() for p in scales]).sum() if scales else None
