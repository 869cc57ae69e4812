"""What a certificate of detections is computed with: the images as scenes, their worst cases, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.certify.boxes import pooled
from onelip.certify.boxes.outcome import Judge, Outcome
from onelip.certify.boxes.scene import Scene, Settings, scenes
from onelip.core import checks, errors

if TYPE_CHECKING:
    from onelip.certify.criterion import Eps
    from onelip.models.detection import Raw, Target

LOWEST = 0.05
"""Score from which on average precision is measured."""
GRID = 16


class JudgedBatch:
    """Heads, objects and constants of a batch, and the worst cases of its images."""

    raw: Raw
    size: tuple[int, int]
    targets: list[Target] | None
    theta: float
    temperature: float
    settings: Settings

    @cached_property
    def scenes(self) -> list[Scene]:
        """One for each image."""
        z, r, points, strides = self.raw
        return scenes(z, r, points, strides, self.size, self.targets, self.settings)

    @cached_property
    def _judges(self) -> dict[tuple[float, float], list[Judge]]:
        return {}

    def judges(self, iou: float = 0.5, floor: float | None = None) -> list[Judge]:
        """One for each image, made once for each IoU and lowest threshold of the logits, usually that of score 0.05."""
        lowest = min(self.theta, self.logit(LOWEST))
        key = (iou, lowest if floor is None else min(lowest, floor))
        if key not in self._judges:
            self._judges[key] = [Judge(scene, key[1], key[0]) for scene in self.scenes]
        return self._judges[key]

    def outcomes(
        self, theta: float, eps: Tensor, iou: float = 0.5, *, floor: float | None = None
    ) -> list[Outcome]:
        """Worst cases of every image at a threshold of the logits, all classes together."""
        return [row[0] for row in self.class_outcomes(theta, eps, [None], iou, floor=floor)]

    def class_outcomes(
        self,
        theta: float,
        eps: Tensor,
        classes: Sequence[int | None],
        iou: float = 0.5,
        *,
        floor: float | None = None,
    ) -> list[list[Outcome]]:
        """For every image the worst cases of several classes, each with the whole budget."""
        level = check_iou(iou)
        return [
            judge.outcomes(theta, judge.scene.budget(eps), list(classes))
            for judge in self.judges(level, theta if floor is None else floor)
        ]

    def average_precision(
        self,
        eps: Eps,
        iou: float | Sequence[float] = 0.5,
        *,
        thresholds: Sequence[float] | None = None,
        interpolation: str = "all",
    ) -> Tensor:
        r"""Certified average precision of the batch, mean over the classes that have objects, (E,).

        Every threshold gives a point of the precision-recall curve that no attack can push below its certified recall
        and precision, because the detections above a threshold do not depend on those below it. Any thresholds are
        sound; more are tighter. Each class is bounded with the whole budget. An image in which a cap could bind counts
        as lost at that threshold.

        Args:
            eps: sizes of the perturbation of each image.
            iou: of a match; of several the mean is taken, as in mAP@[.50:.95].
            thresholds: of the scores; by default its own and 32 between 0.05 and the highest score.
            interpolation: "all" recalls as VOC, or "101" as COCO.

        Returns:
            Lower bound of the average precision of the detections above the lowest threshold, or any lower one; nan
            without objects.

        Raises:
            InputError: without targets, with a free regression, or when centre-ness orders the suppression.
        """
        self.need_targets("average_precision")
        self.need_boxes("average_precision")
        self.need_order("average_precision")
        values = checks.eps_values(eps)
        levels = [check_iou(level) for level in (iou if isinstance(iou, Sequence) else [iou])]
        thetas = self._thresholds(thresholds)
        classes = sorted({int(k) for t in self.targets or [] for k in t["labels"]})
        if not classes:
            return torch.full_like(values, torch.nan)
        found = [
            pooled.average_precision(
                [self.class_outcomes(theta, values, classes, level, floor=min(thetas)) for theta in thetas],
                interpolation,
            )
            for level in levels
        ]
        return torch.stack(found).mean(0)

    def logit(self, threshold: float) -> float:
        """The logit whose score is the threshold."""
        return self.temperature * torch.logit(torch.tensor(threshold, dtype=torch.float64)).item()

    def _thresholds(self, scores: Sequence[float] | None) -> list[float]:
        """Thresholds of the logits: as given, or spread over the candidates of the batch."""
        if scores is not None:
            return sorted({self.logit(check_score(score)) for score in scores})
        low = min(self.theta, self.logit(LOWEST))
        above = self.raw.logits[self.raw.logits > low]
        if not above.numel():
            return [low]
        steps = torch.arange(GRID, dtype=torch.float64) / GRID
        even = low + (above.max() - low) * steps
        ranked = above.sort().values[(steps * above.numel()).long()]
        own = above.new_tensor([self.theta])
        found: list[float] = torch.cat([own, even, ranked]).unique().tolist()
        return found

    def need_targets(self, what: str) -> None:
        """Raise InputError without objects to speak of."""
        if self.targets is None:
            raise errors.InputError(
                errors.explain(
                    f"certify.detection: {what} needs targets",
                    received=None,
                    expected="for each image a dict with boxes (G, 4) and labels (G,)",
                    fix="pass targets to certify.detection; images without objects have boxes of shape (0, 4)",
                )
            )

    def need_boxes(self, what: str) -> None:
        """Raise InputError when nothing is known about boxes."""
        if self.settings.kappa is None:
            raise errors.InputError(
                errors.explain(
                    f"certify.detection: {what} cannot be certified for this detector",
                    received='regression="free"',
                    expected='a detector with regression="lipschitz"',
                    why="an attack may move the boxes of an unconstrained head anywhere, so that no IoU is certain",
                    fix='train with regression="lipschitz", or use vanish_radius, recall and alarms, which for this '
                    "detector are about locations inside objects",
                )
            )

    def need_order(self, what: str) -> None:
        """Raise InputError when suppression does not go by the score."""
        if not self.settings.by_logit:
            raise errors.InputError(
                errors.explain(
                    f"certify.detection: {what} cannot be certified with this order of suppression",
                    received="a detector whose centre-ness orders the suppression",
                    why="a detection of a lower score may suppress one of a higher score, so that the detections above "
                    "a threshold depend on the threshold of the evaluation",
                    fix="use centerness=False, or recall and precision, which are about one threshold",
                )
            )

    def unless_capped(self, values: Tensor, outcomes: Sequence[Outcome]) -> Tensor:
        """Values (E,), nan where in any image a cap could bind."""
        capped = torch.stack([outcome.capped for outcome in outcomes]).any(0)
        return torch.where(capped, torch.nan, values)


def check_iou(value: Any) -> float:
    """Check the IoU of a match, in (0, 1)."""
    level = checks.number("iou", value, low=0.0, high=1.0)
    if level in (0.0, 1.0):
        raise errors.InputError(
            errors.explain("`iou` is out of range", received=value, expected="a number in (0, 1), as 0.5")
        )
    return level


def check_score(value: Any, name: str = "thresholds") -> float:
    """Check a threshold of scores, in (0, 1)."""
    score = checks.number(name, value, low=0.0, high=1.0)
    if score in (0.0, 1.0):
        raise errors.InputError(
            errors.explain(
                f"`{name}` is out of range",
                received=value,
                expected="a number strictly between 0 and 1",
                why="it is compared with a sigmoid",
            )
        )
    return score
