"""A goal for classifiers that needs no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from onelip.attacks.base import PixelGoal, Pixels, as_map, predict
from onelip.core.errors import InputError, explain


@dataclass(frozen=True, eq=False)
class Reclassify(PixelGoal):
    """Another class for the image than the predicted one: any, or a given one. No labels are needed.

    Args:
        to: class to reach, one for all images or (B,) int64; None: any other. An image that has it is left alone.
        threshold: share of "pixels" at which the goal is reached; a classifier has one an image.
        ignore_index: without meaning.

    Example:
        >>> Reclassify(to=1).clean_score(torch.tensor([[1.0, 0.0], [0.5, 0.7]])).tolist()
        [0.0, 1.0]
    """

    needs_target: ClassVar[bool] = False
    to: int | Tensor | None = None
    threshold: float | None = 1.0
    ignore_index: int = 255

    def pixels(self, logits: Tensor, target: Tensor | None) -> Pixels:  # noqa: ARG002
        """The image should leave its predicted class, or enter the given one."""
        if tuple(logits.shape[2:]) != (1, 1):
            raise InputError(
                explain(
                    "Reclassify: the model is no classifier",
                    received=f"outputs {tuple(logits.shape)}",
                    expected="logits (B, K)",
                    fix="PixelErrors, Vanish, Fabricate and Region are goals of dense models",
                )
            )
        own = predict(logits)
        counted = torch.ones_like(own, dtype=torch.bool)
        if self.to is None:
            return Pixels(own, counted, torch.zeros_like(counted))
        wanted = torch.as_tensor(self.to, device=logits.device)
        fits = wanted.dtype == torch.int64 and tuple(wanted.shape) in ((), (logits.shape[0],))
        if not fits or not bool(((wanted >= 0) & (wanted < logits.shape[1])).all()):
            raise InputError(
                explain(
                    "Reclassify: `to` are no classes of these images",
                    received=f"{tuple(wanted.shape)}, {wanted.dtype}, {wanted.flatten()[:8].tolist()}",
                    expected=f"int64 ({logits.shape[0]},) in 0..{logits.shape[1] - 1}",
                )
            )
        return Pixels(as_map(wanted.expand(logits.shape[0])), counted, torch.ones_like(counted))
