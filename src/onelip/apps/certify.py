"""`onelip certify`: a model on a whole data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from onelip.apps.plan import Plan


@guarded
def certify(
    model: Annotated[
        str, typer.Argument(help="Folder of a model or training, or the name of a shipped model.")
    ],
    data: Annotated[str, typer.Argument(help="Name of a data set, or folder with a dataset.toml.")],
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "val",
    eps: Annotated[str, typer.Option(help="Perturbation sizes, separated by commas.")] = "0.05,0.1,0.17,0.5",
    p: Annotated[str, typer.Option(help="Norm of the perturbation: 1, 2 or inf.")] = "2",
    limit: Annotated[int, typer.Option(min=0, help="Number of images, evenly spread; 0: all.")] = 0,
    size: Annotated[str | None, typer.Option(help="Resize images to HxW before they are certified.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Number of images shown in the report.")] = 4,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the images that are done in --out.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/certify"),
) -> None:
    """Certify a model on a data set, and write a report.

    Example: onelip certify runs/camvid camvid --split val --eps 0.05,0.1,0.17,0.5 --out runs/camvid-certified
    """
    from onelip.apps.plan import Plan

    plan = Plan(
        model=model,
        data=data,
        split=split,
        eps=tuple(parse_numbers(eps)),
        p=parse_numbers(p, "--p")[0],
        limit=limit,
        size=parse_size(size),
        pictures=pictures,
        resume=resume,
        seed=seed,
        device=device,
        out=out,
    )
    certify_and_show(plan)


def certify_and_show(plan: Plan) -> dict[str, Any]:
    """Run, print the table, write the report."""
    from onelip import report
    from onelip.apps.evaluate import evaluate

    try:
        results = evaluate(plan)
    finally:
        done = (plan.out / "results.json").is_file()
        page = report.write([plan.out]) if done else None
    clean = results["clean"]
    show_table(
        f"{results['model']['path']} on {plan.data} {plan.split}, {results['data']['images']} images",
        ["eps", "per value /255", "accuracy (pixels)", "accuracy (images)", "stability (pixels)"],
        [
            (
                "clean",
                "-",
                percent(clean["pixel_accuracy_micro"]),
                percent(clean["pixel_accuracy_macro"]),
                "100.00 %",
            ),
            *(
                (
                    row["eps"],
                    f"{row['rms_255']:.3g}",
                    percent(row["accuracy_micro"]),
                    percent(row["accuracy_macro"]),
                    percent(row["stability_micro"]),
                )
                for row in results["rows"]
            ),
        ],
    )
    typer.echo(f"clean mIoU {percent(clean['miou'])}, {results['seconds_per_image']:.3g} s per image")
    show_python(results["python"])
    typer.echo(f"results: {plan.out / 'results.json'}\nreport:  {page}")
    return results
