"""Objects that should not be found any more: by their logits, or by their boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from onelip.attacks.boxes.base import HAIR, SLACK, BoxGoal, choice, finer, overlap, own, pursued, together
from onelip.attacks.boxes.heads import Heads
from onelip.attacks.boxes.objects import Objects


@dataclass(frozen=True, kw_only=True)
class VanishBoxes(BoxGoal):
    r"""Make objects vanish: the score is the share of the objects that are not found.

    An object is found when something on it (see `support`) says its class with a score above the threshold. Forms of
    the loss, :math:`\theta` being the logit of the threshold, y the class of an object g, T the temperature:

    - "margin": :math:`\sum_g \big(\sum_i \max(0, z_{iy} - \theta + \kappa)^2\big)^{1/2}` over the locations i that
      count for g: the cost of g in the certificate, which knows that all of them have to go. The dear objects are let
      go one after the other;
    - "tog": :math:`\sum_{i, k} \mathrm{softplus}(z_{ik} / T)` over everything, as TOG does;
    - "boxes": the logits stay, the boxes move: :math:`\max(0, \mathrm{IoU}(b_i, g) - a)` over the candidates;
    - "either": the product of both gaps, so that each location goes the way that is cheaper for it;
    - "all": each of them from every start, and the best of all.

    Args:
        form: of the loss.
        threshold: score above which a detection counts.
        iou: overlap with an object from which on a detection is on it.
        support: "box" or "location": what is on an object.
        enough: share of lost objects at which the goal is reached.

    Example:
        >>> from onelip.attacks import PGD
        >>> PGD(VanishBoxes(), steps=20).goal.losses, VanishBoxes(form="all").losses
        (('margin',), ('margin', 'either', 'boxes', 'tog'))

    Source: Chow et al., Adversarial objectness gradient attacks in real-time object detection systems, 2020 (TOG), in
        l2, per image and with the best iterate.
    """

    form: str = "margin"
    enough: float | None = 1.0

    forms: ClassVar[tuple[str, ...]] = ("margin", "either", "boxes", "tog")

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "form", self.form, (*self.forms, "all"))

    @property
    def top(self) -> float:
        """All objects are lost."""
        return 1.0

    @property
    def losses(self) -> tuple[str, ...]:
        """The form, or all of them."""
        return self.forms if self.form == "all" else (self.form,)

    def score(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) share of the objects that are not found; nan without objects."""
        return self.missed(outputs, state).sum(1).double() / state.count

    def rank(self, outputs: Heads, state: Objects) -> Tensor:
        """(B,) the share, and among equal shares how near the other objects are to being lost."""
        form = {"tog": "margin", "all": "either"}.get(self.form, self.form)
        return finer(self.missed(outputs, state), self.costs(outputs, state, form), state.real)

    def costs(self, heads: Heads, state: Objects, form: str) -> Tensor:
        """(B, G) what is left to do on each object: the l2 norm of the gaps that keep it found."""
        logit = (own(heads, state.labels) + HAIR).clamp_min(0.0)
        if form == "margin" or (form == "either" and self.support == "location"):
            return together(logit, self.near(heads, state))
        box = (overlap(heads, state) - self.iou + SLACK).clamp_min(0.0)
        firing = (logit.detach() > 0) & state.real[:, None]
        return together(box if form == "boxes" else box * logit, firing)

    def loss(self, outputs: Heads, state: Objects, progress: float, pixel_loss: Any) -> Tensor:
        """(B,) minus the costs of the objects that are pursued; for "tog" of everything that fires."""
        if pixel_loss == "tog":
            return -F.softplus(outputs.logits / outputs.layout.temperature).flatten(1).sum(1)
        cost = self.costs(outputs, state, pixel_loss)
        return -cost.masked_fill(~pursued(cost, state.real, progress), 0.0).sum(1)


@dataclass(frozen=True, kw_only=True)
class ShiftBoxes(VanishBoxes):
    r"""Move the boxes of objects away: no gradient goes through the logits.

    Minimises :math:`\max(0, \mathrm{IoU}(b_i, g) - a)` over the candidates of each object, and leaves alone what says
    its class. The score is the share of the objects that are not found, by overlap; it says what a head of distances
    loses that nothing bounds.

    Args:
        threshold: score above which a detection counts.
        iou: overlap a with an object from which on a detection is on it.
        enough: share of lost objects at which the goal is reached.

    Example:
        >>> ShiftBoxes(iou=0.75).losses
        ('boxes',)
    """

    form: str = "boxes"

    forms: ClassVar[tuple[str, ...]] = ("boxes",)

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.name, "support", self.support, ("box",))
