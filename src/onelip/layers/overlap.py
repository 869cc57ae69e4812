"""A loss for small classes: soft overlap of classes with their labels, at a margin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import guards
from .losses import PixelLoss


class JaccardLoss(PixelLoss):
    r"""One minus the soft IoU, mean over the classes that have labels, plus the cross-entropy; both at a margin.

    With :math:`p = \mathrm{softmax}(\tau (f - m\, e_y))`, that is after `margin` is taken off the logit of the true
    class, and :math:`t_k = 1_{y = k}`:

    .. math:: 1 - \mathrm{mean}_k \frac{\sum p_k t_k}{\sum p_k + t_k - p_k t_k} - \mathrm{mean} \log p_y

    with sums over all counted pixels of the batch. A class of few pixels weighs as much as one of many, which
    cross-entropy needs class weights for; and a pixel asks for attention until its margin is `margin` and a few
    :math:`1 / \tau`.

    Args:
        tau: inverse temperature, positive.
        margin: what is taken off the true class, in the unit of the logits, >= 0.
        ignore_index: label that is not counted.

    Raises:
        InputError: tau or margin are not usable; shapes or labels do not fit.

    Example:
        >>> logits = torch.tensor([[[[5.0, -5.0]], [[-5.0, 5.0]]]])
        >>> round(float(JaccardLoss(2.0)(logits, torch.tensor([[[0, 1]]]))), 4)
        0.0

    Source: soft Jaccard as in Rahman and Wang, Optimizing intersection-over-union in deep neural networks, 2016.
    """

    def __init__(self, tau: float = 1.0, margin: float = 0.0, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        if not (0.0 < tau < float("inf") and 0.0 <= margin < float("inf")):
            guards.refuse("tau or margin is not usable", f"{tau}, {margin}", "finite, tau > 0, margin >= 0")
        self.tau, self.margin = float(tau), float(margin)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of counted pixels, (M, C) and (M,)."""
        truth = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        log_p = F.log_softmax(self.tau * (logits - self.margin * truth), dim=1)
        p = log_p.exp()
        hits, size = (p * truth).sum(0), truth.sum(0)
        overlap = hits / (p.sum(0) + size - hits).clamp_min(torch.finfo(p.dtype).tiny)
        return 1.0 - overlap[size > 0].mean() - (log_p * truth).sum() / len(truth)
