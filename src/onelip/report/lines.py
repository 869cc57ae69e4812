"""Certified and attacked curves of runs: which belong together, and the areas under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("", "6 3", "2 2", "8 3 2 3")
NAMES = {
    "PixelAccuracy": "pixel accuracy",
    "Stability": "stability",
    "MeanIoU": "mIoU",
    "accuracy": "pixel accuracy",
    "miou": "mIoU",
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
    """One criterion of one run over eps: what is proven, and what the strongest attack found."""

    label: str
    average: str
    colour: str
    dash: str
    certified: Points
    clean: float | None
    attacked: Points = ()
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
            name = NAMES.get(key, key)
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
    """Rows of attacks by criterion, by eps, of the average that is listed first; eps 0 says nothing about an attack."""
    found: dict[str, list[dict[str, Any]]] = {}
    first: dict[str, str] = {}
    for row in run["attacked"]:
        key, average = row.get("criterion", "accuracy"), row.get("average", "macro")
        if first.setdefault(key, average) == average and row["eps"] > 0:
            found.setdefault(key, []).append(row)
    return {key: sorted(rows, key=lambda row: float(row["eps"])) for key, rows in found.items()}


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
        "higher_is_better": higher,
    }


def _points(pairs: Any) -> Points:
    return tuple((float(e), float(v)) for e, v in pairs if v is not None)
