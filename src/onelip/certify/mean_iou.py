"""Mean IoU over the classes with labels: exact for two classes, a Lagrangian bound for more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from onelip.certify import output_attack, roles
from onelip.certify.binary import binary
from onelip.certify.budget import budgets, norm_of
from onelip.certify.criterion import Criterion, Eps
from onelip.certify.dual_search import bounds, largest_budget
from onelip.certify.roles import Roles, mean_iou, tallies
from onelip.certify.scores import Classifier, Scores
from onelip.core import checks


@dataclass(frozen=True)
class MeanIoU(Criterion):
    r"""Mean over the label-present classes of :math:`|A_k \cap B_k| / |A_k \cup B_k|`.

    A class counts when a valid pixel carries its label. (If predicted classes counted too, one flipped pixel
    would open a class with IoU 0.) An image without valid pixels is undefined (nan).

    Two logits: the worst case and the radius are exact in output space. More logits: the worst case is the
    larger of two sound lower bounds, every class attacked alone with the whole budget, and a Lagrangian bound in
    which the classes share it (for p = inf nothing is shared and only the first is computed); the radius is the
    largest eps found at which the certified worst case is above the threshold, to about 0.1 %. The Lagrangian
    bound rests on a search: two calls with other eps beside one may differ a little there, both soundly.
    `attainable` is the value of an explicit attack on the logits: the gap to it says how tight the bound is.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> logits = torch.randn(1, 3, 8, 8, generator=generator, dtype=torch.float64)
        >>> target, eps = logits.argmax(1), [0.0, 0.2, 1.0]
        >>> certified = MeanIoU().worst_case(logits, target, eps=eps, lipschitz=1.0)
        >>> attained = MeanIoU().attainable(logits, target, eps=eps, lipschitz=1.0)
        >>> bool((certified <= attained).all()), MeanIoU().exact_for(2), MeanIoU().exact_for(3)
        (True, True, False)
    """

    exact: ClassVar[bool] = False
    ignore_index: int = 255

    def exact_for(self, classes: int, classifier: Classifier | None = None) -> bool:  # noqa: ARG002
        """Whether worst case and radius are attained in output (or feature) space: for two logits."""
        return classes == 2

    def attainable(self, logits: Tensor, target: Tensor, *, eps: Eps, lipschitz: Any, p: float = 2) -> Tensor:
        r"""Value after an explicit change of the logits of norm at most :math:`L \epsilon`: an upper end.

        `worst_case` <= `attainable` <= `value`. The flips with the largest loss of mean IoU for their cost are
        bought first, with losses taken anew at the result, several times; the best relabelling is kept.

        Args:
            logits: (B, K, H, W) clean logits.
            target: (B, H, W) int64.
            eps: as in `worst_case`.
            lipschitz: as in `worst_case`.
            p: 1, 2 or inf.

        Returns:
            (E, B) float64; nan where the value is undefined.

        Guarantee: attained by logits within the budget; no statement about images, since no perturbation of
        the image need produce these logits.

        Raises:
            InputError: as `worst_case`.
        """
        values, scores = checks.eps_values(eps), self._scores(logits, target, lipschitz, p)
        return self._each(scores, values, output_attack.curve)

    def _value(self, scores: Scores) -> Tensor:
        values = []
        for labels, prediction, valid in zip(scores.labels, scores.prediction, scores.valid, strict=True):
            hits, union = tallies(labels[valid], prediction[valid], scores.logits.shape[1])
            values.append(mean_iou(hits, union))
        return torch.stack(values)

    def _worst(self, scores: Scores, eps: Tensor) -> Tensor:
        if scores.logits.shape[1] == 2:
            columns = [
                [math.nan] * len(eps)
                if image is None
                else image.worst(budgets(eps, lipschitz=lipschitz, p=scores.p, items=image.items))
                for image, lipschitz in zip(binary(scores), scores.lipschitz, strict=True)
            ]
            return torch.tensor(columns, dtype=torch.float64, device=scores.logits.device).T
        return self._each(scores, eps, bounds)

    def _each(self, scores: Scores, eps: Tensor, columns: Callable[[Roles, Tensor], list[float]]) -> Tensor:
        """(E, B): one column for each image from its roles and its budgets."""
        items = scores.valid.flatten(1).sum(1).tolist()
        limits = [
            budgets(eps, lipschitz=lipschitz, p=scores.p, items=n)
            for lipschitz, n in zip(scores.lipschitz, items, strict=True)
        ]
        images = roles.build(scores, [float(limit.max()) for limit in limits])
        result = [
            [math.nan] * len(eps) if image is None else columns(image, limit)
            for image, limit in zip(images, limits, strict=True)
        ]
        return torch.tensor(result, dtype=torch.float64, device=scores.logits.device).T

    def _radius(self, scores: Scores, threshold: float) -> Tensor:
        spent: Iterator[tuple[float, int] | None]
        if scores.logits.shape[1] == 2:
            spent = (
                (pair.spent_to_reach(threshold), pair.items) if pair else None for pair in binary(scores)
            )
        else:
            images = roles.build(scores, [math.inf] * len(scores.lipschitz))
            spent = ((largest_budget(image, threshold), image.items) if image else None for image in images)
        radii = [
            norm_of(found[0], lipschitz=lipschitz, p=scores.p, items=found[1]) if found else math.nan
            for found, lipschitz in zip(spent, scores.lipschitz, strict=True)
        ]
        return torch.tensor(radii, dtype=torch.float64, device=scores.logits.device)
