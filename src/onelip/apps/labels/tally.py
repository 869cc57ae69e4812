"""What attacks on a classifier did over a data set: certified, attacked, disturbed and clean accuracy side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from onelip.apps.boxes.tally import check
from onelip.apps.runs import head
from onelip.core import numbers

if TYPE_CHECKING:
    from onelip.apps.labels.aims import Aim
    from onelip.apps.labels.assault import AssaultLabels
    from onelip.apps.labels.opened import OpenedLabels

Record = dict[str, Any]


def results(
    run: AssaultLabels, aims: Sequence[Aim], opened: OpenedLabels, done: Sequence[Record], python: str
) -> dict[str, Any]:
    """The content of results.json, without pictures."""
    return {
        **head("attack", opened, done, command=run.shell, python=python),
        "task": "classification",
        "class_names": list(opened.dataset.classes),
        "goal": " ".join(run.goals),
        "attack": {
            "name": run.attack,
            "steps": run.steps,
            "restarts": run.restarts,
            "control": run.control,
        },
        "attacked": [row for aim in aims for row in rows(run, aim, done)],
        "smallest": [smallest(aim, done) for aim in aims] if run.smallest else [],
        "undefined": 0,
        "lipschitz": max(r["lipschitz"] for r in done),
        "largest_gain": max(r["gain"] for r in done),
        "queries": round(sum(r["queries"] for r in done)),
        "seconds_per_image": sorted(r["seconds"] for r in done)[len(done) // 2],
        "units": [numbers.units(eps, done[0]["size"], run.p) for eps in run.asked],
        "sound": True,  # every image passed assert_sound and every sum is checked, or this is not reached
    }


def rows(run: AssaultLabels, aim: Aim, done: Sequence[Record]) -> Iterator[Record]:
    """At each eps one row, checked: shares of the images where the criterion is defined."""
    mine = [r for r in done if aim.keeps(r, r["predicted"]) is not None]
    for place, eps in enumerate(run.asked):
        row = {"goal": aim.name, "eps": eps, "criterion": aim.criterion, "images": len(mine)}
        row |= {
            "clean": _share([aim.keeps(r, r["predicted"]) for r in mine]),
            "certified": _share([float(r["certified"][aim.name]) > eps for r in mine]),
            "attacked": _share([survives(aim, r, place, eps) for r in mine]),
            "noise": _share([aim.keeps(r, r["noise"][place]) for r in mine if r["noise"] is not None]),
            "higher_is_better": True,
            "average": "macro",
            "note": f"{run.attack}, {run.steps} steps",
        }
        check(row)
        yield row


def survives(aim: Aim, record: Record, place: int, eps: float) -> bool:
    """Whether an image keeps its criterion under all that was tried within eps.

    The clean image and every smaller ball lie in the ball, and so may the smallest perturbation that was found.
    """
    tried = [record["predicted"], *record["goals"][aim.name]["predicted"][: place + 1]]
    found = (record["smallest"] or {}).get(aim.name)
    beyond = found is None or float(found["radius"]) > eps
    return beyond and all(bool(aim.keeps(record, predicted)) for predicted in tried)


def smallest(aim: Aim, done: Sequence[Record]) -> Record:
    """Quartiles of the smallest perturbations, of the certified radii of the same images, and of their ratio."""
    mine = [found for r in done if (found := r["smallest"][aim.name]) is not None]
    pairs = [(float(found["radius"]), float(found["certified"])) for found in mine]
    return {
        "goal": aim.name,
        "images": len(mine),
        "reached": sum(math.isfinite(radius) for radius, _ in pairs),
        "quartiles": quartiles([radius for radius, _ in pairs]),
        "certified": quartiles([proven for _, proven in pairs]),
        "gap": quartiles(
            [radius / proven for radius, proven in pairs if math.isfinite(radius) and proven > 0]
        ),
    }


def quartiles(values: Sequence[float]) -> list[float | str] | None:
    """Quartiles, entries of the sorted list, the lower one of two; None without values.

    Example:
        >>> quartiles([3.0, 1.0, 2.0, math.inf, 5.0]), quartiles([])
        ([2.0, 3.0, 5.0], None)
    """
    known = sorted(values)
    found = [known[(len(known) - 1) * q // 4] for q in (1, 2, 3)] if known else None
    return None if found is None else ["inf" if math.isinf(v) else v for v in found]


def _share(values: Sequence[bool | None]) -> float | None:
    return sum(map(bool, values)) / len(values) if values else None
