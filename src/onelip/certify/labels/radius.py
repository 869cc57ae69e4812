"""Radii of a classifier from its logits and the constants of its pairs of classes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from onelip.certify.budget import UNIT_ROUNDOFF, slack
from onelip.certify.costs import HALF_SPACE, top_two
from onelip.core import checks, errors

DOWN = (1.0 - slack(1)) * (1.0 - 8.0 * UNIT_ROUNDOFF)
LEAST = 1e-30
"""Constants below it are taken as this one, so that all quotients stay finite."""


def class_radius(logits: Tensor, targets: Tensor | None = None, *, constants: Any, p: float = 2) -> Tensor:
    r"""Certified radius of each image: no smaller perturbation changes its predicted class.

    .. math:: r = \min_{j \ne y} \frac{f_y - f_j}{C_{yj}}

    Args:
        logits: (B, K) float32 or float64; a single logit f is the pair (0, f).
        targets: (B,) int64 labels, optional.
        constants: (K, K) of `pair_constants`, or one joint Lipschitz constant L of all logits.
        p: norm of the perturbation, 1, 2 or inf; it matters for a joint constant alone.

    Returns:
        (B,) float64, rounded down; 0 where the prediction is wrong, when targets are given, and in a tie.

    Guarantee: sound for these logits; the rounding of the forward pass that made them is not covered, see
        `onelip.certify.classification`.

    Raises:
        InputError: for invalid logits, labels, norm or constants.

    Example:
        >>> round(class_radius(torch.tensor([[2.0, 0.0]]), constants=1.0).item(), 5)
        1.41421
    """
    both = pair_logits(logits)
    predicted = predict(both)
    found = pair_radii(both, predicted, pair_matrix(constants, both, logits.shape[1], p)).amin(1)
    return found if targets is None else zero_where_wrong(found, predicted, class_targets(targets, both))


def pair_logits(logits: Any) -> Tensor:
    """Checked logits (B, K), K >= 2: a single logit f becomes (0, f), which it is the difference of."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.shape[1]:
        raise errors.InputError(
            errors.explain(
                "`logits` are not those of a classifier",
                received=tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__,
                expected="(B, K)",
            )
        )
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return checks.logits(logits[:, :, None, None])[:, :, 0, 0].detach().double()


def predict(logits: Tensor) -> Tensor:
    """(B,) int64: the class with the largest logit, the lowest index of a tie."""
    return top_two(logits[:, :, None, None])[2][:, 0, 0]


def class_targets(targets: Any, logits: Tensor, name: str = "targets") -> Tensor:
    """Check labels against logits (B, K): int64 (B,), each in 0..K-1."""
    batch, classes = logits.shape
    if not isinstance(targets, Tensor) or tuple(targets.shape) != (batch,) or targets.dtype != torch.int64:
        received = (
            f"{tuple(targets.shape)}, {targets.dtype}"
            if isinstance(targets, Tensor)
            else type(targets).__name__
        )
        raise errors.InputError(
            errors.explain(
                f"`{name}` are not labels of these images",
                received=received,
                expected=f"int64 ({batch},)",
                fix="one class an image: labels.long()",
            )
        )
    wrong = (targets < 0) | (targets >= classes)
    if bool(wrong.any()):
        raise errors.InputError(
            errors.explain(
                f"`{name}` has labels outside the classes",
                received=sorted(set(targets[wrong].tolist()))[:8],
                expected=f"0..{classes - 1}",
            )
        )
    return targets.to(logits.device)


def pair_matrix(constants: Any, logits: Tensor, outputs: int, p: float) -> Tensor:
    """(K, K) constants of pairs, from themselves or from one joint constant of all outputs."""
    classes = logits.shape[1]
    factor = 1.0 if outputs == 1 else 1.0 / HALF_SPACE[checks.norm(p)]
    if not isinstance(constants, Tensor) or constants.dim() == 0:
        joint = checks.lipschitz(constants, "constants") * factor
        return torch.full((classes, classes), joint, dtype=torch.float64, device=logits.device)
    usable = tuple(constants.shape) == (classes, classes) and constants.is_floating_point()
    usable = usable and bool(torch.isfinite(constants).all()) and bool((constants >= 0).all())
    if not usable or not torch.equal(constants, constants.T):
        raise errors.InputError(
            errors.explain(
                "`constants` are no constants of pairs of these classes",
                received=f"{tuple(constants.shape)}, {constants.dtype}",
                expected=f"a symmetric, finite tensor >= 0 of shape ({classes}, {classes}), or one number > 0",
                fix="onelip.certify.pair_constants(model, size)",
            )
        )
    return constants.detach().to(logits.device, torch.float64)


def pair_radii(
    logits: Tensor, of: Tensor, constants: Tensor, *, error: Tensor | float = 0.0, rounding: float = 0.0
) -> Tensor:
    r"""Radii :math:`(f_k - f_j - e) / C_{kj} - \rho` below which no class j gets as high as the given class k.

    Args:
        logits: (B, K) float64.
        of: (B,) int64, class k of each image.
        constants: (K, K).
        error: e, (B,) or a number: how far a difference of logits may be from its exact value.
        rounding: rho.

    Returns:
        (B, K) float64, rounded down, at least 0; inf for k itself.
    """
    gap = logits.gather(1, of[:, None]) - logits - torch.as_tensor(error, device=logits.device).reshape(-1, 1)
    radii = (gap.clamp_min(0.0) / constants[of].clamp_min(LEAST) * DOWN - rounding).clamp_min(0.0)
    return radii.scatter(1, of[:, None], math.inf)


def zero_where_wrong(radius: Tensor, predicted: Tensor, targets: Tensor) -> Tensor:
    """Radii, 0 where the prediction is not the label."""
    return torch.where(predicted == targets, radius, torch.zeros_like(radius))
