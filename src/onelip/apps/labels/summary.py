"""Sums over the records of single images of a classifier: accuracy at each eps, curves, classes, radii."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onelip.apps.summary import middle, spread_of

if TYPE_CHECKING:
    from onelip.apps.labels.plan import LabelPlan

Record = dict[str, Any]
RADII = {"accuracy": "radius", "accuracy_joint": "joint_radius", "stability": "stable_radius"}
"""Criteria over a data set, and the radius of an image below which it counts."""


def share(done: Sequence[Record], key: str, eps: float) -> float:
    """Share of the images with a radius strictly above eps: at the radius itself nothing is promised."""
    return sum(float(r[key]) > eps for r in done) / len(done)


def right(record: Record) -> bool:
    """Whether the prediction is the label."""
    return bool(record["predicted"] == record["label"])


def summarise(plan: LabelPlan, done: Sequence[Record], classes: Sequence[str]) -> Record:
    """Certified and clean values over the images.

    Args:
        plan: what was asked.
        done: records of the images.
        classes: names of the classes.
    """
    accuracy = sum(map(right, done)) / len(done)
    clean = {"accuracy": accuracy, "accuracy_joint": accuracy, "stability": 1.0}
    curves = []
    for key, radius in RADII.items():
        facts = {"criterion": key, "key": key, "higher_is_better": True, "p": str(plan.p), "exact": False}
        facts |= {"count": len(done), "undefined": 0, "average": "macro", "clean": clean[key]}
        curves.append({**facts, "eps": plan.grid, "values": [share(done, radius, e) for e in plan.grid]})
    return {
        "lipschitz": max(r["lipschitz"] for r in done),
        "rows": [
            {"eps": eps, **{k: share(done, radius, eps) for k, radius in RADII.items()}} for eps in plan.asked
        ],
        "criteria": [{"key": key, "higher_is_better": True, "clean": clean[key]} for key in RADII],
        "curves": curves,
        "clean": {"accuracy": accuracy},
        "radius": spread_of([r["radius"] for r in done]),
        "joint_radius": spread_of([r["joint_radius"] for r in done]),
        "by_class": by_class(plan, done, classes),
        "undefined": 0,
        "seconds_per_image": middle([r["seconds"] for r in done]),
        "seconds_forward": middle([r["seconds_forward"] for r in done]),
    }


def by_class(plan: LabelPlan, done: Sequence[Record], classes: Sequence[str]) -> list[Record]:
    """For each class its accuracy, certified accuracy at the eps asked for, radii and most frequent runner-up."""
    rows: list[Record] = []
    for label, name in enumerate(classes):
        mine = [r for r in done if r["label"] == label]
        if not mine:
            rows.append({"class": name, "images": 0})
            continue
        other = Counter(r["runner_up"] if right(r) else r["predicted"] for r in mine).most_common(1)[0][0]
        rows.append(
            {
                "class": name,
                "images": len(mine),
                "accuracy": sum(map(right, mine)) / len(mine),
                "certified": [share(mine, "radius", eps) for eps in plan.asked],
                "radius": spread_of([r["radius"] for r in mine]),
                "nearest": classes[other],
            }
        )
    return rows


def worst(done: Sequence[Record], count: int) -> list[Record]:
    """The images with the smallest certified radius: mistakes first."""
    order = sorted(done, key=lambda r: (float(r["radius"]), right(r), r["index"]))
    return [{k: r[k] for k in ("index", "id", "radius", "predicted", "label")} for r in order[:count]]
