"""`onelip data inspect` for sets with one class an image."""

from __future__ import annotations

from typing import Any

import typer

from onelip.apps.common import percent, show_table
from onelip.apps.data_boxes import images_and_sizes


def show_classes(title: str, found: dict[str, Any]) -> None:
    """Print what `onelip.data.inspect` tells about a set of labels."""
    rows = [(c["name"], c["images"], percent(c["share"])) for c in found["classes"]]
    show_table(f"{title}: {images_and_sizes(found)}", ["class", "images", "share"], rows)
    if found["mean"] is not None:
        typer.echo(f"pixels: mean {_listed(found['mean'])}, standard deviation {_listed(found['std'])}")
    copies = found["duplicates"]
    if copies["same"] or copies["other"]:
        first = "; ".join(" = ".join(pair) for pair in copies["first"][:5])
        typer.echo(
            f"pictures with the pixels of an earlier one: {copies['same']} in the same class, {copies['other']} in "
            f"another class ({first})"
        )


def _listed(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
