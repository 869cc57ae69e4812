"""Objects that should be found as something else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from onelip.attacks.boxes.base import HAIR, BoxGoal, choice, finer, overlap, own, pursued, together
from onelip.attacks.boxes.false import streams
from onelip.attacks.boxes.heads import Heads
from onelip.attacks.boxes.objects import Objects
from onelip.core.errors import InputError, explain

MODES = ("most_likely", "least_likely", "random", "untargeted")


@dataclass(frozen=True, kw_only=True)
class Mislabel(BoxGoal):
    r"""Make objects be found as another class: the score is the share of the objects for which this happens.

    Nothing on the object says its class y any more, and something on it says the class k' instead. Both are paid for:

    .. math:: \sum_g \Big(\sum_i \max(0, z_{iy} - \theta + \kappa)^2
              + \min_i \max(0, \theta - z_{ik'} + \kappa)^2\Big)^{1/2}

    Args:
        mode: what k' is, fixed on the clean image at the location that is surest of y: "most_likely" or
            "least_likely" among the other classes by logit; "random", the same for every model and eps;
            "untargeted", any other.
        seed: of random classes; those of an image depend on its content and on nothing else.
        threshold: score above which a detection counts.
        iou: overlap with an object from which on a detection is on it.
        support: "box" or "location": what is on an object.
        enough: share of mislabeled objects at which the goal is reached; None: any more than on the clean image.

    Example:
        >>> Mislabel(mode="least_likely").losses
        ('margin',)

    Source: Chow et al., 2020 (TOG); here the other class is never the true one, and logits are compared, which have no
        softmax.
    """

    mode: str = "most_likely"
    seed: int = 0
    enough: float | None = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "mode", self.mode, MODES)

    @property
    def top(self) -> float:
        """All objects are mislabeled."""
        return 1.0

    @property
    def losses(self) -> tuple[str, ...]:
        """One form."""
        return ("margin",)

    def prepare(self, outputs: Heads, target: Any) -> Objects:
        """The objects and the classes that they should be taken for."""
        state = super().prepare(outputs, target)
        if outputs.classes < 2:
            raise InputError(
                explain(
                    f"{self.name}: there is no other class",
                    received=f"{outputs.classes} class",
                    expected="a detector of two classes or more",
                    fix="VanishBoxes() or FabricateBoxes()",
                )
            )
        return replace(state, wanted=self._wanted(outputs, state))

    def _wanted(self, heads: Heads, state: Objects) -> Tensor:
        """(B, G) the class k' of each object, -1 for any other."""
        labels = state.labels.clamp_min(0)
        if self.mode == "untargeted" or labels.shape[1] == 0:
            return torch.full_like(labels, -1)
        if self.mode == "random":
            draws = streams(heads, self.seed)
            steps = [torch.randint(1, heads.classes, labels.shape[1:], generator=g) for g in draws]
            return (labels + torch.stack(steps).to(labels)) % heads.classes
        sure = own(heads, labels).masked_fill(~self._close(heads, state), -torch.inf).argmax(1)
        logits = heads.logits.gather(1, sure[..., None].expand(-1, -1, heads.classes))
        sign = 1.0 if self.mode == "most_likely" else -1.0
        return (sign * logits).scatter(2, labels[..., None], -torch.inf).argmax(2)

    def _close(self, heads: Heads, state: Objects) -> Tensor:
        """(B, N, G) bool: locations that would be on an object, the nearest one where none is."""
        if self.support == "location":
            return self.region(heads, state)
        found = overlap(heads.detach(), state)
        return found >= found.amax(1, keepdim=True).clamp_max(self.iou)

    def _won(self, heads: Heads, state: Objects) -> Tensor:
        assert state.wanted is not None
        present, labels = self.present(heads, state), state.labels.clamp_min(0)[..., None]
        other = present.scatter(2, labels, value=False)
        named = other.gather(2, state.wanted.clamp_min(0)[..., None])[..., 0]
        taken = torch.where(state.wanted < 0, other.any(2), named)
        return state.real & taken & ~present.gather(2, labels)[..., 0]

    def score(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) share of the objects that are mislabeled; nan without objects."""
        return self._won(outputs, state).sum(1).double() / state.count

    def rank(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) the share, and among equal shares how near the other objects are."""
        return finer(self._won(outputs, state), self.costs(outputs, state), state.real)

    def costs(self, heads: Heads, state: Objects) -> Tensor:
        """(B, G) what is left to do on each object."""
        assert state.wanted is not None
        leave = (own(heads, state.labels) + HAIR).clamp_min(0.0)
        gone = together(leave, self.near(heads, state))
        enter = rivals(heads, state.labels) if self.mode == "untargeted" else own(heads, state.wanted)
        missing = (HAIR - enter).clamp_min(0.0).masked_fill(~self._close(heads, state), torch.inf).amin(1)
        possible = missing.isfinite()
        cost = (gone.square() + missing.where(possible, 0.0).square()).sqrt()
        return cost.where(possible, torch.inf)

    def loss(self, outputs: Heads, state: Objects, progress: float, pixel_loss: Any) -> Tensor:  # noqa: ARG002
        """(B,) minus the costs of the objects that are pursued."""
        cost = self.costs(outputs, state)
        return -cost.masked_fill(~pursued(cost, state.real, progress), 0.0).sum(1)


def rivals(heads: Heads, labels: Tensor) -> Tensor:
    """(B, N, G) strongest logits of another class than an object's, above the threshold, in temperatures."""
    (first, second), (at, _) = (part.unbind(2) for part in heads.logits.topk(2, dim=2))
    leading = at[..., None] == torch.arange(heads.classes, device=at.device)
    strongest = torch.where(leading, second[..., None], first[..., None])
    return own(replace(heads, logits=strongest), labels)
