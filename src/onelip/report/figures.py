"""The large figures at the top of a report: a value and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onelip.core.numbers import round_down, round_up
from onelip.report.lines import NAMES

Figure = tuple[str, str]


def figures(run: dict[str, Any], only: Sequence[str], share: Any, share_up: Any) -> list[Figure]:
    """(value, what it is) of one run of the page.

    Args:
        run: as returned by `merge`.
        only: criteria that the page is about; none: pixel accuracy.
        share: prints a share rounded down.
        share_up: the same rounded up.
    """
    if run["task"] == "detection":
        found = _detection(run, share)
    elif run["task"] == "classification":
        found = _classification(run, share, share_up)
    else:
        found = _asked(run, only, share, share_up) if only else _accuracy(run, share)
    if run["lipschitz"]:
        found.append((round_up(float(run["lipschitz"])), "Lipschitz constant, at most"))
    if run["seconds_per_image"]:
        forward = f", {run['seconds_forward']:.3g} s of it forward pass" if run["seconds_forward"] else ""
        found.append((f"{run['seconds_per_image']:.3g} s", f"per image{forward}"))
    return found


def _accuracy(run: dict[str, Any], share: Any) -> list[Figure]:
    found = []
    if run["clean"]:
        found.append((share(run["clean"]["pixel_accuracy_micro"]), "clean pixel accuracy"))
        found.append((share(run["clean"]["miou"]), "clean mIoU of the data set"))
    rows = [row for row in run["rows"] if row["eps"] > 0][:2]
    return found + [(share(r["accuracy_micro"]), f"certified accuracy at eps {r['eps']}") for r in rows]


def _classification(run: dict[str, Any], share: Any, share_up: Any) -> list[Figure]:
    """Clean and certified accuracy, the median radius, and what attacks left."""
    found = []
    if run["clean"]:
        found.append((share(run["clean"]["accuracy"]), "clean accuracy"))
    elif run["attacked"] and run["attacked"][0]["criterion"] == "accuracy":
        found.append((share(run["attacked"][0]["clean"]), "clean accuracy"))
    rows = [row for row in run["rows"] if row["eps"] > 0][:2]
    found += [(share(r["accuracy"]), f"certified accuracy at eps {r['eps']:g}") for r in rows]
    if run["radius"] and run["radius"]["median"] is not None:
        found.append((round_down(float(run["radius"]["median"]), 4), "certified radius of the median image"))
    attacked = [r for r in run["attacked"] if r["criterion"] == "accuracy" and r["eps"] > 0]
    chosen = [r for r in attacked if not rows or r["eps"] == rows[0]["eps"]][:1]
    return found + [(share_up(r["attacked"]), f"accuracy attacked with eps {r['eps']:g}") for r in chosen]


def _detection(run: dict[str, Any], share: Any) -> list[Figure]:
    """Clean average precision, what is found for certain, and how quiet the detector stays."""
    found = []
    if run["clean"]:
        found.append((share(run["clean"]["map50"]), "clean mAP@50"))
    rows = [row for row in run["rows"] if row["eps"] > 0]
    keys = [c["key"] for c in run["criteria"]]
    for key in ("recall_located" if "recall_located" in keys else "recall", "map50"):
        known = [row for row in rows if row.get(key) is not None]
        found += [(share(r[key]), f"{NAMES.get(key, key)}, certified at eps {r['eps']:g}") for r in known[:1]]
    if run["silent"] and run["silent"]["median"] is not None:
        radius = round_down(float(run["silent"]["median"]), 3)
        found.append((radius, "eps below which nothing newly fires, median of the images"))
    return found


def _asked(run: dict[str, Any], only: Sequence[str], share: Any, share_up: Any) -> list[Figure]:
    """Clean, attacked and certified value of each criterion at the middle one of the attacked eps."""
    found = []
    for key in only:
        rows = [r for r in run["attacked"] if r.get("criterion") == key]
        rows = [r for r in rows if r["average"] == rows[0]["average"]]
        if not rows:
            continue
        row, name = rows[len(rows) // 2], NAMES.get(key, key)
        safe, loose = (share, share_up) if row["higher_is_better"] else (share_up, share)
        found += [
            (safe(row["clean"]), f"{name}, clean"),
            (loose(row["attacked"]), f"{name}, attacked with eps {row['eps']:g}"),
            (safe(row["certified"]), f"{name}, certified at eps {row['eps']:g}"),
        ]
    return found
