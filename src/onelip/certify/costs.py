"""Flip costs: how far the logits (or features) of one pixel must move before its class changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onelip.bounds import linear_norm
from onelip.core import errors

LARGEST_COST = 1e140
_DUAL = {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}
HALF_SPACE = {1.0: 1.0, 2.0: math.sqrt(0.5), math.inf: 0.5}


def leaders(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and second largest logit of each pixel; equal logits count twice, so their gap is zero.

    Args:
        logits: (B, K, H, W).

    Returns:
        (B, H, W) each, in the dtype of the logits; the second is -inf when K = 1.

    Example:
        >>> import torch
        >>> first, second = leaders(torch.tensor([1.0, 3.0, 3.0]).reshape(1, 3, 1, 1))
        >>> first.item(), second.item()
        (3.0, 3.0)
    """
    first = logits[:, 0].clone()
    second = torch.full_like(first, -math.inf)
    for k in range(1, logits.shape[1]):
        plane = logits[:, k]
        torch.maximum(second, torch.minimum(first, plane), out=second)
        torch.maximum(first, plane, out=first)
    return first, second


def top_two(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest and second largest logit of each pixel, and the predicted class.

    The lowest index of a tie is predicted on every device, which `argmax` does not promise.

    Args:
        logits: (B, K, H, W).

    Returns:
        first, second (B, H, W) as of `leaders`; prediction (B, H, W) int64.

    Example:
        >>> import torch
        >>> first, second, prediction = top_two(torch.tensor([1.0, 3.0, 3.0]).reshape(1, 3, 1, 1))
        >>> first.item(), second.item(), prediction.item()
        (3.0, 3.0, 1)
    """
    first, second = leaders(logits)
    prediction = torch.zeros(first.shape, dtype=torch.int64, device=logits.device)
    for k in reversed(range(1, logits.shape[1])):
        prediction.masked_fill_(logits[:, k] == first, k)
    return first, second, prediction.masked_fill_(logits[:, 0] == first, 0)


def per_distance(gap: Tensor, distance: Tensor) -> Tensor:
    """Gap of two logits over the distance of their rows: how far the features must move to close it.

    Equal rows: the gap never moves, x/0 is +-inf as it should be, and 0/0 is a tie. For all others the quotient ends
    at `LARGEST_COST`, whose square is a float64: a cost that overflowed would pass for one that nobody can pay.
    """
    quotient = (gap / distance).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)
    return torch.where(distance > 0.0, quotient.clamp_max(LARGEST_COST), quotient)


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
        first, second = leaders(logits)
        other = torch.where(own < first, first, second)
        # Differences in float64: exact for float32 logits of comparable size.
        return (own.double() - other.double()) * HALF_SPACE[p]
    distance = separation(classifier, logits.shape[1], p).to(logits.device)
    own = own.double()
    cost = torch.full_like(own, math.inf)
    for b in range(logits.shape[1]):
        gap = own - logits[:, b].double()
        towards = per_distance(gap, distance[:, b][labels])
        cost = torch.minimum(cost, torch.where(labels == b, math.inf, towards))
    return cost


def to_cost(
    logits: Tensor, k: int, *, p: float, classifier: Sequence[Tensor] | None = None, chunk: int = 4096
) -> Tensor:
    r"""Cost of turning each pixel into class k, in the l_p norm of the logits (or features).

    With the gaps :math:`g_j = f_j - f_k`, in output space the cost is :math:`\max_j g_j` for p = 1, half of
    it for p = inf, and for p = 2 the distance to the set where k wins (`water_fill`): all exact. With a
    classifier it is the larger of two lower bounds: the distance to the farthest of the half spaces
    :math:`g_j \le 0`, and the output-space cost over the norm of the classifier.

    Args:
        logits: (B, K, H, W), or (K, N) for N pixels on their own; float32 or float64.
        k: the class to reach.
        p: 1, 2 or inf.
        classifier: (weight,) for feature-space costs.
        chunk: pixels worked on at a time: small enough for the processor's cache.

    Returns:
        (B, H, W), or (N,), float64: zero where k wins or ties.

    Guarantee: never more than the true cost, up to a few float64 roundoffs; attained in output space.

    Raises:
        InputError: when k is not a class, or for an unusable classifier.

    Example:
        >>> import torch
        >>> cost = to_cost(torch.tensor([1.0, 1.0, 0.0]).reshape(1, 3, 1, 1), 2, p=2.0)
        >>> round(cost.square().item(), 6)
        0.666667
    """
    if logits.dim() == 4:
        costs = [to_cost(x.flatten(1), k, p=p, classifier=classifier, chunk=chunk) for x in logits]
        return torch.stack(costs).reshape(logits[:, 0].shape)
    check_label(k, logits.shape[0])
    distance = None if classifier is None else separation(classifier, logits.shape[0], p).to(logits.device)
    norm = 1.0 if classifier is None else linear_norm(classifier[0].detach().flatten(1), p)
    parts = []
    for columns in logits.split(chunk, dim=1):
        gaps = columns.double() - columns[k].double()
        cost = water_fill(gaps) if p == 2.0 else gaps.amax(0) * HALF_SPACE[p]
        if distance is not None:
            apart = per_distance(gaps.clamp_min(0.0), distance[k].unsqueeze(1))
            output = (cost / norm).clamp_max(LARGEST_COST) if norm else torch.zeros_like(cost)
            cost = torch.maximum(output, apart.amax(0))
        parts.append(cost)
    return torch.cat(parts)


def water_fill(gaps: Tensor) -> Tensor:
    r"""Least l_2 change of the logits after which one class is above all others.

    Raise it by t and lower every logit that is still above to the same level:
    :math:`\min_t \, t^2 + \sum_j (g_j - t)_+^2`.

    Args:
        gaps: (J, N) float64, :math:`g_j = f_j - f_k`; entries <= 0 cost nothing.

    Returns:
        (N,) float64.

    Guarantee: exact up to a few roundoffs. The level is iterated until its set of active gaps no longer
    changes (at most J times): any other level would over-estimate the cost.

    Example:
        >>> import torch
        >>> round(water_fill(torch.tensor([[1.0], [1.0]], dtype=torch.float64)).item() ** 2, 6)
        0.666667
    """
    # Newton's method on t = sum (g - t)+, from the left: the level only rises, the active set only shrinks.
    level = gaps.amax(0).clamp_min(0.0) * 0.5
    count = torch.full_like(level, gaps.shape[0] + 1)
    while True:
        above = gaps > level
        active = above.sum(0, dtype=level.dtype)
        level = torch.maximum(level, torch.where(above, gaps, 0.0).sum(0) / (active + 1.0))
        if torch.equal(active, count):
            break
        count = active
    squared = level.square() + (gaps - level).clamp_min(0.0).square().sum(0)
    return squared.nan_to_num(nan=math.inf, posinf=math.inf).sqrt()  # nan: a gap beyond float64


def check_label(k: int, classes: int) -> None:
    """Raise InputError unless k is one of the classes of the logits."""
    if not 0 <= k < classes:
        raise errors.InputError(
            errors.explain(
                "certify: the class of the criterion is not among the logits",
                received=f"class {k} for {classes} logits",
                expected=f"0..{classes - 1}",
            )
        )
