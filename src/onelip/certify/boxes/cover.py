r"""At most how many detections remain: candidates in groups of which suppression keeps one.

Candidates of one class whose boxes overlap beyond the limit of suppression, wherever they move within the budget,

.. math:: 1 - \mathrm{IoU}(b_i, b_j) + \sqrt{k_i^2 + k_j^2} \, \rho < 1 - \tau

cannot both be kept. Groups in which this holds for every pair send at most one detection each, whichever of their
members still fire; every new candidate may send one more. That a new candidate may free others of the old ones does
not matter here: they are in their groups already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onelip.certify.boxes.geometry import table
from onelip.certify.boxes.scene import Scene
from onelip.models.boxes import SLACK

LARGEST = 2**12
"""Candidates of a class that are grouped, the highest; each further one counts alone."""


@dataclass(frozen=True, eq=False)
class Cover:
    """Groups of the candidates of one image, for all thresholds from a floor on; found once for each budget.

    Attributes:
        scene: the image, with a Lipschitz regression.
        floor: lowest threshold of the logits that will be asked for.
    """

    scene: Scene
    floor: float
    _groups: dict[tuple[int, float], tuple[Tensor, Tensor]] = field(default_factory=dict)
    _pairs: dict[int, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)  # of the class in work

    def count(self, k: int, theta: float, budget: Tensor) -> Tensor:
        """(E,) int64: groups of the candidates of class k above a threshold, never falling with the budget.

        A group that holds for a budget holds for every smaller one.
        """
        found = torch.stack([self._count(k, theta, float(value)) for value in budget])
        order = budget.argsort(descending=True)
        least = found[order].cummin(0).values
        return torch.empty_like(found).scatter_(0, order, least)

    def _count(self, k: int, theta: float, budget: float) -> Tensor:
        if (k, budget) not in self._groups:
            self._groups[k, budget] = self._first_fit(k, budget)
        logits, groups = self._groups[k, budget]
        above = int((logits > theta).sum())
        return groups[above]

    def _first_fit(self, k: int, budget: float) -> tuple[Tensor, Tensor]:
        """Logits of the candidates, falling; groups among the first 0, 1, 2, ... of them."""
        if k not in self._pairs:
            self._pairs.clear()
            self._pairs[k] = self._measure(k)
        logits, distance, speed = self._pairs[k]
        close = distance + speed * budget**0.5 < 1.0 - self.scene.settings.nms - SLACK
        groups = torch.from_numpy(first_fit(close.numpy()))
        alone = groups[-1] + torch.arange(1, len(logits) - len(distance) + 1)
        return logits, torch.cat([groups, alone])

    def _measure(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the candidates of class k, falling; distances of the first, and how fast they rise."""
        column = self.scene.logits[:, k]
        place = (column > self.floor).nonzero()[:, 0]
        place = place[column[place].argsort(descending=True, stable=True)]
        first = place[:LARGEST]
        boxes = self.scene.decoded[first]
        return column[place], 1.0 - table(boxes, boxes), self.scene.pair_rate(first, first)


def first_fit(close: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Put each item into the first group all of whose members are close to it; (n + 1,) groups after each item.

    >>> first_fit(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=bool)).tolist()
    [0, 1, 1, 2]
    """
    items = len(close)
    common = np.zeros((items, items), dtype=bool)  # [g, i]: item i is close to all members of group g
    counts = np.zeros(items + 1, dtype=np.int64)
    groups = 0
    for item in range(items):
        fits = common[:groups, item]
        group = int(fits.argmax()) if fits.any() else groups
        if group == groups:
            common[group] = close[item]
            groups += 1
        else:
            common[group] &= close[item]
        counts[item + 1] = groups
    return counts
