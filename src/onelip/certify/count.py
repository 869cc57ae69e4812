"""Criteria that count pixels: the cheapest flips first, exactly, for all eps with one sort."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onelip.certify.budget import affordable, budgets, price, running_cost
from onelip.certify.criterion import Criterion, check_class
from onelip.certify.scores import Scores


class CountCriterion(Criterion):
    """A share of pixels that keep a label: all have the same worth, so buying the cheapest first is optimal.

    Subclasses say which pixels count (`_counted`) and which labels they should keep (`_labels`).
    """

    @abstractmethod
    def _counted(self, scores: Scores) -> Tensor:
        """(B, H, W) bool: pixels of the denominator."""

    @abstractmethod
    def _labels(self, scores: Scores) -> Tensor:
        """(B, H, W) int64: the class each counted pixel should keep."""

    def _score(self, kept: int, total: int) -> float:
        """Value of the criterion when `kept` of `total` pixels keep their label; nan when there are none."""
        if total == 0:
            return math.nan
        return (kept if self.higher_is_better else total - kept) / total

    def counted(self, logits: Tensor, target: Tensor | None = None) -> Tensor:
        """(B,) int64: pixels in the denominator of each image, the weights of a micro average."""
        return self._counted(self._scores(logits, target)).flatten(1).sum(1)

    def _value(self, scores: Scores) -> Tensor:
        counted = self._counted(scores)
        kept = (scores.prediction == self._labels(scores)) & counted
        pairs = zip(kept.flatten(1).sum(1).tolist(), counted.flatten(1).sum(1).tolist(), strict=True)
        return torch.tensor(
            [self._score(*pair) for pair in pairs], dtype=torch.float64, device=counted.device
        )

    def _costs(self, scores: Scores) -> list[tuple[Tensor, int]]:
        """For each image the costs of the pixels that can be lost, ties included, and how many count."""
        counted = self._counted(scores).flatten(1)
        costs = scores.leave_cost(self._labels(scores)).flatten(1)
        items = counted & (costs >= 0.0)
        return [(c[i], int(n)) for c, i, n in zip(costs, items, counted.sum(1).tolist(), strict=True)]

    def _worst(self, scores: Scores, eps: Tensor) -> Tensor:
        columns = []
        for (costs, total), lipschitz in zip(self._costs(scores), scores.lipschitz, strict=True):
            items = costs.numel()
            budget = budgets(eps, lipschitz=lipschitz, p=scores.p, items=items)
            running = running_cost(costs, scores.p, limit=float(budget.max()))
            kept = items - affordable(running, budget)
            columns.append([self._score(k, total) for k in kept.tolist()])
        return torch.tensor(columns, dtype=torch.float64, device=scores.logits.device).T

    def _radius(self, scores: Scores, threshold: float) -> Tensor:
        radii = []
        for (costs, total), lipschitz in zip(self._costs(scores), scores.lipschitz, strict=True):
            items = costs.numel()
            flips = self._flips_needed(items, total, threshold)
            running = running_cost(costs, scores.p)
            found = price(running, flips, lipschitz=lipschitz, p=scores.p, items=items)
            radii.append(found if total else math.nan)
        return torch.tensor(radii, dtype=torch.float64, device=scores.logits.device)

    def _flips_needed(self, items: int, total: int, threshold: float) -> int:
        """Smallest number of flips that reaches the threshold; items + 1 when none does.

        Bisection on the very comparison a caller would make, `value <= threshold` in float64: no product
        `threshold * total` that could be off by one.
        """
        low, high = 0, items + 1
        while low < high:
            middle = (low + high) // 2
            value = self._score(items - middle, total)
            reached = value <= threshold if self.higher_is_better else value >= threshold
            low, high = (low, middle) if reached else (middle + 1, high)
        return low


@dataclass(frozen=True)
class PixelAccuracy(CountCriterion):
    r"""Share of the valid pixels with the right class; certified: :math:`(n_c - N(\epsilon)) / |S|`.

    N is the largest number of correct pixels that fits into the budget :math:`(L \epsilon)^p`. Exact in
    output space. Void pixels are removed first; an image without valid pixels is undefined (nan).

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]], [[0.0, 0.0, 0.0, 0.0]]]])
        >>> target = torch.zeros(1, 1, 4, dtype=torch.int64)
        >>> PixelAccuracy().worst_case(logits, target, eps=[0, 1, 2], lipschitz=1.0).flatten().tolist()
        [1.0, 0.75, 0.5]
        >>> round(PixelAccuracy().radius(logits, target, threshold=0.5, lipschitz=1.0).item(), 5)
        1.58114
    """

    ignore_index: int = 255

    def _counted(self, scores: Scores) -> Tensor:
        return scores.valid

    def _labels(self, scores: Scores) -> Tensor:
        return scores.labels


@dataclass(frozen=True)
class Stability(CountCriterion):
    """Share of the pixels that keep their predicted class; needs no labels. Exact in output space.

    The clean value is 1. With a target, void pixels are left out and its labels play no part.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[2.0, 2.0]], [[0.0, 0.0]]]])
        >>> Stability().worst_case(logits, eps=[1.4, 1.42, 2.01], lipschitz=1.0).flatten().tolist()
        [1.0, 0.5, 0.0]
    """

    needs_target: ClassVar[bool] = False
    ignore_index: int = 255

    def _counted(self, scores: Scores) -> Tensor:
        return scores.valid

    def _labels(self, scores: Scores) -> Tensor:
        return scores.prediction


@dataclass(frozen=True)
class Recall(CountCriterion):
    r"""Share of the pixels of one class that are found; certified: :math:`(TP - N(\epsilon)) / P`.

    N is the largest number of true positives that fits into the budget :math:`(L \epsilon)^p`. Exact in
    output space. An image without pixels of the class is undefined (nan).

    Args:
        positive: the class.
        ignore_index: label of void pixels.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[0.0, 0.0, 9.0]], [[1.0, 2.0, 0.0]]]])
        >>> target = torch.tensor([[[1, 1, 0]]])
        >>> Recall(positive=1).worst_case(logits, target, eps=[0, 1, 2], lipschitz=1.0).flatten().tolist()
        [1.0, 0.5, 0.0]
    """

    positive: int = 1
    ignore_index: int = 255

    def __post_init__(self) -> None:
        check_class("positive", self.positive, self.ignore_index)

    @property
    def named_class(self) -> int:
        """The positive class."""
        return self.positive

    def _counted(self, scores: Scores) -> Tensor:
        return scores.valid & (scores.labels == self.positive)

    def _labels(self, scores: Scores) -> Tensor:
        return scores.labels


@dataclass(frozen=True)
class FalseNegativeRate(Recall):
    r"""Share of the pixels of one class that are missed; certified: :math:`(FN + N(\epsilon)) / P`.

    An error rate: certified values are upper bounds, and `radius` is up to where the rate stays below the
    threshold. One minus `Recall`, exact in output space.

    Args:
        positive: the class.
        ignore_index: label of void pixels.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[0.0, 0.0, 0.0, 0.0]], [[1.0, 2.0, 3.0, 4.0]]]])
        >>> target = torch.ones(1, 1, 4, dtype=torch.int64)
        >>> rate = FalseNegativeRate(positive=1)
        >>> rate.worst_case(logits, target, eps=[0, 1, 2], lipschitz=1.0).flatten().tolist()
        [0.0, 0.25, 0.5]
        >>> round(rate.radius(logits, target, threshold=0.5, lipschitz=1.0).item(), 5)
        1.58114
    """

    higher_is_better: ClassVar[bool] = False
