"""From raw heads to boxes: locations, decoding, clipping, thresholds and class-wise suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import nms as suppress

from ..core import checks
from ..core.errors import InputError, explain

if TYPE_CHECKING:
    from .detection import Detections, Raw


def map_size(size: Sequence[int], stride: int) -> tuple[int, int]:
    """Return (h, w) of the map of a stride: rounded up, so that every cell holds at least one pixel of the image.

    >>> map_size((33, 64), 8)
    (5, 8)
    """
    height, width = size
    return -(-height // stride), -(-width // stride)


def locations(
    size: Sequence[int],
    strides: Sequence[int],
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Return the centres of all cells and their strides, fine to coarse, row by row inside a level.

    The cell in column $i$ and row $j$ of the level of stride $s$ stands at $((i + 1/2) s, (j + 1/2) s)$, in pixels,
    where pixel $i$ covers $[i, i + 1)$. A cell that lies wholly in the padding does not exist.

    Args:
        size: (h, w) of the image, before padding.
        strides: of the levels.
        dtype: of both results.
        device: of both results.

    Returns:
        Locations (N, 2) as (x, y), and strides (N,).

    >>> locations((8, 9), (8,))[0].tolist()
    [[4.0, 4.0], [12.0, 4.0]]
    """
    checks.size(size)
    points, scales = [], []
    for stride in strides:
        rows, columns = map_size(size, stride)
        y, x = torch.meshgrid(
            (torch.arange(rows, dtype=dtype, device=device) + 0.5) * stride,
            (torch.arange(columns, dtype=dtype, device=device) + 0.5) * stride,
            indexing="ij",
        )
        points.append(torch.stack((x.flatten(), y.flatten()), dim=1))
        scales.append(torch.full((rows * columns,), float(stride), dtype=dtype, device=device))
    return torch.cat(points), torch.cat(scales)


def decode(points: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
    r"""Return the boxes of distances: $(x - s l, y - s t, x + s r, y + s b)$.

    Args:
        points: (N, 2) as (x, y), in pixels.
        strides: (N,).
        regression: (..., N, 4), distances left, top, right, bottom in units of the stride, >= 0.

    Returns:
        Boxes (..., N, 4) as (x1, y1, x2, y2), in pixels, not clipped.

    >>> decode(torch.tensor([[12.0, 4.0]]), torch.tensor([8.0]), torch.tensor([[1.0, 0.5, 2.0, 0.0]])).tolist()
    [[4.0, 0.0, 28.0, 4.0]]
    """
    distances = regression * strides[:, None]
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), dim=-1)


def clip(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return boxes (..., 4) cut to the image (h, w); the IoU with a box inside the image never falls by it.

    >>> clip(torch.tensor([[-3.0, 2.0, 50.0, 9.0]]), (8, 40)).tolist()
    [[0.0, 2.0, 40.0, 8.0]]
    """
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack((x[..., 0], y[..., 0], x[..., 1], y[..., 1]), dim=-1)


def postprocess(
    raw: Raw,
    threshold: float | Tensor,
    size: Sequence[int],
    *,
    nms: float = 0.6,
    temperature: float = 1.0,
    per_level: int = 1000,
    per_image: int = 100,
    order: Tensor | None = None,
) -> list[Detections]:
    r"""Return the detections of each image: threshold, cap per level, decode, clip, class-wise greedy NMS, cap.

    A candidate is a pair (location, class) with a logit strictly above the threshold. Candidates are taken by falling
    logit, ties by location and then by class; one is suppressed by a kept one of its class when their IoU is
    strictly above `nms`. An empty box has IoU 0 with everything and is kept. All of it is computed in float64, on the
    logits and not on scores, which saturate.

    Args:
        raw: the heads of a batch.
        threshold: of the logits, one number or one for each class (K,).
        size: (h, w) of the images, before padding.
        nms: IoU above which a box is suppressed.
        temperature: T in score = sigmoid(logit / T).
        per_level: candidates kept in each level and image.
        per_image: detections kept in each image.
        order: (B, N) added to the logits for the order of suppression alone (centre-ness); scores do not change.

    Returns:
        For each image boxes (M, 4), scores (M,), labels (M,), by falling logit; boxes and scores as the logits' type.

    Raises:
        NonFiniteError: a logit or a distance is NaN or infinite.
        InputError: the threshold or a shape is not usable.
    """
    checks.finite("logits", raw.logits)
    checks.finite("regression", raw.regression)
    level = _threshold(threshold, raw)
    checks.number("nms", nms, low=0.0, high=1.0)
    points, strides = raw.locations.double(), raw.strides.double()
    found = []
    for image in range(raw.logits.shape[0]):
        logits = raw.logits[image].double()
        shift = torch.zeros_like(logits[:, 0]) if order is None else order[image].double()
        where, label = _candidates(logits, level, shift, strides, per_level)
        boxes = decode(points[where], strides[where], raw.regression[image, where].double())
        boxes = clip(boxes, size)
        kept = _suppress(boxes, label, nms)[:per_image]
        where, label, boxes = where[kept], label[kept], boxes[kept]
        chosen = logits[where, label]
        if order is not None:  # kept by the other order; shown by score
            sorting = _order(chosen, where, label)
            where, label, boxes, chosen = where[sorting], label[sorting], boxes[sorting], chosen[sorting]
        scores = torch.sigmoid(chosen / temperature)
        like = raw.logits.dtype
        found.append({"boxes": boxes.to(like), "scores": scores.to(like), "labels": label})
    return found


def _threshold(threshold: float | Tensor, raw: Raw) -> Tensor:
    classes = raw.logits.shape[-1]
    level = torch.as_tensor(threshold, dtype=torch.float64, device=raw.logits.device)
    if level.numel() not in {1, classes} or bool(level.isnan().any()):
        raise InputError(
            explain(
                "`threshold` is not usable",
                received=threshold,
                expected=f"one logit, or one for each of the {classes} classes",
            )
        )
    return level.reshape(-1)


def _candidates(
    logits: Tensor, level: Tensor, shift: Tensor, strides: Tensor, per_level: int
) -> tuple[Tensor, Tensor]:
    """Return locations and labels of the pairs above the threshold, sorted, at most so many of each level."""
    where, label = (logits > level).nonzero(as_tuple=True)
    sorting = _order(logits[where, label] + shift[where], where, label)
    where, label = where[sorting], label[sorting]
    keep = torch.zeros_like(where, dtype=torch.bool)
    for stride in strides.unique():
        mine = strides[where] == stride
        keep |= mine & (mine.cumsum(0) <= per_level)
    return where[keep], label[keep]


def _order(values: Tensor, where: Tensor, label: Tensor) -> Tensor:
    """Return the permutation by falling value, ties by rising location, then by rising class."""
    by_index = (where * (int(label.max()) + 1 if label.numel() else 1) + label).argsort(stable=True)
    return by_index[values[by_index].argsort(stable=True, descending=True)]


def _suppress(boxes: Tensor, label: Tensor, nms: float) -> Tensor:
    """Return the indices of the boxes that greedy suppression keeps in each class; boxes come sorted."""
    # Ranks instead of logits: without ties the result depends on nothing but the order.
    rank = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
    kept = [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    for k in label.unique():
        mine = (label == k).nonzero()[:, 0]
        kept.append(mine[suppress(boxes[mine], rank[mine], nms)])
    return torch.cat(kept).sort().values
