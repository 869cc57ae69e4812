"""One call of an attack: the images, the clean answers, and what has been asked of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.base import Terms, as_dense, predict
from onelip.attacks.outputs import Outputs, bounded, choose, classes, join
from onelip.attacks.projection import Noise, norms, per_image, settle
from onelip.attacks.result import AttackResult
from onelip.attacks.search import Ascent
from onelip.core import checks, runtime
from onelip.core.errors import InputError, explain


@dataclass(eq=False)
class Problem:
    """One call of an attack: the images, the clean answers, and what has been asked of the model."""

    attack: Any
    model: nn.Module
    judge: nn.Module
    images: Tensor
    target: Any
    seed: int
    control: bool = False
    queries: int = 0
    searches: list[Ascent] = field(default_factory=list)

    @classmethod
    def of(
        cls, attack: Any, model: nn.Module, images: Any, target: Any, seed: int, *, control: bool = False
    ) -> Problem:
        """Checked arguments, on the model's device, images in float64.

        Args:
            attack: with goal, p, judge, batch_size and name.
            model: to be attacked.
            images: (B, C, H, W) in [0, 1].
            target: whatever the goal compares with.
            seed: of every random start.
            control: perturbations are kept whether or not they are better than nothing, as a control needs it.
        """
        clean = checks.images(images).detach()
        device = _like(model).device
        target = attack.goal.receive(target, device)
        runtime.generator(seed)
        judge = model if attack.judge is None else attack.judge
        return cls(attack, model, judge, clean.to(device, torch.float64), target, seed, control)

    def look(self) -> None:
        """Run both models on the clean images, and fix what the goal compares with."""
        goal = self.attack.goal
        self.outputs = self.answer(self.model, self.images)
        self.judged = self.outputs if self.judge is self.model else self.answer(self.judge, self.images)
        if classes(self.outputs) != classes(self.judged):
            raise InputError(
                explain(
                    f"{self.attack.name}: model and judge have not the same classes",
                    received=f"{classes(self.outputs)} and {classes(self.judged)}",
                    expected="two models of one task",
                )
            )
        checks.finite("logits", bounded(self.judged))
        self.state = goal.prepare(self.judged, self.target)
        self.clean_scores = goal.score(self.judged, self.state)
        self.clean_ranks = goal.rank(self.judged, self.state)

    def parts(self, size: int) -> list[slice]:
        """Slices of the batch."""
        return [slice(i, i + size) for i in range(0, self.images.shape[0], size)]

    @torch.no_grad()
    def answer(self, model: nn.Module, images: Tensor) -> Any:
        """Outputs of a model for float64 images, computed in the model's own precision without TF32."""
        goal, like, found = self.attack.goal, _like(model), []
        with runtime.exact_matmul(), torch.autocast(like.device.type, enabled=False):
            for part in self.parts(self.attack.batch_size):
                found.append(goal.ask(model, images[part].to(like)))
                self.queries += images[part].shape[0]
        return join(found)

    def ascent(self, part: slice) -> Ascent:
        """Search for some of the images, in the model's precision."""
        x = self.images[part].to(_like(self.model))
        goal, p = self.attack.goal, float(self.attack.p)
        self.searches.append(Ascent(self.model, goal, x, self.state[part], p))
        return self.searches[-1]

    def noise(self, part: slice) -> Noise:
        """Noise of some of the images."""
        return Noise(self.seed, part.start, self.images[part].shape[0])

    def terms(self, part: slice) -> Terms | None:
        """Clean pixels of some of the images, None for a goal with losses of its own."""
        goal = self.attack.goal
        found: Terms | None = None if goal.losses else goal.terms(self.outputs[part], self.state[part])
        return found

    def result(self, delta: Tensor, sizes: Tensor) -> AttackResult:
        """Judge what was found, and put the clean image where that is better for the attacker."""
        goal, p = self.attack.goal, float(self.attack.p)
        rows = [self._row(step, eps, p) for step, eps in zip(delta, sizes.tolist(), strict=True)]
        *columns, predictions, outputs = zip(*rows, strict=True)
        images, size, scores, moved = (torch.stack(column) for column in columns)
        several = isinstance(self.judged, Outputs)
        success = torch.stack([goal.reached(row, self.clean_scores) for row in scores])
        queries = self.queries + sum(ascent.queries for ascent in self.searches)
        return AttackResult(
            images=images,
            norms=size,
            scores=scores,
            clean_scores=self.clean_scores,
            success=success,
            predictions=list(predictions) if several else torch.stack(predictions),
            clean_predictions=_predictions(self.judged),
            moved=moved,
            clean=self.images,
            target=self.target,
            eps=sizes,
            p=p,
            seed=self.seed,
            queries=queries,
            classes=classes(self.judged),
            goal=goal,
            attack=self.attack.name,
            outputs=outputs if several else None,
            clean_outputs=self.judged if several else None,
            control=self.control,
        )

    def _row(self, delta: Tensor, eps: float, p: float) -> tuple[Any, ...]:
        limit = torch.full((delta.shape[0],), eps, dtype=torch.float64, device=delta.device)
        images, size = settle(self.images, delta, limit, p)
        outputs = self.answer(self.judge, images)
        scores = self.attack.goal.score(outputs, self.state)
        keep = self.attack.goal.rank(outputs, self.state) > self.clean_ranks
        if self.control:
            keep = torch.ones_like(keep)
        chosen = choose(keep, outputs, self.judged)
        return (
            torch.where(per_image(keep, images).bool(), images, self.images),
            torch.where(keep, size, 0.0),
            torch.where(keep, scores, self.clean_scores),
            norms(bounded(chosen).double() - bounded(self.judged).double(), p),
            _predictions(chosen),
            chosen if isinstance(chosen, Outputs) else None,
        )


def _predictions(outputs: Any) -> Any:
    if isinstance(outputs, Outputs):
        return outputs.predictions()
    prediction = predict(as_dense(outputs))
    return prediction[:, 0, 0] if outputs.dim() == 2 else prediction


def _like(model: nn.Module) -> Tensor:
    """A tensor of the model's precision and device."""
    tensors = (*model.parameters(), *model.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))
