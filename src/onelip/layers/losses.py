"""Losses on `(N, C, ...)` logits and `(N, ...)` integer targets with an ignored label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import guards


def check_target(logits: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """Return the mask of counted targets, after checking shapes and labels."""
    expected = (logits.shape[0], *logits.shape[2:])
    if logits.dim() < 2 or tuple(target.shape) != expected:
        guards.refuse(
            "target does not fit the logits",
            f"logits {tuple(logits.shape)}, target {tuple(target.shape)}",
            f"logits (N, C, ...) and target {expected}",
        )
    if target.dtype != torch.int64:
        guards.refuse(
            "target has the wrong type", target.dtype, "torch.int64 labels", fix="call target.long()"
        )
    valid = target != ignore_index
    wrong = valid & ((target < 0) | (target >= logits.shape[1]))
    if bool(wrong.any()):
        guards.refuse(
            "label out of range",
            int(target[wrong][0]),
            f"0 .. {logits.shape[1] - 1}, or ignore_index={ignore_index}",
            fix="map void labels to ignore_index, or create the model with more classes",
        )
    return valid


class PixelLoss(nn.Module):
    """Base: a mean over the counted pixels, 0 with a zero gradient when there is none.

    Subclasses implement `of(logits, labels)` for `(M, C)` logits and `(M,)` labels, M >= 1.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of `(N, C, ...)` logits and `(N, ...)` labels."""
        valid = check_target(logits, target, self.ignore_index)
        counted = at_least_single(logits).movedim(1, -1)[valid]
        return self.of(counted, target[valid]) if len(counted) else counted.sum()

    def of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of counted pixels."""
        raise NotImplementedError


def at_least_single(logits: Tensor) -> Tensor:
    """Bring half precision logits to float32: sums over pixels would overflow or drown."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class TauCrossEntropy(nn.Module):
    """Cross-entropy with temperature: `CE(tau * f, y) / tau`, weighted mean over the counted pixels.

    `tau` sets how much margin is asked for: a large one stops pushing pixels that are already right. A batch
    without any counted pixel gives 0 with a zero gradient.

    Args:
        tau: temperature, positive.
        weight: one weight per class, or None.
        ignore_index: label that is not counted.

    Raises:
        InputError: tau or weights are not usable; shapes or labels do not fit.

    Example:
        >>> loss = TauCrossEntropy(2.0)
        >>> round(float(loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long))), 4)
        0.3466

    Source: Bethune et al., "Pay attention to your loss", NeurIPS 2022.
    """

    weight: Tensor | None

    def __init__(
        self, tau: float = 1.0, weight: Sequence[float] | Tensor | None = None, *, ignore_index: int = 255
    ) -> None:
        super().__init__()
        if not 0.0 < tau < float("inf"):
            guards.refuse("tau is not usable", tau, "a finite number > 0")
        self.tau, self.ignore_index = float(tau), ignore_index
        self.register_buffer("weight", check_weight(weight))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss."""
        valid = check_target(logits, target, self.ignore_index)
        logits = at_least_single(logits)
        if self.weight is not None and len(self.weight) != logits.shape[1]:
            guards.refuse(
                "class weights do not fit", len(self.weight), f"one weight per class, {logits.shape[1]}"
            )
        weight = None if self.weight is None else self.weight.to(logits.dtype)
        total = F.cross_entropy(
            self.tau * logits, target, weight, ignore_index=self.ignore_index, reduction="sum"
        )
        counted = valid.sum().to(logits.dtype) if weight is None else weight[target[valid]].sum()
        return total / counted.clamp_min(torch.finfo(logits.dtype).tiny) / self.tau


class CosineLoss(nn.Module):
    """One minus the cosine between the logits and the one-hot target, per pixel or per image.

    Formula: per pixel `mean(1 - f_y / (||f|| + 1e-8))`; per image (`per_pixel=False`)
    `mean over images of 1 - sum f_y / (sqrt(sum ||f||^2) * sqrt(n) + 1e-8)`, sums over the n counted pixels.
    It does not depend on the scale of the logits, so neither on the constant of the model.

    Raises:
        InputError: shapes or labels do not fit.

    Example:
        >>> one = torch.tensor([[3.0, 0.0]])
        >>> round(float(CosineLoss()(one, torch.tensor([0]))), 4)
        0.0
    """

    def __init__(self, *, per_pixel: bool = True, ignore_index: int = 255) -> None:
        super().__init__()
        self.per_pixel, self.ignore_index = per_pixel, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of `(N, C, ...)` logits and `(N, ...)` labels."""
        valid = check_target(logits, target, self.ignore_index)
        logits = at_least_single(logits)
        labels = torch.where(valid, target, 0).unsqueeze(1)
        own = logits.gather(1, labels).squeeze(1)
        length = torch.linalg.vector_norm(logits, dim=1)
        terms = (1 - own / (length + 1e-8))[valid] if self.per_pixel else _image_terms(own, length, valid)
        return terms.mean() if len(terms) else logits.sum() * 0


def _image_terms(own: Tensor, length: Tensor, valid: Tensor) -> Tensor:
    """One minus the cosine of each image with a counted pixel."""
    own, length = (torch.where(valid, t, 0).reshape(len(valid), -1) for t in (own, length))
    counts = valid.reshape(len(valid), -1).sum(1)
    some = counts > 0
    cosine = own[some].sum(1) / (torch.linalg.vector_norm(length[some], dim=1) * counts[some].sqrt() + 1e-8)
    terms: Tensor = 1 - cosine
    return terms


def check_weight(weight: Sequence[float] | Tensor | None) -> Tensor | None:
    """Return class weights as a float32 vector, checked."""
    if weight is None:
        return None
    values = torch.as_tensor(weight, dtype=torch.float32)
    if values.dim() != 1 or not torch.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        guards.refuse(
            "class weights are not usable", weight, "finite values >= 0, not all zero, one per class"
        )
    return values
