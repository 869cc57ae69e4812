"""The smallest perturbation that reaches a goal: bisection on the size of the ball."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.base import Goal
from onelip.attacks.knapsack import Knapsack
from onelip.attacks.pgd import PGD
from onelip.attacks.problem import Problem
from onelip.attacks.projection import Noise, norms, per_image, project, settle
from onelip.attacks.result import AttackResult
from onelip.attacks.search import Ascent, Best, frozen
from onelip.core import checks

_SHRINKS = 12


@dataclass(frozen=True)
class MinNorm:
    r"""Search for the smallest :math:`\|\delta\|_p` that reaches a goal, image by image.

    Balls grow from `max_eps / 64` until an attack succeeds, then their size is bisected; each attack starts from the
    clean image and from the best perturbation so far, and each success is shrunk along its own direction, judged by
    the judge.

    Args:
        goal: what to reach; its threshold says when.
        max_eps: largest ball that is tried.
        steps: gradient steps of each ball and start.
        searches: balls tried for each image.
        p: 1, 2 or inf.
        attack: the attack within a ball, by default `Knapsack`, and `PGD` for goals with losses of their own; its
            goal, steps and norm are replaced.
        judge: model that decides what has been reached, see `PGD`.
        batch_size: images attacked at a time.

    Guarantee: the norms are upper bounds of the true smallest ones (`AttackResult.radius`, inf where no ball up to
        `max_eps` gave a success); a certified radius must lie below them.

    Raises:
        InputError: as `PGD`, and for `max_eps` <= 0.
        TrainModeError: when a model is in train mode.

    Example:
        >>> from onelip.attacks import Misclassify
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False)).eval()
        >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> image = torch.tensor([0.6, 0.4]).reshape(1, 1, 1, 2)
        >>> found = MinNorm(Misclassify(), max_eps=1.0)(model, image, torch.tensor([0])).radius
        >>> 0.1414 < found.item() < 0.145  # the distance to the boundary is 0.2 / sqrt(2)
        True
    """

    goal: Goal
    max_eps: float = 10.0
    steps: int = 40
    searches: int = 10
    p: float = 2
    attack: PGD | None = None
    judge: nn.Module | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        checks.positive_int("searches", self.searches)
        checks.lipschitz(self.max_eps, "max_eps")

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__

    @property
    def within(self) -> PGD:
        """The attack within a ball."""
        usual = PGD if self.goal.losses else Knapsack
        chosen = usual(self.goal) if self.attack is None else self.attack
        return replace(
            chosen, goal=self.goal, steps=self.steps, p=self.p, judge=self.judge, batch_size=self.batch_size
        )

    def __call__(
        self, model: nn.Module, images: Tensor, target: Any = None, *, seed: int = 0
    ) -> AttackResult:
        """Attack a batch of images.

        Args:
            model: in eval mode, on images in [0, 1].
            images: (B, C, H, W) in [0, 1].
            target: labels, for goals that need them.
            seed: of directions where the gradient is zero.

        Returns:
            One row (E = 1) for `max_eps`: `norms` and `radius` tell how far each image had to be moved.
        """
        attack = self.within
        problem = Problem.of(attack, model, images, target, seed)
        sizes = torch.tensor([self.max_eps], dtype=torch.float64)
        with frozen(model, self.name), frozen(problem.judge, self.name):
            problem.look()
            parts = [self._part(problem, attack, part) for part in problem.parts(self.batch_size)]
            return replace(problem.result(torch.cat(parts)[None], sizes), attack=self.name)

    def _part(self, problem: Problem, attack: PGD, part: slice) -> Tensor:
        """(b, C, H, W) float64 smallest perturbations found for some images, 0 where none reached the goal."""
        ascent, noise = problem.ascent(part), problem.noise(part)
        x = ascent.images
        clean = problem.clean_scores[part]
        zero = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
        done = self.goal.reached(clean, clean) | clean.isnan()
        low, high, size = zero, torch.where(done, zero, torch.inf), torch.full_like(zero, self.max_eps / 64)
        smallest = torch.zeros_like(problem.images[part])
        warm = torch.zeros_like(x)
        for _ in range(self.searches):
            if bool((done | (low >= self.max_eps)).all()):
                break
            warm = self._ball(problem.terms(part), attack, ascent, size, warm, noise)
            step, length = self._shrunk(problem, part, warm.double(), size)
            better = length < high
            smallest = torch.where(per_image(better, step).bool(), step, smallest)
            high = torch.where(better, length, high)
            low = torch.where(length.isinf(), torch.maximum(low, size), low)
            middle = torch.where(low > 0, (low * high).sqrt(), high / 4)
            size = torch.where(high.isinf(), (4 * low).clamp_max(self.max_eps), middle)
        return smallest

    def _ball(
        self, clean: Any, attack: PGD, ascent: Ascent, size: Tensor, warm: Tensor, noise: Noise
    ) -> Tensor:
        """Best perturbations within balls of these sizes."""
        x = ascent.images
        room = size / norms(warm, self.p).clamp_min(1e-300)
        scaled = project(warm * per_image(room.clamp_max(1e6), warm), x, size, self.p)
        best = Best(torch.zeros_like(x), ascent.score(torch.zeros_like(x)))
        starts = [torch.zeros_like(x), *([scaled] if bool(scaled.any()) else [])]
        attack.ball(clean, ascent, best, size, starts, noise)
        return best.delta

    def _shrunk(self, problem: Problem, part: slice, delta: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Shortest multiples of the perturbations that the judge still accepts, and their norms (inf: none)."""
        images, clean, state = problem.images[part], problem.clean_scores[part], problem.state[part]

        def reached(factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            found, length = settle(images, delta * per_image(factor, delta), size, self.p)
            score = self.goal.score(problem.answer(problem.judge, found), state)
            return self.goal.reached(score, clean), found - images, length

        low, high = torch.zeros_like(size), torch.ones_like(size)
        ok, step, length = reached(high)
        length = torch.where(ok, length, torch.inf)
        for _ in range(_SHRINKS if bool(ok.any()) else 0):
            middle = (low + high) / 2
            good, shorter, measured = reached(middle)
            good = good & ok
            step = torch.where(per_image(good, step).bool(), shorter, step)
            length = torch.where(good, measured, length)
            low, high = torch.where(good, low, middle), torch.where(good, middle, high)
        return step, length
