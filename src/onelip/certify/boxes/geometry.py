"""Overlap of all pairs of boxes, the largest one when sides may move, and how far clipped boxes reach."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onelip.models.boxes import iou
from onelip.models.decoding import clip, decode


def table(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) IoU of all boxes (A, 4) with all boxes (B, 4)."""
    return iou(a[:, None], b[None])


def best_iou(low: Tensor, high: Tensor, box: Tensor) -> Tensor:
    """Exact largest IoU with a fixed box while every side stays in an interval: the sides nearest to its own.

    >>> b = torch.tensor([0.0, 0.0, 2.0, 2.0])
    >>> best_iou(b - 1.0, b - 0.5, b).item()
    0.3913043439388275
    """
    return iou(torch.maximum(low, torch.minimum(high, box)), box)


def reach(
    points: Tensor, strides: Tensor, regression: Tensor, half: Tensor, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Intervals of the sides of clipped boxes when every distance moves by at most `half`, and never below 0.

    Args:
        points: (N, 2).
        strides: (N,).
        regression: (..., N, 4), in strides, >= 0.
        half: (..., N, 4), in strides.
        size: (h, w) of the image.

    Returns:
        Lower and upper ends (..., N, 4) of x1, y1, x2, y2 in pixels.
    """
    outer = clip(decode(points, strides, regression + half), size)
    inner = clip(decode(points, strides, (regression - half).clamp_min(0)), size)
    low = torch.cat([outer[..., :2], inner[..., 2:]], -1)
    high = torch.cat([inner[..., :2], outer[..., 2:]], -1)
    return low, high
