"""`onelip data`: look at a data set before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Data,
    Device,
    Out,
    Seed,
    Split,
    guarded,
    parse_size,
    percent,
    show_python,
    show_table,
    write_results,
)
from onelip.apps.data_runways import runways, show_boxes

app = typer.Typer(
    help="Look at data sets. Example: onelip data inspect camvid --split train",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("runways")(runways)


@app.command("inspect")
@guarded
def inspect(
    data: Data,
    split: Split = "train",
    size: Annotated[str | None, typer.Option(help="Resize to HxW on reading.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Images on the contact sheet; 0: no sheet.")] = 24,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/data"),
) -> None:
    """Count images, sizes and classes, list what cannot be read and what was repaired, and draw a contact sheet.

    Example: onelip data inspect camvid --split train
    """
    from onelip import data as library
    from onelip.core import runtime
    from onelip.core.files import atomic_write
    from onelip.data.contact import png

    runtime.device(device)
    dataset = library.open(data, split, size=parse_size(size))
    found = library.inspect(dataset)
    _show(f"{data} {split}", found)
    show_python(f"onelip.data.inspect(onelip.data.open({data!r}, {split!r}))")
    if pictures:
        atomic_write(out / "contact.png", png(library.contact(dataset, pictures)))
        typer.echo(f"contact sheet: {out / 'contact.png'}")
    write_results(out, {"kind": "data", **found, "seed": seed, "versions": runtime.versions()})


def _show(title: str, found: dict[str, Any]) -> None:
    sizes = ", ".join(f"{n} of {name}" for name, n in list(found["sizes"].items())[:4])
    more = ", ..." if len(found["sizes"]) > 4 else ""
    classes = [(c["name"], percent(c["share"]), c["images"]) for c in found["classes"]]
    show_table(
        f"{title}: {found['images']} images ({sizes}{more})", ["class", "share of pixels", "images"], classes
    )
    if "repairs" in found:
        _show_lard(found)
    for problem in found["problems"][:10]:
        typer.echo(f"problem: {problem}")
    if len(found["problems"]) > 10:
        typer.echo(f"and {len(found['problems']) - 10} more problems, see results.json")


def _show_lard(found: dict[str, Any]) -> None:
    """What only tables of LARD tell."""
    for name, key in (("type", "types"), ("stored size (h x w)", "stored_sizes")):
        show_table("Rows that can be used", [name, "rows"], list(found[key].items()))
    show_boxes(found["boxes"])
    rows = [(r["kind"], r["count"], ", ".join(r["first"]), r["meaning"]) for r in found["repairs"]]
    if rows:
        show_table("Repaired, doubtful, dropped", ["what", "rows", "first", "meaning"], rows)
    typer.echo(f"{found['rows']} rows in the tables, {found['dropped']} dropped")
    if found["label_only"]:
        typer.echo("no picture is there: labels only; shares are those of the outlines")
    elif found["missing"]:
        typer.echo(f"{found['missing']} pictures are missing")
