"""What median smoothing says about one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.models.assignment import padded
from onelip.models.boxes import SLACK, match_levels, worst_iou
from onelip.smoothing.median_slots import LABEL, SCORE, Layout, Slots


@dataclass(frozen=True, eq=False, repr=False)
class MedianDetection:
    r"""Detections of a smoothed detector on one image, and what every perturbation leaves of them.

    For each threshold t the smoothed detector D_t takes the detections of the base detector with a score above t, on
    all noisy copies of an image; bins and sorts those of each copy into slots; and answers with the median of each
    of six columns in each slot, where a copy that does not fill the slot counts as infinity. A slot with an infinite
    median is empty. The exact medians are not known: only bounds from n samples are.

    Attributes:
        slots: for each threshold the sampled medians and the bounds.
        eps: (E,) radii, l2 in [0, 1] units of the whole image.
        thresholds: (T,).
        layout: classes, size, binning and sorting.
        sigma: standard deviation of the noise.
        n: samples.
        alpha: accepted probability of error.
        seed: of the noise.
        seconds: wall time of sampling and bounds.

    Guarantee: statistical, and about the *smoothed* detectors. With probability at least 1 - alpha over the samples
    everything that `certified` and `reported` (and the bounds in `slots`) say about this image holds for all radii,
    thresholds, slots and columns at once, at every perturbation with an l2 norm <= the radius. Over N images the
    probabilities of error add up to at most N alpha. Medians are estimates. It says nothing about the base detector,
    and noise is counted as exactly Gaussian, though it is drawn as floating point numbers.
    """

    slots: tuple[Slots, ...]
    eps: Tensor
    thresholds: tuple[float, ...]
    layout: Layout
    sigma: float
    n: int
    alpha: float
    seed: int
    seconds: float

    @property
    def passes(self) -> int:
        """Forward passes: n."""
        return self.n

    def detections(self, threshold: float | None = None) -> dict[str, Tensor]:
        """Return the sampled medians: boxes (M, 4), scores (M,), labels (M,), by falling score. No guarantee.

        Args:
            threshold: one of those sampled for; the lowest by default.
        """
        medians = self.slots[self._position(threshold)].medians
        medians = medians[medians[:, SCORE].isfinite()]
        medians = medians[medians[:, SCORE].argsort(descending=True, stable=True)]
        return {"boxes": medians[:, :4], "scores": medians[:, SCORE], "labels": medians[:, LABEL].long()}

    def certified(self, target: Mapping[str, Tensor], *, iou: float = 0.5) -> Tensor:
        """Which objects are found for certain.

        An object is, when some slot is surely not empty, has surely the object's label, and has an IoU of at least
        `iou` with it wherever its sides are in their intervals. Where objects of one class overlap, the IoU has to
        be larger, `onelip.models.boxes.match_levels`: no matching can then give the slot to another object.

        Args:
            target: boxes (G, 4) and labels (G,) int64; G may be 0.
            iou: of a match.

        Returns:
            (T, E, G) bool.

        Raises:
            InputError: for an unusable target, also labels that are no classes, or IoU.
            NonFiniteError: a box holds NaN or an infinity.
        """
        boxes, labels = self.objects(target)
        level = match_levels(boxes, labels, check_iou(iou)) + SLACK
        found = []
        for slots in self.slots:
            low, high = slots.lower, slots.upper
            worst = worst_iou(low[:, :, None, :4], high[:, :, None, :4], boxes)  # (E, S, G)
            right = (low[..., LABEL, None] == labels) & (high[..., LABEL, None] == labels)
            found.append((right & (worst >= level)).any(1))
        return torch.stack(found)

    def reported(self, label: int | None = None) -> Tensor:
        """(T, E) float64: at most so many slots are not empty; inf where there are too few samples to say.

        Args:
            label: count only slots that may have this label.
        """
        if label is None:
            return torch.stack([slots.counts.sum(-1) for slots in self.slots])
        checks.number("label", label, low=0, high=self.layout.classes - 1)
        cells = self.layout.cells
        if self.layout.labelled:
            return torch.stack([s.counts[:, label * cells : (label + 1) * cells].sum(-1) for s in self.slots])
        return torch.stack([_possible(slots, label) for slots in self.slots])

    def objects(self, target: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes (G, 4) float64 and labels (G,) of a target, checked."""
        boxes, labels = padded([target])
        if labels.numel() and int(labels.max()) >= self.layout.classes:
            raise InputError(
                explain(
                    "`target` has a label that is no class",
                    received=int(labels.max()),
                    expected=f"0..{self.layout.classes - 1}",
                )
            )
        return boxes[0], labels[0]

    def _position(self, threshold: float | None) -> int:
        if threshold is None:
            return min(range(len(self.thresholds)), key=self.thresholds.__getitem__)
        if threshold not in self.thresholds:
            raise InputError(
                explain("`threshold` was not sampled for", received=threshold, expected=self.thresholds)
            )
        return self.thresholds.index(threshold)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready summary; None for a count that is not bounded."""
        reported = [[v if v < torch.inf else None for v in row] for row in self.reported().tolist()]
        return {
            "kind": "median smoothing",
            "size": list(self.layout.size),
            "classes": self.layout.classes,
            "binning": self.layout.binning,
            "sorting": self.layout.sorting,
            "thresholds": list(self.thresholds),
            "eps": self.eps.tolist(),
            "reported": reported,
            **{name: getattr(self, name) for name in ("sigma", "n", "alpha", "seed", "passes", "seconds")},
        }

    def __repr__(self) -> str:
        height, width = self.layout.size
        surely = (self.slots[self._position(None)].upper[..., SCORE] < torch.inf).sum(1).tolist()
        at = ", ".join(f"{count} at {eps:g}" for count, eps in zip(surely, self.eps.tolist(), strict=True))
        return (
            f"MedianDetection: {height}x{width}, {len(self.detections()['scores'])} detections above "
            f"{min(self.thresholds):g}; slots that no perturbation empties: {at} (l2)\n"
            f"  sigma {self.sigma:g}, bins {self.layout.binning}, sorted by {self.layout.sorting}, {self.n} passes, "
            f"{self.seconds:.3g} s; no error with probability {1 - self.alpha:g}"
        )


def check_iou(value: Any) -> float:
    """Check the IoU of a match: in (0, 1]."""
    level = checks.number("iou", value, low=0.0, high=1.0)
    if level == 0.0:
        raise InputError(explain("`iou` is zero", expected="0 < iou <= 1, as 0.5"))
    return level


def _possible(slots: Slots, label: int) -> Tensor:
    """(E,): slots that may be filled with a label."""
    filled = slots.places <= slots.counts[:, slots.bins]
    maybe = (slots.lower[..., LABEL] <= label) & (slots.upper[..., LABEL] >= label)
    return (filled & maybe).sum(1).double() + torch.where(slots.counts.isinf().any(1), torch.inf, 0.0)
