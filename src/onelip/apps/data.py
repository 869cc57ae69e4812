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
from onelip.apps.data_boxes import images_and_sizes, show_found, show_repairs
from onelip.apps.data_labels import show_classes
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
    boxes: Annotated[
        bool, typer.Option("--boxes", help="Read boxes, where pixels are labelled too.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="Images on the contact sheet; 0: no sheet.")] = 24,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/data"),
) -> None:
    """Count images, sizes and classes, list what cannot be read and what was repaired, and draw a contact sheet.

    Sets that have boxes alone (bccd, penn_fudan, JSON of COCO, VOC's Annotations) are read as such, and so are those
    with one class an image (digits, mnist, fashion_mnist, cifar10, a folder with one subfolder a class).

    Example: onelip data inspect camvid --split train
    """
    from onelip import data as library
    from onelip.core import runtime
    from onelip.core.files import atomic_write
    from onelip.data.boxes import opens_as_boxes
    from onelip.data.contact import png
    from onelip.data.labels import opens_as_labels

    runtime.device(device)
    if boxes or opens_as_boxes(data):
        door, show = "open_boxes", show_found
    elif opens_as_labels(data):
        door, show = "open_labels", show_classes
    else:
        door, show = "open", _show
    dataset = getattr(library, door)(data, split, size=parse_size(size))
    found = library.inspect(dataset)
    show(f"{data} {split}", found)
    _show_problems(found["problems"])
    show_python(f"onelip.data.inspect(onelip.data.{door}({data!r}, {split!r}))")
    if pictures:
        atomic_write(out / "contact.png", png(library.contact(dataset, pictures)))
        typer.echo(f"contact sheet: {out / 'contact.png'}")
    write_results(out, {"kind": "data", **found, "seed": seed, "versions": runtime.versions()})


def _show(title: str, found: dict[str, Any]) -> None:
    classes = [(c["name"], percent(c["share"]), c["images"]) for c in found["classes"]]
    show_table(f"{title}: {images_and_sizes(found)}", ["class", "share of pixels", "images"], classes)
    if "repairs" in found:
        _show_lard(found)


def _show_problems(problems: list[str]) -> None:
    for problem in problems[:10]:
        typer.echo(f"problem: {problem}")
    if len(problems) > 10:
        typer.echo(f"and {len(problems) - 10} more problems, see results.json")


def _show_lard(found: dict[str, Any]) -> None:
    """What only tables of LARD tell."""
    for name, key in (("type", "types"), ("stored size (h x w)", "stored_sizes")):
        show_table("Rows that can be used", [name, "rows"], list(found[key].items()))
    show_boxes(found["boxes"])
    show_repairs(found)
    if found["label_only"]:
        typer.echo("no picture is there: labels only; shares are those of the outlines")
