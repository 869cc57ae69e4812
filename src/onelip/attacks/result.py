"""What an attack found, for each size of the ball and each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.attacks.base import Goal, one_hot
from onelip.core.errors import InputError, explain


@dataclass(frozen=True, eq=False, repr=False)
class AttackResult:
    r"""Adversarial images and what they do to the model; every tensor is on the model's device.

    Attributes:
        images: (E, B, C, H, W) float64 in [0, 1]; the clean image where nothing better was found.
        norms: (E, B) float64, the l_p norm of each perturbation, never above its eps.
        scores: (E, B) float64, the goal's score on these images; higher is better for the attacker, nan where the
            goal is undefined.
        clean_scores: (B,) the same of the clean images.
        success: (E, B) bool, the goal is reached.
        predictions: (E, B, H, W) int64; (E, B) for classifiers; for detectors E lists of B dictionaries with boxes,
            scores and labels, at the threshold of the goal.
        clean_predictions: (B, H, W) int64; (B,) for classifiers; B dictionaries for detectors.
        moved: (E, B) l_p norm of the displacement of all that the Lipschitz constant of the model bounds (for dense
            models all logits of an image): at most L times `norms`.
        clean: (B, C, H, W) float64, the images attacked.
        target: labels as given, or None; for detectors a list of boxes and labels.
        eps: (E,) float64.
        p: norm of the ball.
        seed: of every random start.
        queries: images sent forward through the model, in all.
        classes: number of classes K.
        goal: what was attacked.
        attack: name of the attack.
        outputs: E `Outputs` of the judge on these images, for detectors alone.
        clean_outputs: the same on the clean images.
        control: True where the images are no attack but a control, kept whatever they do.

    Guarantee: each image lies in the unit box and in the closed ball, measured in float64 after clipping: what the
        model does on it really happens. Nothing says that there is no stronger attack.
    """

    images: Tensor
    norms: Tensor
    scores: Tensor
    clean_scores: Tensor
    success: Tensor
    predictions: Any
    clean_predictions: Any
    moved: Tensor
    clean: Tensor
    target: Any
    eps: Tensor
    p: float
    seed: int
    queries: int
    classes: int
    goal: Goal
    attack: str
    outputs: Sequence[Any] | None = None
    clean_outputs: Any = None
    control: bool = False

    @property
    def radius(self) -> Tensor:
        """(B,) float64: smallest norm that reached the goal, an upper bound of the robustness radius; inf if none."""
        reached = torch.where(self.success, self.norms, torch.inf)
        return reached.amin(0)

    def values(self, criterion: Any) -> Tensor:
        """(E, B) float64: a criterion of `onelip.certify` on the attacked predictions.

        An upper end of its worst case (for error rates, a lower end).

        A criterion without target (stability) compares the attacked with the clean prediction.

        Args:
            criterion: any object with `value(logits, target)`, as `PixelAccuracy()`.

        Raises:
            InputError: for the result of a detector, whose predictions are boxes.
        """
        return torch.stack([self._value(criterion, prediction) for prediction in self.predictions])

    def clean_values(self, criterion: Any) -> Tensor:
        """(B,) float64: a criterion on the clean predictions."""
        return self._value(criterion, self.clean_predictions)

    def detections(self, threshold: float | None = None) -> list[list[dict[str, Tensor]]]:
        """E lists of B dictionaries with boxes, scores and labels: what the judge detects on the attacked images.

        Average precision needs a lower threshold than that at which the attack is judged; no image is run again.

        Args:
            threshold: of the scores, strictly between 0 and 1; by default that of the goal.

        Raises:
            InputError: for the result of a model without boxes.
        """
        if self.outputs is None:
            raise InputError(
                explain(
                    "AttackResult.detections: there are no boxes",
                    received=f"an attack with the goal {self.goal.name}",
                    expected="an attack on a detector, as with VanishBoxes()",
                )
            )
        return [outputs.detections(threshold) for outputs in self.outputs]

    def _value(self, criterion: Any, prediction: Any) -> Tensor:
        if not isinstance(prediction, Tensor):
            raise InputError(
                explain(
                    "AttackResult.values: the predictions are boxes",
                    received=getattr(criterion, "name", criterion),
                    expected="predictions of a dense model or a classifier",
                    fix="compare `detections()` with the targets, as onelip.metrics does",
                )
            )
        if not criterion.needs_target:
            return agreement(prediction, self.clean_predictions, self.target, criterion.ignore_index)
        found: Tensor = criterion.value(one_hot(prediction, self.classes), self.target)
        return found

    def __repr__(self) -> str:
        lines = [f"AttackResult: {self.attack} on {self.goal.name}, {self.clean.shape[0]} images"]
        for eps, scores, success in zip(self.eps.tolist(), self.scores, self.success, strict=True):
            mean = float(scores.nanmean())
            lines.append(f"  eps {eps:g}: score {mean:.4f}, reached {int(success.sum())}")
        shown = [*lines[:4], "  ..."] if len(lines) > 5 else lines
        return "\n".join([*shown, f"  clean score {float(self.clean_scores.nanmean()):.4f}"])


def worst(found: Sequence[AttackResult], criterion: Any) -> Tensor:
    r"""(E, B) float64: the worst value of a criterion that any of several attacks reached, for each eps and image.

    The clean image lies in every ball, and a smaller ball in every larger one: their values count too, so the result
    is monotone in eps even where the attacks had another goal.

    Args:
        found: results on the same images for the same eps; at least one.
        criterion: as for `AttackResult.values`.

    Guarantee: each value is reached by an image in the closed ball: an upper end of the worst case (for error rates,
        a lower end). nan only where no attack defines the criterion.

    Raises:
        InputError: when the results are not about the same images and eps.

    Example:
        >>> from onelip import attacks, certify
        >>> model, images = torch.nn.Conv2d(3, 2, 1).eval(), torch.full((1, 3, 4, 4), 0.5)
        >>> run = lambda loss: attacks.PGD(attacks.Vanish(0), steps=3, loss=loss)(
        ...     model, images, torch.zeros(1, 4, 4).long(), [0.1, 1.0])
        >>> low, high = worst([run("ce"), run("margin")], certify.Recall(0))[:, 0].tolist()
        >>> high <= low
        True
    """
    first = found[0] if found else None
    if first is None or any(
        not torch.equal(r.eps, first.eps) or not torch.equal(r.clean, first.clean) for r in found
    ):
        raise InputError(
            explain(
                "attacks.worst: the results cannot be joined",
                received=f"{len(found)} results" + (" on other images or eps" if found else ""),
                expected="at least one, all on the same images for the same eps",
            )
        )
    sign = 1.0 if criterion.higher_is_better else -1.0
    values = sign * torch.stack([result.values(criterion) for result in found])
    clean = sign * first.clean_values(criterion)
    reached = torch.fmin(values.nan_to_num(nan=torch.inf).amin(0), clean)
    order = first.eps.argsort()
    below = torch.empty_like(reached)
    below[order] = reached[order].nan_to_num(nan=torch.inf).cummin(0).values
    return sign * torch.where(below.isinf(), torch.nan, below)


def agreement(prediction: Tensor, other: Tensor, target: Tensor | None, ignore_index: int) -> Tensor:
    """(B,) float64: share of the valid pixels on which two predictions agree; nan without valid pixels."""
    valid = torch.ones_like(prediction, dtype=torch.bool) if target is None else target != ignore_index
    same = (prediction == other) & valid
    return same.flatten(1).sum(1).double() / valid.flatten(1).sum(1).double()
