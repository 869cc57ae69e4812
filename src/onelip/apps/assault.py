"""Attacks on a data set, image by image, each checked against its certificate: resumable, summed up in results.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from onelip.apps import gallery
from onelip.apps.common import model_folder
from onelip.apps.measure import Record, criterion
from onelip.apps.records import Records
from onelip.apps.runs import Opened, Run, clock, head, open_run, progress, spread
from onelip.attacks import PGD, AttackResult, CriterionGoal, Fabricate, Goal, Knapsack, SegPGD, Strongest
from onelip.certify import Criterion, SegmentationCertificate
from onelip.certify.curve import plain
from onelip.core import errors, files, numbers
from onelip.testing import assert_sound

ATTACKS: dict[str, type[PGD]] = {
    "strongest": Strongest,
    "knapsack": Knapsack,
    "segpgd": SegPGD,
    "pgd": PGD,
}
COUNTED = (
    "accuracy",
    "stability",
    "recall",
    "fnr",
    "vanish",
)  # shares of pixels: means over pixels, not images


@dataclasses.dataclass(frozen=True)
class Assault(Run):
    """What `onelip attack` was asked to do.

    Attributes:
        goal: a criterion, as "accuracy" or "iou:car", or "vanish:car", "fabricate:car".
        attack: one of `ATTACKS`.
        steps: gradient steps.
        restarts: random restarts, the clean start included.
    """

    goal: str = "accuracy"
    attack: str = "strongest"
    steps: int = 40
    restarts: int = 1

    @property
    def key(self) -> str:
        """The criterion that is measured: what vanishes is missing recall, what is made up is lost IoU."""
        kind, _, label = self.goal.partition(":")
        return {"vanish": f"recall:{label}", "fabricate": f"iou:{label}"}.get(kind.strip().lower(), self.goal)

    @property
    def asked(self) -> list[float]:
        """The eps asked for, in order."""
        return sorted(set(self.eps))

    @property
    def shell(self) -> str:
        """The command that does this."""
        parts = [f"onelip attack {self.model} {self.data} --goal {self.goal} --attack {self.attack}"]
        return " ".join([*parts, f"--steps {self.steps} --restarts {self.restarts}", *self.options()])

    @property
    def python(self) -> str:
        """The Python that does this, without tables and pictures."""
        name = ATTACKS[self.attack].__name__
        goal = "onelip.attacks.CriterionGoal(criterion)"
        if self.goal.lower().startswith("fabricate"):
            goal = "onelip.attacks.Fabricate(criterion.label, ignore_index=dataset.ignore_index)"
        pooled = self.key.partition(":")[0].strip().lower() in COUNTED
        weight = "criterion.counted(certificate.logits, certificate.target)" if pooled else "torch.ones(1)"
        lines = [
            "import torch",
            self.python_head(),
            f'model = onelip.load("{model_folder(self.model)}")',
            f'criterion = onelip.certify.parse("{self.key}", dataset.classes, ignore_index=dataset.ignore_index)',
            f"attack = onelip.attacks.{name}({goal}, steps={self.steps}, restarts={self.restarts},",
            "    p=certifier.p, judge=certifier.model)",
            "attacked, weights = [], []",
            "for index in indices:",
            "    certificate = certifier(dataset[index][0][None], dataset[index][1][None])",
            f"    found = attack(model, certificate.images, certificate.target, {self.asked}, seed={self.seed})",
            "    onelip.testing.assert_sound(certificate, found)",
            "    worse = torch.fmin if criterion.higher_is_better else torch.fmax  # the clean image is in the ball",
            "    attacked.append(worse(found.values(criterion), found.clean_values(criterion))[:, 0])",
            f"    weights.append({weight}.double())",
            "known = [i for i, value in enumerate(attacked) if not value.isnan().any()]",
            "weight, value = (torch.stack([x[i] for i in known]) for x in (weights, attacked))",
            "print(((weight * value).sum(0) / weight.sum()).tolist())  # mean at each eps",
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
    measured = criterion(run.key, opened)
    attack = _attack(run, opened, measured)
    key = opened.key(
        eps=run.asked, goal=run.goal, attack=run.attack, steps=run.steps, restarts=run.restarts, seed=run.seed
    )
    records = Records(run.out / "results.jsonl", key, resume=run.resume)
    chosen = opened.chosen
    shown = {chosen[i] for i in spread(len(chosen), run.pictures)} if run.pictures else set()
    results: dict[str, Any] = {}
    try:
        with progress(len(chosen), "attacking") as step:
            for index in chosen:
                if index not in records or (index in shown and not _picture(opened, index).is_file()):
                    records.add(_one(opened, attack, measured, index, draw=index in shown))
                step()
    finally:
        if done := records.chosen(chosen):
            results = _results(run, opened, measured, done)
            pictured = [r for r in done if r["index"] in shown and _picture(opened, r["index"]).is_file()]
            results["pictures"] = [_shown(opened, record) for record in pictured]
            files.write_json(run.out / "results.json", results)
    return results


def _attack(run: Assault, opened: Opened, measured: Criterion) -> PGD:
    """The attack, judged by the very model of the certificates."""
    goal: Goal = CriterionGoal(measured)
    if run.goal.partition(":")[0].strip().lower() == "fabricate":
        label: int = measured.label  # type: ignore[attr-defined]
        goal = Fabricate(label, ignore_index=opened.dataset.ignore_index)
    return ATTACKS[run.attack](
        goal, steps=run.steps, restarts=run.restarts, p=run.p, judge=opened.certifier.model
    )


def _one(opened: Opened, attack: PGD, measured: Criterion, index: int, *, draw: bool) -> Record:
    """Attack one image, check the result against the certificate, and keep the figures."""
    run: Any = opened.run
    image, target = (t.unsqueeze(0).to(opened.device) for t in opened.dataset[index])
    certificate = opened.certifier(image, target)
    start = clock(opened.device)
    found = attack(opened.model, certificate.images, certificate.target, run.asked, seed=run.seed)
    seconds = clock(opened.device) - start
    assert_sound(certificate, found, folder=run.out / "unsound")
    assert_sound(certificate, found, [measured], folder=run.out / "unsound")
    curve = certificate.curve(measured, run.asked)
    counted = getattr(measured, "counted", None)
    if draw:
        _draw(opened, index, certificate, found)
    return {
        "index": index,
        "id": opened.dataset.ids[index],
        "size": list(image.shape[1:]),
        "weight": 1 if counted is None else int(counted(certificate.logits, certificate.target)[0]),
        "clean": plain(curve.clean)[0],
        "certified": [row[0] for row in plain(curve.certified)],
        "attacked": [row[0] for row in plain(_worse(found, measured))],
        "norms": found.norms[:, 0].tolist(),
        "gain": float((found.moved / found.norms.clamp_min(1e-30)).max()),
        "lipschitz": certificate.lipschitz,
        "queries": found.queries,
        "seconds": seconds,
    }


def _worse(found: AttackResult, measured: Criterion) -> Tensor:
    """(E, 1) attacked values, or the clean one where it is worse or they are undefined: it lies in the ball too."""
    clean = found.clean_values(measured)
    return (torch.fmin if measured.higher_is_better else torch.fmax)(found.values(measured), clean)


def _results(run: Assault, opened: Opened, measured: Criterion, done: Sequence[Record]) -> dict[str, Any]:
    known = [r for r in done if r["clean"] is not None]
    start = head("attack", opened, done, command=run.shell, python=run.python)
    return {
        **start,
        "goal": run.goal,
        "attack": {"name": run.attack, "steps": run.steps, "restarts": run.restarts},
        "attacked": [_row(run, measured, known, place) for place in range(len(run.asked))],
        "undefined": len(done) - len(known),
        "lipschitz": max(r["lipschitz"] for r in done),
        "largest_gain": max(r["gain"] for r in done),
        "queries": sum(r["queries"] for r in done),
        "seconds_per_image": sorted(r["seconds"] for r in done)[len(done) // 2],
        "units": [numbers.units(eps, done[0]["size"], run.p) for eps in run.asked],
        "sound": True,  # every image passed assert_sound, or this file was not written with it
    }


def _row(run: Assault, measured: Criterion, known: Sequence[Record], place: int) -> dict[str, Any]:
    """Means over the images at one eps; pixels weigh alike for criteria that count them."""
    total = sum(r["weight"] for r in known)

    def mean(value: Any) -> float | None:
        return sum(r["weight"] * value(r) for r in known) / total if total else None

    return {
        "eps": run.asked[place],
        "criterion": run.key,
        "clean": mean(lambda r: r["clean"]),
        "certified": mean(lambda r: r["certified"][place]),
        "attacked": mean(lambda r: r["attacked"][place]),
        "higher_is_better": measured.higher_is_better,
        "average": "micro" if hasattr(measured, "counted") else "macro",
        "note": f"{ATTACKS[run.attack].__name__}, {run.steps} steps",
    }


def _picture(opened: Opened, index: int) -> Path:
    return gallery.path(opened, index, "attack")


def _draw(opened: Opened, index: int, certificate: SegmentationCertificate, found: AttackResult) -> None:
    """Save clean image, clean prediction, attacked prediction and perturbation, side by side, at the largest eps."""
    palette = torch.tensor(opened.dataset.palette, dtype=torch.float64)
    delta = (found.images[-1, 0] - certificate.images[0]).cpu()
    shade = 0.5 + delta / (2 * delta.abs().max().clamp_min(1e-30))
    maps = [
        palette[p[0].cpu()].permute(2, 0, 1) / 255 for p in (found.clean_predictions, found.predictions[-1])
    ]
    image = certificate.images[0].cpu()
    gap = torch.ones(3, image.shape[1], 4, dtype=torch.float64)
    strip = torch.cat([_colour(image), gap, maps[0], gap, maps[1], gap, _colour(shade)], dim=2)
    path = _picture(opened, index)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (strip.permute(1, 2, 0) * 255).round().clamp(0, 255).numpy().astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _colour(image: Tensor) -> Tensor:
    return image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]


def _shown(opened: Opened, record: Record) -> dict[str, str]:
    run: Any = opened.run
    clean, attacked = record["clean"], record["attacked"][-1]
    change = "undefined" if clean is None or attacked is None else f"{clean:.3f} to {attacked:.3f}"
    return {
        "file": str(_picture(opened, record["index"]).relative_to(run.out)),
        "caption": f"{run.split} image {record['id']}: image, prediction, prediction under the attack of eps "
        f"{run.asked[-1]:g}, and the perturbation scaled to full contrast; {run.key} {change}",
    }
