"""Attacks on a classifier over a data set, batch by batch, each checked against its certificate."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onelip.apps.assault import ATTACKS
from onelip.apps.labels import gallery
from onelip.apps.labels.aims import Aim, aim_of
from onelip.apps.labels.opened import (
    OpenedLabels,
    channels_of,
    open_labels_run,
    python_batches,
    python_head,
)
from onelip.apps.labels.tally import Record, results
from onelip.apps.records import Records
from onelip.apps.runs import Run, clock, progress, spread
from onelip.attacks import PGD, AttackResult, MinNorm, RandomNoise
from onelip.certify.curve import plain
from onelip.core import errors, files
from onelip.layers import fold
from onelip.testing import assert_sound

if TYPE_CHECKING:
    from torch import nn

    from onelip.certify import ClassificationCertificate

BATCH = 16  # images attacked together
USABLE = tuple(name for name in ATTACKS if name != "erase")  # which is about small parts of an image


@dataclasses.dataclass(frozen=True)
class AssaultLabels(Run):
    """What `onelip attack` was asked to do to a classifier.

    Attributes:
        goals: as "accuracy", "stability", "to:3" (`onelip.apps.labels.aims`).
        attack: one of `USABLE`.
        steps: gradient steps of each start.
        restarts: starts, the clean image being the first.
        control: measure random noise of the same norm, too.
        smallest: search for the smallest perturbation that reaches each goal, up to the largest eps.
    """

    goals: tuple[str, ...] = ("accuracy",)
    attack: str = "strongest"
    steps: int = 40
    restarts: int = 1
    control: bool = True
    smallest: bool = False

    @property
    def shell(self) -> str:
        """The command that does this."""
        goals = " ".join(map(shlex.quote, self.goals))
        parts = [f"onelip attack {shlex.quote(self.model)} {shlex.quote(self.data)} --goal {goals}"]
        parts += [f"--attack {self.attack} --steps {self.steps} --restarts {self.restarts}"]
        parts += [] if self.control else ["--no-control"]
        parts += ["--smallest"] if self.smallest else []
        return " ".join([*parts, *self.options()])

    def python(self, aims: Sequence[Aim], channels: int | None, *, alike: bool) -> str:
        """The Python that does this, without noise, smallest perturbations, tables and pictures.

        Args:
            aims: the goals.
            channels: of the pictures.
            alike: all have one size, and fit into batches.
        """
        name = ATTACKS[self.attack].__name__
        lines = [
            *python_head(self, channels),
            f"goals = [{', '.join(aim.python for aim in aims)}]",
            f"attacks = [onelip.attacks.{name}(goal, steps={self.steps}, restarts={self.restarts}, p=certifier.p,",
            f"    judge=certifier.model, batch_size={BATCH}) for goal in goals]",
            "reached = [[] for _ in goals]",
            *python_batches(BATCH if alike else 1),
            "    for attack, kept in zip(attacks, reached):",
            f"        result = attack(onelip.fold(model), certificate.images, certificate.targets, {self.asked},",
            f"                        seed={self.seed} + first)",
            "        onelip.testing.assert_sound(certificate, result)",
            "        kept.append(result.success)",
            "for goal, kept in zip(goals, reached):  # share of the images where it is reached, at each eps",
            "    print(goal.name, torch.cat(kept, 1).double().mean(1).tolist())",
        ]
        return "\n".join(lines)


def assault_labels(run: AssaultLabels) -> dict[str, Any]:
    """Attack the images of a run and write results.json; an interruption keeps the batches that are done.

    Args:
        run: what to do.

    Returns:
        The content of results.json.

    Raises:
        InputError: for unusable options, data or models.
        UnsoundError: an attack beat its certificate; the image is saved in the folder `unsound`.
        KeyboardInterrupt: after the images so far have been summed up.
    """
    opened = open_labels_run(run)
    siege = Siege.of(run, opened)
    what = {name: getattr(run, name) for name in ("attack", "steps", "restarts", "control", "smallest")}
    key = opened.key(eps=run.asked, goals=list(run.goals), seed=run.seed, **what)
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    chosen, place = opened.chosen, 0
    shown = {chosen[i] for i in spread(len(chosen), run.pictures)} if run.pictures else set()
    found: dict[str, Any] = {}
    try:
        with progress(len(chosen), "attacking") as step:
            for batch in opened.batches(BATCH):
                lacking = [i for i in batch if i in shown and not gallery.path(opened, i, "attack").is_file()]
                if lacking or any(index not in records for index in batch):
                    for record in siege.batch(batch, run.seed + place, shown):
                        records.add(record)
                place += len(batch)
                for _ in batch:
                    step()
    finally:
        if done := records.chosen(chosen):
            alike = len({tuple(r["size"]) for r in done}) == 1
            python = run.python(siege.aims, channels_of(opened.model), alike=alike)
            found = results(run, siege.aims, opened, done, python)
            pictured = [r for r in done if r["index"] in shown]
            found["pictures"] = [
                gallery.attack_entry(opened, r, run.asked[-1])
                for r in pictured
                if gallery.path(opened, r["index"], "attack").is_file()
            ]
            files.write_json(run.out / "results.json", found)
    return found


@dataclasses.dataclass(frozen=True)
class Siege:
    """A run with its attacks, which are judged by the very model of the certificates."""

    run: AssaultLabels
    opened: OpenedLabels
    model: nn.Module
    aims: tuple[Aim, ...]

    @classmethod
    def of(cls, run: AssaultLabels, opened: OpenedLabels) -> Siege:
        """Read the goals; raises InputError for unknown ones, and for one that is there twice."""
        if run.attack not in USABLE:
            raise errors.InputError(
                errors.explain(
                    "--attack is unknown for a classifier",
                    received=repr(run.attack),
                    expected=", ".join(USABLE),
                )
            )
        aims = tuple(aim_of(name, opened.dataset.classes) for name in run.goals)
        if not aims or len({(aim.kind, aim.to) for aim in aims}) < len(aims):
            raise errors.InputError(
                errors.explain("--goal is not usable", received=list(run.goals), expected="goals, each once")
            )
        return cls(run, opened, fold(opened.model), aims)

    @property
    def _shared(self) -> dict[str, Any]:
        return {"p": self.run.p, "judge": self.opened.certifier.model, "batch_size": BATCH}

    def batch(self, indices: Sequence[int], seed: int, shown: set[int]) -> list[Record]:
        """Attack some images of one size, check all results against the certificate, and keep the figures."""
        run, opened = self.run, self.opened
        certificate = opened.certifier(*opened.batch(indices))
        maker: type[PGD] = ATTACKS[run.attack]
        start = clock(opened.device)
        found = {
            aim.name: self._checked(
                maker(aim.goal, steps=run.steps, restarts=run.restarts, **self._shared), certificate, seed
            )
            for aim in self.aims
        }
        seconds = (clock(opened.device) - start) / len(indices)
        noise, smallest = None, {}
        if run.control:
            noise = self._checked(RandomNoise(self.aims[0].goal, **self._shared), certificate, seed)
        if run.smallest:
            options: dict[str, Any] = {"max_eps": run.asked[-1] or 1e-9, "steps": run.steps, **self._shared}
            for aim in self.aims:
                smallest[aim.name] = self._checked(MinNorm(aim.goal, **options), certificate, seed)
        for row, index in enumerate(indices):
            if index in shown:
                gallery.draw_attack(opened, index, _panels(row, certificate, found, smallest))
        queries = sum(r.queries for r in (*found.values(), *smallest.values())) / len(indices)
        shared = {"lipschitz": certificate.lipschitz, "seconds": seconds, "queries": queries}
        return [
            {
                "index": index,
                "id": opened.dataset.ids[index],
                **_image(self.aims, row, certificate, found, noise, smallest),
                **shared,
            }
            for row, index in enumerate(indices)
        ]

    def _checked(self, attack: Any, certificate: ClassificationCertificate, seed: int) -> AttackResult:
        """The result of an attack, after it was compared with the certificate."""
        args: tuple[Any, ...] = (self.model, certificate.images, certificate.targets)
        if isinstance(attack, MinNorm):
            found: AttackResult = attack(*args, seed=seed)
        else:
            found = attack(*args, self.run.asked, seed=seed)
        assert_sound(certificate, found, folder=self.run.out / "unsound")
        return found


def _image(
    aims: Sequence[Aim],
    row: int,
    certificate: ClassificationCertificate,
    found: dict[str, AttackResult],
    noise: AttackResult | None,
    smallest: dict[str, AttackResult],
) -> Record:
    """What is kept of one image of a batch."""
    assert certificate.targets is not None, "data sets have labels"
    results_ = (*found.values(), *smallest.values())
    return {
        "size": list(certificate.images.shape[1:]),
        "label": int(certificate.targets[row]),
        "predicted": int(certificate.predicted[row]),
        "radius": plain(certificate.radius)[row],
        "certified": {aim.name: plain(aim.radius(certificate))[row] for aim in aims},
        "goals": {
            name: {
                "predicted": result.predictions[:, row].tolist(),
                "norms": result.norms[:, row].tolist(),
                "reached": result.success[:, row].tolist(),
            }
            for name, result in found.items()
        },
        "noise": None if noise is None else noise.predictions[:, row].tolist(),
        "smallest": {aim.name: _smallest(aim, row, certificate, smallest[aim.name]) for aim in aims}
        if smallest
        else None,
        "gain": max(float((r.moved / r.norms.clamp_min(1e-30))[:, row].max()) for r in results_),
    }


def _smallest(
    aim: Aim, row: int, certificate: ClassificationCertificate, found: AttackResult
) -> Record | None:
    """The smallest perturbation of an image, and the norm below which there is none; None where none is needed."""
    clean = found.clean_scores
    if bool(aim.goal.reached(clean, clean)[row]):
        return None
    radius, proven = float(found.radius[row]), float(aim.radius(certificate)[row])
    if radius < proven:
        raise errors.UnsoundError(
            errors.explain(
                f"{aim.name} was reached below its certified radius",
                received=f"{radius:.6g}, certified {proven:.6g}",
                expected="no smaller perturbation than the certified one",
                fix="report it with the model and the image",
            )
        )
    return {"radius": plain(found.radius)[row], "certified": plain(aim.radius(certificate))[row]}


def _panels(
    row: int,
    certificate: ClassificationCertificate,
    found: dict[str, AttackResult],
    smallest: dict[str, AttackResult],
) -> list[tuple[str, Any, int]]:
    """(title, image, predicted class) of the clean image, of each goal at the largest eps, and of the smallest."""
    panels = [("clean", certificate.images[row], int(certificate.predicted[row]))]
    for name, result in found.items():
        panels.append(
            (
                f"{name}\neps {float(result.eps[-1]):g}",
                result.images[-1, row],
                int(result.predictions[-1, row]),
            )
        )
    for name, result in smallest.items():
        if bool(result.success[0, row]) and float(result.norms[0, row]) > 0:
            panels.append((f"{name}\nsmallest", result.images[0, row], int(result.predictions[0, row])))
    return panels
