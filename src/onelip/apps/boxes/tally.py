"""What attacks on a detector did over a data set: certified, attacked, disturbed and clean values side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onelip.apps.boxes.detections import restored
from onelip.apps.runs import head
from onelip.certify.boxes import CertifiedDetections, DetectionCurves
from onelip.certify.boxes.curves import THRESHOLDS
from onelip.core import errors, numbers
from onelip.metrics import DetectionScores, score_detections

if TYPE_CHECKING:
    from onelip.apps.boxes.assault import AssaultBoxes
    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.certify import DetectionCertificate

Record = dict[str, Any]
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Column:
    """A criterion over a data set: how it is measured, and whether more of it is better."""

    key: str
    higher: bool
    value: Callable[[DetectionScores, Sequence[Record], int], float]


COLUMNS = (
    Column("map50", True, lambda scores, *_: scores.map50),
    Column("map", True, lambda scores, *_: scores.map50_95),
    Column("recall", True, lambda scores, *_: scores.recall),
    Column("precision", True, lambda scores, *_: scores.precision),
    Column("false_alarms", False, lambda scores, *_: scores.false_positives),
    Column("recall_located", True, lambda _, rows, objects: _ratio(sum(r["located"] for r in rows), objects)),
    Column("false_located", False, lambda _, rows, __: sum(r["outside"] for r in rows) / len(rows)),
)
LOCATED = ("recall_located", "false_located")


@dataclass(frozen=True)
class Tally:
    """The images of a run that are done.

    Attributes:
        run: what was asked for.
        names: of the classes.
        done: records of the images.
        curves: certified values; None where boxes are free.
    """

    run: AssaultBoxes
    names: Sequence[str]
    done: Sequence[Record]
    curves: CertifiedDetections | None

    @property
    def objects(self) -> int:
        """Number of objects."""
        return sum(len(r["target"]["labels"]) for r in self.done)

    @property
    def free(self) -> bool:
        """Nothing bounds the boxes."""
        return bool(self.done[0]["certified"]["free"])

    @property
    def columns(self) -> list[Column]:
        """The criteria: those by locations where boxes are free."""
        return [c for c in COLUMNS if self.free or c.key not in LOCATED]

    def values(self, measured: Sequence[Record]) -> dict[str, float | None]:
        """Every criterion of one measured record for each image; None where it is not defined."""
        run = self.run
        scores = score_detections(
            [restored(m["seen"]) for m in measured],
            [restored(r["target"]) for r in self.done],
            classes=self.names,
            threshold=run.score,
            iou=run.iou,
        )
        found = {c.key: float(c.value(scores, measured, self.objects)) for c in self.columns}
        return {key: None if math.isnan(value) else value for key, value in found.items()}

    def certified(self, place: int) -> dict[str, float | None]:
        """Every criterion that something is proven about, at an eps."""
        rows = [r["certified"] for r in self.done]
        recall = _ratio(sum(r["found"][place] for r in rows), self.objects)
        alarms = [r["alarms"][place] for r in rows]
        most = None if None in alarms else sum(alarms) / len(alarms)
        known = None if math.isnan(recall) else recall
        if self.free:
            return {"recall_located": known, "false_located": most}
        found = {"recall": known, "false_alarms": most}
        curves = self.curves
        if curves is not None:
            if curves.average_precision_101 is not None and self.run.iou == 0.5:
                found["map50"] = _plain(float(curves.average_precision_101[place]))
            if curves.precision is not None:
                found["precision"] = _plain(float(curves.precision[curves.at(self.run.score), place]))
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """For each goal, eps and criterion one row, checked."""
        clean = self.values([r["clean"] for r in self.done])
        control = self.done[0]["noise"] is not None
        places = range(len(self.run.asked))
        noise = [self.values([r["noise"][e] for r in self.done]) if control else {} for e in places]
        for goal in self.run.goals:
            reached = [self.values([r["goals"][goal]["attacked"][e] for r in self.done]) for e in places]
            for column, place in itertools.product(self.columns, places):
                key, row = column.key, {"goal": goal, "eps": self.run.asked[place], "criterion": column.key}
                row |= {
                    "clean": clean[key],
                    "attacked": _worst([clean, *reached[: place + 1]], column),
                    "noise": noise[place].get(key),
                    "certified": self.certified(place).get(key),
                    "higher_is_better": column.higher,
                    "average": "micro",
                    "note": f"{goal}, {self.run.steps} steps",
                }
                check(row)
                yield row

    def goals(self) -> list[dict[str, Any]]:
        """For each goal and eps: its own score, the mean over the images where it is defined."""
        found = []
        for goal, (place, eps) in itertools.product(self.run.goals, enumerate(self.run.asked)):
            mine = [r["goals"][goal] for r in self.done if r["goals"][goal]["clean_score"] is not None]
            count = len(mine)
            found.append(
                {
                    "goal": goal,
                    "eps": eps,
                    "images": count,
                    "clean_score": sum(g["clean_score"] for g in mine) / count if mine else None,
                    "score": sum(g["scores"][place] for g in mine) / count if mine else None,
                    "reached": sum(g["reached"][place] for g in mine) / count if mine else None,
                    "seconds": sum(g["seconds"] for g in mine) / count if mine else None,
                }
            )
        return found

    def smallest(self) -> Iterator[dict[str, Any]]:
        """For each goal quartiles of the smallest perturbations and certified radii; images that need none left out."""
        for goal in self.run.goals:
            mine = [found for r in self.done if (found := r["smallest"][goal]) is not None]
            radii = sorted(float(found["radius"]) for found in mine)
            certified = [found["certified"] for found in mine]
            known = sorted(certified) if mine and None not in certified else []
            yield {
                "goal": goal,
                "images": len(mine),
                "reached": sum(not math.isinf(r) for r in radii),
                "quartiles": [_text(radii[(len(radii) - 1) * q // 4]) for q in (1, 2, 3)] if radii else None,
                "certified": [known[(len(known) - 1) * q // 4] for q in (1, 2, 3)] if known else None,
                "seconds": sum(found["seconds"] for found in mine) / len(mine) if mine else None,
            }


def results(run: AssaultBoxes, opened: OpenedBoxes, done: Sequence[Record], proof: Proof) -> dict[str, Any]:
    """The content of results.json."""
    certificate = opened.certificate(done[0]["index"])
    tally = Tally(run, opened.dataset.classes, done, proof.over(opened, done))
    start = head("attack", opened, done, command=run.shell, python=run.python, certificate=certificate)
    return {
        **start,
        "task": "detection",
        "classes": list(opened.dataset.classes),
        "regression": "free" if tally.free else "lipschitz",
        "threshold": run.score,
        "iou": run.iou,
        "objects": tally.objects,
        "goal": " ".join(run.goals),
        "attack": {"name": "PGD", "steps": run.steps, "restarts": run.restarts, "control": run.control},
        "attacked": list(tally.rows()),
        "goals": tally.goals(),
        "smallest": list(tally.smallest()) if run.smallest else [],
        "asked": {"size": list(run.size) if run.size else None, "classes": list(run.classes)},
        "undefined": 0,
        "lipschitz": max(r["lipschitz"] for r in done),
        "largest_gain": max(r["gain"] for r in done),
        "queries": sum(r["queries"] for r in done),
        "seconds_per_image": sorted(r["seconds"] for r in done)[len(done) // 2],
        "units": [numbers.units(eps, done[0]["size"], run.p) for eps in run.asked],
        "sound": True,  # every image passed assert_sound and every sum is checked, or this is not reached
    }


@dataclass(frozen=True)
class Proof:
    """Certified values over the images, where something bounds the boxes: one file for each image."""

    run: AssaultBoxes

    def _file(self, index: int) -> Path:
        return self.run.out / "proofs" / f"{index:05d}.npz"

    def _empty(self) -> DetectionCurves:
        run = self.run
        return DetectionCurves(run.asked, sorted({*THRESHOLDS, run.score}), iou=run.iou)

    def add(self, index: int, certificate: DetectionCertificate) -> None:
        """Keep the worst cases of an image; where boxes are free its own counts say all."""
        if certificate.settings.kappa is not None:
            curves = self._empty()
            curves.update(certificate)
            self._file(index).parent.mkdir(parents=True, exist_ok=True)
            curves.save(self._file(index))

    def over(self, opened: OpenedBoxes, done: Sequence[Record]) -> CertifiedDetections | None:
        """The values over these images; None where boxes are free."""
        if done[0]["certified"]["free"]:
            return None
        curves = self._empty()
        for record in done:
            if not self._file(record["index"]).is_file():
                self.add(record["index"], opened.certificate(record["index"]))
            curves.merge([DetectionCurves.load(self._file(record["index"]))])
        return curves.compute()


def check(row: Mapping[str, Any]) -> None:
    """Sums of sound values are sound: anything else is a mistake in the sums.

    Raises:
        UnsoundError: unless certified, attacked and clean (reversed where less is better) are in this order.
    """
    order = [row[name] for name in ("certified", "attacked", "clean") if row[name] is not None]
    order = order if row["higher_is_better"] else order[::-1]
    if any(low > high + _ROUNDING for low, high in itertools.pairwise(order)):
        raise errors.UnsoundError(
            errors.explain(
                f"{row['criterion']} contradicts itself under {row['goal']} at eps {row['eps']:g}",
                received=f"certified {row['certified']}, attacked {row['attacked']}, clean {row['clean']}",
                expected="certified, attacked, clean in this order",
                fix="report it with results.jsonl",
            )
        )


def _worst(found: Sequence[Mapping[str, float | None]], column: Column) -> float | None:
    """The worst so far: the clean images lie in every ball, a smaller ball in every larger one."""
    known = [value for row in found if (value := row[column.key]) is not None]
    return (min(known) if column.higher else max(known)) if known else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _text(value: float) -> float | str:
    return "inf" if math.isinf(value) else value
