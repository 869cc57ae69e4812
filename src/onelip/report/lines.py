"""Certified and attacked curves of runs: which belong together, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onelip.report.classification import named
from onelip.report.detection import is_count

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("", "6 3", "2 2", "8 3 2 3")
NAMES = {
    "PixelAccuracy": "pixel accuracy",
    "Stability": "stability",
    "MeanIoU": "mIoU",
    "accuracy": "pixel accuracy",
    "miou": "mIoU",
    "map50": "mAP@50",
    "map": "mAP@[.50:.95]",
    "ap": "AP over all recalls",
    "ap_coco": "AP over 101 recalls",
    "recall@0": "recall, no false detection",
    "recall@1": "recall, at most 1 false detection",
    "silent": "images in which nothing newly fires",
    "false_alarms": "false detections an image",
    "recall_located": "objects located",
    "recall_located@0": "located, no false location",
    "recall_located@1": "located, at most 1 false location",
    "false_located": "false locations an image",
}
Points = tuple[tuple[float, float], ...]


def averaged(average: str, key: str) -> str:
    """What an average is over, in words.

    Example:
        >>> averaged("micro", "accuracy"), averaged("micro", "iou:car"), averaged("macro", "miou")
        ('all pixels', 'data set', 'mean of images')
    """
    if average == "macro":
        return "mean of images"
    return "all pixels" if key in ("accuracy", "stability") else "data set"


@dataclass(frozen=True)
class Line:
    """One criterion of one run over eps: what is proven, what the strongest attack found, what noise does."""

    label: str
    average: str
    colour: str
    dash: str
    certified: Points
    clean: float | None
    attacked: Points = ()
    noise: Points = ()
    higher_is_better: bool = True

    @property
    def top(self) -> float:
        """Right end of the areas: what is known of both, or of the certified values alone."""
        ends = [points[-1][0] for points in (self.certified, self.attacked) if points]
        return min(ends, default=0.0)

    @property
    def certified_area(self) -> float | None:
        """Mean certified value over eps in [0, top], from what is proven: each stretch has the value at its end."""
        return area(self.certified, self.top)

    @property
    def attacked_area(self) -> float | None:
        """Mean attacked value over eps in [0, top]: each stretch has the value at its start, clean before the first."""
        if not self.attacked or self.clean is None:
            return None
        starts = ((0.0, self.clean), *self.attacked)
        ends = tuple((e, v) for (e, _), (_, v) in zip(self.attacked, starts[:-1], strict=True))
        return area(ends, self.top)


def area(points: Points, top: float) -> float | None:
    """Mean over [0, top] of the step function that has the value v up to e for each point (e, v).

    Args:
        points: (eps, value), by eps; the last eps is at least `top`.
        top: right end; None is returned for 0 or without points.

    Example:
        >>> area(((1.0, 0.5), (2.0, 0.25)), 2.0)
        0.375
    """
    if not points or top <= 0:
        return None
    total = start = 0.0
    for end, value in points:
        total += (min(end, top) - start) * value
        start = min(end, top)
    return total / top


def lines(runs: Sequence[dict[str, Any]], only: Sequence[str] = ()) -> list[Line]:
    """The curves of the page: a colour for each criterion of a single run, or for each of several runs.

    Args:
        runs: as returned by `merge`.
        only: criteria to draw, as "iou:car"; none: all.
    """
    found = []
    for number, run in enumerate(runs):
        attacks = _attacks(run)
        keys = list(dict.fromkeys([*(_key(c) for c in run["curves"]), *attacks]))
        keys = [key for key in keys if not only or key in only]
        for place, key in enumerate(keys):
            line = _line(run, key, attacks.get(key, []))
            if line is None:
                continue
            name = named(key) if run["task"] == "classification" else NAMES.get(key, key)
            found.append(
                Line(
                    label=f"{run['model']['name']}: {name}" if len(runs) > 1 else name,
                    colour=COLOURS[(number if len(runs) > 1 else place) % len(COLOURS)],
                    dash=DASHES[(place if len(runs) > 1 else place // len(COLOURS)) % len(DASHES)],
                    **line,
                )
            )
    return found


def _key(curve: dict[str, Any]) -> str:
    return str(
        curve.get("key")
        or {"PixelAccuracy": "accuracy", "Stability": "stability"}.get(curve["criterion"], curve["criterion"])
    )


def _attacks(run: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of attacks by criterion, by eps, of the average that is listed first; eps 0 says nothing about an attack.

    Of several goals the one that reached the most stands for all.
    """
    found: dict[str, dict[float, dict[str, Any]]] = {}
    first: dict[str, str] = {}
    for row in run["attacked"]:
        key, average = row.get("criterion", "accuracy"), row.get("average", "macro")
        if first.setdefault(key, average) == average and row["eps"] > 0 and not is_count(row):
            rows = found.setdefault(key, {})
            if row["eps"] not in rows or _reaches_more(row, rows[row["eps"]]):
                rows[row["eps"]] = row
    return {key: sorted(rows.values(), key=lambda row: float(row["eps"])) for key, rows in found.items()}


def _reaches_more(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether an attack reached more than another one of the same criterion."""
    if row["attacked"] is None or other["attacked"] is None:
        return other["attacked"] is None
    lower = bool(row["attacked"] < other["attacked"])
    return lower if row.get("higher_is_better", True) else bool(row["attacked"] > other["attacked"])


def _line(run: dict[str, Any], key: str, attacks: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Certified and attacked points of one criterion, of the same average: micro and macro are different numbers."""
    average = attacks[0].get("average", "macro") if attacks else None
    curves = [c for c in run["curves"] if _key(c) == key and average in (None, c["average"])]
    attacked = _points((r["eps"], r["attacked"]) for r in attacks)
    if curves:
        curve = curves[0]
        certified = _points(zip(curve["eps"], curve["values"], strict=True))
        higher, clean, average = curve.get("higher_is_better", True), curve.get("clean"), curve["average"]
    else:
        certified = _points((r["eps"], r["certified"]) for r in attacks)
        higher = bool(attacks) and attacks[0].get("higher_is_better", True)
        clean = attacks[0]["clean"] if attacks else None
    if not certified:
        return None
    return {
        "average": averaged(str(average), key),
        "certified": certified,
        "clean": clean,
        "attacked": attacked,
        "noise": _points((r["eps"], r.get("noise")) for r in attacks if run["task"] == "classification"),
        "higher_is_better": higher,
    }


def _points(pairs: Any) -> Points:
    return tuple((float(e), float(v)) for e, v in pairs if v is not None)
