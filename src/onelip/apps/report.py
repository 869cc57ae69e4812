"""`onelip report`: render results again, or several models on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import Device, Seed, guarded, percent, show_python, show_table

VALUES = ("certified", "attacked", "clean")


@guarded
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders with a results.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of report.html; default: the first DIR.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Render report.html from the results of earlier runs.

    Example: onelip report runs/lipnet runs/twin --out runs/both
    """
    from onelip import report as library
    from onelip.core import files

    del seed, device  # every command takes them; nothing here is random or heavy
    results = [library.read(folder) for folder in folders]
    page = library.write(folders, out)
    _show(results)
    if out is not None and out.resolve() not in {folder.resolve() for folder in folders}:
        files.write_json(out / "results.json", {"kind": "report", "runs": results})
    show_python(f"onelip.report.write({[str(f) for f in folders]}, {None if out is None else str(out)!r})")
    typer.echo(f"report:  {page}")


def _show(results: list[dict[str, Any]]) -> None:
    """The main figures of each result, as far as it has them."""
    certified = [
        (r["model"]["name"], row["eps"], percent(row["accuracy_micro"]), percent(row["stability_micro"]))
        for r in results
        for row in r.get("rows", [])
        if not r.get("task")
    ]
    tables = (
        ("Certified", ["model", "eps", "accuracy", "stability"], certified),
        ("Certified classes", ["model", "eps", "criterion", "clean", "certified"], _classes(results)),
        ("Certified detections", ["model", "eps", "criterion", "clean", "certified"], _detections(results)),
        ("Certified and attacked", ["model", "eps", "criterion", *VALUES], _attacked(results)),
        (
            "Beside smoothing",
            ["model", "eps", "method", "criterion", "certified", "forward passes"],
            _compared(results),
        ),
    )
    for title, columns, rows in tables:
        if rows:
            show_table(title, columns, rows)


def _detections(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Certified criteria of detectors."""
    from onelip.report.detection import shown
    from onelip.report.lines import NAMES

    return [
        (
            r["model"]["name"],
            row["eps"],
            NAMES.get(c["key"], c["key"]),
            shown(c["clean"], c),
            shown(row[c["key"]], c),
        )
        for r in results
        if r.get("task") == "detection"
        for c in r.get("criteria", [])
        if not c["why"]
        for row in r.get("rows", [])
    ]


def _classes(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Certified criteria of classifiers."""
    from onelip.report.classification import named

    return [
        (r["model"]["name"], row["eps"], named(c["key"]), percent(c["clean"]), percent(row[c["key"]]))
        for r in results
        if r.get("task") == "classification"
        for c in r.get("criteria", [])
        for row in r.get("rows", [])
    ]


def _attacked(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What is certified, and what attacks left."""
    from onelip.report.detection import shown

    return [
        (
            r["model"]["name"],
            row["eps"],
            " ".join(dict.fromkeys(filter(None, (row.get("goal"), row.get("criterion", "accuracy"))))),
            *(shown(row[k], row, attacked=k == "attacked") for k in VALUES),
        )
        for r in results
        for row in r.get("attacked", [])
    ]


def _compared(results: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Certified values beside those of smoothing."""
    from onelip.report.lines import NAMES

    return [
        (
            r["model"]["name"],
            row["eps"],
            row["method"],
            NAMES.get(key := row.get("criterion", "accuracy"), key),
            percent(row["accuracy"]),
            row["passes"] or "-",
        )
        for r in results
        for row in r.get("comparison", [])
    ]
