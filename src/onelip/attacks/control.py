"""Random noise of the norm of an attack: what would happen without an attacker."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onelip.attacks.base import Goal
from onelip.attacks.pgd import Eps
from onelip.attacks.problem import Problem
from onelip.attacks.projection import per_image
from onelip.attacks.result import AttackResult
from onelip.attacks.search import frozen
from onelip.core import checks


@dataclass(frozen=True)
class RandomNoise:
    r"""Normal noise scaled to the norm of the ball: the control that stands beside an attack.

    An attack that does no more than this is none. All eps use one direction for each image; the clean image is never
    put back, and nothing is chosen, unless `draws` is more than one: then the best draw by the goal is.

    Args:
        goal: by which the images are scored.
        p: 1, 2 or inf (for inf noise is cut at one standard deviation, so that many values are at the bound).
        draws: directions for each image and eps.
        judge: model by which images are scored; by default the model itself.
        batch_size: images of one forward pass.

    Guarantee: the images are in the box and in the closed ball. Clipping to [0, 1] can leave their norm below eps.

    Raises:
        InputError: as `PGD`.
        TrainModeError: when a model is in train mode.

    Example:
        >>> from onelip.attacks import PixelErrors
        >>> model, images = torch.nn.Conv2d(3, 2, 1).eval(), torch.full((1, 3, 4, 4), 0.5)
        >>> found = RandomNoise(PixelErrors())(model, images, torch.zeros(1, 4, 4).long(), eps=[0.5])
        >>> round(found.norms.item(), 6), found.control
        (0.5, True)
    """

    goal: Goal
    p: float = 2
    draws: int = 1
    judge: nn.Module | None = None
    batch_size: int = 8

    def __post_init__(self) -> None:
        checks.norm(self.p)
        checks.positive_int("draws", self.draws)
        checks.positive_int("batch_size", self.batch_size)

    @property
    def name(self) -> str:
        """Name used in tables and files."""
        return type(self).__name__

    def __call__(
        self, model: nn.Module, images: Tensor, target: object = None, eps: Eps = 0.5, *, seed: int = 0
    ) -> AttackResult:
        """Disturb a batch of images.

        Args:
            model: in eval mode, on images in [0, 1].
            images: (B, C, H, W) in [0, 1].
            target: as the goal needs it.
            eps: l_p norms of the noise of a whole image.
            seed: of the noise.
        """
        problem = Problem.of(self, model, images, target, seed, control=True)
        sizes = checks.eps_values(eps)
        with frozen(model, self.name), frozen(problem.judge, self.name):
            problem.look()
            rows = [self._noise(problem, size) for size in sizes.tolist()]
            return problem.result(torch.stack(rows), sizes)

    def _noise(self, problem: Problem, size: float) -> Tensor:
        """(B, C, H, W) float64 noise of one norm."""
        x, goal = problem.images, self.goal
        eps = torch.full((x.shape[0],), size, dtype=torch.float64, device=x.device)
        noise = problem.noise(slice(0, x.shape[0]))
        best = noise.start(x, eps, self.p)
        if self.draws == 1:
            return best
        rank = goal.rank(problem.answer(problem.judge, x + best), problem.state)
        for _ in range(self.draws - 1):
            other = noise.start(x, eps, self.p)
            found = goal.rank(problem.answer(problem.judge, x + other), problem.state)
            better = found > rank
            best = torch.where(per_image(better, best).bool(), other, best)
            rank = torch.where(better, found, rank)
        return best
