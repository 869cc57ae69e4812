"""Budgets to change connected predicted regions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onelip.certify.budget import norms_of
from onelip.certify.scores import Classifier, Scores, image_constants
from onelip.core import checks, errors

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """Connected predicted regions of a batch, with the radius of each; one list entry an image.

    Attributes:
        labels: (B, H, W) int64, number of the region of each pixel from 1 on; 0 outside of all regions.
        radius: list of (R,) float64, certified radius of each region in l_p units of the whole image.
        sizes: list of (R,) int64, pixels of each region.
        classes: list of (R,) int64, its predicted class.
        map: (B, H, W) float64, radius of the region of each pixel; nan outside of all regions.
        min_size: smallest number of pixels of a region.
        flipped: share of a region's pixels that must change their class.
        p: norm.
    """

    labels: Tensor
    radius: list[Tensor]
    sizes: list[Tensor]
    classes: list[Tensor]
    map: Tensor
    min_size: int
    flipped: float
    p: float

    def reduced(self, rounding: float) -> Components:
        """The same regions with every radius smaller by this, not below 0."""
        return replace(
            self,
            radius=[(radius - rounding).clamp_min(0.0) for radius in self.radius],
            map=(self.map - rounding).clamp_min(0.0),
        )


def component_radius(
    logits: Tensor,
    min_size: int,
    flipped: float = 0.9,
    *,
    lipschitz: Any,
    p: float = 2,
    target: Tensor | None = None,
    ignore_index: int = 255,
    classifier: Classifier | None = None,
) -> Components:
    r"""Budget to flip a share of each connected predicted region.

    A region is a maximal set of pixels of one predicted class, connected through their sides. A pixel flips
    when it leaves its predicted class. The radius of a region of s pixels is the cost of its
    :math:`\lceil \mathrm{flipped} \cdot s \rceil` cheapest flips over L: :math:`(\sum_i c_i^p)^{1/p} / L`,
    and their largest cost over L for p = inf.

    Args:
        logits: (B, K, H, W) float32 or float64.
        min_size: smaller regions are left out.
        flipped: share of the pixels, in (0, 1].
        lipschitz: joint constant of the map of logits, or one for each image. With `classifier`, the backbone's.
        p: 1, 2 or inf.
        target: (B, H, W) int64, optional: its void pixels belong to no region.
        ignore_index: label of void pixels.
        classifier: (weight,) of the last 1x1 layer, for the tighter feature-space costs.

    Returns:
        Regions and radii.

    Guarantee: sound, rounded down: no perturbation with a smaller norm flips that share of the region. Each
    region is considered alone, with the whole budget: radii do not hold for several regions jointly flipped.

    Raises:
        InputError: for invalid logits, labels, norm, constant, classifier, size or share.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 2.0, -4.0, -1.0], [0.0, 0.0, 0.0, 0.0]]).reshape(1, 2, 1, 4)
        >>> regions = component_radius(logits, 2, 1.0, lipschitz=1.0)
        >>> regions.labels.tolist(), [round(r, 4) for r in regions.radius[0].tolist()]
        ([[[1, 1, 2, 2]]], [2.0, 2.9155])
    """
    logits = checks.logits(logits).detach()
    min_size, flipped = checks.positive_int("min_size", min_size), _share(flipped)
    if target is not None:
        target = checks.target(target, logits, ignore_index)
    constants = image_constants(lipschitz, logits.shape[0])
    scores = Scores(logits, target, ignore_index, constants, checks.norm(p), classifier)
    costs = scores.leave_cost(scores.prediction)
    regions = []
    for index, constant in enumerate(constants):
        prediction = np.where(scores.valid[index].cpu().numpy(), scores.prediction[index].cpu().numpy(), -1)
        labels, classes = label_regions(prediction, min_size)
        sizes = np.bincount(labels.ravel(), minlength=len(classes) + 1)[1:]
        spent = _spent(labels, costs[index].cpu().numpy(), sizes, _needed(sizes, flipped), scores.p)
        radius = norms_of(torch.from_numpy(spent), lipschitz=constant, p=scores.p, items=labels.size)
        regions.append((labels, classes, sizes, radius))
    device = logits.device
    return Components(
        labels=torch.stack([torch.from_numpy(labels) for labels, *_ in regions]).to(device),
        radius=[radius.to(device) for *_, radius in regions],
        sizes=[torch.from_numpy(sizes).to(device) for _, _, sizes, _ in regions],
        classes=[torch.from_numpy(classes).to(device) for _, classes, _, _ in regions],
        map=torch.stack([_paint(labels, radius) for labels, _, _, radius in regions]).to(device),
        min_size=min_size,
        flipped=flipped,
        p=scores.p,
    )


def _share(flipped: Any) -> float:
    share = checks.number("flipped", flipped, low=0.0, high=1.0)
    if share == 0.0:
        raise errors.InputError(errors.explain("`flipped` is zero", expected="a share in (0, 1]"))
    return share


def label_regions(prediction: Integers, min_size: int) -> tuple[Integers, Integers]:
    """Number the connected regions of each class of (H, W) from 1 on, class by class; negative classes are none.

    Returns:
        (H, W) numbers, 0 for small regions and negative classes; (R,) classes.
    """
    from scipy import ndimage

    labels = np.zeros(prediction.shape, dtype=np.int64)
    classes: list[Integers] = []
    count = 0
    for k in np.unique(prediction[prediction >= 0]):
        own, _ = ndimage.label(prediction == k)
        kept = np.bincount(own.ravel()) >= min_size
        kept[0] = False
        number = np.where(kept, kept.cumsum() + count, 0)
        labels += number[own]
        classes.append(np.full(kept.sum(), k, dtype=np.int64))
        count += int(kept.sum())
    return labels, np.concatenate(classes) if classes else np.zeros(0, dtype=np.int64)


def _needed(sizes: Integers, flipped: float) -> Integers:
    """Smallest number of pixels whose share of the region is at least `flipped`, by that very comparison."""
    needed: Integers = np.ceil(flipped * sizes).astype(np.int64)
    needed += needed / sizes < flipped
    needed -= (needed - 1) / sizes >= flipped
    return needed


def _spent(labels: Integers, costs: Floats, sizes: Integers, needed: Integers, p: float) -> Floats:
    """What the `needed` cheapest pixels of each region cost together, to the power p."""
    inside = labels > 0
    number, cost = labels[inside] - 1, costs[inside]
    order = np.lexsort((cost, number))
    number, cost = number[order], cost[order]
    if p == 2.0:
        cost = np.square(cost)
    first = np.concatenate([[0], sizes.cumsum()])
    if p == math.inf:
        last: Floats = cost[first[:-1] + needed - 1]
        return last
    taken = np.arange(len(cost)) - first[number] < needed[number]
    starts = np.concatenate([[0], needed.cumsum()])[:-1]
    spent: Floats = np.add.reduceat(cost[taken], starts) if len(starts) else np.zeros(0)
    return spent


def _paint(labels: Integers, radius: Tensor) -> Tensor:
    return torch.cat([radius.new_full((1,), math.nan), radius])[torch.from_numpy(labels)]
