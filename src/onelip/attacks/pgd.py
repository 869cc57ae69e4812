"""Attacks within a ball of given size: PGD and SegPGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from onelip.attacks.base import Goal, PixelLoss, Terms
from onelip.attacks.losses import CrossEntropy, Margin, typical
from onelip.attacks.problem import Problem
from onelip.attacks.projection import Noise, project
from onelip.attacks.result import AttackResult
from onelip.attacks.search import Ascent, Best, frozen
from onelip.core import checks
from onelip.core.errors import InputError, explain

Eps = float | Sequence[float] | Tensor
LOSSES = ("ce", "segpgd", "margin")


@dataclass(frozen=True)
class PGD:
    r"""Projected gradient ascent in l_p balls, for any goal.

    Maximises the loss of the goal over :math:`\|\delta\|_p \le \epsilon`, :math:`0 \le x + \delta \le 1`, with momentum
    and a cosine schedule, from the clean image, from the best perturbation of the next smaller eps (scaled), and from
    `restarts - 1` random points. The best iterate by the true score is kept, the clean image included.

    Args:
        goal: what to reach, as `PixelErrors()`.
        steps: gradient steps of each start.
        restarts: starts for each eps, the clean image being the first.
        p: 1, 2 or inf.
        loss: "ce", "segpgd" or "margin".
        judge: model by which images are scored in the end, as the float64 one of a certifier; by default the model
            itself. It decides what is reported, so that rounding of a float32 search cannot fake a success.
        batch_size: images attacked at a time; the answer does not depend on it (up to rounding).
        fresh: start from the clean image at every eps; False: only where no smaller eps has found anything, which
            halves the cost.

    Guarantee: every adversarial image is in the box and in the closed ball, measured in float64. That it is the worst
        one is not promised: scores are lower ends of what an attacker can reach.

    Raises:
        InputError: for images outside [0, 1], unusable eps, options, or labels that do not fit.
        TrainModeError: when a model is in train mode.

    Example:
        >>> from onelip.attacks import PixelErrors
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Conv2d(3, 2, 1).eval()
        >>> images, target = torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long()
        >>> adv = PGD(PixelErrors(), steps=5)(model, images, target, eps=[0.1, 0.5])
        >>> adv.images.shape, bool((adv.norms[:, 0] <= adv.eps).all()), bool((adv.scores >= adv.clean_scores).all())
        (torch.Size([2, 1, 3, 4, 4]), True, True)

    Source: Madry et al., Towards deep learning models resistant to adversarial attacks, 2018; momentum as in Croce and
        Hein, Reliable evaluation of adversarial robustness, 2020.
    """

    goal: Goal
    steps: int = 40
    restarts: int = 1
    p: float = 2
    loss: str = "ce"
    judge: nn.Module | None = None
    batch_size: int = 8
    fresh: bool = True

    losses: ClassVar[tuple[str, ...]] = LOSSES

    def __post_init__(self) -> None:
        checks.positive_int("steps", self.steps)
        checks.positive_int("restarts", self.restarts)
        checks.positive_int("batch_size", self.batch_size)
        checks.norm(self.p)
        if self.loss not in self.losses:
            raise InputError(
                explain("`loss` is unknown", received=repr(self.loss), expected=", ".join(self.losses))
            )
        if self.goal.losses and (type(self) is not PGD or self.loss != "ce"):
            raise InputError(
                explain(
                    f"{self.name} cannot reach {self.goal.name}",
                    received=f"a goal with losses of its own, and loss={self.loss!r} of the attack",
                    expected="PGD, or MinNorm",
                    why="the losses of an attack are sums over pixels",
                    fix=f"PGD({self.goal.name}())",
                )
            )

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__ if self.loss == "ce" else f"{type(self).__name__}-{self.loss}"

    def __call__(
        self, model: nn.Module, images: Tensor, target: Any = None, eps: Eps = 0.5, *, seed: int = 0
    ) -> AttackResult:
        """Attack a batch of images.

        Args:
            model: in eval mode, on images in [0, 1]; folded it is faster. Nothing of it is changed.
            images: (B, C, H, W) in [0, 1].
            target: labels (B, H, W), or (B,) for a classifier; for a detector a list of dictionaries with boxes
                (G, 4) and labels (G,), one for each image; goals without labels need none.
            eps: radii of the balls, l_p norms of the perturbation of a whole image.
            seed: of random starts.
        """
        problem = Problem.of(self, model, images, target, seed)
        sizes = checks.eps_values(eps)
        with frozen(model, self.name), frozen(problem.judge, self.name):
            problem.look()
            parts = [self._balls(problem, part, sizes) for part in problem.parts(self.batch_size)]
            return problem.result(torch.cat(parts, dim=1), sizes)

    def _balls(self, problem: Problem, part: slice, sizes: Tensor) -> Tensor:
        """(E, b, C, H, W) best perturbations of some images for all sizes, each starting from the one before."""
        ascent, noise = problem.ascent(part), problem.noise(part)
        x = ascent.images
        best = Best(torch.zeros_like(x), ascent.score(torch.zeros_like(x)))
        found, before = {0.0: best.delta}, 0.0
        for size in sorted(set(sizes.tolist()) - {0.0}):
            eps = torch.full((x.shape[0],), size, dtype=torch.float64, device=x.device)
            warm = bool(best.delta.any())
            starts = [torch.zeros_like(x)] if self.fresh or not warm else []
            if warm:
                starts.append(project(best.delta * (size / before), x, eps, self.p))
            starts += [noise.start(x, eps, self.p) for _ in range(self.restarts - 1)]
            self.ball(problem.terms(part), ascent, best, eps, starts, noise)
            found[size], before = best.delta, size
        return torch.stack([found[size] for size in sizes.tolist()])

    def ball(
        self, clean: Any, ascent: Ascent, best: Best, eps: Tensor, starts: Sequence[Tensor], noise: Noise
    ) -> None:
        """Improve `best` within balls of the given sizes (b,), from each start, with each loss.

        `clean` are the pixels unperturbed, None where the goal brings its own losses.
        """
        if best.done(self.goal.top):
            return
        losses = self.goal.losses if clean is None else (self.pixel_loss(clean, ascent, eps, noise),)
        for loss in losses:
            for start in starts:
                ascent.run(start, eps, steps=self.steps, loss=loss, best=best, noise=noise)

    def pixel_loss(self, clean: Terms, ascent: Ascent, eps: Tensor, noise: Noise) -> PixelLoss:  # noqa: ARG002
        """The loss within balls of some sizes, in units of the clean logits."""
        if self.loss == "margin":
            return Margin(typical(clean))
        return CrossEntropy(typical(clean), ramp=self.loss == "segpgd")


@dataclass(frozen=True)
class SegPGD(PGD):
    r"""PGD whose loss turns from the pixels that resist to all of them.

    At step i of T, pixels that are still right weigh :math:`1 - \lambda` and wrong ones :math:`\lambda = i / 2T`: the
    gradient is not spent on pixels that are won, and yet they are kept. Arguments and guarantee as for `PGD`.

    Example:
        >>> from onelip.attacks import PixelErrors
        >>> SegPGD(PixelErrors(), steps=5).name
        'SegPGD'

    Source: Gu et al., SegPGD: an effective and efficient adversarial attack for evaluating and boosting segmentation
        robustness, 2022. Here in l2 and any other norm, and keeping the best iterate.
    """

    loss: str = "segpgd"

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__


__all__ = ["LOSSES", "PGD", "Eps", "SegPGD"]
