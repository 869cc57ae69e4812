"""`onelip attack`: the strongest attacks on a data set, beside the certificates they must respect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Device,
    Out,
    Seed,
    guarded,
    parse_numbers,
    parse_size,
    percent,
    show_python,
    show_table,
)


@guarded
def attack(
    model: Annotated[
        str, typer.Argument(help="Folder of a model or training, or the name of a shipped model.")
    ],
    data: Annotated[str, typer.Argument(help="Name of a data set, or folder with a dataset.toml.")],
    eps: Annotated[str, typer.Option(help="Perturbation sizes, as 0.1 0.17.")] = "0.05,0.1,0.17,0.5",
    goal: Annotated[
        str,
        typer.Option(
            help="What to make worse: accuracy, stability, miou, or recall, fnr, iou, dice of a class, as iou:car; "
            "or vanish:car, fabricate:car."
        ),
    ] = "accuracy",
    method: Annotated[
        str, typer.Option("--attack", help="strongest, knapsack, segpgd or pgd.")
    ] = "strongest",
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps from each start.")] = 40,
    restarts: Annotated[int, typer.Option(min=1, help="Starts; the first is the clean image.")] = 1,
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "val",
    p: Annotated[str, typer.Option(help="Norm of the perturbation: 1, 2 or inf.")] = "2",
    limit: Annotated[int, typer.Option(min=0, help="Number of images, evenly spread; 0: all.")] = 20,
    size: Annotated[str | None, typer.Option(help="Resize images to HxW.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Number of images shown in the report.")] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the images that are done in --out.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/attack"),
) -> None:
    """Attack a model on a data set; stops with an error if an attack beats its certificate.

    Example: onelip attack runs/camvid camvid --eps 0.1 0.5 --goal miou --attack strongest --limit 20
    """
    from onelip import report
    from onelip.apps.assault import Assault, assault

    run = Assault(
        model=model,
        data=data,
        out=out,
        split=split,
        eps=tuple(parse_numbers(eps)),
        p=parse_numbers(p, "--p")[0],
        limit=limit,
        size=parse_size(size),
        pictures=pictures,
        resume=resume,
        seed=seed,
        device=device,
        goal=goal,
        attack=method,
        steps=steps,
        restarts=restarts,
    )
    try:
        results = assault(run)
    finally:
        page = report.write([out]) if (out / "results.json").is_file() else None
    _show(results)
    show_python(results["python"])
    typer.echo(f"results: {out / 'results.json'}\nreport:  {page}")


def _show(results: dict[str, Any]) -> None:
    data, rows = results["data"], results["attacked"]
    up = not rows[0]["higher_is_better"]
    left_out = f", {results['undefined']} undefined" if results["undefined"] else ""
    average = "pixels" if rows[0]["average"] == "micro" else "images"
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images{left_out}: "
        f"{rows[0]['criterion']} (mean over {average})",
        ["eps", "per value /255", "clean", "certified", "attacked", "gap (points)"],
        [
            (
                row["eps"],
                f"{units['rms_255']:.3g}",
                percent(row["clean"], up=up),
                percent(row["certified"], up=up),
                percent(row["attacked"], up=not up),
                "-" if row["attacked"] is None else f"{100 * abs(row['attacked'] - row['certified']):.2f}",
            )
            for row, units in zip(rows, results["units"], strict=True)
        ],
    )
    typer.echo(
        f"certified and attacked values are consistent on every image; the logits moved by at most "
        f"{results['largest_gain']:.4g} times the perturbation, proven {results['lipschitz']:.6g}; "
        f"{results['seconds_per_image']:.3g} s per image, {results['queries']} images through the model"
    )
