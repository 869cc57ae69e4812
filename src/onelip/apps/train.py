"""`onelip train`: from a recipe to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onelip.apps.common import Device, guarded, show_log, show_padding, show_python, show_table


@guarded
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or path of a TOML file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the training.")] = Path("runs/train"),
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed; default: the recipe's.")] = None,
    device: Device = "auto",
    devices: Annotated[
        int | None, typer.Option(min=1, help="Devices of each node; default: the recipe's.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes; default: the recipe's.")] = None,
) -> None:
    """Train a model from a recipe; an interruption loses nothing.

    Example: onelip train camvid --out runs/camvid --set optim.epochs=20
    """
    show_log()
    from onelip import train as library
    from onelip.core import files

    flags = {"seed": seed, "run.devices": devices, "run.nodes": nodes}
    overrides = [*(change or []), *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    if device != "auto":
        overrides.append(f'run.device="{device}"')
    result = library.fit(recipe, out=out, resume=resume, overrides=overrides)
    rows = [(name, f"{value:.6g}") for name, value in result.metrics.items()]
    record = files.read_json(out / "results.json")
    sizes = {tuple(record["size"]), *([result.recipe.augment.crop] if result.recipe.augment.crop else [])}
    for size in sorted(sizes):
        show_padding(size, result.model.padded_size((size[0], size[1])), record["stride"])
    show_table(f"{result.recipe.name}: last validation", ["", "value"], rows)
    show_python(
        f"onelip.train.fit({recipe!r}, out={str(out)!r}, resume={resume}, overrides={overrides})\n"
        f"model = onelip.load({str(out / 'model')!r})"
    )
    typer.echo(f"results: {out / 'results.json'}; certify with: onelip certify {out} DATA")
