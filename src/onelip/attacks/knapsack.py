"""The strongest attacks: on the pixels that the budget can buy, and a pool of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onelip.attacks.base import PixelLoss, Terms
from onelip.attacks.losses import CrossEntropy, InReach, Leave, marginal_gap, typical
from onelip.attacks.pgd import PGD, SegPGD
from onelip.attacks.projection import Noise
from onelip.attacks.search import Ascent, Best
from onelip.core import checks


@dataclass(frozen=True)
class Knapsack(PGD):
    r"""PGD on the margins of the pixels that the budget can buy, as the certificate's knapsack does.

    The number of pixels that fit into the budget :math:`(g \epsilon)^p` says how far to look. At every step the pixels
    that are won and the next ones in order of their price form the set whose gaps are closed, and the share of next
    ones falls to zero. On a linear model this reaches the certificate up to single pixels. Arguments and guarantee as
    for `PGD`, and

    Args:
        lipschitz: g, as the proven constant of the model; None measures it by one gradient step, which is closer to
            what an attack can do and usually stronger.

    Example:
        >>> from onelip.attacks import PixelErrors
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Conv2d(3, 2, 1).eval()
        >>> adv = Knapsack(PixelErrors(), steps=5)(model, torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long(), 0.5)
        >>> bool(adv.scores >= adv.clean_scores)
        True
    """

    lipschitz: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lipschitz is not None:
            checks.lipschitz(self.lipschitz)

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__

    def pixel_loss(self, clean: Terms, ascent: Ascent, eps: Tensor, noise: Noise) -> PixelLoss:
        """Gaps of the pixels in reach of the budget."""
        if self.lipschitz is None:
            gain = ascent.gain(eps, CrossEntropy(typical(clean)), noise)
        else:
            gain = torch.full_like(eps, checks.lipschitz(self.lipschitz))
        gap, count = marginal_gap(clean, gain * eps, float(self.p))
        return InReach(gap.to(clean.resistance), count, float(self.p))


@dataclass(frozen=True)
class Erase(Knapsack):
    r"""Take a class away, then spend what is left: cheap and strong where few pixels have the class.

    The IoU of a small class counts all other pixels too, and a loss over all of them forgets the few that matter.
    Here the gaps of the pixels that should leave their class are closed first, and `Knapsack` goes on from there with
    all that count. Arguments and guarantee as for `Knapsack`; by default each eps starts from the smaller one.

    Example:
        >>> from onelip.attacks import CriterionGoal
        >>> from onelip.certify import IoU
        >>> _ = torch.manual_seed(0)
        >>> model, labels = torch.nn.Conv2d(3, 2, 1).eval(), torch.zeros(1, 4, 4).long()
        >>> adv = Erase(CriterionGoal(IoU(0)), steps=5)(model, torch.rand(1, 3, 4, 4), labels, 0.5)
        >>> bool(adv.scores >= adv.clean_scores)
        True
    """

    fresh: bool = False

    def ball(
        self, clean: Terms, ascent: Ascent, best: Best, eps: Tensor, starts: Sequence[Tensor], noise: Noise
    ) -> None:
        """From every start the pixels that should leave their class, then all pixels from the best of these."""
        loss = Leave(typical(replace(clean, weight=clean.weight * ~clean.enter)))
        for start in starts:
            if not best.done(ascent.goal.top):
                ascent.run(start, eps, steps=self.steps, loss=loss, best=best, noise=noise)
        super().ball(clean, ascent, best, eps, [best.delta], noise)


@dataclass(frozen=True)
class Strongest(Knapsack):
    """The best of `Knapsack`, `SegPGD` and `PGD` with cross-entropy and with margins, image by image.

    All share the best perturbation found so far, so a later attack only ever improves it; Knapsack ends by refining it.
    Arguments and guarantee as for `Knapsack`; about five times its cost.

    Example:
        >>> from onelip.attacks import PixelErrors
        >>> [member.name for member in Strongest(PixelErrors()).members]
        ['Knapsack', 'SegPGD', 'PGD', 'PGD-margin']
    """

    @property
    def members(self) -> tuple[PGD, ...]:
        """The attacks of the pool."""
        common = {
            "steps": self.steps,
            "restarts": self.restarts,
            "p": self.p,
            "judge": self.judge,
            "batch_size": self.batch_size,
            "fresh": self.fresh,
        }
        plain = PGD(self.goal, **common)  # type: ignore[arg-type]
        return (
            Knapsack(self.goal, lipschitz=self.lipschitz, **common),  # type: ignore[arg-type]
            SegPGD(self.goal, **common),  # type: ignore[arg-type]
            plain,
            replace(plain, loss="margin"),
        )

    def ball(
        self, clean: Terms, ascent: Ascent, best: Best, eps: Tensor, starts: Sequence[Tensor], noise: Noise
    ) -> None:
        """All members from all starts, then the first from the best of all."""
        for member in self.members:
            member.ball(clean, ascent, best, eps, starts, noise)
        self.members[0].ball(clean, ascent, best, eps, [best.delta], noise)
