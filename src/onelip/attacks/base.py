"""The base of all goals, and how a dense one is made of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pixels:
    """What is wanted of each pixel, fixed at the clean image. (B, H, W) each.

    Attributes:
        labels: class that the pixel should leave or enter.
        weight: its worth, 0 where it does not count.
        enter: True: enter the class; False: leave it.
        target: labels for goals that score with them.
    """

    labels: Tensor
    weight: Tensor
    enter: Tensor
    target: Tensor | None = None

    def __getitem__(self, part: slice) -> Pixels:
        target = None if self.target is None else self.target[part]
        return Pixels(self.labels[part], self.weight[part], self.enter[part], target)


@dataclass(frozen=True, eq=False)
class Terms:
    """The pixels of a goal as a loss sees them. (B, N) each.

    Attributes:
        resistance: gap of logits by which a pixel resists; zero or less where it is won (up to softening).
        won: the prediction is what the attacker wants.
        weight: worth of each pixel, 0 where it does not count.
        enter: a class is to be entered (True) or left (False).
    """

    resistance: Tensor
    won: Tensor
    weight: Tensor
    enter: Tensor


class PixelLoss(ABC):
    """A loss over the pixels of a goal, (B,), to be maximised."""

    @property
    def scale(self) -> Tensor | None:
        """(B,) inverse temperature of the softened rivals; None: the strongest rival alone."""
        return None

    @abstractmethod
    def __call__(self, terms: Terms, progress: float) -> Tensor:
        """Loss of each image; `progress` runs from 0 to 1 over the steps."""


LossMaker = Callable[[Terms, Tensor], PixelLoss]


class Goal(ABC):
    """What an attacker wants of the outputs of a model, whatever type these have.

    `ask` says how a model is asked; `prepare` fixes at the clean outputs what is compared with; `loss` is
    differentiable and to be maximised; `score` is the true objective by which images are chosen: higher is better for
    the attacker, nan leaves an image alone.
    """

    needs_target: ClassVar[bool] = True
    ignore_index: int
    threshold: float | None

    @property
    def top(self) -> float:
        """The highest score there is: an image that has it needs no further attack."""
        return torch.inf

    @property
    def losses(self) -> tuple[Any, ...]:
        """Losses of the goal's own, tried one after the other; empty where the attack brings a loss over pixels."""
        return ()

    def ask(self, model: torch.nn.Module, images: Tensor) -> Any:
        """The outputs of a model for images, with gradients: a tensor, or `Outputs`."""
        return model(images)

    def receive(self, target: Any, device: torch.device) -> Any:
        """The target as given, on the device of the model."""
        return None if target is None else torch.as_tensor(target).to(device)

    @abstractmethod
    def prepare(self, outputs: Any, target: Any) -> Any:
        """State for `loss` and `score`, that can be sliced along the batch. Checks the target."""

    @abstractmethod
    def loss(self, outputs: Any, state: Any, progress: float, pixel_loss: Any) -> Tensor:
        """(B,) to be maximised, by the pixel loss of the attack or one of `losses`; `progress` runs from 0 to 1."""

    @abstractmethod
    def score(self, outputs: Any, state: Any) -> Tensor:
        """(B,) float64, the true objective; nan where it is undefined."""

    def rank(self, outputs: Any, state: Any) -> Tensor:
        """(B,) float64 by which iterates are chosen: the score, or a finer order that never contradicts it."""
        return self.score(outputs, state)

    def clean_score(self, outputs: Any, target: Any = None) -> Tensor:
        """(B,) float64, the score of clean outputs."""
        return self.score(outputs, self.prepare(outputs, target))

    def reached(self, score: Tensor, clean: Tensor) -> Tensor:
        """(B,) bool: the score is at the threshold, or, without one, above that of the clean image."""
        return score > clean if self.threshold is None else score >= self.threshold

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__


class PixelGoal(Goal):
    """A goal made of pixels; its score is the share of them that are won."""

    @property
    def top(self) -> float:
        """All pixels are won."""
        return 1.0

    @abstractmethod
    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:
        """What is wanted of each pixel, from the clean logits (B, K, H, W) and the labels."""

    def prepare(self, outputs: Tensor, target: Tensor | None) -> Pixels:
        """What is wanted of each pixel; raises InputError for labels that do not fit."""
        logits = as_dense(outputs).detach()
        return self.pixels(logits, None if target is None else target.to(logits.device))

    def terms(self, outputs: Tensor, state: Pixels, scale: Tensor | None = None) -> Terms:
        """Resistance of each pixel, against the strongest rival or, with a scale, a soft maximum of all."""
        logits = as_dense(outputs).flatten(2)
        labels, enter = state.labels.flatten(1).unsqueeze(1), state.enter.flatten(1)
        own = logits.gather(1, labels).squeeze(1)
        rivals = logits.scatter(1, labels, -torch.inf)
        if scale is None:
            margin = own - rivals.amax(1)
        else:
            margin = own - (rivals * scale[:, None, None]).logsumexp(1) / scale[:, None]
        at = predict(logits) == labels.squeeze(1)
        won = torch.where(enter, at, ~at)
        weight = state.weight.flatten(1).to(logits.dtype)
        return Terms(torch.where(enter, -margin, margin), won, weight, enter)

    def loss(self, outputs: Tensor, state: Pixels, progress: float, pixel_loss: PixelLoss) -> Tensor:
        """(B,) the pixel loss on the terms of the goal."""
        return pixel_loss(self.terms(outputs, state, pixel_loss.scale), progress)

    def score(self, outputs: Tensor, state: Pixels) -> Tensor:
        """(B,) share of the pixels that count and are won; nan where none counts."""
        at = predict(as_dense(outputs)) == state.labels
        won = torch.where(state.enter, at, ~at)
        counted = state.weight > 0
        return (won & counted).flatten(1).sum(1).double() / counted.flatten(1).sum(1).double()


def as_dense(outputs: Tensor) -> Tensor:
    """Logits as (B, K, H, W); those of a classifier, (B, K), become one pixel, and a single logit f the pair (0, f)."""
    if outputs.dim() == 2 and outputs.shape[1] == 1:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], 1)
    return outputs[:, :, None, None] if outputs.dim() == 2 else outputs


def as_map(target: Tensor) -> Tensor:
    """Labels as (B, H, W)."""
    return target[:, None, None] if target.dim() == 1 else target


def predict(logits: Tensor) -> Tensor:
    """Predicted class, the lowest index of a tie on every device.

    Example:
        >>> predict(torch.tensor([[1.0, 3.0, 3.0]])).tolist()
        [1]
    """
    classes, top = logits.shape[1], logits.amax(1)
    found = torch.full_like(top, classes - 1, dtype=torch.int64)
    for k in reversed(range(classes - 1)):  # much faster than a minimum over indices
        found = torch.where(logits[:, k] == top, k, found)
    return found


def one_hot(prediction: Tensor, classes: int) -> Tensor:
    """Logits, float64, that predict exactly these classes: what a criterion needs to be evaluated on predictions.

    Example:
        >>> one_hot(torch.tensor([[[1]]]), 2).flatten().tolist()
        [0.0, 1.0]
    """
    return torch.nn.functional.one_hot(prediction, classes).movedim(-1, 1).double()
