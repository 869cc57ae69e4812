"""`onelip data`: look at a data set before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onelip.apps import data_runways
from onelip.apps.common import (
    Device,
    Out,
    Seed,
    guarded,
    parse_size,
    percent,
    show_python,
    show_table,
    write_results,
)

app = typer.Typer(
    help="Look at data sets. Example: onelip data inspect camvid --split train",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("runways")(data_runways.runways)


@app.command("inspect")
@guarded
def inspect(
    spec: Annotated[
        str, typer.Argument(metavar="DATA", help="Name of a data set, or folder with a dataset.toml.")
    ],
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "train",
    size: Annotated[str | None, typer.Option(help="Resize to HxW on reading.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/data"),
) -> None:
    """Count images, sizes and classes, and list what cannot be read.

    Example: onelip data inspect camvid --split train
    """
    from onelip import data as library
    from onelip.core import runtime

    runtime.device(device)
    found = library.inspect(library.open(spec, split, size=parse_size(size)))
    classes = [(c["name"], percent(c["share"]), c["images"]) for c in found["classes"]]
    sizes = ", ".join(f"{n} of {name}" for name, n in list(found["sizes"].items())[:4])
    title = f"{spec} {split}: {found['images']} images ({sizes}{', ...' if len(found['sizes']) > 4 else ''})"
    show_table(title, ["class", "share of pixels", "images"], classes)
    for problem in found["problems"][:10]:
        typer.echo(f"problem: {problem}")
    if len(found["problems"]) > 10:
        typer.echo(f"and {len(found['problems']) - 10} more problems, see results.json")
    show_python(f"onelip.data.inspect(onelip.data.open({spec!r}, {split!r}))")
    write_results(out, {"kind": "data", **found, "seed": seed, "versions": runtime.versions()})
