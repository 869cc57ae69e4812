"""Attacks on a data set, image by image, each checked against its certificate: resumable, summed up in results.json."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from onelip.apps import exhibits
from onelip.apps.aims import Aim, average, values
from onelip.apps.common import model_folder
from onelip.apps.measure import Record, criterion
from onelip.apps.records import Records
from onelip.apps.runs import Opened, Run, clock, head, open_run, progress, spread
from onelip.attacks import PGD, Erase, Knapsack, SegPGD, Strongest
from onelip.certify import Criterion
from onelip.core import errors, files, numbers
from onelip.testing import assert_sound

ATTACKS: dict[str, type[PGD]] = {
    "strongest": Strongest,
    "erase": Erase,
    "knapsack": Knapsack,
    "segpgd": SegPGD,
    "pgd": PGD,
}
COUNTED = ("accuracy", "stability", "recall", "fnr")  # shares of pixels: means over pixels, not images


@dataclasses.dataclass(frozen=True)
class Assault(Run):
    """What `onelip attack` was asked to do.

    Attributes:
        goal: a criterion, as "accuracy" or "iou:car", or "vanish:car", "fabricate:car".
        attack: one of `ATTACKS`.
        steps: gradient steps.
        restarts: random restarts, the clean start included.
        quick: of several goals attack the first alone; all criteria are measured.
        strips: draw the pictures; their arrays are kept in any case.
    """

    goal: str = "accuracy"
    attack: str = "strongest"
    steps: int = 40
    restarts: int = 1
    quick: bool = False
    strips: bool = True

    @property
    def aim(self) -> Aim:
        """What the goal asks for."""
        return Aim.of(self.goal)

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip attack {self.model} {self.data} --goal {self.goal} --attack {self.attack}"]
        parts += ["--quick"] if self.quick else []
        return " ".join([*parts, f"--steps {self.steps} --restarts {self.restarts}", *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        name = ATTACKS[self.attack].__name__
        alike = self.goal.partition(":")[0].strip().lower() in COUNTED and not self.aim.averages
        weight = "c.counted(certificate.logits, certificate.target)[0]" if alike else "1.0"
        mean = "mean over pixels" if alike else "mean over images"
        lines = [
            "import torch",
            self.python_head(),
            f'model = onelip.load("{model_folder(self.model)}")',
            "criteria = [onelip.certify.parse(key, dataset.classes, ignore_index=dataset.ignore_index)",
            f"            for key in {list(self.aim.keys)}]",
            f"goals = {self.aim.python_goals}{'[:1]' if self.quick else ''}",
            f"attacks = [onelip.attacks.{name}(goal, steps={self.steps}, restarts={self.restarts},",
            "    p=certifier.p, judge=certifier.model) for goal in goals]",
            "attacked, weights = ({c.name: [] for c in criteria} for _ in range(2))",
            "for index in indices:",
            "    certificate = certifier(dataset[index][0][None], dataset[index][1][None])",
            f"    found = [attack(model, certificate.images, certificate.target, {self.asked}, seed={self.seed})",
            "             for attack in attacks]",
            "    for result in found:",
            "        onelip.testing.assert_sound(certificate, result, criteria)",
            "    for c in criteria:  # those where it is defined",
            "        if not certificate.curve(c, [0.0]).clean.isnan():",
            "            attacked[c.name].append(onelip.attacks.worst(found, c)[:, 0])",
            f"            weights[c.name].append(float({weight}))",
            f"for c in criteria:  # {mean}, at each eps",
            "    weight, value = torch.tensor(weights[c.name]).double(), torch.stack(attacked[c.name])",
            "    print(c.name, ((weight[:, None] * value).sum(0) / weight.sum()).tolist())",
        ]
        return "\n".join(lines)


def assault(run: Assault) -> dict[str, Any]:
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
    if run.attack not in ATTACKS:
        raise errors.InputError(
            errors.explain("--attack is unknown", received=repr(run.attack), expected=", ".join(ATTACKS))
        )
    opened = open_run(run)
    siege = Siege.of(run, opened)
    what = {name: getattr(run, name) for name in ("goal", "attack", "steps", "restarts", "quick", "seed")}
    key = opened.key(eps=run.asked, **what)
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), run.pictures)} if run.pictures else set()
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "attacking") as step:
            for index in chosen:
                if index not in records or (index in shown and not exhibits.there(opened, index)):
                    records.add(_one(siege, index, draw=index in shown))
                step()
    finally:
        if done := records.chosen(chosen):
            results = _results(siege, done)
            pictured = [
                r for r in done if run.strips and r["index"] in shown and exhibits.there(opened, r["index"])
            ]
            results["pictures"] = [exhibits.entry(opened, record, run.aim.keys[-1]) for record in pictured]
            files.write_json(run.out / "results.json", results)
    return results


@dataclasses.dataclass(frozen=True)
class Siege:
    """A run with what it measures and its attacks, which are judged by the very model of the certificates."""

    run: Assault
    opened: Opened
    criteria: tuple[Criterion, ...]
    attacks: tuple[PGD, ...]

    @classmethod
    def of(cls, run: Assault, opened: Opened) -> Siege:
        """Read the goal; raises InputError for unknown criteria and classes."""
        criteria = tuple(criterion(key, opened) for key in run.aim.keys)
        maker = ATTACKS[run.attack]
        # A quarter faster where convolutions are small.
        opened.model.to(memory_format=torch.channels_last)
        common: Any = {"steps": run.steps, "restarts": run.restarts, "p": run.p}
        goals = run.aim.goals(criteria)[: 1 if run.quick else None]
        attacks = tuple(maker(goal, judge=opened.certifier.model, **common) for goal in goals)
        return cls(run, opened, criteria, attacks)

    @property
    def columns(self) -> list[tuple[str, Criterion, str]]:
        """(key, criterion, average) of each curve of the results."""
        return self.run.aim.columns(self.criteria)


def _one(siege: Siege, index: int, *, draw: bool) -> Record:
    """Attack one image, check the results against the certificate, and keep the figures."""
    run, opened = siege.run, siege.opened
    image, target = (t.unsqueeze(0).to(opened.device) for t in opened.dataset[index])
    certificate = opened.certifier(image, target)
    images, labels = certificate.images, certificate.target
    start = clock(opened.device)
    found = [attack(opened.model, images, labels, run.asked, seed=run.seed) for attack in siege.attacks]
    seconds = clock(opened.device) - start
    for result in found:
        checked = list(dict.fromkeys((*certificate.criteria, *siege.criteria)))
        assert_sound(certificate, result, checked, folder=run.out / "unsound")
    if draw:
        exhibits.draw(opened, index, certificate, found, siege.criteria[-1])
    pooled = "micro" in run.aim.averages
    return {
        "index": index,
        "id": opened.dataset.ids[index],
        "size": list(image.shape[1:]),
        "values": {
            key: values(c, certificate, found, pooled=pooled)
            for key, c in zip(run.aim.keys, siege.criteria, strict=True)
        },
        "norms": [r.norms[:, 0].tolist() for r in found],
        "gain": max(float((r.moved / r.norms.clamp_min(1e-30)).max()) for r in found),
        "lipschitz": certificate.lipschitz,
        "queries": sum(r.queries for r in found),
        "seconds": seconds,
    }


def _results(siege: Siege, done: Sequence[Record]) -> dict[str, Any]:
    run = siege.run
    start = head("attack", siege.opened, done, command=run.shell, python=run.python)
    first = [r["values"][run.aim.keys[0]]["clean"] for r in done]
    return {
        **start,
        "goal": run.goal,
        "attack": {"name": run.attack, "steps": run.steps, "restarts": run.restarts},
        "attacked": [row for column in siege.columns for row in _rows(run, *column, done)],
        "undefined": first.count(None),
        "lipschitz": max(r["lipschitz"] for r in done),
        "largest_gain": max(r["gain"] for r in done),
        "queries": sum(r["queries"] for r in done),
        "seconds_per_image": sorted(r["seconds"] for r in done)[len(done) // 2],
        "units": [numbers.units(eps, done[0]["size"], run.p) for eps in run.asked],
        "sound": True,  # every image passed assert_sound and every average is checked, or this is not reached
    }


def _rows(
    run: Assault, key: str, measured: Criterion, how: str, done: Sequence[Record]
) -> Iterator[dict[str, Any]]:
    """Averages over the images at each eps."""
    found = average(measured, how, [r["values"][key] for r in done], len(run.asked))
    for place, eps in enumerate(run.asked):
        clean, certified, attacked = (found[name][place] for name in ("clean", "certified", "attacked"))
        row = {"eps": eps, "criterion": key, "clean": clean, "certified": certified, "attacked": attacked}
        _check(row, measured.higher_is_better)
        yield {
            **row,
            "higher_is_better": measured.higher_is_better,
            "average": how,
            "note": f"{ATTACKS[run.attack].__name__}, {run.steps} steps",
        }


def _check(row: dict[str, Any], higher: bool) -> None:
    """Averages of sound values are sound: anything else is a mistake in the sums."""
    order = [row[name] for name in ("certified", "attacked", "clean") if row[name] is not None]
    order = order if higher else order[::-1]
    if any(low > high + 1e-9 for low, high in itertools.pairwise(order)):
        raise errors.UnsoundError(
            errors.explain(
                f"the averages of {row['criterion']} contradict each other at eps {row['eps']:g}",
                received=f"certified {row['certified']}, attacked {row['attacked']}, clean {row['clean']}",
                expected="certified, attacked, clean in this order",
                fix="report it with results.jsonl",
            )
        )
