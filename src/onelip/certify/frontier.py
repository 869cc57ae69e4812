r"""Frontiers: what an attacker of a whole data set may choose from in each image.

Every image has its own budget, but the micro average :math:`\sum I / \sum U` couples the images: which point
(I, U) of an image is best depends on all others. For any price :math:`\lambda \in [0, 1]` of the union it is
the one with the smallest :math:`I - \lambda U`, so the corners of the convex hull on that side are all that
is needed. They are kept as int64 rows (index of eps, 1 for the first corner of an image and else 0, I, U);
rows of several batches or processes are joined by concatenation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from onelip.certify.sweep import Sweep


def outline(one: Sweep, budget: Tensor) -> Tensor:
    """(R, 4) int64: rows of one image, for all budgets."""
    rows = []
    for index, (value, last) in enumerate(zip(budget, one.last(budget).tolist(), strict=True)):
        m = torch.arange(last + 1, device=one.lost.device)
        hits, union = one.after(value.to(m.device), m)
        points = corners(hits, union)
        head = torch.zeros_like(points)
        head[:, 0], head[0, 1] = index, 1
        rows.append(torch.cat([head, points], 1))
    return torch.cat(rows)


def corners(hits: Tensor, union: Tensor) -> Tensor:
    r"""Corners of the hull that minimise :math:`I - \lambda U` for some :math:`\lambda` in [0, 1].

    Args:
        hits: (M,) int64, falling by one from entry to entry.
        union: (M,) int64, not rising.

    Returns:
        (R, 2) int64: hits and union of each corner, hits falling.
    """
    # Steps along which the union stays: only their end, with the fewest hits, can be a corner.
    ends = torch.cat([union[:-1] > union[1:], union.new_ones(1, dtype=torch.bool)])
    points = torch.stack([hits, union], 1)[ends]
    # At lambda = 1 the last minimum is the first corner; before it the union would have to be worth more.
    least = points[:, 0] - points[:, 1]
    points = points[int((least == least.min()).nonzero()[-1]) :]
    while True:
        before = len(points)
        stride = 4 ** (before.bit_length() // 2)
        while stride:
            points = _thinned(points, stride)
            stride //= 4
        if len(points) == before:
            return points


def _thinned(points: Tensor, stride: int) -> Tensor:
    """Drop every point that is not beyond the chord of its two neighbours at this distance."""
    if len(points) <= 2 * stride:
        return points
    back, here, ahead = points[: -2 * stride], points[stride:-stride], points[2 * stride :]
    chord, step = ahead - back, here - back
    # Integers: hits fall (negative steps), and a corner has more union than the chord at the same hits.
    beyond = step[:, 1] * chord[:, 0] < chord[:, 1] * step[:, 0]
    ends = beyond.new_ones(stride)
    return points[torch.cat([ends, beyond, ends])]


def each(rows: Tensor, count: int, ratio: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(E, B) float64: smallest ratio of each image alone, from rows in which the eps of an image follow it."""
    group = rows[:, 1].cumsum(0) - 1
    values = ratio(rows[:, 2], rows[:, 3])
    least = values.new_empty(int(rows[:, 1].sum())).scatter_reduce(
        0, group, values, "amin", include_self=False
    )
    return least.reshape(-1, count).T


def micro(rows: Tensor, count: int, ratio: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    r"""Smallest micro ratio over all choices of one point in each image, by Dinkelbach's iteration.

    From any choice with :math:`\lambda = \sum I / \sum U`, every image picks its smallest
    :math:`I - \lambda U`; the new ratio is smaller until it is the minimum. All comparisons are between
    integers, so the answer is exact and does not depend on the order of the images.

    Args:
        rows: (R, 4) int64, joined frontiers.
        count: number of eps, E.
        ratio: of hits and union, rising in their quotient.

    Returns:
        (E,) float64; nan where the union is empty.
    """
    found = torch.stack([_dinkelbach(rows[rows[:, 0] == index, 1:]) for index in range(count)])
    return ratio(found[:, 0], found[:, 1])


def _dinkelbach(rows: Tensor) -> Tensor:
    first, points = rows[:, 0], rows[:, 1:]
    image = first.cumsum(0) - 1
    choice = first.nonzero().squeeze(1)
    best = points[choice].sum(0)
    position = torch.arange(len(rows), device=rows.device)
    while True:
        hits, union = best.tolist()
        worth = points[:, 0] * union - points[:, 1] * hits
        least = worth.new_empty(len(choice)).scatter_reduce(0, image, worth, "amin", include_self=False)
        found = position[worth == least[image]]
        choice = torch.empty_like(choice).scatter_(0, image[found], found)
        total = points[choice].sum(0)
        if int(total[0]) * union >= hits * int(total[1]):
            return best
        best = total
