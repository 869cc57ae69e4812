"""Overlap of boxes, its exact minimum when their sides may move, and how much of it makes a match certain."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

SLACK = 1e-9
"""Added to every IoU that has to be reached: far above the rounding of an IoU in float64."""


def iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (..., 4) with boxes (..., 4), broadcast; 0 with an empty box.

    >>> iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 5.0, 9.0]])).tolist()
    [0.3333333432674408, 0.0]
    """
    w = torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])
    h = torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])
    inter = w.clamp_min(0) * h.clamp_min(0)
    union = area(a) + area(b) - inter
    return torch.where(inter > 0, inter / torch.where(union > 0, union, 1.0), torch.zeros_like(inter))


def area(boxes: Tensor) -> Tensor:
    """Area of boxes (..., 4); 0 for an empty or inverted one."""
    return (boxes[..., 2] - boxes[..., 0]).clamp_min(0) * (boxes[..., 3] - boxes[..., 1]).clamp_min(0)


def worst_iou(low: Tensor, high: Tensor, box: Tensor) -> Tensor:
    r"""Exact smallest IoU with a fixed box while every side stays in an interval of its own.

    With the other sides fixed, the IoU rises up to the fixed box's side and falls after it, so that each side is worst
    at an end of its interval: one of the 16 vertices is the minimum. Intervals that allow an empty or inverted box,
    or that are not finite, have IoU 0.

    Args:
        low: (..., 4) lower ends of x1, y1, x2, y2.
        high: (..., 4) upper ends.
        box: (..., 4) the fixed box, with an area; all three are broadcast.

    Returns:
        (...), the minimum.

    Example:
        >>> b = torch.tensor([0.0, 0.0, 0.4, 0.4], dtype=torch.float64)
        >>> [round(worst_iou(b - h, b + h, b).item(), 3) for h in (0.02, 0.04, 0.06)]
        [0.81, 0.64, 0.49]
    """
    known = (low.isfinite() & high.isfinite()).all(-1)
    low, high = (torch.where(known[..., None], end, torch.zeros_like(end)) for end in (low, high))
    upper = torch.tensor(list(product((False, True), repeat=4)), device=low.device)
    vertices = torch.where(upper, high[..., None, :], low[..., None, :])  # (..., 16, 4)
    worst = iou(vertices, box[..., None, :]).amin(-1)
    certain = known & (low[..., 2:] > high[..., :2]).all(-1)
    return torch.where(certain, worst, torch.zeros_like(worst))


def match_levels(boxes: Tensor, labels: Tensor, level: float) -> Tensor:
    r"""(G,): IoU beyond which a detection of the right class finds its object, whatever else is there.

    .. math:: t_g = \max\big( \mathrm{level}, \tfrac12 (1 + \max_{g'} \mathrm{IoU}(g, g')) \big)

    over the other objects g' of its class. Beyond it the object is the nearest one of the detection in the Jaccard
    distance, a metric, so that no greedy matching gives the detection to another while this one is free.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 4.0], [9.0, 9.0, 12.0, 12.0]])
    >>> [round(v, 3) for v in match_levels(boxes, torch.tensor([0, 0, 1]), 0.5).tolist()]
    [0.667, 0.667, 0.5]
    """
    same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if not bool(same.any()):
        return torch.full((len(labels),), level, dtype=boxes.dtype, device=boxes.device)
    nearest = torch.where(same, iou(boxes[:, None], boxes[None]), -1.0).amax(1)
    return ((1.0 + nearest) / 2).clamp_min(level)
