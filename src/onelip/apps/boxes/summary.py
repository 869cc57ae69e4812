"""Sums over the records of single images of a detector: criteria, rows at the eps asked for, curves, radii."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onelip.apps.boxes.detections import restored
from onelip.apps.boxes.plan import ALARMS
from onelip.apps.summary import middle, spread_of
from onelip.metrics import score_detections

if TYPE_CHECKING:
    from onelip.apps.boxes.plan import BoxPlan
    from onelip.certify.boxes import CertifiedDetections

Record = dict[str, Any]
Values = list[float | None]
FREE = "boxes of a free regression can move anywhere: nothing is certain about them"
ORDER = "centre-ness orders the suppression: thresholds do not nest"
CAPPED = "a cap on candidates could bind in some image"


@dataclass(frozen=True)
class Criterion:
    """A criterion over the data set, clean and certified at each eps of the grid.

    Attributes:
        key: as in tables and files, that of attacks on the same criterion.
        clean: without an attack.
        values: certified, or None where it cannot be.
        higher: whether more of it is better; else `values` are upper bounds.
        unit: "share" or "count" (an image).
        why: why it cannot be certified.
    """

    key: str
    clean: float | None
    values: Values
    higher: bool = True
    unit: str = "share"
    why: str = ""

    @property
    def facts(self) -> Record:
        """What tables say about it."""
        known = {"key": self.key, "higher_is_better": self.higher, "unit": self.unit, "why": self.why}
        return {**known, "clean": self.clean}

    def curve(self, eps: Sequence[float], images: int) -> Record:
        """Its curve for the picture of the report."""
        shared = {"criterion": self.key, "key": self.key, "higher_is_better": self.higher, "p": "2"}
        more = {"count": images, "undefined": 0, "exact": False, "average": "micro"}
        return {**shared, **more, "eps": list(eps), "values": self.values, "clean": self.clean}


def summarise(
    plan: BoxPlan, done: Sequence[Record], found: CertifiedDetections, classes: Sequence[str]
) -> Record:
    """Certified and clean values over the images.

    Args:
        plan: what was asked.
        done: records of the images.
        found: what is certified over the same images, at the eps of the grid.
        classes: names of the classes.
    """
    scores = score_detections(
        [restored(r["seen"]) for r in done],
        [restored(r["target"]) for r in done],
        classes=classes,
        threshold=plan.score,
        iou=plan.iou,
    )
    clean = scores.to_dict()
    criteria = [*_found(plan, found, clean), *_quiet(plan, done, found, clean)]
    rows: list[Record] = []
    for eps in plan.asked:
        place = plan.grid.index(eps)
        rows.append({"eps": eps, **{c.key: c.values[place] for c in criteria}})
    drawn = [c for c in criteria if c.unit == "share" and c.key != "ap" and c.values[0] is not None]
    return {
        "lipschitz": max(r["lipschitz"] for r in done),
        "rows": rows,
        "criteria": [c.facts for c in criteria],
        "curves": [c.curve(plan.grid, len(done)) for c in drawn],
        "clean": clean,
        "objects": found.objects,
        "best": _best(plan, found),
        "by_class": by_class(done, classes),
        "silent": spread_of([r["silent_radius"] for r in done]),
        "capped": [int(found.capped[found.at(plan.score), plan.grid.index(eps)]) for eps in plan.asked],
        "seconds_per_image": middle([r["seconds"] for r in done]),
        "seconds_forward": middle([r["seconds_forward"] for r in done]),
    }


def _found(plan: BoxPlan, found: CertifiedDetections, clean: Record) -> list[Criterion]:
    """What is found: recall, precision, average precision."""
    at = found.at(plan.score)
    recall = _plain(found.recall[at])
    nothing: Values = [None for _ in plan.grid]
    if found.free:
        located = Criterion("recall_located", _number(float(found.clean_recall[at])), recall)
        refused = [Criterion(key, clean[key], nothing, why=FREE) for key in ("recall", "precision", "map50")]
        return [located, *refused]
    criteria = [Criterion("recall", clean["recall"], recall)]
    if found.precision is not None:
        criteria.append(Criterion("precision", clean["precision"], _plain(found.precision[at])))
    coco = "map50" if plan.iou == 0.5 else "ap_coco"
    own = found.clean_average_precision_101
    first = clean["map50"] if coco == "map50" else (None if own is None else _number(own))
    for key, value, area in (
        (coco, first, found.average_precision_101),
        ("ap", found.clean_average_precision, found.average_precision),
    ):
        if area is None:
            criteria.append(Criterion(key, value, nothing, why=ORDER))
        else:
            criteria.append(Criterion(key, None if value is None else _number(value), _plain(area)))
    return criteria


def _quiet(
    plan: BoxPlan, done: Sequence[Record], found: CertifiedDetections, clean: Record
) -> list[Criterion]:
    """What is not there: recall with few false detections, images in which nothing fires, false detections."""
    at, criteria = found.at(plan.score), []
    kind = "recall_located" if found.free else "recall"
    for number, allowed in enumerate(ALARMS):
        values = _plain(found.recall_allowed[number, at])
        without = _allowed(done, allowed, free=found.free)
        criteria.append(Criterion(f"{kind}@{allowed}", without, values))
    silent = [sum(_above(r["silent_radius"], eps) for r in done) / len(done) for eps in plan.grid]
    criteria.append(Criterion("silent", 1.0, list(silent)))
    alarms = torch.stack([sheet.alarms for sheet in found.sheets])
    if found.free:
        most, key, without = alarms, "false_located", sum(r["outside"] for r in done) / len(done)
    else:
        # An image whose alarms are not bounded reports at most as many detections as are kept of one.
        most = torch.stack([a.nan_to_num(r["per_image"]).clamp_max(r["per_image"])
                            for a, r in zip(alarms, done, strict=True)])  # fmt: skip
        key, without = "false_alarms", clean["false_positives"]
    values = _plain(most.mean(0))
    why = CAPPED if any(v is None for v in values) else ""
    return [*criteria, Criterion(key, without, values, higher=False, unit="count", why=why)]


def _allowed(done: Sequence[Record], allowed: int, *, free: bool) -> float | None:
    """Share of all objects that are found in clean images with at most so many false detections."""
    objects = hits = 0
    for r in done:
        found = sum(o["found"] for o in r["objects"])
        false = r["outside"] if free else r["detections"] - found
        objects += len(r["objects"])
        hits += found if false <= allowed else 0
    return hits / objects if objects else None


def by_class(done: Sequence[Record], classes: Sequence[str]) -> list[Record]:
    """For each class quartiles of the radii of its objects, and how many of them are found."""
    rows = []
    for name in classes:
        mine = [o for r in done for o in r["objects"] if o["class"] == name]
        row: Record = {"class": name, "objects": len(mine), "found": sum(o["found"] for o in mine)}
        row |= {
            kind: spread_of([o[f"{kind}_radius"] for o in mine]) for kind in ("vanish", "label", "mislabel")
        }
        rows.append(row)
    return rows


def worst(plan: BoxPlan, done: Sequence[Record], count: int) -> list[Record]:
    """The images of which the smallest share of objects has a radius above the middle one of the eps asked for."""
    eps = middle(plan.asked)
    rows = []
    for r in done:
        radii = [float(o["vanish_radius"] or 0.0) for o in r["objects"]]
        if radii:
            kept = sum(radius > eps for radius in radii)
            rows.append(
                {"index": r["index"], "id": r["id"], "eps": eps, "objects": len(radii), "certified": kept}
                | {"radius": min(radii)}
            )
    order = sorted(rows, key=lambda row: (row["certified"] / row["objects"], row["radius"], row["index"]))
    return order[:count]


def _best(plan: BoxPlan, found: CertifiedDetections) -> list[Record]:
    """For each number of allowed false detections and each eps the threshold of the largest certified recall."""
    rows = []
    for allowed in ALARMS:
        values, scores = found.best(allowed)
        for eps in plan.asked:
            place = plan.grid.index(eps)
            value = _number(float(values[place]))
            score = float(scores[place]) if value else None
            rows.append({"allowed": allowed, "eps": eps, "recall": value, "score": score})
    return rows


def _above(radius: float | str | None, eps: float) -> bool:
    """Whether nothing happens at eps: the radius is of what holds below it."""
    return radius is not None and float(radius) > eps


def _plain(values: Tensor) -> Values:
    return [_number(v) for v in values.tolist()]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
