"""Flip costs: how far the logits (or features) of one pixel must move before its class changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onelip.core import errors

_DUAL = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}
_HALF_SPACE = {1.0: 1.0, 2.0: math.sqrt(0.5), math.inf: 0.5}


def top_two(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and second largest logit of each pixel, and the predicted class.

    Equal logits count twice (their gap is zero), and the lowest index is predicted on every device, which
    `argmax` does not promise.

    Args:
        logits: (B, K, H, W).

    Returns:
        first, second (B, H, W) in the dtype of the logits, second is -inf when K = 1; prediction (B, H, W)
        int64.

    Example:
        >>> import torch
        >>> first, second, prediction = top_two(torch.tensor([1.0, 3.0, 3.0]).reshape(1, 3, 1, 1))
        >>> first.item(), second.item(), prediction.item()
        (3.0, 3.0, 1)
    """
    first = logits[:, 0].clone()
    second = torch.full_like(first, -math.inf)
    prediction = torch.zeros(first.shape, dtype=torch.int64, device=logits.device)
    for k in range(1, logits.shape[1]):
        plane = logits[:, k]
        second = torch.maximum(second, torch.minimum(first, plane))
        prediction.masked_fill_(plane > first, k)
        first = torch.maximum(first, plane)
    return first, second, prediction


def separation(classifier: Sequence[Tensor], classes: int, p: float) -> Tensor:
    r"""Dual-norm distances :math:`\|w_a - w_b\|_q` of the rows of the last 1x1 layer, :math:`1/p + 1/q = 1`.

    Args:
        classifier: one-element sequence with the weight, (K, C) or (K, C, 1, 1).
        classes: K, the number of logits.
        p: norm of the perturbation and of the features.

    Returns:
        (K, K) float64.

    Raises:
        InputError: when the weight is not a finite (K, C) or (K, C, 1, 1) tensor.
    """
    weight = classifier[0] if isinstance(classifier, (tuple, list)) and len(classifier) == 1 else None
    ok = isinstance(weight, Tensor) and (
        weight.dim() == 2 or (weight.dim() == 4 and weight.shape[2:] == (1, 1))
    )
    if weight is None or not ok or weight.shape[0] != classes or not bool(torch.isfinite(weight).all()):
        received = list(weight.shape) if isinstance(weight, Tensor) else type(classifier).__name__
        raise errors.InputError(
            errors.explain(
                "certify: `classifier` is not the weight of the last 1x1 layer",
                received=received,
                expected=f"(weight,), finite, of shape ({classes}, C) or ({classes}, C, 1, 1)",
                why="feature-space costs divide each logit gap by the distance of two of its rows",
                fix="classifier=(layer.weight,), lipschitz=the backbone's constant",
            )
        )
    rows = weight.detach().flatten(1).double()
    distance: Tensor = torch.linalg.vector_norm(rows[:, None] - rows[None], ord=_DUAL[p], dim=-1)
    return distance


def leave_cost(
    logits: Tensor, labels: Tensor, *, p: float, classifier: Sequence[Tensor] | None = None
) -> Tensor:
    r"""Signed cost of taking its label away from each pixel, in the l_p norm of the logits (or features).

    In output space :math:`c = 2^{(1-p)/p} (f_y - \max_{j \ne y} f_j)`: the cheapest change moves the label's
    logit and the runner-up's, and no other. With a classifier :math:`W` on features :math:`\varphi`,
    :math:`c = \min_b (f_y - f_b) / \|w_y - w_b\|_q`, the distance to the nearest of the half spaces where
    another class wins. Both are attained, and two pixels never share a coordinate, so costs to the power p
    add up.

    Args:
        logits: (B, K, H, W) float32 or float64.
        labels: (B, H, W) int64 in [0, K).
        p: 1, 2 or inf.
        classifier: (weight,) for the feature-space costs.

    Returns:
        (B, H, W) float64: positive where the label wins, zero in a tie, negative where another class wins.

    Example:
        >>> import torch
        >>> logits = torch.tensor([3.0, 1.0]).reshape(1, 2, 1, 1)
        >>> round(leave_cost(logits, torch.zeros(1, 1, 1, dtype=torch.int64), p=2.0).item(), 6)
        1.414214
    """
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    if classifier is None:
        first, second, _ = top_two(logits)
        other = torch.where(own < first, first, second)
        # Differences in float64: exact for float32 logits of comparable size.
        return (own.double() - other.double()) * _HALF_SPACE[p]
    distance = separation(classifier, logits.shape[1], p).to(logits.device)
    own = own.double()
    cost = torch.full_like(own, math.inf)
    for b in range(logits.shape[1]):
        gap = own - logits[:, b].double()
        # Equal rows: the gap never moves, x/0 is +-inf as it should be, and 0/0 is a tie.
        towards = (gap / distance[:, b][labels]).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
        cost = torch.minimum(cost, torch.where(labels == b, math.inf, towards))
    return cost
