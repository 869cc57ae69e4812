"""Detectors under the published attack: one loss, a fixed number of constant steps, and the last iterate counts.

    onelip data runways --n 300 --size 256 --split test --out runs/runways
    python benchmarks/published.py --data runs/runways --split test

TOG (Chow et al., 2020) makes objects vanish by the cross-entropy of all logits with "nothing": a random start, 10 steps
of a quarter of the radius, no choice of the best iterate. Here in l2, as in the published curves of Lipschitz
detectors. It is a weaker attack than those of `detection.py`, which choose, go on from smaller balls, and try four
losses: what it leaves is not what an attacker leaves. Writes results/detection-published.json; resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import common
from onelip.apps.boxes.detections import LOW
from onelip.apps.boxes.opened import BoxRun, OpenedBoxes, open_boxes_run
from onelip.apps.common import parse_size
from onelip.apps.records import Records
from onelip.apps.runs import progress
from onelip.attacks import AttackResult, BoxGoal, FabricateBoxes, VanishBoxes
from onelip.attacks.problem import Problem
from onelip.attacks.projection import direction, per_image, project
from onelip.attacks.search import Ascent, frozen
from onelip.layers import fold
from onelip.metrics import score_detections
from onelip.testing import assert_sound

MODELS = {"LipNet": "runway-fcos", "standard": "runway-fcos-standard"}
EPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
FLOORS = (LOW, 0.05, 0.5)  # scores from which a detection counts
GOALS = {"vanish": VanishBoxes(form="tog"), "fabricate": FabricateBoxes(count=(5, 10), form="focal")}


@dataclass(frozen=True)
class Published:
    """TOG in l2: constant steps from a random point on each sphere; what comes last is kept, even if it is worse.

    Attributes:
        goal: whose first loss is followed.
        steps: of each ball.
        step: length of a step, over the radius of the ball.
        judge: model by which the images are judged.
    """

    goal: BoxGoal
    steps: int
    judge: Any
    step: float = 0.25
    p: float = 2
    batch_size: int = 1
    name: str = "TOG"

    def __call__(self, model: Any, images: Tensor, target: Any, eps: Any, *, seed: int) -> AttackResult:
        """Attack a batch."""
        problem = Problem.of(self, model, images, target, seed, control=True)
        with frozen(model, self.name), frozen(self.judge, self.name):
            problem.look()
            balls = torch.stack([self._ball(problem, size) for size in eps])
            return problem.result(balls, torch.tensor(eps, dtype=torch.float64))

    def _ball(self, problem: Problem, size: float) -> Tensor:
        every = slice(0, problem.images.shape[0])
        ascent, noise = problem.ascent(every), problem.noise(every)
        eps = torch.full((every.stop,), size, dtype=torch.float64, device=ascent.images.device)
        delta = noise.start(ascent.images, eps, self.p)
        for _ in range(self.steps):
            gradient = self._gradient(ascent, delta)
            ahead = delta + per_image(eps * self.step, delta) * direction(gradient, self.p, noise)
            delta = project(ahead, ascent.images, eps, self.p)
        return delta

    def _gradient(self, ascent: Ascent, delta: Tensor) -> Tensor:
        delta = delta.detach().requires_grad_()
        with torch.enable_grad():
            outputs = self.goal.ask(ascent.model, ascent.images + delta)
            loss = self.goal.loss(outputs, ascent.state, 0.0, self.goal.losses[0]).sum()
        return torch.autograd.grad(loss, delta)[0]


def attacked(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What the attack leaves of one model: detections of each image, goal and eps."""
    run = BoxRun(
        model=MODELS[name],
        data=options.data,
        split=options.split,
        size=parse_size(options.size),
        out=options.out,
        eps=EPS,
        limit=options.images,
        resume=True,
    )
    opened = open_boxes_run(run, threshold=0.5, classes=())
    attacks = {
        goal: Published(how, steps=options.steps, judge=opened.certifier.model) for goal, how in GOALS.items()
    }
    key = opened.key(eps=EPS, steps=options.steps, goals=list(GOALS))
    records = Records(options.out / f"{name}.jsonl", key, resume=True)
    model = fold(opened.model)
    with progress(len(opened.chosen), f"attacking {name}") as tick:
        for index in opened.chosen:
            if index not in records:
                records.add(one(opened, model, attacks, index))
            tick()
    return list(records.chosen(opened.chosen))


def one(opened: OpenedBoxes, model: Any, attacks: dict[str, Published], index: int) -> dict[str, Any]:
    """Attack one image, and check the result against its certificate."""
    images, targets = opened.item(index)
    certificate = opened.certifier(images, targets)
    record: dict[str, Any] = {"index": index, "target": plain(targets[0])}
    for goal, attack in attacks.items():
        result = attack(model, images, targets, EPS, seed=index)
        assert_sound(certificate, result)
        record[goal] = [plain(row[0]) for row in result.detections(LOW)]
    return record


def plain(found: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors as lists."""
    return {key: found[key].tolist() for key in ("boxes", "labels", "scores") if key in found}


def tensors(found: dict[str, Any]) -> dict[str, Tensor]:
    """Lists as tensors; boxes keep their shape where there are none."""
    kinds = {"boxes": torch.float64, "labels": torch.int64, "scores": torch.float64}
    made = {key: torch.tensor(values, dtype=kinds[key]) for key, values in found.items()}
    return made | {"boxes": made["boxes"].reshape(-1, 4)}


def scored(records: list[dict[str, Any]], goal: str, row: int, floor: float) -> float:
    """mAP@50 of the detections with scores from `floor` on."""
    found = []
    for record in records:
        kept = tensors(record[goal][row])
        high = kept["scores"] >= floor
        found.append({key: values[high] for key, values in kept.items()})
    targets = [tensors(record["target"]) for record in records]
    result = score_detections(found, targets, classes=("runway",), threshold=0.5, iou=0.5)
    return float(result.map50)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of rendered runways")
    parser.add_argument("--split", default="test")
    parser.add_argument("--size", default=None, help="HxW")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/detection-published"))
    options = parser.parse_args()
    found = {name: attacked(name, options) for name in MODELS}
    curves = {
        goal: {
            f"{floor:g}": {
                name: [scored(records, goal, row, floor) for row in range(len(EPS))]
                for name, records in found.items()
            }
            for floor in FLOORS
        }
        for goal in GOALS
    }
    ratios = {
        goal: {floor: _ratio(rows["LipNet"][-1], rows["standard"][-1]) for floor, rows in floors.items()}
        for goal, floors in curves.items()
    }
    notes = [
        f"{options.images} images; l2, random start on the sphere, {options.steps} steps of eps / 4, the last",
        "a weaker attack than that of detection.json: what it leaves is not what an attacker leaves",
    ]
    results = {
        "eps": EPS,
        "images": options.images,
        "steps": options.steps,
        "map50": curves,
        "ratios": ratios,
    }
    common.write("detection-published", results, seed=0, notes=notes)


def _ratio(mine: float, other: float) -> float | None:
    return mine / other if other else None


if __name__ == "__main__":
    main()
