"""Attacks on a detector over a data set, image by image, each checked against its certificate."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from onelip.apps.boxes import exhibits
from onelip.apps.boxes.aims import goal_of
from onelip.apps.boxes.damage import attacked, by_eps, measured, proven, shortest
from onelip.apps.boxes.detections import LOW, stored
from onelip.apps.boxes.opened import BoxRun, OpenedBoxes, open_boxes_run
from onelip.apps.boxes.tally import Proof, Record, results
from onelip.apps.common import model_folder
from onelip.apps.records import Records
from onelip.apps.runs import clock, progress, spread
from onelip.attacks import PGD, AttackResult, BoxGoal, MinNorm, RandomNoise
from onelip.core import errors, files
from onelip.layers import fold
from onelip.testing import assert_sound

if TYPE_CHECKING:
    from torch import nn

    from onelip.certify import DetectionCertificate


@dataclasses.dataclass(frozen=True)
class AssaultBoxes(BoxRun):
    """What `onelip attack` was asked to do to a detector.

    Attributes:
        goals: as "vanish", "fabricate", "mislabel:least" (`onelip.apps.boxes.aims`).
        steps: gradient steps of each start.
        restarts: starts, the clean image being the first.
        control: measure random noise of the same norm, too.
        smallest: search for the smallest perturbation that reaches each goal, up to the largest eps.
        keep: keep the perturbations of all images, for `onelip.apps.boxes.transfer`.
    """

    goals: tuple[str, ...] = ("vanish",)
    steps: int = 40
    restarts: int = 1
    control: bool = True
    smallest: bool = False
    keep: bool = False

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip attack {self.model} {self.data} --goal {' '.join(self.goals)}"]
        parts += [f"--steps {self.steps} --restarts {self.restarts}"]
        parts += [] if self.control else ["--no-control"]
        parts += ["--smallest"] if self.smallest else []
        parts += ["--keep"] if self.keep else []
        return " ".join([*parts, *self.boxes_options(), *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        goals = [goal_of(name, threshold=self.score, iou=self.iou) for name in self.goals]
        lines = [
            self.python_dataset(),
            f'model = onelip.fold(onelip.load("{model_folder(self.model)}"))',
            f"certifier = onelip.certify.DetectionCertifier(model, {self.score!r})",
            f"count = min({self.limit}, len(dataset)) or len(dataset)",
            "indices = [i * len(dataset) // count for i in range(count)]",
            f"goals = [{', '.join(f'onelip.attacks.{goal!r}' for goal in goals)}]",
            f"attacks = [onelip.attacks.PGD(goal, steps={self.steps}, restarts={self.restarts},",
            "    judge=certifier.model) for goal in goals]",
            "targets, attacked = [], [[] for _ in goals]",
            "for index in indices:",
            "    image, target = dataset[index]",
            "    certificate = certifier(image[None], [target])",
            "    targets.append(target)",
            "    for attack, kept in zip(attacks, attacked):",
            f"        result = attack(model, certificate.images, certificate.targets, {self.asked}, seed={self.seed})",
            "        onelip.testing.assert_sound(certificate, result)",
            f"        kept.append([row[0] for row in result.detections({LOW})])",
            "scores = [[onelip.metrics.score_detections(row, targets, classes=dataset.classes,",
            f"    threshold={self.score!r}, iou={self.iou!r}) for row in zip(*kept)] for kept in attacked]",
            "for goal, rows in zip(goals, scores):",
            "    print(goal.name, *rows, sep='\\n')",
        ]
        return "\n".join(lines)


def assault_boxes(run: AssaultBoxes) -> dict[str, Any]:
    """Attack the images of a run and write results.json; an interruption keeps the images that are done.

    Args:
        run: what to do.

    Returns:
        The content of results.json.

    Raises:
        InputError: for unusable options, data or models.
        UnsoundError: an attack beat its certificate; the image is saved in the folder `unsound`.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    opened = open_boxes_run(run, threshold=run.score, classes=run.classes)
    siege = Siege.of(run, opened)
    what = {name: getattr(run, name) for name in ("steps", "restarts", "control", "smallest", "iou", "seed")}
    key = opened.key(eps=run.asked, goals=list(run.goals), **what)
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), run.pictures)} if run.pictures else set()
    found: dict[str, Any] = {}
    try:
        with progress(len(chosen), "attacking") as step:
            for index in chosen:
                there = exhibits.there(opened, index, kept=run.keep, drawn=index in shown)
                if index not in records or not there:
                    records.add(siege.one(index, draw=index in shown))
                step()
    finally:
        if done := records.chosen(chosen):
            found = results(run, opened, done, siege.proof)
            pictured = [
                r for r in done if r["index"] in shown and exhibits.picture(opened, r["index"]).is_file()
            ]
            found["pictures"] = [exhibits.entry(opened, record) for record in pictured]
            files.write_json(run.out / "results.json", found)
    return found


@dataclasses.dataclass(frozen=True)
class Siege:
    """A run with its attacks, which are judged by the very model of the certificates."""

    run: AssaultBoxes
    opened: OpenedBoxes
    model: nn.Module
    attacks: dict[str, PGD]
    noise: RandomNoise | None
    proof: Proof

    @classmethod
    def of(cls, run: AssaultBoxes, opened: OpenedBoxes) -> Siege:
        """Read the goals; raises InputError for unknown ones, and for one that is there twice."""
        if not run.goals or len(set(run.goals)) < len(run.goals):
            raise errors.InputError(
                errors.explain("--goal is not usable", received=list(run.goals), expected="goals, each once")
            )
        goals = {name: goal_of(name, threshold=run.score, iou=run.iou) for name in run.goals}
        judge: Any = opened.certifier.model
        attacks = {
            name: PGD(goal, steps=run.steps, restarts=run.restarts, p=run.p, judge=judge)
            for name, goal in goals.items()
        }
        first: BoxGoal = next(iter(goals.values()))
        noise = RandomNoise(first, p=run.p, judge=judge) if run.control else None
        return cls(run, opened, fold(opened.model), attacks, noise, Proof(run))

    def one(self, index: int, *, draw: bool) -> Record:
        """Attack one image, check the results against the certificate, and keep the figures."""
        run, opened = self.run, self.opened
        image, targets = opened.item(index)
        certificate = opened.certifier(image, targets)
        assert certificate.targets is not None
        found, seconds = self._found(certificate, index)
        smallest = self._smallest(certificate) if run.smallest else None
        control = found.pop("noise", None)
        first = next(iter(found.values()))
        self.proof.add(index, certificate)
        if run.keep:
            exhibits.keep(opened, index, found)
        if draw:
            exhibits.draw(opened, index, found)
        return {
            "index": index,
            "id": opened.dataset.ids[index],
            "size": list(image.shape[1:]),
            "target": stored(certificate.targets[0]),
            "clean": measured(certificate, first.clean_outputs, run.iou),
            "certified": proven(certificate, run),
            "noise": None if control is None else by_eps(certificate, control, run.iou),
            "goals": {name: attacked(certificate, r, run.iou, seconds[name]) for name, r in found.items()},
            "smallest": smallest,
            "gain": max(float((r.moved / r.norms.clamp_min(1e-30)).max()) for r in found.values()),
            "lipschitz": certificate.settings.lipschitz,
            "queries": sum(r.queries for r in found.values()),
            "seconds": sum(seconds[name] for name in found),
        }

    def _found(
        self, certificate: DetectionCertificate, index: int
    ) -> tuple[dict[str, AttackResult], dict[str, float]]:
        """What each attack and the noise do within the eps asked for, checked; and their seconds."""
        run, found, seconds = self.run, {}, {}
        attacks: dict[str, PGD | RandomNoise] = dict(self.attacks)
        attacks |= {"noise": self.noise} if self.noise is not None else {}
        images: Any = certificate.images
        for name, attack in attacks.items():
            seed = run.seed + index if name == "noise" else run.seed  # another direction for each image
            start = clock(self.opened.device)
            found[name] = attack(self.model, images, certificate.targets, run.asked, seed=seed)
            seconds[name] = clock(self.opened.device) - start
            assert_sound(certificate, found[name], folder=run.out / "unsound")
        return found, seconds

    def _smallest(self, certificate: DetectionCertificate) -> dict[str, Record | None]:
        """The smallest perturbation that reaches each goal."""
        run, found = self.run, {}
        images: Any = certificate.images
        for name, attack in self.attacks.items():
            goal: Any = attack.goal
            search = MinNorm(goal, max_eps=run.asked[-1], steps=run.steps, judge=attack.judge)
            start = clock(self.opened.device)
            result = search(self.model, images, certificate.targets, seed=run.seed)
            seconds = clock(self.opened.device) - start
            assert_sound(certificate, result, folder=run.out / "unsound")
            found[name] = shortest(certificate, goal, result, seconds)
        return found
