"""Attacks on a detector over a data set, image by image, each checked against its certificate."""

from __future__ import annotations

import dataclasses
import math
import shlex
from typing import Any

from onelip.apps.boxes.aims import goal_of
from onelip.apps.boxes.detections import LOW, stored
from onelip.apps.boxes.opened import OpenedBoxes, open_boxes_run
from onelip.apps.boxes.tally import Proof, Record, results
from onelip.apps.common import model_folder
from onelip.apps.records import Records
from onelip.apps.runs import Run, clock, progress
from onelip.attacks import PGD, AttackResult, BoxGoal, RandomNoise
from onelip.certify import DetectionCertificate
from onelip.core import errors, files
from onelip.testing import assert_sound
from onelip.testing.boxes import Attacked


@dataclasses.dataclass(frozen=True)
class AssaultBoxes(Run):
    """What `onelip attack` was asked to do to a detector.

    Attributes:
        goals: as "vanish", "fabricate", "mislabel:least" (`onelip.apps.boxes.aims`).
        steps: gradient steps of each start.
        restarts: starts, the clean image being the first.
        control: measure random noise of the same norm, too.
        score: threshold of the scores.
        iou: overlap from which on a detection is on an object.
        classes: of the data set, in the order of the model's; all of them by default.
    """

    goals: tuple[str, ...] = ("vanish",)
    steps: int = 40
    restarts: int = 1
    control: bool = True
    score: float = 0.5
    iou: float = 0.5
    classes: tuple[str, ...] = ()

    @property
    def asked(self) -> list[float]:
        """The eps asked for, in order."""
        return sorted(set(self.eps))

    def boxes_options(self) -> list[str]:
        """The options of detectors as they are written on the command line."""
        parts = [f"--score {self.score!r}"] if self.score != 0.5 else []
        parts += [f"--iou {self.iou!r}"] if self.iou != 0.5 else []
        return parts + (["--classes " + " ".join(map(shlex.quote, self.classes))] if self.classes else [])

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip attack {self.model} {self.data} --goal {' '.join(self.goals)}"]
        parts += [f"--steps {self.steps} --restarts {self.restarts}"]
        parts += [] if self.control else ["--no-control"]
        return " ".join([*parts, *self.boxes_options(), *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        options = f", size={self.size}" if self.size else ""
        options += f", classes={list(self.classes)}" if self.classes else ""
        goals = [goal_of(name, threshold=self.score, iou=self.iou) for name in self.goals]
        lines = [
            f'dataset = onelip.data.open_boxes("{self.data}", "{self.split}"{options})',
            f'model = onelip.load("{model_folder(self.model)}")',
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
    what = {name: getattr(run, name) for name in ("steps", "restarts", "control", "iou", "seed")}
    key = opened.key(eps=run.asked, goals=list(run.goals), **what)
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    found: dict[str, Any] = {}
    try:
        with progress(len(opened.chosen), "attacking") as step:
            for index in opened.chosen:
                if index not in records:
                    records.add(siege.one(index))
                step()
    finally:
        if done := records.chosen(opened.chosen):
            found = results(run, opened, done, siege.proof)
            files.write_json(run.out / "results.json", found)
    return found


@dataclasses.dataclass(frozen=True)
class Siege:
    """A run with its attacks, which are judged by the very model of the certificates."""

    run: AssaultBoxes
    opened: OpenedBoxes
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
        return cls(run, opened, attacks, noise, Proof.of(run))

    def one(self, index: int) -> Record:
        """Attack one image, check the results against the certificate, and keep the figures."""
        run, opened = self.run, self.opened
        image, targets = opened.item(index)
        certificate = opened.certifier(image, targets)
        images: Any = certificate.images
        found: dict[str, AttackResult] = {}
        seconds: dict[str, float] = {}
        attacks: dict[str, PGD | RandomNoise] = dict(self.attacks)
        attacks |= {"noise": self.noise} if self.noise is not None else {}
        for name, attack in attacks.items():
            start = clock(opened.device)
            found[name] = attack(opened.model, images, certificate.targets, run.asked, seed=run.seed)
            seconds[name] = clock(opened.device) - start
            assert_sound(certificate, found[name], folder=run.out / "unsound")
        first = next(iter(found.values()))
        control = found.pop("noise", None)
        assert certificate.targets is not None
        self.proof.add(index, certificate)
        return {
            "index": index,
            "id": opened.dataset.ids[index],
            "size": list(image.shape[1:]),
            "target": stored(certificate.targets[0]),
            "clean": measured(certificate, first.clean_outputs, run.iou),
            "certified": proven(certificate, run),
            "noise": None if control is None else by_eps(certificate, control, run.iou),
            "goals": {name: attacked(certificate, r, run.iou, seconds[name]) for name, r in found.items()},
            "gain": max(float((r.moved / r.norms.clamp_min(1e-30)).max()) for r in found.values()),
            "lipschitz": certificate.settings.lipschitz,
            "queries": sum(r.queries for r in found.values()),
            "seconds": sum(seconds[name] for name in found),
        }


def proven(certificate: DetectionCertificate, run: AssaultBoxes) -> Record:
    """What is certain about one image at each eps: None where a cap could bind."""
    alarms = certificate.alarms(run.asked, run.iou)[:, 0].tolist()
    found = certificate.found(run.asked, run.iou)[:, 0].tolist()
    return {
        "free": certificate.settings.kappa is None,
        "found": [0 if math.isnan(n) else int(n) for n in found],
        "alarms": [None if math.isnan(n) else int(n) for n in alarms],
        "silent_radius": _finite(float(certificate.silent_radius[0])),
    }


def measured(certificate: DetectionCertificate, heads: Any, iou: float) -> Record:
    """Detections above the low score, and what is counted by locations, of heads (1, N, K)."""
    nms = certificate.settings.nms
    low = min(LOW, certificate.threshold / 2)
    seen = heads.at(certificate.logit(low), nms=nms).predictions()[0]
    scene = certificate.scenes[0]
    here = Attacked(scene, certificate.theta, heads.logits[0].detach().cpu().double(), {}, iou)
    return {
        "seen": stored(seen),
        "located": int(here.held.sum()),
        "outside": int((here.fires & scene.outside).sum()),
    }


def by_eps(certificate: DetectionCertificate, found: AttackResult, iou: float) -> list[Record]:
    """What was measured at each eps."""
    assert found.outputs is not None, "detectors leave their heads"
    return [measured(certificate, heads, iou) for heads in found.outputs]


def attacked(certificate: DetectionCertificate, found: AttackResult, iou: float, seconds: float) -> Record:
    """What an attack did to one image."""
    return {
        "attacked": by_eps(certificate, found, iou),
        "norms": found.norms[:, 0].tolist(),
        "clean_score": _finite(float(found.clean_scores[0])),
        "scores": [_finite(s) for s in found.scores[:, 0].tolist()],
        "reached": found.success[:, 0].tolist(),
        "queries": found.queries,
        "seconds": seconds,
    }


def _finite(value: float) -> float | str | None:
    """JSON of a number: None for nan, "inf" for no limit."""
    return None if math.isnan(value) else "inf" if math.isinf(value) else value
