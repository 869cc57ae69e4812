"""`onelip attack`: the strongest attacks on a data set, beside the certificates they must respect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Data,
    Device,
    Eps,
    Limit,
    Model,
    Norm,
    Out,
    Pictures,
    Resume,
    Seed,
    Size,
    Split,
    guarded,
    parse_numbers,
    parse_size,
    percent,
    run_and_show,
    show_table,
)


@guarded
def attack(
    model: Model,
    data: Data,
    eps: Eps = "0.05,0.1,0.17,0.5",
    goal: Annotated[
        str,
        typer.Option(
            help="What to make worse: accuracy, stability, miou, or recall, fnr, iou, dice of a class, as iou:car; "
            "or vanish:car (recall and IoU), fabricate:car."
        ),
    ] = "accuracy",
    method: Annotated[
        str, typer.Option("--attack", help="strongest, erase (of a class), knapsack, segpgd or pgd.")
    ] = "strongest",
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps from each start.")] = 40,
    restarts: Annotated[int, typer.Option(min=1, help="Starts; the first is the clean image.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="For vanish:CLASS, attack the recall alone; IoU is measured too.")
    ] = False,
    split: Split = "val",
    p: Norm = "2",
    limit: Limit = 20,
    size: Size = None,
    pictures: Pictures = 4,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/attack"),
) -> None:
    """Attack a model on a data set; stops with an error if an attack beats its certificate.

    Example: onelip attack runs/camvid camvid --eps 0.1 0.5 --goal miou --attack strongest --limit 20
    """
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
        quick=quick,
    )
    run_and_show(lambda: assault(run), _show, out)


def _show(results: dict[str, Any]) -> None:
    data, rows = results["data"], results["attacked"]
    left_out = f", {results['undefined']} undefined" if results["undefined"] else ""
    units = dict(zip((row["eps"] for row in rows), results["units"], strict=False))
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images{left_out}",
        [
            "criterion",
            "average over",
            "eps",
            "per value /255",
            "clean",
            "certified",
            "attacked",
            "gap (points)",
        ],
        [_line(row, units[row["eps"]]["rms_255"]) for row in rows],
    )
    typer.echo(
        f"certified and attacked values are consistent on every image; the logits moved by at most "
        f"{results['largest_gain']:.4g} times the perturbation, proven {results['lipschitz']:.6g}; "
        f"{results['seconds_per_image']:.3g} s per image, {results['queries']} images through the model"
    )


def _line(row: dict[str, Any], typical: float) -> tuple[object, ...]:
    """One line of the table."""
    from onelip.report.lines import averaged

    up, attacked = not row["higher_is_better"], row["attacked"]
    return (
        row["criterion"],
        averaged(row["average"], row["criterion"]),
        row["eps"],
        f"{typical:.3g}",
        percent(row["clean"], up=up),
        percent(row["certified"], up=up),
        percent(attacked, up=not up),
        "-" if attacked is None else f"{100 * abs(attacked - row['certified']):.2f}",
    )
