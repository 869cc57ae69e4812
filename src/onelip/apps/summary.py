"""Sums over the records of single images: curves, rows at the eps asked for, radii, clean values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Record = dict[str, Any]


class Curve(NamedTuple):
    """Certified values over the data set at each eps, and the clean one; None where undefined."""

    eps: list[float]
    values: list[float | None]
    clean: float | None


class Asked(Protocol):
    """A criterion, the eps of its curve, and what tables say about it (`onelip.apps.measure.Question`)."""

    @property
    def key(self) -> str:
        """Text of the command line."""

    @property
    def eps(self) -> tuple[float, ...]:
        """Points of the curve."""

    @property
    def facts(self) -> Record:
        """Key, name, direction and exactness."""


def summarise(
    done: Sequence[Record],
    asked: Sequence[Asked],
    *,
    eps: Sequence[float],
    classes: Sequence[str],
    p: float,
    thresholds: Sequence[str] = (),
    pooled: Mapping[str, Curve] | None = None,
) -> Record:
    """Averages over images.

    Macro averages give every image the same weight, micro averages every pixel that counts. The budgets of two
    images are separate, so both are exact wherever the value of one image is. Images whose value is undefined
    are left out and counted, for each criterion. `pooled` has the micro averages that are not means of images.
    """
    rows: list[Record] = [{"eps": value} for value in sorted(set(eps))]
    criteria, curves = [], []
    for question in asked:
        entries = [r["criteria"][question.key] for r in done]
        facts = {**question.facts, **_counts(entries), "seconds": middle([e["seconds"] for e in entries])}
        for average in ("micro", "macro"):
            curve = Curve(list(question.eps), *mean(entries, average))
            if average == "micro" and question.key in (pooled or {}):
                curve = (pooled or {})[question.key]
            facts[f"clean_{average}"] = curve.clean
            at = dict(zip(curve.eps, curve.values, strict=False))
            for row in rows:
                row[f"{question.key}_{average}"] = at.get(row["eps"])
            if curve.clean is not None:
                curves.append(_curve(facts, average, curve, p))
        criteria.append(facts)
    return {
        "lipschitz": max(r["lipschitz"] for r in done),
        "rows": rows,
        "criteria": criteria,
        "curves": curves,
        "radii": [radius_row(name, [r["radii"][name] for r in done]) for name in thresholds],
        "clean": clean_values(done, classes),
        "undefined": sum(not r["valid"] for r in done),
        "seconds_per_image": middle([r["seconds"] for r in done]),
        "seconds_forward": middle([r["seconds_forward"] for r in done]),
    }


def middle(values: Sequence[float]) -> float:
    """The middle value, the upper one of two.

    Example:
        >>> middle([3.0, 1.0]), middle([0.5, 0.1, 0.2])
        (3.0, 0.2)
    """
    return sorted(values)[len(values) // 2]


def _counts(entries: Sequence[Record]) -> Record:
    count = sum(e["clean"] is not None for e in entries)
    return {"count": count, "undefined": len(entries) - count}


def _curve(facts: Record, average: str, curve: Curve, p: float) -> Record:
    shared = {k: facts[k] for k in ("key", "higher_is_better", "count", "undefined")}
    return {
        "criterion": facts["name"],
        **shared,
        "exact": facts["exact_micro" if average == "micro" else "exact"],
        "average": average,
        "eps": curve.eps,
        "values": curve.values,
        "clean": curve.clean,
        "p": str(p),
    }


def mean(entries: Sequence[Record], average: str) -> tuple[list[float | None], float | None]:
    """Mean certified values and mean clean value over the images where they are defined.

    Args:
        entries: `certified`, `clean` and `weight` of each image; None where undefined or without weights.
        average: "micro" or "macro".

    Returns:
        The values at each eps, empty when no image is defined or has no weight, and the clean value.
    """
    known = [e for e in entries if e["clean"] is not None]
    if not known or (average == "micro" and known[0]["weight"] is None):
        return [], None
    weights = [e["weight"] if average == "micro" else 1 for e in known]
    total = sum(weights)
    clean = math.fsum(w * e["clean"] for w, e in zip(weights, known, strict=True)) / total
    columns = zip(*(e["certified"] for e in known), strict=True)
    return [
        math.fsum(w * v for w, v in zip(weights, column, strict=True)) / total for column in columns
    ], clean


def radius_row(name: str, radii: Sequence[float | str | None]) -> Record:
    """Statistics of the certified radii of all images for one threshold (question 2).

    Quartiles are entries of the sorted list, the lower one of two, so that none is rounded up; the mean is over
    the finite ones.

    Args:
        name: the text that asked, as "fnr:polyp=0.95".
        radii: one a image; "inf" when nothing reaches the threshold, None where undefined.
    """
    key, _, threshold = name.rpartition("=")
    return {
        "name": f"radius_{key}",
        "criterion": key,
        "threshold": float(threshold),
        **spread_of(radii),
    }


def spread_of(radii: Sequence[float | str | None]) -> Record:
    """Quartiles of radii, the mean of the finite ones, and how many are 0, infinite, known and undefined."""
    known = sorted(float(r) for r in radii if r is not None)
    finite = [r for r in known if math.isfinite(r)]

    def quantile(share: float) -> float | str | None:
        if not known:
            return None
        value = known[int(share * (len(known) - 1))]
        return value if math.isfinite(value) else "inf"

    return {
        "mean_of_finite": math.fsum(finite) / len(finite) if finite else None,
        "lower_quartile": quantile(0.25),
        "median": quantile(0.5),
        "upper_quartile": quantile(0.75),
        "zero": sum(r == 0 for r in known),
        "infinite": len(known) - len(finite),
        "count": len(known),
        "undefined": len(radii) - len(known),
    }


def clean_values(done: Sequence[Record], classes: Sequence[str]) -> Record:
    """Pixel accuracy, and IoU of the whole data set; classes without any pixel are left out of the mean."""
    known = [r for r in done if r["valid"]]
    count = range(len(classes))
    total = [[sum(r["confusion"][i][j] for r in known) for j in count] for i in count]
    shares = [sum(r["confusion"][i][i] for i in count) / r["valid"] for r in known]
    pixels = sum(r["valid"] for r in known)
    iou: dict[str, float | None] = {}
    for i, name in enumerate(classes):
        union = sum(total[i]) + sum(row[i] for row in total) - total[i][i]
        iou[name] = total[i][i] / union if union else None
    defined = [value for value in iou.values() if value is not None]
    return {
        "pixel_accuracy_micro": sum(total[i][i] for i in count) / pixels if pixels else None,
        "pixel_accuracy_macro": sum(shares) / len(shares) if shares else None,
        "miou": sum(defined) / len(defined) if defined else None,
        "iou": iou,
    }


def worst(done: Sequence[Record], eps: Sequence[float], grid: Sequence[float], count: int) -> list[Record]:
    """The images with the lowest certified pixel accuracy at the middle one of the eps asked for."""
    value = middle(list(set(eps)))
    place = list(grid).index(value)
    rows = [
        {
            "index": r["index"],
            "id": r["id"],
            "eps": value,
            "certified": r["criteria"]["accuracy"]["certified"][place],
            "clean": r["criteria"]["accuracy"]["clean"],
        }
        for r in done
        if r["criteria"]["accuracy"]["clean"] is not None
    ]
    return sorted(rows, key=lambda row: (row["certified"], row["index"]))[:count]
