"""Results of several commands, joined where they are about the same model and the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Result = dict[str, Any]

_EMPTY: Result = {
    "lipschitz": None,
    "bound": None,
    "rows": [],
    "criteria": [],
    "curves": [],
    "radii": [],
    "classes": [],
    "attacked": [],
    "comparison": [],
    "pictures": [],
    "components": [],
    "worst": {"rows": [], "pictures": []},
    "clean": {},
    "seconds_per_image": None,
    "seconds_forward": None,
    "undefined": 0,
    "task": None,
    "regression": None,
    "threshold": None,
    "iou": None,
    "detector": {},
    "objects": None,
    "best": [],
    "by_class": [],
    "silent": None,
    "radius": None,
    "joint_radius": None,
    "capped": [],
    "sheets": [],
    "goals": [],
    "smallest": [],
}
DETECTION = ("task", "regression", "threshold", "iou")
"""What certificates and attacks of a detector have in common beside model and images."""
_HEAD = (
    "kind",
    "complete",
    "date",
    "seed",
    "command",
    "python",
    "versions",
    "machine",
    "model",
    "data",
    "folder",
)


def merge(results: Sequence[Result]) -> list[Result]:
    """One run for each model and set of images, with the sections of all its commands.

    Certified and attacked values belong together only over the very same images: results are joined when weights,
    data, part, size, number of images and norm agree, for detectors also threshold and IoU. Two results of the same
    command stay apart.

    Args:
        results: contents of results.json with their `folder`, complete or not.

    Returns:
        Runs with every section, empty where no command wrote it; `heads` holds the head of each command.

    Example:
        >>> [sorted(run["kinds"]) for run in merge([])]
        []
    """
    runs: list[Result] = []
    for result in results:
        kind = str(result.get("kind", "certify"))
        run = next((r for r in runs if r["same"] == _identity(result) and kind not in r["kinds"]), None)
        if run is None:
            run = {**_EMPTY, **{k: result.get(k) for k in _HEAD}, "same": _identity(result), "kinds": set()}
            run |= {"p": result["p"], "assumptions": [], "heads": []}
            runs.append(run)
        _add(run, result, kind)
    return runs


def _add(run: Result, result: Result, kind: str) -> None:
    run["kinds"].add(kind)
    run["heads"].append({k: result.get(k) for k in _HEAD})
    known = {_question(row) for row in run["attacked"]}
    folder = result.get("folder", ".")
    joined = {
        "attacked": [r for r in result.get("attacked", []) if _question(r) not in known],
        "assumptions": [a for a in result["assumptions"] if a not in run["assumptions"]],
        "pictures": _placed(result.get("pictures", []), folder),
        "components": _placed(result.get("components", []), folder),
        "sheets": _placed(result.get("sheets", []), folder),
    }
    for section, entries in joined.items():
        run[section] = run[section] + entries
    if "rows" in result and not run["rows"]:
        own = {k: result[k] for k in _EMPTY if k in result and k not in joined}
        worst = own["worst"] if "worst" in own else _EMPTY["worst"]
        run |= {**own, "worst": {**worst, "pictures": _placed(worst["pictures"], folder)}}
        run["criteria"] = run["criteria"] or _classic(run)
    for section in ("comparison", "goals", "smallest", "bound", "lipschitz", "seconds_per_image", *DETECTION):
        run[section] = run[section] or result.get(section) or _EMPTY[section]


def _question(row: Result) -> tuple[Any, ...]:
    """What a row about an attack is about: its goal, if it has one, and its criterion."""
    return row.get("goal"), row.get("criterion", "accuracy")


def _placed(pictures: Sequence[Result], folder: str) -> list[Result]:
    return [{"folder": folder, **picture} for picture in pictures]


def _identity(result: Result) -> tuple[Any, ...]:
    data = result["data"]
    places = ("name", "split", "images", "total")
    return (
        result["model"]["weights_sha256"],
        result["model"]["name"],
        *(data[k] for k in places),
        *data["size"],
        str(result["p"]),
        *(result.get(key) for key in DETECTION),
    )


def _classic(run: Result) -> list[Result]:
    """Accuracy and stability, for results that do not list their criteria."""
    clean = run["clean"]
    count = {"count": run["data"]["images"] - run["undefined"], "undefined": run["undefined"]}
    shared = {"higher_is_better": True, "exact": True, "exact_micro": True, "seconds": None, **count}
    accuracy = {f"clean_{a}": clean.get(f"pixel_accuracy_{a}") for a in ("micro", "macro")}
    return [
        {"key": "accuracy", "name": "PixelAccuracy", **accuracy, **shared},
        {"key": "stability", "name": "Stability", "clean_micro": 1.0, "clean_macro": 1.0, **shared},
    ]
