"""What a counterfactual has to reach: another class, or a given one; how far it is, proven and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from onelip.certify.labels.radius import DOWN, LEAST

_ACROSS = 1e-5


class Boundary(Protocol):
    """What a search walks to: where the outputs of a batch have to go."""

    def of(self, rows: Tensor) -> Self:
        """The same for some of the images."""
        ...

    def rival(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K) weights of the outputs that decide, (B,) how far they are, (B,) the constant of their sum."""
        ...

    def margin(self, logits: Tensor) -> Tensor:
        """(B,) positive before the boundary, negative beyond."""
        ...

    def reached(self, logits: Tensor) -> Tensor:
        """(B,) bool: beyond."""
        ...


@dataclass(frozen=True, eq=False)
class Aim:
    """Where images have to go, with the constants that say how far that is at least.

    Attributes:
        start: (B,) int64, the predicted classes.
        to: (B,) int64, the classes wanted, or None: any other one.
        constants: (K, K) constants of the pairs of classes; ones where none are proven.
        error: (B,) how far differences of logits may be from their exact values.
        rounding: taken from every radius.
    """

    start: Tensor
    to: Tensor | None
    constants: Tensor
    error: Tensor
    rounding: float

    def of(self, rows: Tensor) -> Aim:
        """The aim of some of the images."""
        to = None if self.to is None else self.to[rows]
        return replace(self, start=self.start[rows], to=to, error=self.error[rows])

    def pairs(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Margins and constants (B, K) of all pairs, and bool where a class meets itself."""
        fixed = self.start if self.to is None else self.to
        own = logits.gather(1, fixed[:, None])
        margins = own - logits if self.to is None else logits - own
        same = F.one_hot(fixed, logits.shape[1]).bool()
        return margins, self.constants[fixed].clamp_min(LEAST), same

    def hardest(self, values: Tensor, same: Tensor) -> Tensor:
        """(B,) the class that decides: the nearest of all others, or the one hardest to overtake."""
        if self.to is None:
            values = -values
        found: Tensor = values.masked_fill(same, -torch.inf).argmax(1)
        return found

    def rival(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pair of classes that decides, by margin over constant.

        Returns:
            (B, K) weights, 1 and -1 on the pair; (B,) its margin, positive on this side; (B,) its constant.
        """
        margins, constants, same = self.pairs(logits)
        other = self.hardest(margins / constants, same)[:, None]
        pair = same.to(logits) - torch.zeros_like(logits).scatter(1, other, 1.0)
        weights = pair if self.to is None else -pair
        return weights, margins.gather(1, other)[:, 0], constants.gather(1, other)[:, 0]

    def margin(self, logits: Tensor) -> Tensor:
        """(B,) margin to the boundary: positive before it, negative beyond."""
        fixed = self.start if self.to is None else self.to
        own = logits.gather(1, fixed[:, None])[:, 0]
        rest = logits.scatter(1, fixed[:, None], -torch.inf).amax(1)
        return own - rest if self.to is None else rest - own

    def reached(self, logits: Tensor) -> Tensor:
        """(B,) bool: the prediction is what was wanted; ties are not."""
        return self.margin(logits) < 0

    def lower(self, logits: Tensor) -> Tensor:
        """(B,) float64: no image nearer than this reaches the aim, if the constants are proven; rounded down."""
        margins, constants, same = self.pairs(logits)
        gaps = (margins - self.error[:, None]).clamp_min(0.0)
        radii: Tensor = (gaps / constants * DOWN - self.rounding).clamp_min(0.0)
        return radii.gather(1, self.hardest(radii, same)[:, None])[:, 0]


def tolerance(logits: Tensor) -> Tensor:
    """(B,) how far beyond the boundary a margin must be to be there in float32 too."""
    slack: Tensor = _ACROSS * logits.abs().amax(1) + 1e-12
    return slack
