"""What an attacker of the mean IoU can buy in one image: true positives to take away, pixels to turn into a class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.certify.budget import power
from onelip.certify.costs import to_cost
from onelip.certify.scores import Classifier, Scores

COMPETITORS = 5
CHUNK = 16384


@dataclass(frozen=True, eq=False)
class Roles:
    r"""The items of one image, with costs to the power p.

    A flip of a correct pixel from its class y to b plays two roles: y loses a true positive, b gains a false
    positive. A misclassified pixel plays only the second. Pixels are columns: the correct ones first, grouped
    by class, then the misclassified ones. Only the J classes with labels in the image count.

    Attributes:
        classes: (J,) the classes, increasing.
        hits: (J,) float64, true positives of each class in the whole image.
        union: (J,) float64, true positives, false positives and false negatives; at least 1.
        starts: J + 1 offsets: the correct columns of class j are `starts[j]` to `starts[j + 1]`.
        leave: (M,) cost of taking its class from each correct column.
        gain: (J, N) cost of turning each column into class j, inf where it is labelled or predicted j already
            or the cost is beyond the limit.
        wrong: (N - M,) index of the predicted class of the misclassified columns, J when it has no labels.
        pixels: (N,) position of each column in the flattened image.
        logits: (K, N) logits of each column.
        weight: (N,) number of pixels that a column stands for, or None when it is one.
        items: number of valid pixels.
        p: norm.
    """

    classes: Tensor
    hits: Tensor
    union: Tensor
    starts: tuple[int, ...]
    leave: Tensor
    gain: Tensor
    wrong: Tensor
    pixels: Tensor
    logits: Tensor
    items: int
    p: float
    weight: Tensor | None = None

    @property
    def share(self) -> float:
        """Weight of one class in the mean."""
        return 1.0 / len(self.classes)

    @property
    def label(self) -> Tensor:
        """(M,) index of the class of each correct column."""
        counts = torch.tensor(self.starts, device=self.leave.device).diff()
        return torch.arange(len(counts), device=counts.device).repeat_interleave(counts)

    def value(self, lost: Tensor, gained: Tensor) -> Tensor:
        """Mean IoU after each class lost that many true positives and gained that many false ones, (..., J)."""
        return mean_iou(self.hits - lost, self.union + gained)


def mean_iou(hits: Tensor, union: Tensor) -> Tensor:
    """Mean of hits / union over the last dimension, leaving out the empty classes (0 / 0); nan when all are."""
    return (hits / union).nanmean(-1)


def tallies(labels: Tensor, prediction: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """True positives and union of each class in a list of valid pixels, (K,) float64.

    Classes without labels get 0 / 0: an attacker could open any of them with one pixel, so they do not count.
    """
    hits = torch.bincount(labels[labels == prediction], minlength=classes).double()
    labelled = torch.bincount(labels, minlength=classes).double()
    union = labelled + torch.bincount(prediction, minlength=classes).double() - hits
    return hits, union.masked_fill(labelled == 0, 0.0)


def build(scores: Scores, limits: Sequence[float]) -> Iterator[Roles | None]:
    """Roles of each image in turn; None when it has no valid pixel.

    Args:
        scores: the checked batch.
        limits: for each image the largest budget that will be asked for. Dearer items can never be bought and
            are left out.
    """
    # The cheapest flip of a pixel bounds all of its others: it decides which columns matter at all.
    cheapest = power(scores.leave_cost(scores.prediction), scores.p)
    for image, limit in enumerate(limits):
        yield _build(scores, image, cheapest[image].flatten(), limit) if scores.valid[image].any() else None


def _build(scores: Scores, image: int, cheapest: Tensor, limit: float) -> Roles:
    pixels = scores.valid[image].flatten().nonzero().squeeze(1)
    labels = scores.labels[image].flatten()[pixels]
    prediction = scores.prediction[image].flatten()[pixels]
    cheapest = cheapest[pixels]
    hits, union = tallies(labels, prediction, scores.logits.shape[1])
    classes = (union > 0).nonzero().squeeze(1)
    right = labels == prediction
    group = torch.where(right, torch.searchsorted(classes, labels), len(classes))
    group = group.masked_fill((cheapest > limit) | cheapest.isinf(), len(classes) + 1)
    order = torch.sort(group, stable=True).indices
    counts = torch.bincount(group, minlength=len(classes) + 2).tolist()
    starts = tuple(torch.tensor([0, *counts[:-2]]).cumsum(0).tolist())
    order = order[: order.numel() - counts[-1]]
    columns = scores.logits[image].flatten(1)[:, pixels[order]]
    leave = cheapest[order[: starts[-1]]]
    gain = reach_costs(columns, classes, p=scores.p, classifier=scores.classifier)
    gain[:, : starts[-1]] = torch.maximum(gain[:, : starts[-1]], leave)
    for j, k in enumerate(classes.tolist()):
        own = (labels[order] == k) | (prediction[order] == k)
        gain[j].masked_fill_(own | (gain[j] > limit), math.inf)
    lookup = torch.full((scores.logits.shape[1],), len(classes), device=classes.device)
    lookup[classes] = torch.arange(len(classes), device=classes.device)
    return Roles(
        classes=classes,
        hits=hits[classes],
        union=union[classes],
        starts=starts,
        leave=leave,
        gain=gain,
        wrong=lookup[prediction[order[starts[-1] :]]],
        pixels=pixels[order],
        logits=columns,
        items=labels.numel(),
        p=scores.p,
    )


def reach_costs(columns: Tensor, classes: Tensor, *, p: float, classifier: Classifier | None) -> Tensor:
    r"""Lower bounds of the cost, to the power p, of turning each column into each class.

    For p = 2 the water level is found from the largest logits down, for all classes together:
    :math:`c^2 = \sum_{i \le r} g_i^2 - (\sum_{i \le r} g_i)^2 / (1 + r)` grows with r until the next gap is
    under the level. Stopping early, after the `COMPETITORS` largest, forgets competitors and so stays below.

    Args:
        columns: (K, N) logits.
        classes: (J,) classes to reach.
        p: 1, 2 or inf.
        classifier: (weight,) for feature-space costs.

    Returns:
        (J, N) float64.
    """
    costs = torch.empty(len(classes), columns.shape[1], dtype=torch.float64, device=columns.device)
    if classifier is not None:
        for j, k in enumerate(classes.tolist()):
            costs[j] = power(to_cost(columns, k, p=p, classifier=classifier), p)
        return costs
    for start in range(0, columns.shape[1], CHUNK):
        logits = columns[:, start : start + CHUNK].double()
        # A running list of the largest logits; the class itself may be among them, with a gap of 0.
        largest = logits.topk(min(COMPETITORS, len(logits)) if p == 2.0 else 1, dim=0).values
        gap = largest[0] - logits[classes]
        costs[:, start : start + CHUNK] = (
            _fill(gap, largest) if p == 2.0 else (gap if p == 1.0 else gap * 0.5)
        )
    return costs


def _fill(gap: Tensor, largest: Tensor) -> Tensor:
    """Squared water-filling costs from the gaps to the largest logit, (J, N), and the largest logits, (R, N)."""
    total, squares, count = gap.clone(), gap.square(), torch.ones_like(gap)
    for follower in largest[1:]:
        own = gap - (largest[0] - follower)
        above = own * (count + 1.0) > total
        own = own * above
        total += own
        squares += own.square()
        count += above
    squared = (squares - total.square() / (count + 1.0)).clamp_min_(0.0)
    return squared.nan_to_num_(nan=math.inf, posinf=math.inf)  # nan: squares beyond float64
