"""What counterfactuals of regions and of boxes have in common: images ready to be searched, and the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from onelip.core import checks
from onelip.explain.classifier import Classifier
from onelip.explain.counterfactuals import allowed, beyond, crossed, sound
from onelip.explain.goals import Flat, Goal
from onelip.explain.tracing import SearchAll, pursue


@dataclass(frozen=True)
class Proof:
    """How far the goals are at least.

    Attributes:
        lower: (B,) float64; nan where nothing is proven.
        constant: of the outputs that count; 1 where none is proven.
        assumptions: what it rests on.
        refusal: why nothing is proven; empty if something is.
    """

    lower: Tensor
    constant: float
    assumptions: tuple[str, ...] = ()
    refusal: str = ""


def unproven(images: Tensor, error: Exception) -> Proof:
    """No bound, and why."""
    none = torch.full_like(images[:, 0, 0, 0], torch.nan)
    return Proof(none, 1.0, (), f"no bound is proven for this model: {error}")


class Walk:
    """Images of one call, checked, with the outputs of a folded float64 copy of the model.

    Args:
        model: the dense model, flat.
        x: (B, C, H, W) in [0, 1].
        mask: where images may change.
        overshoot: how far beyond the boundary the images are that are handed back.
        steps: cap on the steps of each tracing.
        box: keep images in [0, 1].
        refine: rounds of refinement.
        seed: of directions where the gradient is zero.
        batch_size: images searched at a time.
    """

    def __init__(
        self,
        model: Flat,
        x: Tensor,
        mask: Tensor | None,
        *,
        overshoot: float,
        steps: int,
        box: bool,
        refine: int,
        seed: int,
        batch_size: int,
    ) -> None:
        self.ready = Classifier(model, model.caller)
        self.far = checks.number("overshoot", overshoot, low=0.0)
        for name, value in (("steps", steps), ("refine", refine + 1), ("batch_size", batch_size)):
            checks.positive_int(name, value)
        self.steps, self.box, self.refine, self.seed, self.size = steps, box, refine, seed, batch_size
        self.images = self.ready.take(x)
        self.dtype = x.dtype
        self.free = allowed(mask, self.images, model.caller)
        self.outputs = self.answer(self.images)
        self.ready.agrees(self.images[:batch_size], self.outputs[:batch_size])

    def answer(self, images: Tensor) -> Tensor:
        """(B, M) float64 outputs of the copy."""
        return torch.cat([self.ready.logits(part) for part in images.split(self.size)])

    def to(self, goal: Goal, proof: Proof) -> tuple[dict[str, Any], Tensor]:
        """Walk to a goal: the fields that all counterfactuals have, and the boundary images in float64."""
        boundary, found, path = pursue(
            SearchAll,
            self.ready,
            self.images,
            goal,
            self.free,
            box=self.box,
            dtype=self.dtype,
            proven=not proof.refusal,
            steps=self.steps,
            refine=self.refine,
            seed=self.seed,
            batch_size=self.size,
        )
        sound(self.ready, goal, self.images, boundary, found, proof.lower)
        further = beyond(self.images, boundary, self.far, self.box).to(self.dtype)
        fields = {
            "images": further,
            "x": self.images.to(self.dtype),
            "boundary": boundary.to(self.dtype),
            "found": found,
            "crossed": crossed(self.ready, goal, further.double(), self.size),
            "lower_bound": proof.lower,
            "path": path,
            "overshoot": self.far,
            "assumptions": proof.assumptions,
            "refusal": proof.refusal,
        }
        return fields, boundary
