"""Losses of one-stage detectors: sigmoid focal loss, a hinge around the threshold, GIoU and centre-ness.

Logits are (..., K) with one label each, (...): the class, `BACKGROUND` where no object is, `IGNORED` where the logits
do not count. There is no background class: every logit of a background location is a negative. All losses are
sums divided by the number of locations with an object, and by 1 where there is none.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards
from .losses import at_least_single

BACKGROUND = -1
IGNORED = -2


class _SigmoidLoss(nn.Module):
    """Base: checks, signs and weights; a subclass implements `term(signed)` for `signed = s (z - threshold)`."""

    def __init__(
        self, *, alpha: float, gamma: float, temperature: float, threshold: float, margin: float
    ) -> None:
        super().__init__()
        if not 0.0 < alpha < 1.0:
            guards.refuse("alpha is not usable", alpha, "a number strictly between 0 and 1")
        for name, value in (("gamma", gamma), ("margin", margin)):
            if not 0.0 <= value < math.inf:
                guards.refuse(f"{name} is not usable", value, "a finite number >= 0")
        if not 0.0 < temperature < math.inf:
            guards.refuse("temperature is not usable", temperature, "a finite number > 0")
        if not math.isfinite(threshold):
            guards.refuse("threshold is not usable", threshold, "a finite logit")
        self.alpha, self.gamma, self.temperature = float(alpha), float(gamma), float(temperature)
        self.threshold, self.margin = float(threshold), float(margin)

    def term(self, signed: Tensor) -> Tensor:
        """Return the loss of each logit, from its signed distance to the threshold: positive where it is right."""
        raise NotImplementedError

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss of logits (..., K) and labels (...)."""
        check_labels(logits, labels)
        counted = labels != IGNORED
        logits, labels = at_least_single(logits)[counted], labels[counted]
        positive = torch.zeros_like(logits, dtype=torch.bool)
        some = labels >= 0
        positive[some, labels[some]] = True
        signed = torch.where(positive, logits - self.threshold, self.threshold - logits)
        weight = (1.0 - self.alpha) + (2.0 * self.alpha - 1.0) * positive.to(logits.dtype)
        return (weight * self.term(signed)).sum() / some.sum().clamp_min(1)


class FocalLoss(_SigmoidLoss):
    r"""Sigmoid focal loss at a temperature, a threshold and a margin.

    With :math:`s = \pm 1` for the logit of the object's class and for all others,
    :math:`u = (s (z - \theta) - m) / T` and :math:`\alpha_+ = \alpha`, :math:`\alpha_- = 1 - \alpha`,

    .. math:: \frac{1}{\max(1, \#objects)} \sum \alpha_s \, \sigma(-u)^\gamma \log(1 + e^{-u}),

    which is the loss of the source for :math:`T = 1, \theta = m = 0`. The margin asks for as much on each side of
    the threshold, in the unit of the logits.

    Args:
        alpha: weight of the positives, in (0, 1).
        gamma: how much easy logits lose weight, >= 0.
        temperature: T; a score is sigmoid(z / T).
        threshold: theta, the logit that decides.
        margin: m, >= 0.

    Raises:
        InputError: an argument out of range; shapes, types or labels do not fit.

    Example:
        >>> loss = FocalLoss(alpha=0.25, gamma=2.0)
        >>> round(float(loss(torch.zeros(1, 2, 1), torch.tensor([[0, -1]]))), 4)  # log(2) / 4
        0.1733

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        temperature: float = 1.0,
        threshold: float = 0.0,
        margin: float = 0.0,
    ) -> None:
        super().__init__(
            alpha=alpha, gamma=gamma, temperature=temperature, threshold=threshold, margin=margin
        )

    def term(self, signed: Tensor) -> Tensor:
        """Return the loss of each logit."""
        u = (signed - self.margin) / self.temperature
        return (-self.gamma * F.softplus(u)).exp() * F.softplus(-u)  # sigmoid(-u) = exp(-softplus(u))


class FocalHingeLoss(_SigmoidLoss):
    r"""Hinge around a fixed threshold, weighted by how wrong a logit is.

    With :math:`s = \pm 1` for the logit of the object's class and for all others, and what is missing
    to the margin, :math:`v = m - s (z - \theta)`,

    .. math:: \frac{1}{\max(1, \#objects)} \sum \alpha_s \, \sigma(v / T)^\gamma \, \frac{\max(0, v)}{T}.

    It is 0 when every logit is at least a margin m on its side of the threshold: with a 1-Lipschitz network no
    perturbation below m then removes an object or makes one appear, for this threshold. The sum counts the many
    negatives that are nearly there little, and a hard one fully.

    Args:
        margin: m > 0, in the unit of the logits.
        alpha: weight of the positives, in (0, 1).
        gamma: how much nearly right logits lose weight: the weight is between 2^-gamma and 1.
        temperature: T > 0, the distance to the margin over which that weight rises.
        threshold: theta, the logit that decides.

    Raises:
        InputError: an argument out of range; shapes, types or labels do not fit.

    Example:
        >>> loss = FocalHingeLoss(margin=0.5)
        >>> float(loss(torch.tensor([[[0.5], [-0.5]]]), torch.tensor([[0, -1]])))
        0.0
    """

    def __init__(
        self,
        margin: float = 0.5,
        *,
        alpha: float = 0.25,
        gamma: float = 2.0,
        temperature: float = 1.0,
        threshold: float = 0.0,
    ) -> None:
        super().__init__(
            alpha=alpha, gamma=gamma, temperature=temperature, threshold=threshold, margin=margin
        )
        if margin == 0.0:
            guards.refuse("margin is not usable", margin, "a finite number > 0", fix="or use FocalLoss")

    def term(self, signed: Tensor) -> Tensor:
        """Return the loss of each logit."""
        missing = (self.margin - signed) / self.temperature
        return missing.sigmoid() ** self.gamma * missing.relu()


class GIoULoss(nn.Module):
    r"""One minus the generalised IoU of boxes and their targets, mean over the rows (0 when there is none).

    .. math:: 1 - \frac{|I|}{|U|} + \frac{|C| - |U|}{|C|},

    with intersection I, union U and the smallest box C around both: from 0 (equal) to 2 (far apart). Predicted
    boxes may have no area; targets have some.

    Shape:
        boxes and targets (M, 4) as x1, y1, x2, y2.

    Raises:
        InputError: shapes do not fit.

    Example:
        >>> a, b = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0, 2.0]])
        >>> round(float(GIoULoss()(a, b)), 4)  # side by side: no intersection, nothing but both in between
        1.0

    Source: Rezatofighi et al., "Generalized intersection over union", CVPR 2019.
    """

    def forward(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Return the scalar loss."""
        _check_rows("boxes", boxes, 4, "targets", targets)
        boxes = at_least_single(boxes)
        targets = targets.to(boxes.dtype)
        low, high = torch.maximum(boxes, targets), torch.minimum(boxes, targets)
        shared = _area(torch.cat([low[:, :2], high[:, 2:]], 1))
        union = _area(boxes) + _area(targets) - shared
        hull = _area(torch.cat([high[:, :2], low[:, 2:]], 1))
        loss = 1 - shared / union + (hull - union) / hull  # a target has an area: neither is 0
        return loss.sum() / max(1, len(loss))


class CenternessLoss(nn.Module):
    r"""Cross-entropy of centre-ness logits, mean over the rows (0 when there is none).

    The target of distances l, t, r, b to the sides is
    :math:`\sqrt{\frac{\min(l, r)}{\max(l, r)} \cdot \frac{\min(t, b)}{\max(t, b)}}`, 1 in the middle of a box.

    Shape:
        logits (M,), distances (M, 4), positive.

    Raises:
        InputError: shapes do not fit.

    Example:
        >>> round(float(CenternessLoss()(torch.zeros(1), torch.ones(1, 4))), 4)  # log(2)
        0.6931

    Source: Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019.
    """

    def forward(self, logits: Tensor, distances: Tensor) -> Tensor:
        """Return the scalar loss."""
        _check_rows("logits", logits.unsqueeze(-1), 1, "distances", distances)
        logits = at_least_single(logits)
        target = centerness(distances).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(1, len(logits))


def centerness(distances: Tensor) -> Tensor:
    """Return the centre-ness in [0, 1] of positive distances (..., 4): left, top, right, bottom.

    >>> centerness(torch.tensor([[1.0, 2.0, 4.0, 2.0]])).tolist()
    [0.5]
    """
    opposite = torch.stack([distances[..., :2], distances[..., 2:]])
    return (opposite.amin(0) / opposite.amax(0)).prod(-1).sqrt()


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Refuse labels (...) that do not fit logits (..., K)."""
    if logits.dim() < 2 or tuple(labels.shape) != tuple(logits.shape[:-1]):
        guards.refuse(
            "labels do not fit the logits",
            f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}",
            "logits (..., K) and labels (...)",
        )
    if labels.dtype != torch.int64:
        guards.refuse("labels have the wrong type", labels.dtype, "torch.int64", fix="call labels.long()")
    wrong = (labels < IGNORED) | (labels >= logits.shape[-1])
    if bool(wrong.any()):
        guards.refuse(
            "label out of range",
            int(labels[wrong][0]),
            f"0 .. {logits.shape[-1] - 1}, {BACKGROUND} for background, {IGNORED} for what does not count",
            fix="create the model with more classes",
        )


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]).clamp_min(0) * (boxes[:, 3] - boxes[:, 1]).clamp_min(0)


def _check_rows(name: str, a: Tensor, width: int, other: str, b: Tensor) -> None:
    if a.dim() != 2 or tuple(a.shape) != (len(b), width) or tuple(b.shape) != (len(b), 4):
        guards.refuse(
            f"{name} and {other} do not fit",
            f"{name} {tuple(a.shape)}, {other} {tuple(b.shape)}",
            f"as many rows in both, 4 numbers in each of {other}",
        )
