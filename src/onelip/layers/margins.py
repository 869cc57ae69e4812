"""Losses of optimal transport: Kantorovich-Rubinstein, hinge, and their mixtures, on `(N, C, ...)` logits.

Throughout, `s = +1` for the true class and `-1` for the others, and the hinge of a margin `m` is
`relu(m / 2 - s f)`: half of the margin on each side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import guards
from .losses import PixelLoss


class KRLoss(PixelLoss):
    """Negative Kantorovich-Rubinstein term: minus the mean over classes of `E[f_k | y = k] - E[f_k | y != k]`.

    A class without positives (or without negatives) in the batch contributes only the term that exists.

    Example:
        >>> KRLoss()(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])).item()
        -1.0

    Source: Serrurier et al., CVPR 2021.
    """

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return minus the mean difference between positives and negatives."""
        positive = _one_hot(logits, labels)
        count = positive.sum(0)
        inside = (logits * positive).sum(0) / count.clamp_min(1)
        outside = (logits * (1 - positive)).sum(0) / (len(labels) - count).clamp_min(1)
        return (outside - inside).mean()


class HingeMarginLoss(PixelLoss):
    """Mean over classes of the hinge `relu(m / 2 - s f)`, the true class counted `C - 1` times.

    Example:
        >>> HingeMarginLoss(2.0)(torch.tensor([[1.0, -1.0]]), torch.tensor([0])).item()
        0.0

    Source: Serrurier et al., CVPR 2021.
    """

    def __init__(self, min_margin: float = 1.0, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.min_margin = _positive("min_margin", min_margin)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean weighted hinge."""
        positive = _one_hot(logits, labels)
        hinge = _hinge(logits, positive, self.min_margin)
        return (hinge * (1 + positive * (logits.shape[1] - 2))).mean()


class HKRMulticlassLoss(PixelLoss):
    """Mixture `alpha * HingeMarginLoss + (1 - alpha) * KRLoss`.

    The paper's weight of the hinge is `alpha / (1 - alpha)`.

    Raises:
        InputError: alpha outside [0, 1], margin not positive; shapes or labels do not fit.

    Example:
        >>> HKRMulticlassLoss(0.5, 2.0)(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor([0, 1])).item()
        -1.0

    Source: Serrurier et al., CVPR 2021.
    """

    def __init__(self, alpha: float = 0.9, min_margin: float = 1.0, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.alpha = _share(alpha)
        self.hinge = HingeMarginLoss(min_margin, ignore_index=ignore_index)
        self.kr = KRLoss(ignore_index)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mixture."""
        return self.alpha * self.hinge.of(logits, labels) + (1 - self.alpha) * self.kr.of(logits, labels)


class HKRLoss(PixelLoss):
    r"""Soft multi-class HKR: the true class against a softmax mixture of the others.

    Formula: weights `q_y = 1` and, over the other classes, `q = softmax(T f)`;
    `(1 - alpha) * (-sum q s f) + alpha * sum q relu(m / 2 - s f)`. The temperature adapts to the logits,
    `T = clamp(temperature * m / clamp(mean |f|, m, 2e4), 0.005, 250)`, with an exponential mean (factor 0.99) in
    the buffer `magnitude`, saved with the loss and frozen in eval mode. No gradient flows through T. A high
    temperature counts only the runner-up.

    Args:
        alpha: share of the hinge, in [0, 1].
        min_margin: m, split in half on each side of 0.
        temperature: sharpness of the softmax.
        ignore_index: label that is not counted.

    Raises:
        InputError: an argument out of range; fewer than two classes; shapes or labels do not fit.

    Example:
        >>> HKRLoss(0.0, 1.0)(torch.tensor([[2.0, -1.0]]), torch.tensor([0])).item()
        -3.0

    Source: Serrurier et al., "On the explainable properties of 1-Lipschitz neural networks", NeurIPS 2023.
    """

    magnitude: Tensor

    def __init__(
        self,
        alpha: float = 0.9,
        min_margin: float = 1.0,
        temperature: float = 1.0,
        *,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(ignore_index)
        self.alpha = _share(alpha)
        self.min_margin = _positive("min_margin", min_margin)
        self.temperature = _positive("temperature", temperature)
        self.register_buffer("magnitude", torch.tensor(self.min_margin))

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of counted pixels, and update the mean magnitude in train mode."""
        positive = _one_hot(logits, labels)
        weights = self._weights(logits, positive)
        signed = logits * (2 * positive - 1)
        kr = -(weights * signed).sum(1).mean()
        hinge = (weights * _hinge(logits, positive, self.min_margin)).sum(1).mean()
        return (1 - self.alpha) * kr + self.alpha * hinge

    def _weights(self, logits: Tensor, positive: Tensor) -> Tensor:
        sharpness = self._sharpness(logits.detach()).to(logits.dtype)
        others = (sharpness * logits).masked_fill(positive > 0, -math.inf).softmax(1)
        return others + positive

    @torch.no_grad()
    def _sharpness(self, logits: Tensor) -> Tensor:
        mean = self.magnitude
        if self.training:
            mean = 0.99 * mean + 0.01 * logits.abs().mean().to(mean.dtype)
            self.magnitude.copy_(mean.clamp(0.005, 1000.0))
        scale = self.temperature * self.min_margin / mean.clamp(self.min_margin, 20000.0)
        return scale.clamp(0.005, 250.0)


class LseHKRLoss(PixelLoss):
    r"""HKR of the true class against the smooth maximum of the others.

    Formula, on `f` times `temperature`: `t = log(C - 1) / (m * penalty / 2)`,
    `r = logsumexp(t f_k, k != y) / t` (`f_k` itself for two classes),
    `(1 - alpha) * (r - f_y) + alpha * (relu(m / 2 - f_y) + relu(m / 2 + r))`. The smooth maximum exceeds the true
    one by at most `penalty * m / 2`; the margin on the raw logits is `m / temperature`.

    Raises:
        InputError: an argument out of range; fewer than two classes; shapes or labels do not fit.

    Example:
        >>> LseHKRLoss(1.0, 1.0)(torch.tensor([[0.5, -0.5]]), torch.tensor([0])).item()
        0.0

    Source: `LseHKRMulticlassLoss` of deel-torchlip 1.0.5.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        min_margin: float = 1.0,
        temperature: float = 1.0,
        *,
        penalty: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(ignore_index)
        self.alpha = _share(alpha)
        self.min_margin = _positive("min_margin", min_margin)
        self.temperature = _positive("temperature", temperature)
        self.penalty = _positive("penalty", penalty)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of counted pixels."""
        logits = logits * self.temperature
        positive = _one_hot(logits, labels) > 0
        own = logits[positive]
        rival = self._smooth_maximum(logits.masked_fill(positive, -math.inf))
        half = self.min_margin / 2
        hinge = F.relu(half - own) + F.relu(half + rival)
        return ((1 - self.alpha) * (rival - own) + self.alpha * hinge).mean()

    def _smooth_maximum(self, others: Tensor) -> Tensor:
        if others.shape[1] == 2:  # log(1) = 0: a single rival is its own maximum
            return others.amax(1)
        t = math.log(others.shape[1] - 1) / (self.min_margin * self.penalty / 2)
        return torch.logsumexp(t * others, 1) / t


class CategoricalHingeLoss(PixelLoss):
    """Hinge of the margin: `relu(m - (f_y - max of the others))`, the certificate's own quantity.

    Raises:
        InputError: margin not positive; fewer than two classes; shapes or labels do not fit.

    Example:
        >>> CategoricalHingeLoss(1.0)(torch.tensor([[0.25, 0.0]]), torch.tensor([0])).item()
        0.75
    """

    def __init__(self, min_margin: float = 1.0, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index)
        self.min_margin = _positive("min_margin", min_margin)

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean hinge of the margins."""
        positive = _one_hot(logits, labels) > 0
        rival = logits.masked_fill(positive, -math.inf).amax(1)
        return F.relu(self.min_margin - (logits[positive] - rival)).mean()


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] < 2:
        guards.refuse("margin losses need two classes", f"{logits.shape[1]} class", "at least 2 logits")
    return F.one_hot(labels, logits.shape[1]).to(logits.dtype)


def _hinge(logits: Tensor, positive: Tensor, min_margin: float) -> Tensor:
    return F.relu(min_margin / 2 - (2 * positive - 1) * logits)


def _positive(name: str, value: float) -> float:
    if not 0.0 < value < math.inf:
        guards.refuse(f"{name} is not usable", value, "a finite number > 0")
    return float(value)


def _share(alpha: float) -> float:
    if not 0.0 <= alpha <= 1.0:
        fix = f"for a hinge weight of {alpha}, pass alpha={alpha / (1 + alpha):.6g}" if alpha > 1 else None
        guards.refuse("alpha is not usable", alpha, "a number in [0, 1]: the share of the hinge", fix=fix)
    return float(alpha)
