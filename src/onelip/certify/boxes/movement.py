r"""How far a box has to move: prices of breaking a match, and how fast an overlap can change.

The distances r of one location, in strides, move by :math:`\|\delta r\|_2 \le \kappa \rho`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations

import torch
from torch import Tensor

from onelip.certify.boxes.geometry import reach
from onelip.models.boxes import iou, worst_iou

BLOCK = 2**10
"""Boxes that are moved at once."""
PARTS = 6
"""Parts into which the squared norm of a movement is cut when it is shared among the four sides."""


def rate(boxes: Tensor, strides: Tensor, kappa: float) -> Tensor:
    r"""(N,): how fast a box can leave itself, :math:`1 - \mathrm{IoU}(b, b') \le k \rho`.

    .. math:: k = \sqrt2 \, \kappa s \, \sqrt{1/w^2 + 1/h^2}

    Moving the two vertical sides by :math:`a_1, a_2` changes at most :math:`(a_1 + a_2) h` of an area of at least
    :math:`w h`; then the same for the horizontal sides, and the Jaccard distance is a metric. Cauchy-Schwarz does the
    rest: twice, over the sides and over the axes. Two boxes that share one budget: :math:`\sqrt{k_i^2 + k_j^2} \rho`.

    Args:
        boxes: (N, 4), clipped.
        strides: (N,).
        kappa: of the regression.

    Returns:
        Rates; infinite for an empty box.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return math.sqrt(2.0) * kappa * strides * torch.hypot(1.0 / width, 1.0 / height) * (1.0 + 1e-12)


def break_distance(
    points: Tensor,
    strides: Tensor,
    regression: Tensor,
    size: Sequence[int],
    box: Tensor,
    level: Tensor,
    *,
    refine: bool = True,
) -> Tensor:
    r"""Norm of the movement of four distances, in strides, below which the IoU with a box stays at a level.

    First the largest half-width h such that the worst of the 16 vertices of :math:`r \pm h` is at the level: the
    norm of a movement is at least its largest entry. With `refine` the ball itself is covered by boxes:
    every :math:`\|\delta r\| \le R` has entries of at most :math:`R \sqrt{v_k / m}` for some integers
    :math:`v_k \ge 1` with sum m + 3, so the worst vertex over all such shares decides. It gains up to a factor 2.

    Args:
        points: (P, 2).
        strides: (P,).
        regression: (P, 4), >= 0.
        size: (h, w) of the image: boxes are clipped to it.
        box: (P, 4), fixed.
        level: (P,), IoU > 0 to keep.
        refine: whether to look for the larger value.

    Returns:
        (P,) float64, 0 where the level is not reached; every norm up to it, and the value itself, keeps the level.

    Example:
        >>> at, s = torch.tensor([[8.0, 8.0]]).double(), torch.ones(1).double()
        >>> r = torch.full((1, 4), 4.0).double()
        >>> g = torch.tensor([[4.0, 4.0, 12.0, 12.0]]).double()
        >>> plain = break_distance(at, s, r, (16, 16), g, torch.tensor([0.5]), refine=False)
        >>> fine = break_distance(at, s, r, (16, 16), g, torch.tensor([0.5]))
        >>> round(plain.item(), 2), round(fine.item(), 2)
        (1.17, 1.9)
    """

    def holds(half: Tensor, rows: Tensor) -> Tensor:
        """(R,) bool for half-widths (A, R, 4): the worst vertex of all A is at the level."""
        found = []
        for part, mine in zip(half.split(BLOCK, 1), rows.split(BLOCK), strict=True):
            low, high = reach(points[mine], strides[mine], regression[mine], part, size)
            found.append((worst_iou(low, high, box[mine]) >= level[mine]).all(0))
        return torch.cat(found)

    everyone = torch.arange(len(points), device=points.device)
    start = clipped_iou(points, strides, regression, size, box) >= level
    # Moving every distance by the largest one can empty the box.
    largest = regression.amax(1) if len(regression) else regression.new_zeros(0)
    square = _bisect(lambda h: holds(h[None, :, None].expand(1, -1, 4), everyone), 0.0 * largest, largest, 30)
    rows = everyone[start]
    if refine and len(rows):
        shares = _shares(PARTS).to(points)[:, None]
        low = square[rows]
        square[rows] = _bisect(lambda r: holds(shares * r[:, None], rows), low, 2.0 * low, 6)
    return torch.where(start, square, torch.zeros_like(square))


def clipped_iou(
    points: Tensor, strides: Tensor, regression: Tensor, size: Sequence[int], box: Tensor
) -> Tensor:
    """(P,) IoU of the clipped boxes with fixed ones."""
    low, _ = reach(points, strides, regression, torch.zeros_like(regression), size)
    return iou(low, box)


def _bisect(holds: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, steps: int) -> Tensor:
    """The largest value found at which a falling property holds; `low` where it holds nowhere above."""
    low, high = low.clone(), high.clone()
    for _ in range(steps):
        middle = (low + high) / 2
        fine = holds(middle)
        low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
    return low


@cache
def _shares(parts: int) -> Tensor:
    """(A, 4): square roots of v / parts for all integers v >= 1 with sum parts + 3."""
    cuts = combinations(range(1, parts + 3), 3)
    shares = [(a, b - a, c - b, parts + 3 - c) for a, b, c in cuts]
    return (torch.tensor(shares, dtype=torch.float64) / parts).sqrt()
