"""What the commands about detectors print."""

from __future__ import annotations

from typing import Any

import typer

from onelip.apps.common import percent, show_table

SHARES = ("map50", "map", "recall", "precision", "recall_located")


def show_attack(results: dict[str, Any]) -> None:
    """Print what attacks did to a detector."""
    data, rows = results["data"], results["attacked"]
    units = dict(zip((row["eps"] for row in rows), results["units"], strict=False))
    title = f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images, "
    show_table(
        f"{title}{results['objects']} objects; scores above {results['threshold']:g}, IoU {results['iou']:g}",
        ["goal", "criterion", "eps", "per value /255", "clean", "certified", "attacked", "noise"],
        [_line(row, units[row["eps"]]["rms_255"]) for row in rows],
    )
    show_table(
        "What the goals reached",
        ["goal", "eps", "images", "clean score", "score", "reached", "seconds"],
        [
            (
                g["goal"],
                g["eps"],
                g["images"],
                _number(g["clean_score"]),
                _number(g["score"]),
                percent(g["reached"]),
                _number(g["seconds"]),
            )
            for g in results["goals"]
        ],
    )
    if results["smallest"]:
        show_table(
            f"Smallest perturbations up to norm {max(units):g}: quartiles over the images that need one",
            ["goal", "images", "reached", "found", "certified"],
            [
                (s["goal"], s["images"], s["reached"], _quartiles(s["quartiles"]), _quartiles(s["certified"]))
                for s in results["smallest"]
            ],
        )
    typer.echo(
        "certified and attacked values are consistent on every image; what is bounded moved by at most "
        f"{results['largest_gain']:.4g} times the perturbation, proven {results['lipschitz']:.6g}; "
        f"{results['seconds_per_image']:.3g} s per image, {results['queries']} images through the model"
    )
    if results["regression"] == "free":
        typer.echo(
            "nothing bounds the boxes of this detector: recall_located counts an object as found while a location "
            "inside it fires for its class, and false_located the others that fire"
        )


def _line(row: dict[str, Any], typical: float) -> tuple[object, ...]:
    """One line of the table."""
    share, up = row["criterion"] in SHARES, not row["higher_is_better"]

    def text(name: str, *, up: bool) -> str:
        return percent(row[name], up=up) if share else _number(row[name])

    return (
        row["goal"],
        row["criterion"],
        row["eps"],
        f"{typical:.3g}",
        text("clean", up=up),
        text("certified", up=up),
        text("attacked", up=not up),
        text("noise", up=up),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _quartiles(values: list[float | str] | None) -> str:
    return "-" if values is None else ", ".join(f"{float(value):.4g}" for value in values)
