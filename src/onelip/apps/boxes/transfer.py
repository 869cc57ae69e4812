"""Perturbations that were found on one detector, tried on another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onelip.apps.boxes import exhibits
from onelip.apps.boxes.assault import AssaultBoxes
from onelip.apps.boxes.damage import measured
from onelip.apps.boxes.opened import OpenedBoxes, open_boxes_run
from onelip.apps.boxes.tally import Record, Tally
from onelip.core import errors


def transfer(source: str | Path, model: str, *, device: str = "auto") -> dict[str, Any]:
    """Try the perturbations that `onelip attack --keep` has left on another detector of the same classes.

    Args:
        source: folder of the attack.
        model: folder or name of the detector on which they are tried.
        device: where it runs.

    Returns:
        `source` and `model`, their hashes, and `rows`: for each goal, eps and criterion the value of the detector on
        `clean` images and on those with the perturbations, `transferred`, both measured as they are.

    Guarantee: the images are in the box and in the closed ball, measured again after the rounding of the files.

    Raises:
        InputError: the folder holds no attack on a detector, or the detector does not fit its data.
        DataError: the perturbations were not kept.
    """
    folder = Path(source)
    results = _results(folder)
    run = AssaultBoxes(
        model=model,
        data=results["data"]["name"],
        out=folder,
        split=results["data"]["split"],
        eps=tuple(dict.fromkeys(row["eps"] for row in results["attacked"])),
        size=tuple(results["asked"]["size"]) if results["asked"]["size"] else None,
        goals=tuple(results["goal"].split()),
        score=results["threshold"],
        iou=results["iou"],
        classes=tuple(results["asked"]["classes"]),
        device=device,
    )
    opened = open_boxes_run(run, threshold=run.score, classes=run.classes)
    done = [_one(opened, run, record) for record in _records(folder)]
    return {
        "source": {"model": results["model"], "folder": str(folder)},
        "model": {"path": model, "weights_sha256": opened.certifier.weights_hash},
        "images": len(done),
        "rows": list(_rows(Tally(run, opened.dataset.classes, done, None))),
    }


def _results(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = {"kind": f"nothing that can be read: {error}"}
    if found.get("kind") != "attack" or found.get("task") != "detection":
        raise errors.InputError(
            errors.explain(
                f"{folder} holds no attack on a detector",
                received=str(found.get("kind")),
                expected="a folder that `onelip attack --keep` has written",
            )
        )
    return found


def _records(folder: Path) -> list[Record]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    return [json.loads(line) for line in lines]


def _one(opened: OpenedBoxes, run: AssaultBoxes, record: Record) -> Record:
    """The record of an image as the attack wrote it, with what the other detector says."""
    import torch

    from onelip.attacks import VanishBoxes
    from onelip.attacks.projection import settle

    goal, model = VanishBoxes(threshold=run.score, iou=run.iou), opened.certifier.model
    images, targets = opened.item(record["index"])
    certificate = opened.certifier(images, targets)
    clean = images.double()

    @torch.no_grad()
    def seen(image: torch.Tensor) -> Record:
        return measured(certificate, goal.ask(model, image), run.iou)

    goals = {}
    for number, name in enumerate(run.goals):
        kept = exhibits.read(run.out, record["index"], number).to(clean.device)
        rows = []
        for delta, eps in zip(kept, run.eps, strict=True):
            limit = torch.full((1,), eps, dtype=torch.float64, device=clean.device)
            rows.append(seen(settle(clean, delta[None], limit, run.p)[0]))
        goals[name] = {"attacked": rows}
    certified = {"free": certificate.settings.kappa is None}
    return {**record, "clean": seen(clean), "goals": goals, "certified": certified}


def _rows(tally: Tally) -> Iterator[dict[str, Any]]:
    clean = tally.values([r["clean"] for r in tally.done])
    for goal in tally.run.goals:
        for place, eps in enumerate(tally.run.eps):
            found = tally.values([r["goals"][goal]["attacked"][place] for r in tally.done])
            for column in tally.columns:
                yield {
                    "goal": goal,
                    "eps": eps,
                    "criterion": column.key,
                    "clean": clean[column.key],
                    "transferred": found[column.key],
                    "higher_is_better": column.higher,
                }
