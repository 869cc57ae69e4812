"""Certified recall, precision and average precision of a smoothed detector over a set of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.core.errors import InputError, explain
from onelip.smoothing.median_result import MedianDetection, check_iou

INTERPOLATIONS = ("all", "101")


@dataclass(frozen=True, eq=False)
class MedianScores:
    """Lower bounds of what smoothed detectors keep on a set of images; build it with `median_scores`.

    Attributes:
        eps: (E,) radii.
        thresholds: (T,).
        recall: (T, E) share of all objects that are found for certain; nan without objects.
        precision: (T, E) of the detections that may be there, the share that surely find an object; nan without any.
        average_precision: (E,) mean over the classes with objects; nan without objects.
        iou: of a match.
        images: their number.
        objects: their number.
        passes: forward passes in all.
        seconds: wall time in all.
        alpha: probability that any of these numbers is wrong: the sum over the images.
    """

    eps: Tensor
    thresholds: tuple[float, ...]
    recall: Tensor
    precision: Tensor
    average_precision: Tensor
    iou: float
    images: int
    objects: int
    passes: int
    seconds: float
    alpha: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready: None where a value is not defined."""
        tensors = ("eps", "recall", "precision", "average_precision")
        numbers = ("thresholds", "iou", "images", "objects", "passes", "seconds", "alpha")
        return {
            **{name: _plain(getattr(self, name).tolist()) for name in tensors},
            **{name: _plain(getattr(self, name)) for name in numbers},
        }


def median_scores(
    results: Sequence[MedianDetection],
    targets: Sequence[Mapping[str, Tensor]],
    *,
    iou: float = 0.5,
    interpolation: str = "all",
) -> MedianScores:
    r"""Bound recall, precision and average precision of the smoothed detectors, each image attacked by itself.

    At a threshold, recall is at least the share of objects that are certified, and precision at least these over all
    slots that may be filled. Average precision is that of the paper: each threshold is a smoothed detector and an
    operating point (R_j, P_j) of a class, and the area is that under their envelope,
    :math:`\int_0^1 \max \{ P_j : R_j \ge r \} \, dr`.

    Args:
        results: one for each image, with the same radii, thresholds and classes.
        targets: for each image boxes (G, 4) and labels (G,); G may be 0: what is reported there is false.
        iou: of a match.
        interpolation: "all" recalls, or the mean over "101" of them, as COCO.

    Guarantee: with probability at least 1 - alpha, alpha the sum over the images, none of the numbers exceeds what
    the smoothed detectors reach when every image is perturbed by at most the radius.

    Raises:
        InputError: the lists do not fit each other, or an argument or target is not usable.
        NonFiniteError: a box of a target holds NaN or an infinity.
    """
    level = check_iou(iou)
    _check(results, targets, interpolation)
    first = results[0]
    labels = [result.objects(target)[1] for result, target in zip(results, targets, strict=True)]
    kept = [result.certified(target, iou=level) for result, target in zip(results, targets, strict=True)]
    everything = torch.cat(labels)
    found, reported = torch.cat(kept, -1), torch.stack([result.reported() for result in results]).sum(0)
    areas = []
    for label in everything.unique().tolist():
        mine = everything == label
        own = torch.stack([result.reported(label) for result in results]).sum(0)
        hits = found[..., mine].sum(-1)
        areas.append(area_under(_share(hits, mine.sum()), _share(hits, own), interpolation))
    nothing = torch.full((len(first.eps),), math.nan, dtype=torch.float64)
    return MedianScores(
        eps=first.eps,
        thresholds=first.thresholds,
        recall=_share(found.sum(-1), torch.tensor(len(everything))),
        precision=_share(found.sum(-1), reported),
        average_precision=torch.stack(areas).mean(0) if areas else nothing,
        iou=level,
        images=len(results),
        objects=len(everything),
        passes=sum(result.passes for result in results),
        seconds=sum(result.seconds for result in results),
        alpha=min(1.0, sum(result.alpha for result in results)),
    )


def area_under(recalls: Tensor, precisions: Tensor, interpolation: str = "all") -> Tensor:
    """(E,): area under the envelope of operating points (T, E); a precision that is nan counts as 0.

    >>> r, p = torch.tensor([[0.5], [1.0]]).double(), torch.tensor([[1.0], [0.6]]).double()
    >>> round(area_under(r, p).item(), 4), round(area_under(r, p, "101").item(), 4)
    (0.8, 0.802)
    """
    order = recalls.argsort(dim=0, descending=True)
    recalls, precisions = recalls.gather(0, order), precisions.nan_to_num(0.0).gather(0, order)
    best = precisions.cummax(0).values  # over all points with at least this recall
    if interpolation == "all":
        below = torch.cat([recalls[1:], torch.zeros_like(recalls[:1])])
        return ((recalls - below) * best).sum(0)
    grid = torch.arange(101, dtype=recalls.dtype)[:, None, None] / 100
    reached = recalls >= grid  # (101, T, E)
    return torch.where(reached, best, torch.zeros_like(best)).amax(1).mean(0)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Part of a whole, float64; 0 of infinity, nan of nothing."""
    return part.double() / whole.double()


def _check(results: Sequence[MedianDetection], targets: Sequence[Any], interpolation: str) -> None:
    if interpolation not in INTERPOLATIONS:
        raise InputError(
            explain("`interpolation` is unknown", received=repr(interpolation), expected='"all" or "101"')
        )
    if not results or len(results) != len(targets):
        raise InputError(
            explain(
                "results and targets do not belong together",
                received=f"{len(results)} and {len(targets)} images",
                expected="as many of the one as of the other, at least one",
            )
        )
    plans = {(tuple(r.eps.tolist()), r.thresholds, r.layout.classes) for r in results}
    if len(plans) > 1:
        raise InputError(
            explain(
                "results are not comparable",
                received=f"{len(plans)} combinations of eps, thresholds and classes",
                expected="the same for every image",
            )
        )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
