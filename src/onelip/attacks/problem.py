"""One call of an attack: the images, the clean answers, and what has been asked of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from onelip.attacks.base import Terms, as_dense, predict
from onelip.attacks.projection import Noise, norms, per_image, settle
from onelip.attacks.result import AttackResult
from onelip.attacks.search import Ascent
from onelip.core import checks, runtime


@dataclass(eq=False)
class Problem:
    """One call of an attack: the images, the clean answers, and what has been asked of the model."""

    attack: Any
    model: nn.Module
    judge: nn.Module
    images: Tensor
    target: Tensor | None
    seed: int
    queries: int = 0
    searches: list[Ascent] = field(default_factory=list)

    @classmethod
    def of(cls, attack: Any, model: nn.Module, images: Any, target: Any, seed: int) -> Problem:
        """Checked arguments, on the model's device, images in float64."""
        clean = checks.images(images).detach()
        device = _like(model).device
        if target is not None:
            target = torch.as_tensor(target).to(device)
        runtime.generator(seed)
        judge = model if attack.judge is None else attack.judge
        return cls(attack, model, judge, clean.to(device, torch.float64), target, seed)

    def look(self) -> None:
        """Run both models on the clean images, and fix what the goal compares with."""
        goal = self.attack.goal
        self.outputs = self.answer(self.model, self.images)
        self.judged = self.outputs if self.judge is self.model else self.answer(self.judge, self.images)
        checks.finite("logits", self.judged)
        self.state = goal.prepare(self.judged, self.target)
        self.clean_scores = goal.score(self.judged, self.state)

    def parts(self, size: int) -> list[slice]:
        """Slices of the batch."""
        return [slice(i, i + size) for i in range(0, self.images.shape[0], size)]

    @torch.no_grad()
    def answer(self, model: nn.Module, images: Tensor) -> Tensor:
        """Outputs of a model for float64 images, computed in the model's own precision without TF32."""
        like, found = _like(model), []
        with runtime.exact_matmul(), torch.autocast(like.device.type, enabled=False):
            for part in self.parts(self.attack.batch_size):
                found.append(model(images[part].to(like)))
                self.queries += found[-1].shape[0]
        return torch.cat(found)

    def ascent(self, part: slice) -> Ascent:
        """Search for some of the images, in the model's precision."""
        x = self.images[part].to(_like(self.model))
        goal, p = self.attack.goal, float(self.attack.p)
        self.searches.append(Ascent(self.model, goal, x, self.state[part], p))
        return self.searches[-1]

    def noise(self, part: slice) -> Noise:
        """Noise of some of the images."""
        return Noise(self.seed, part.start, self.images[part].shape[0])

    def terms(self, part: slice) -> Terms:
        """Clean pixels of some of the images."""
        found: Terms = self.attack.goal.terms(self.outputs[part], self.state[part])
        return found

    def result(self, delta: Tensor, sizes: Tensor) -> AttackResult:
        """Judge what was found, and put the clean image where that is better for the attacker."""
        goal, p = self.attack.goal, float(self.attack.p)
        rows = [self._row(step, eps, p) for step, eps in zip(delta, sizes.tolist(), strict=True)]
        images, size, scores, predictions, moved = (torch.stack(column) for column in zip(*rows, strict=True))
        success = torch.stack([goal.reached(row, self.clean_scores) for row in scores])
        queries = self.queries + sum(ascent.queries for ascent in self.searches)
        return AttackResult(
            images=images,
            norms=size,
            scores=scores,
            clean_scores=self.clean_scores,
            success=success,
            predictions=predictions,
            clean_predictions=_predictions(self.judged),
            moved=moved,
            clean=self.images,
            target=self.target,
            eps=sizes,
            p=p,
            seed=self.seed,
            queries=queries,
            classes=self.judged.shape[1],
            goal=goal,
            attack=self.attack.name,
        )

    def _row(self, delta: Tensor, eps: float, p: float) -> tuple[Tensor, ...]:
        limit = torch.full((delta.shape[0],), eps, dtype=torch.float64, device=delta.device)
        images, size = settle(self.images, delta, limit, p)
        outputs = self.answer(self.judge, images)
        scores = self.attack.goal.score(outputs, self.state)
        keep = scores > self.clean_scores
        chosen = torch.where(per_image(keep, outputs).bool(), outputs, self.judged)
        return (
            torch.where(per_image(keep, images).bool(), images, self.images),
            torch.where(keep, size, 0.0),
            torch.where(keep, scores, self.clean_scores),
            _predictions(chosen),
            norms(chosen.double() - self.judged.double(), p),
        )


def _predictions(outputs: Tensor) -> Tensor:
    prediction = predict(as_dense(outputs))
    return prediction[:, 0, 0] if outputs.dim() == 2 else prediction


def _like(model: nn.Module) -> Tensor:
    """A tensor of the model's precision and device."""
    tensors = (*model.parameters(), *model.buffers())
    return next((t for t in tensors if t.is_floating_point()), torch.empty(0))
