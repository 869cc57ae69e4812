"""Median smoothing: certified detections of a smoothed detector, in one call."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.models.detection import Detector
from onelip.smoothing.copies import Copies
from onelip.smoothing.counts import FeasibilityWarning, check_alpha, smallest_n
from onelip.smoothing.median_bounds import Ranks
from onelip.smoothing.median_result import MedianDetection
from onelip.smoothing.median_slots import BINNINGS, SORTINGS, Layout, Samples
from onelip.smoothing.sampling import Progress


def median_detection(
    model: Any,
    image: Tensor,
    *,
    sigma: float = 0.25,
    eps: float | Sequence[float] = (0.1, 0.25),
    n: int = 2000,
    alpha: float = 1e-3,
    threshold: float | Sequence[float] = 0.5,
    binning: str = "label",
    sorting: str = "objectness",
    classes: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> MedianDetection:
    r"""Certify the detections of a smoothed detector for one image, by sampling.

    The detections of n noisy copies are put into bins and sorted; the j-th of each bin, over all copies, is a slot.
    The smoothed detector answers with the medians of a slot's sides, label and score, which within :math:`\epsilon`
    stay between the quantiles :math:`\Phi(\mp \epsilon / \sigma)` of its samples' distribution; order statistics
    bound these. Bins keep neighbours in the order apart: one lost detection moves all that follow it in its bin.

    Args:
        model: anything with `predict(images, threshold)` -> for each image boxes (M, 4), scores (M,) and labels (M,)
            from 0. A module has to be in eval mode; it runs in its own precision. Fold it first.
        image: (C, H, W) or (1, C, H, W), in [0, 1].
        sigma: standard deviation of the noise, in these units, not clipped.
        eps: radii, l2 norms of the whole perturbation; all are answered from the same samples.
        n: samples.
        alpha: accepted probability of error, for the whole image: all radii, thresholds, bins, slots and columns.
            More of them, asked for at once, cost samples or tightness (`Ranks` says how alpha is shared).
        threshold: of the scores; several, for average precision, are answered from the same samples.
        binning: "none", "label", "location" (3 x 3) or "label+location".
        sorting: "objectness" or "location".
        classes: K, by default the model's own attribute.
        seed: of the noise.
        batch_size: copies in one forward pass; the answer does not depend on it.
        progress: called with the copies done and in all.

    Returns:
        Medians and bounds, with passes and seconds; `median_scores` makes recall, precision and average precision.

    Guarantee: statistical, about the smoothed detector: see `MedianDetection`. The model must treat the images of a
    batch independently.

    Cost: n forward passes, memory for one batch and all detections.

    Raises:
        TrainModeError: the model is in train mode.
        InputError: for unusable images or arguments, or predictions that are no detections.
        NonFiniteError: a box or score is NaN or infinite.

    Warns:
        FeasibilityWarning: n is too small for any slot at a radius, said before the sampling begins.

    Example:
        >>> class Follower:  # a box whose sides follow the brightness
        ...     classes = 1
        ...     def predict(self, images, threshold):
        ...         sides = torch.tensor([2.0, 2.0, 6.0, 6.0]) + images.mean((1, 2, 3))[:, None]
        ...         one, label = torch.ones(1), torch.zeros(1, dtype=torch.int64)
        ...         return [dict(boxes=box[None], scores=one, labels=label) for box in sides]
        >>> image = torch.full((3, 8, 8), 0.5)
        >>> result = median_detection(Follower(), image, sigma=0.2, eps=[0.1, 0.4], n=500)
        >>> target = dict(boxes=torch.tensor([[2.0, 2.0, 6.0, 6.0]]), labels=torch.tensor([0]))
        >>> result.certified(target).tolist(), result.reported().tolist(), result.passes
        ([[[True], [True]]], [[1.0, 1.0]], 500)

    Source: P. Chiang, M. Curry, A. Abdelkader, A. Kumar, J. Dickerson, T. Goldstein, Detection as regression:
    certified object detection by median smoothing, NeurIPS 2020; with the ranks that the binomial law gives and a
    union bound over all of them, where the paper's are for one number at a time.
    """
    started = time.perf_counter()
    radii, levels = checks.eps_values(eps), _thresholds(threshold)
    checks.positive_int("n", n)
    predict = _predict(model)
    copies = Copies(model, image, sigma, seed, batch_size)
    layout = _layout(
        binning, sorting, getattr(model, "classes", None) if classes is None else classes, copies
    )
    families = len(radii) * len(levels) * layout.bins
    ranks = Ranks(n, radii.tolist(), copies.sigma, check_alpha(alpha), families)
    _warn_if_hopeless(radii, ranks)
    samples = Samples(layout)
    for noisy in copies.batches(n):
        with torch.no_grad(), torch.autocast(noisy.device.type, enabled=False):
            samples.add(predict(noisy, min(levels)), len(noisy))
        if progress is not None:
            progress(samples.copies, n)
    slots = tuple(samples.slots(level, ranks) for level in levels)
    seconds = copies.clock() - started
    return MedianDetection(slots, radii, levels, layout, copies.sigma, n, alpha, seed, seconds)


def _predict(model: Any) -> Callable[[Tensor, float], Any]:
    """The model's `predict`, for images that leave [0, 1]."""
    if isinstance(model, Detector):
        return model.detect
    predict: Callable[[Tensor, float], Any] | None = getattr(model, "predict", None)
    if not callable(predict):
        raise InputError(
            explain(
                "the model is not a detector",
                received=f"{type(model).__name__} without `predict`",
                expected="predict(images, threshold) -> a list of dicts of boxes, scores, labels",
                fix="for a dense model use segcertify",
            )
        )
    return predict


def _thresholds(value: Any) -> tuple[float, ...]:
    """One or more numbers in [0, 1), all different."""
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    levels = tuple(checks.number("threshold", level, low=0.0, high=1.0) for level in given)
    if not levels or len(set(levels)) < len(levels) or max(levels) == 1.0:
        raise InputError(
            explain("`threshold` is not usable", received=given, expected="different numbers in [0, 1)")
        )
    return levels


def _layout(binning: str, sorting: str, classes: Any, copies: Copies) -> Layout:
    for name, value, known in (("binning", binning, BINNINGS), ("sorting", sorting, SORTINGS)):
        if value not in known:
            raise InputError(explain(f"`{name}` is unknown", received=repr(value), expected=", ".join(known)))
    return Layout(binning, sorting, checks.positive_int("classes", classes), copies.size)


def _warn_if_hopeless(eps: Tensor, ranks: Ranks) -> None:
    """Warn of radii at which n samples bound no slot from above, and say how many samples could."""
    hopeless = [i for i, rank in enumerate(ranks.upper(1).tolist()) if rank > ranks.n]
    if not hopeless:
        return
    worst = max(hopeless, key=lambda i: float(eps[i]))
    share, needed = ranks.shares[worst], "a larger sigma: no number of samples is enough"
    if share < 1.0:
        needed = f"n >= {smallest_n(1, share, ranks.slot_risk(1), 'bonferroni')}"
    warnings.warn(
        explain(
            "smoothing: nothing can be certified at some radii",
            received=f"n={ranks.n} samples for eps={[float(eps[i]) for i in hopeless]}",
            expected=f"{needed}, for the largest of them",
            why="even unanimous samples leave too large a probability of error",
            fix="more samples, a larger sigma, a smaller eps, or fewer bins, radii and thresholds at once",
        ),
        FeasibilityWarning,
        stacklevel=3,
    )
