"""`onelip data runways`: render runway pictures into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onelip.apps.common import (
    Device,
    Seed,
    guarded,
    parse_numbers,
    parse_size,
    show_python,
    show_table,
    write_results,
)

if TYPE_CHECKING:
    from onelip.data.landing.recipe import Recipe


@guarded
def runways(
    n: Annotated[int, typer.Option("--n", help="Number of pictures.")] = 256,
    size: Annotated[str, typer.Option(help="Size in pixels: 256, or HxW.")] = "256",
    split: Annotated[
        str, typer.Option(help="Part to render; the shift splits have their own conditions.")
    ] = "train",
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(help="Number of processes.")] = 2,
    biome: Annotated[str | None, typer.Option(help="Only this landscape.")] = None,
    haze: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Visibility in metres.")] = None,
    distance: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Distance from the aiming point in metres.")
    ] = None,
    negatives: Annotated[float, typer.Option(help="Share of pictures without a runway.")] = 0.0,
    second: Annotated[float, typer.Option(help="Share with a second runway, without label.")] = 0.0,
    database: Annotated[
        Path | None, typer.Option(help="Take lengths and widths from LARD's runways_database.json.")
    ] = None,
    device: Device = "auto",  # noqa: ARG001 - every command has it; rendering runs on the CPU
    out: Annotated[Path, typer.Option("--out", help="Folder of the set.")] = Path("runs/runways"),
) -> None:
    """Render runway pictures with masks, LARD and COCO labels; the same command goes on after an interruption.

    Example: onelip data runways --n 2000 --size 256 --out runs/runways --split train --workers 2
    """
    from onelip.data.landing.recipe import Recipe

    options = {
        "biome": biome,
        "haze": _range(haze, "--haze"),
        "distance": _range(distance, "--distance"),
        "negatives": negatives or None,
        "second": second or None,
        "database": None if database is None else str(database),
    }
    recipe = Recipe(
        n=n,
        size=parse_size(size if "x" in size.lower() else f"{size}x{size}") or (256, 256),
        seed=seed,
        split=split,
        options={name: value for name, value in options.items() if value is not None},
    )
    _render_and_show(recipe, workers, out)


def _render_and_show(recipe: Recipe, workers: int, out: Path) -> None:
    from onelip.apps.runs import progress
    from onelip.core import runtime
    from onelip.data.landing.writer import write

    with progress(recipe.n, f"{recipe.split}: rendering") as advance:
        shown = 0

        def report(done: int) -> None:
            nonlocal shown
            for _ in range(done - shown):
                advance()
            shown = done

        records = write(out, recipe, workers=workers, progress=report)
    results = {"kind": "data", "split": recipe.split, **summary(records), "recipe": recipe.to_dict()}
    show_boxes(results["boxes"])
    typer.echo(
        f"{results['images']} pictures, {results['boxes']['count']} with a runway; {out / recipe.split}"
    )
    folder = str(out)
    show_python(
        "from onelip.data.landing import Recipe, write\n"
        f"write({folder!r}, Recipe(n={recipe.n}, size={recipe.size}, seed={recipe.seed}, split={recipe.split!r}, "
        f"options={recipe.options}))\n"
        f"dataset = onelip.data.open({folder!r}, {recipe.split!r})"
    )
    write_results(out / recipe.split, {**results, "versions": runtime.versions()})


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count pictures, biomes and boxes, and take quantiles of the sides of the boxes.

    Example:
        >>> summary([{"box": [0, 0, 8, 4], "scene": {"biome": "dry"}}])["biomes"]
        {'dry': 1}
    """
    from onelip.data.landing.geometry import box_quantiles

    biomes = Counter(found["scene"]["biome"] for found in records)
    return {
        "images": len(records),
        "boxes": box_quantiles([found["box"] for found in records if found["box"] is not None]),
        "biomes": dict(sorted(biomes.items())),
    }


def show_boxes(boxes: dict[str, Any]) -> None:
    """Print the quantiles of the sides of boxes."""
    rows = [(f"{share:.0%}", *values) for share, *values in boxes["quantiles"]]
    show_table("Sides of the box in pixels", ["quantile", "width", "height"], rows)


def _range(text: str | None, option: str) -> tuple[float, ...] | None:
    return None if text is None else tuple(parse_numbers(text, option))
