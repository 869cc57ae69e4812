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
}
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
    data, part, size, number of images and norm agree. Two results of the same command stay apart.

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
            run |= {"p": result["p"], "assumptions": list(result["assumptions"]), "heads": []}
            runs.append(run)
        _add(run, result, kind)
    return runs


def _add(run: Result, result: Result, kind: str) -> None:
    run["kinds"].add(kind)
    run["heads"].append({k: result.get(k) for k in _HEAD})
    for section, empty in _EMPTY.items():
        if result.get(section) and run[section] == empty:
            run[section] = result[section]
    run["assumptions"] += [a for a in result["assumptions"] if a not in run["assumptions"]]
    if not run["criteria"] and run["rows"]:
        run["criteria"] = _classic(run)
    folder = result.get("folder", ".")
    for section in ("pictures", "components"):
        run[section] = [{"folder": folder, **p} for p in run[section]]
    worst = run["worst"]
    run["worst"] = {**worst, "pictures": [{"folder": folder, **p} for p in worst["pictures"]]}


def _identity(result: Result) -> tuple[Any, ...]:
    data = result["data"]
    places = ("name", "split", "images", "total")
    return (
        result["model"]["weights_sha256"],
        result["model"]["name"],
        *(data[k] for k in places),
        *data["size"],
        str(result["p"]),
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
