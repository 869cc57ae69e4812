"""`onelip data inspect` for sets of boxes, and what sets of boxes and tables of LARD have in common."""

from __future__ import annotations

from typing import Any

import typer

from onelip.apps.common import show_table
from onelip.apps.data_runways import show_boxes


def show_found(title: str, found: dict[str, Any]) -> None:
    """Print what `onelip.data.inspect` tells about a set of boxes."""
    rows = [(c["name"], c["objects"], c["images"], *_median(c)) for c in found["classes"]]
    columns = ["class", "objects", "images", "median width", "median height"]
    show_table(f"{title}: {images_and_sizes(found)}, {found['objects']} objects", columns, rows)
    show_boxes(found["boxes"])
    counts = found["per_image"]
    if counts:
        typer.echo(
            f"{min(counts)} to {max(counts)} objects an image; {found['empty']} images without objects"
        )
    show_repairs(found)
    if found["label_only"]:
        typer.echo("no picture is there: labels only")


def images_and_sizes(found: dict[str, Any]) -> str:
    """Return how many images there are of which sizes."""
    sizes = ", ".join(f"{n} of {name}" for name, n in list(found["sizes"].items())[:4])
    return f"{found['images']} images ({sizes}{', ...' if len(found['sizes']) > 4 else ''})"


def show_repairs(found: dict[str, Any]) -> None:
    """Print what was repaired and left out, and how many pictures and rows are missing."""
    rows = [(r["kind"], r["count"], ", ".join(r["first"]), r["meaning"]) for r in found["repairs"]]
    if rows:
        show_table("Repaired, doubtful, left out", ["what", "number", "first", "meaning"], rows)
    if "rows" in found:
        typer.echo(f"{found['rows']} rows in the tables, {found['dropped']} dropped")
    if found["missing"] and not found["label_only"]:
        typer.echo(f"{found['missing']} pictures are missing")


def _median(known: dict[str, Any]) -> tuple[float | str, float | str]:
    middle = [values for share, *values in known["quantiles"] if share == 0.5]
    return (middle[0][0], middle[0][1]) if middle else ("-", "-")
