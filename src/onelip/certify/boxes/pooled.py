"""From the worst cases of images to recall, precision and average precision of a set of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from onelip.certify.boxes.outcome import Outcome
from onelip.certify.frontier import micro
from onelip.core import errors

INTERPOLATIONS = ("all", "101")


def recall(outcomes: Sequence[Outcome]) -> Tensor:
    """(E,) share of all objects that are found for certain; nan without objects."""
    objects = sum(outcome.objects for outcome in outcomes)
    found = torch.stack([outcome.found for outcome in outcomes]).sum(0).double()
    return found / objects if objects else torch.full_like(found, torch.nan)


def rows(outcome: Outcome, offset: int = 0) -> Tensor:
    """(R, 4) int64: frontiers of one image as `onelip.certify.frontier` keeps them, eps numbered from `offset`."""
    parts = []
    for index, points in enumerate(outcome.points):
        head = torch.zeros_like(points)
        head[:, 0], head[0, 1] = index + offset, 1
        # The last point first: it has detections whenever any choice has.
        parts.append(torch.cat([head, points.flip(0)], 1))
    return torch.cat(parts)


def share(hits: Tensor, reported: Tensor) -> Tensor:
    """Hits over reported, float64; nan where nothing is reported."""
    return hits.double() / reported.double()


def precision(outcomes: Sequence[Outcome]) -> Tensor:
    """(E,) smallest ratio of found objects to detections over all images, every image with its own budget.

    The minimum of a ratio of sums: which objects are worth losing and how many false detections are worth making in
    one image depends on all others. nan where no detection can occur.
    """
    joined = torch.cat([rows(outcome) for outcome in outcomes])
    return micro(joined, len(outcomes[0].found), share)


def average_precision(rows_of: Sequence[Sequence[Sequence[Outcome]]], interpolation: str) -> Tensor:
    """(E,) mean over the classes, at least one, of the certified average precision.

    Args:
        rows_of: outcomes by threshold, image and class.
        interpolation: as in `area_under`.
    """
    areas = []
    for k in range(len(rows_of[0][0])):
        columns = [[image[k] for image in images] for images in rows_of]
        recalls = torch.stack([recall(column) for column in columns])
        precisions = torch.stack([precision(column) for column in columns])
        areas.append(area_under(recalls, precisions, interpolation))
    return torch.stack(areas).mean(0)


def area_under(recalls: Tensor, precisions: Tensor, interpolation: str = "all") -> Tensor:
    r"""Certified average precision from certified operating points.

    .. math:: \int_0^1 \max \{ P_j : R_j \ge r \} \, dr

    over the thresholds j: each gives a point of the attacked curve with at least that recall and precision, and the
    envelope only rises to the left.

    Args:
        recalls: (J, E).
        precisions: (J, E); nan counts as 0.
        interpolation: "all", every recall, as VOC since 2010; "101", the mean over r = 0, 0.01, ..., 1, as COCO.

    Returns:
        (E,), nan where a recall is.

    Example:
        >>> r, p = torch.tensor([[0.5], [1.0]]), torch.tensor([[1.0], [0.6]])
        >>> area_under(r, p).item(), round(area_under(r, p, "101").item(), 4)
        (0.800000011920929, 0.802)
    """
    if interpolation not in INTERPOLATIONS:
        raise errors.InputError(
            errors.explain(
                "`interpolation` is not known", received=repr(interpolation), expected='"all" or "101"'
            )
        )
    order = recalls.argsort(dim=0, descending=True)
    falling = recalls.gather(0, order)
    envelope = precisions.nan_to_num(0.0).gather(0, order).cummax(0).values
    if interpolation == "all":
        below = torch.cat([falling[1:], torch.zeros_like(falling[:1])])
        return ((falling - below) * envelope).sum(0)
    grid = torch.as_tensor(np.linspace(0.0, 1.0, 101), dtype=recalls.dtype)
    reached = (falling[None] >= grid[:, None, None]).sum(1)  # (101, E) thresholds with at least that recall
    best = torch.cat([torch.zeros_like(envelope[:1]), envelope]).gather(0, reached)
    return torch.where(recalls.isnan().any(0), torch.nan, best.mean(0))
