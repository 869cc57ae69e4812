"""Which object each location of a detector answers for: centre sampling, scale ranges, the smallest box wins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import InputError, NonFiniteError, explain

Target = Mapping[str, Tensor]


class Assignment(NamedTuple):
    """What `assign` returns.

    Attributes:
        labels: (B, N) int64, the class of the object, -1 where there is none.
        boxes: (B, N, 4) float64, the box of the object, 0 where there is none.
        objects: (B, N) int64, which object of the image, -1 where there is none.
    """

    labels: Tensor
    boxes: Tensor
    objects: Tensor


def assign(
    locations: Tensor, strides: Tensor, targets: Sequence[Target], *, radius: float = 1.5, reach: float = 4.0
) -> Assignment:
    r"""Assign the objects of a batch to locations, as FCOS is trained.

    Location p of a level with stride s answers for an object when

    1. it is near the centre: :math:`\max(|p_x - g_x|, |p_y - g_y|) < r s`;
    2. it is inside the box: the distances l, t, r, b to the four sides are positive;
    3. the box fits the level: :math:`a_j < \max(l, t, r, b) < a_{j+1}` with :math:`a_0 = 0`,
       :math:`a_j = 4 s_j` for the levels above the first, infinity after the last.

    All inequalities are strict: a value on a bound belongs to neither side. Of several objects the one of smallest
    area wins, of equal areas the first. An object without any location inside its box (smaller than the finest
    stride) is answered for by nobody.

    Args:
        locations: (N, 2) centres (x, y) in pixels.
        strides: (N,) stride of each location.
        targets: one mapping per image: boxes (G, 4) as x1, y1, x2, y2 and labels (G,) int64; G may be 0.
        radius: r, half of the width of the centre region in strides.
        reach: 4 in the bounds :math:`a_j`: what a level regresses, in strides.

    Returns:
        Labels, boxes and object numbers of all locations, computed in float64.

    Raises:
        InputError: shapes or types do not fit; a box without area; a negative label; radius or reach not positive.
        NonFiniteError: a box holds NaN or an infinity.

    Example:
        >>> at, s = torch.tensor([[4.0, 4.0], [12.0, 4.0]]), torch.tensor([8.0, 8.0])
        >>> box = {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]]), "labels": torch.tensor([2])}
        >>> assign(at, s, [box]).labels.tolist()
        [[2, -1]]

    Source: Tian et al., "FCOS: fully convolutional one-stage object detection", ICCV 2019, and its second version.
    """
    for name, value in (("radius", radius), ("reach", reach)):
        if not 0.0 < value < math.inf:
            raise InputError(explain(f"`{name}` is wrong", received=value, expected="a finite number > 0"))
    boxes, labels = padded(targets, locations.device)
    if boxes.shape[1] == 0:
        shape = (len(targets), len(locations))
        nobody = torch.full(shape, -1, dtype=torch.int64, device=locations.device)
        return Assignment(nobody, boxes.new_zeros(*shape, 4), nobody.clone())
    sides = distances(locations, boxes)  # (B, N, G, 4)
    low, high = scale_range(strides, reach)
    largest = sides.amax(-1)
    fits = (largest > low[:, None]) & (largest < high[:, None])
    fits &= centre_region(locations, strides, boxes, radius) & (labels >= 0)[:, None, :]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    cost = torch.where(fits, area[:, None, :], math.inf)
    chosen = cost.argmin(-1)  # (B, N): the first of equal areas
    some = fits.any(-1)
    index = torch.where(some, chosen, -1)
    own = boxes.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
    return Assignment(
        torch.where(some, labels.gather(1, chosen), -1), torch.where(some.unsqueeze(-1), own, 0.0), index
    )


def centre_region(locations: Tensor, strides: Tensor, boxes: Tensor, radius: float = 1.5) -> Tensor:
    """Return which locations are inside a box and strictly within `radius` strides of its centre.

    Args:
        locations: (N, 2).
        strides: (N,).
        boxes: (..., G, 4).
        radius: In strides; infinity leaves the whole inside of the box.

    Returns:
        (..., N, G) bool.
    """
    inside = distances(locations, boxes).amin(-1) > 0
    centre = (boxes[..., :2].double() + boxes[..., 2:].double()) / 2
    away = (locations.double().unsqueeze(1) - centre.unsqueeze(-3)).abs().amax(-1)
    return inside & (away < radius * strides.double().unsqueeze(1))


def distances(locations: Tensor, boxes: Tensor) -> Tensor:
    """Return the signed distances (left, top, right, bottom) of locations (N, 2) to the sides of boxes (..., G, 4).

    Returns:
        (..., N, G, 4) float64 in pixels; all are positive inside a box.
    """
    at, corners = locations.double().unsqueeze(1), boxes.double().unsqueeze(-3)
    return torch.cat([at - corners[..., :2], corners[..., 2:] - at], -1)


def scale_range(strides: Tensor, reach: float = 4.0) -> tuple[Tensor, Tensor]:
    """Return the bounds, (N,) float64 each, between which the largest distance of a location has to be.

    Example:
        >>> [bound.tolist() for bound in scale_range(torch.tensor([8.0, 8.0, 16.0, 32.0]))]
        [[0.0, 0.0, 64.0, 128.0], [64.0, 64.0, 128.0, inf]]
    """
    levels, level = strides.double().unique(return_inverse=True)
    edges = torch.cat([reach * levels, levels.new_full((1,), math.inf)])
    edges[0] = 0.0
    return edges[level], edges[level + 1]


def padded(targets: Sequence[Target], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return boxes (B, G, 4) float64 and labels (B, G) of a batch, checked; label -1 where an image has no more.

    Raises:
        InputError: shapes or types do not fit; a box without area; a negative label.
        NonFiniteError: a box holds NaN or an infinity.
    """
    for position, target in enumerate(targets):
        _check(target, position)
    most = max((len(target["labels"]) for target in targets), default=0)
    boxes = torch.zeros(len(targets), most, 4, dtype=torch.float64, device=device)
    labels = torch.full((len(targets), most), -1, dtype=torch.int64, device=device)
    for row, target in enumerate(targets):
        count = len(target["labels"])
        boxes[row, :count] = target["boxes"].to(boxes)
        labels[row, :count] = target["labels"].to(device)
    return boxes, labels


def _check(target: Target, position: int) -> None:
    where = f"target {position}"
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= set(target):
        received = sorted(target) if isinstance(target, Mapping) else type(target).__name__
        raise InputError(explain(f"{where} is no target", received=received, expected="boxes and labels"))
    boxes, labels = target["boxes"], target["labels"]
    if boxes.dim() != 2 or boxes.shape[1] != 4 or tuple(labels.shape) != (len(boxes),):
        raise InputError(
            explain(
                f"{where} has the wrong shapes",
                received=f"boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)}",
                expected="boxes (G, 4), labels (G,)",
                fix="an image without objects has boxes of shape (0, 4)",
            )
        )
    if not boxes.is_floating_point() or labels.dtype != torch.int64:
        raise InputError(
            explain(
                f"{where} has the wrong types",
                received=f"boxes {boxes.dtype}, labels {labels.dtype}",
                expected="floating boxes, int64 labels",
            )
        )
    if not bool(torch.isfinite(boxes).all()):
        raise NonFiniteError(explain(f"{where} has a box with NaN or infinite sides"))
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if bool(flat.any()):
        raise InputError(
            explain(
                f"{where} has a box without area",
                received=boxes[flat][0].tolist(),
                expected="x1, y1, x2, y2 with x1 < x2 and y1 < y2",
            )
        )
    if bool((labels < 0).any()):
        raise InputError(explain(f"{where} has a negative label", expected="labels from 0"))
