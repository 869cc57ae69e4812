"""IoU and Dice of one class, exactly, by a sweep over the true positives lost."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.certify.budget import budgets, norm_of
from onelip.certify.criterion import Criterion, Eps, check_class
from onelip.certify.frontier import outline
from onelip.certify.scores import Classifier, Scores
from onelip.certify.sweep import Sweep, sweep
from onelip.core import checks


@dataclass(frozen=True)
class OverlapCriterion(Criterion):
    """A ratio of the hits and the union of one class. Subclasses say which (`ratio`, and `_union_at`).

    Undefined (nan) is an image in which the class is neither labelled nor predicted, although an attack could
    define it, as 0, by adding one false positive. `dataset_iou` counts such images.
    """

    label: int = 1
    ignore_index: int = 255

    def __post_init__(self) -> None:
        check_class("label", self.label, self.ignore_index)

    @property
    def named_class(self) -> int:
        """The class."""
        return self.label

    def exact_for(self, classes: int, classifier: Classifier | None = None) -> bool:  # noqa: ARG002
        """True in output space; feature-space costs of reaching the class are only bounds."""
        return classifier is None

    @abstractmethod
    def ratio(self, hits: Tensor, union: Tensor) -> Tensor:
        """Value for integer tensors of true positives and union, float64; nan when the union is empty."""

    @abstractmethod
    def _union_at(self, hits: Tensor, threshold: float) -> Tensor:
        """About the union at which the ratio of these hits equals the threshold."""

    def overlap(self, logits: Tensor, target: Tensor | None) -> Tensor:
        """(B, 2) int64: true positives and union of each image."""
        return self._overlap(self._scores(logits, target))

    def frontier(
        self,
        logits: Tensor,
        target: Tensor | None,
        *,
        eps: Eps,
        lipschitz: Any,
        p: float = 2,
        classifier: Classifier | None = None,
    ) -> Tensor:
        """What an attacker of a whole data set may choose from in each image; see `onelip.certify.frontier`.

        Args:
            logits: (B, K, H, W).
            target: (B, H, W) int64.
            eps: perturbation sizes.
            lipschitz: constant of the model, or one for each image.
            p: 1, 2 or inf.
            classifier: (weight,) for feature-space costs.

        Returns:
            (R, 4) int64 rows; those of several batches are joined with `torch.cat`.

        Raises:
            InputError: as `worst_case`.
        """
        scores = self._scores(logits, target, lipschitz, p, classifier)
        return self._frontier(scores, checks.eps_values(eps))

    def _frontier(self, scores: Scores, eps: Tensor) -> Tensor:
        return torch.cat([outline(one, budget) for one, budget in self._sweeps(scores, eps)])

    def _overlap(self, scores: Scores) -> Tensor:
        predicted, labelled = scores.predicts(self.label), scores.labels == self.label
        both = predicted & labelled & scores.valid
        either = (predicted | labelled) & scores.valid
        return torch.stack([both.flatten(1).sum(1), either.flatten(1).sum(1)], 1)

    def _value(self, scores: Scores) -> Tensor:
        return self.ratio(*self._overlap(scores).unbind(1))

    def _sweeps(self, scores: Scores, eps: Tensor) -> Iterator[tuple[Sweep, Tensor]]:
        items = scores.valid[0].numel()
        for image, lipschitz in enumerate(scores.lipschitz):
            budget = budgets(eps, lipschitz=lipschitz, p=scores.p, items=items)
            yield sweep(scores, image, self.label, limit=float(budget.max())), budget

    def _worst(self, scores: Scores, eps: Tensor) -> Tensor:
        columns = [one.worst(budget, self.ratio) for one, budget in self._sweeps(scores, eps)]
        return torch.stack(columns, 1)

    def _radius(self, scores: Scores, threshold: float) -> Tensor:
        radii = []
        for image, lipschitz in enumerate(scores.lipschitz):
            one = sweep(scores, image, self.label)
            spent = one.cheapest(threshold, self.ratio, lambda hits: self._union_at(hits, threshold))
            items = scores.valid[0].numel()
            found = norm_of(spent, lipschitz=lipschitz, p=scores.p, items=items)
            radii.append(found if one.union else math.nan)
        return torch.tensor(radii, dtype=torch.float64, device=scores.logits.device)


@dataclass(frozen=True)
class IoU(OverlapCriterion):
    r"""Intersection over union of one class; certified: :math:`\min_m (t - m) / (Z + n(m))`.

    t true positives, union Z; m true positives lost cost :math:`PA(m)`, and n(m) false positives are what the
    rest of the budget :math:`(L \epsilon)^p` buys. Exact in output space; with a classifier the cost of a
    false positive is a lower bound, and so is the value.

    Args:
        label: the class.
        ignore_index: label of void pixels.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[0.0, 0.0, 1.0, 3.0]], [[4.0, 4.0, 0.0, 0.0]]]])
        >>> target = torch.tensor([[[1, 1, 0, 0]]])
        >>> IoU(label=1).worst_case(logits, target, eps=[0, 1, 3], lipschitz=1.0).flatten().tolist()
        [1.0, 0.666..., 0.333...]
        >>> round(IoU(label=1).radius(logits, target, threshold=0.9, lipschitz=1.0).item(), 5)
        0.70711
    """

    def ratio(self, hits: Tensor, union: Tensor) -> Tensor:
        """Hits over union."""
        return hits.double() / union.double()

    def _union_at(self, hits: Tensor, threshold: float) -> Tensor:
        return hits / threshold


@dataclass(frozen=True)
class Dice(OverlapCriterion):
    r"""Dice coefficient of one class, :math:`2 I / (I + U)`; certified by the same sweep as `IoU`, exactly.

    Args:
        label: the class.
        ignore_index: label of void pixels.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[[0.0, 0.0, 1.0, 3.0]], [[4.0, 4.0, 0.0, 0.0]]]])
        >>> target = torch.tensor([[[1, 1, 0, 0]]])
        >>> Dice(label=1).worst_case(logits, target, eps=[0, 1, 3], lipschitz=1.0).flatten().tolist()
        [1.0, 0.8, 0.5]
    """

    def ratio(self, hits: Tensor, union: Tensor) -> Tensor:
        """Twice the hits over hits and union."""
        return 2.0 * hits.double() / (hits + union).double()

    def _union_at(self, hits: Tensor, threshold: float) -> Tensor:
        return 2.0 * hits / threshold - hits
