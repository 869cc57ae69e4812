"""From detections of noisy copies to slots: sorted, binned places, each with its medians and their bounds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.smoothing.median_bounds import COLUMNS, Ranks

Array = NDArray[np.float64]
BINNINGS = ("none", "label", "location", "label+location")
SORTINGS = ("objectness", "location")
GRID = 3  # location bins are 3 x 3
LABEL, SCORE = 4, 5  # columns after x1, y1, x2, y2


@dataclass(frozen=True)
class Layout:
    """How detections are put into bins, and in which order inside each.

    Attributes:
        binning: "none", "label", "location" (3 x 3 cells of the image, by the centre) or "label+location".
        sorting: "objectness", falling, or "location", centres from left to right.
        classes: K.
        size: (h, w).
    """

    binning: str
    sorting: str
    classes: int
    size: tuple[int, int]

    @property
    def labelled(self) -> bool:
        """Whether all detections of a bin have the same label."""
        return "label" in self.binning

    @property
    def cells(self) -> int:
        """Location bins."""
        return GRID * GRID if "location" in self.binning else 1

    @property
    def bins(self) -> int:
        """All bins: those of class k are k * cells, ..., (k + 1) * cells - 1 if it is labelled."""
        return self.cells * (self.classes if self.labelled else 1)

    def bin(self, values: Array) -> NDArray[np.int64]:
        """(M,): the bins of detections (M, 6)."""
        found = np.zeros(len(values), dtype=np.int64)
        if self.cells > 1:
            centre = (values[:, :2] + values[:, 2:4]) / 2
            cell = np.clip(np.floor(GRID * centre / np.array(self.size[::-1])), 0, GRID - 1).astype(np.int64)
            found = cell[:, 1] * GRID + cell[:, 0]
        if self.labelled:
            found += self.cells * values[:, LABEL].astype(np.int64)
        return found

    def order(self, values: Array, *first: NDArray[np.int64]) -> NDArray[np.int64]:
        """(M,): the permutation that sorts by `first`, then as `sorting` says; ties by everything else."""
        x, y = values[:, 0] + values[:, 2], values[:, 1] + values[:, 3]
        score, rest = -values[:, SCORE], (values[:, 0], values[:, 1], values[:, LABEL])
        keys = (score, x, y, *rest) if self.sorting == "objectness" else (x, y, *rest, score)
        return np.lexsort((*first, *keys)[::-1])


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots of one threshold.

    A slot of which too few copies have a detection is empty, which is infinity in every column. So `upper` is finite
    where a slot is surely not empty, and `lower` is infinite where it surely is.

    Attributes:
        bins: (S,) int64.
        places: (S,) int64, from 1, in the order inside its bin.
        medians: (S, 6) x1, y1, x2, y2, label, score; infinite where less than half of the copies have it.
        lower: (E, S, 6), -inf where there are too few samples.
        upper: (E, S, 6), inf where it may be empty.
        counts: (E, bins), at most so many slots of each bin are not empty; inf where there are too few samples.
    """

    bins: Tensor
    places: Tensor
    medians: Tensor
    lower: Tensor
    upper: Tensor
    counts: Tensor


class Samples:
    """Detections of all copies, as rows of one array: images are forgotten at once.

    Args:
        layout: classes and size of the image, bins and order.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.copies = 0
        self._parts: list[tuple[Array, NDArray[np.int64]]] = []

    def add(self, predictions: Any, count: int) -> None:
        """Take the predictions of `count` copies."""
        if not isinstance(predictions, Sequence) or len(predictions) != count:
            raise _wrong(type(predictions).__name__, f"a list of {count} dicts, one for each copy")
        for found in predictions:
            rows = self._rows(found)
            self._parts.append((rows, np.full(len(rows), self.copies, dtype=np.int64)))
            self.copies += 1

    def _rows(self, found: Any) -> Array:
        keys = ("boxes", "labels", "scores")
        if not isinstance(found, Mapping) or not all(isinstance(found.get(key), Tensor) for key in keys):
            raise _wrong(sorted(found) if isinstance(found, Mapping) else type(found).__name__, "tensors")
        boxes, labels, scores = (found[key].detach().double().cpu() for key in keys)
        count = len(labels)
        if (tuple(boxes.shape), tuple(labels.shape), tuple(scores.shape)) != ((count, 4), (count,), (count,)):
            raise _wrong([tuple(found[key].shape) for key in keys], "boxes (M, 4), labels (M,), scores (M,)")
        rows = torch.cat([boxes, labels[:, None], scores[:, None]], 1)
        checks.finite("detections of the noisy copies", rows)
        if not bool(((labels >= 0) & (labels < self.layout.classes) & (labels == labels.floor())).all()):
            raise _wrong(f"labels {labels.unique().tolist()[:8]}", f"labels 0..{self.layout.classes - 1}")
        return rows.numpy()

    def slots(self, threshold: float, ranks: Ranks) -> Slots:
        """Medians and bounds of the detections with a score above the threshold."""
        values = np.concatenate([np.empty((0, COLUMNS)), *(rows for rows, _ in self._parts)])
        copy = np.concatenate([np.empty(0, dtype=np.int64), *(index for _, index in self._parts)])
        kept = values[:, SCORE] > threshold
        values, copy = values[kept], copy[kept]
        bins = self.layout.bin(values)
        order = self.layout.order(values, copy, bins)
        values, bins, group = values[order], bins[order], (copy * self.layout.bins + bins)[order]
        # Groups are the bins of copies and stand together: a place is the distance to the group's beginning.
        places = np.arange(len(group)) - np.searchsorted(group, group) + 1
        counts = np.bincount(group, minlength=self.copies * self.layout.bins).reshape(self.copies, -1)
        counts.sort(axis=0)
        bound = _statistics(counts.astype(np.float64), ranks.upper(), self.copies)
        last = np.where(np.isinf(bound).any(0), counts[-1], bound.max(0))  # later slots are surely empty
        wanted = places <= last[bins]
        return self._bounds(values[wanted], bins[wanted], places[wanted], bound, ranks)

    def _bounds(
        self, values: Array, bins: NDArray[np.int64], places: NDArray[np.int64], counts: Array, ranks: Ranks
    ) -> Slots:
        order = np.lexsort((places, bins))
        values, names = values[order], np.stack([bins, places], 1)[order]
        names, starts = np.unique(names, axis=0, return_index=True)
        found = np.empty((1 + 2 * len(counts), len(names), COLUMNS))
        for slot, (start, end) in enumerate(itertools.pairwise([*starts, len(values)])):
            place = int(names[slot, 1])
            which = np.concatenate([[(self.copies + 1) // 2], ranks.lower(place), ranks.upper(place)])
            found[:, slot] = _statistics(np.sort(values[start:end], axis=0), which, self.copies)
        medians, lower, upper = torch.from_numpy(found).split([1, len(counts), len(counts)])
        bins_, places_ = (torch.from_numpy(names[:, side].copy()) for side in (0, 1))
        return Slots(bins_, places_, medians[0], lower, upper, torch.from_numpy(counts))


def _statistics(rising: Array, ranks: NDArray[np.int64], n: int) -> Array:
    """(R, C): rows of these ranks, of a sorted (m, C) to which n - m rows of infinity belong; -inf for rank 0."""
    found = np.full((len(ranks), rising.shape[1]), math.inf)
    there = (ranks >= 1) & (ranks <= min(len(rising), n))
    found[there] = rising[ranks[there] - 1]
    found[ranks < 1] = -math.inf
    return found


def _wrong(received: object, expected: str) -> InputError:
    return InputError(
        explain(
            "smoothing: the model's `predict` does not answer with detections",
            received=received,
            expected=f"{expected}; each dict has boxes (M, 4), scores (M,), labels (M,) from 0",
        )
    )
