"""`onelip attack`: the strongest attacks on a data set, beside the certificates they must respect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Classes,
    Data,
    Device,
    Eps,
    Iou,
    Limit,
    Model,
    Norm,
    Out,
    Pictures,
    Resume,
    Score,
    Seed,
    Size,
    Split,
    guarded,
    parse_numbers,
    parse_size,
    parse_words,
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
        str | None,
        typer.Option(
            help="What to make worse: accuracy (default), stability, miou, or recall, fnr, iou, dice of a class, as "
            "iou:car; or vanish:car (recall and IoU), fabricate:car. For detectors one or more of vanish (default), "
            "fabricate, count, mislabel:most|least|random|any, shift, errors; vanish@0.05 goes on to that score. For "
            "classifiers one or more of accuracy (default), stability, to:CLASS."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help="strongest (default), erase (of a class), knapsack, segpgd or pgd; not for detectors.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps from each start.")] = 40,
    restarts: Annotated[int, typer.Option(min=1, help="Starts; the first is the clean image.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="For vanish:CLASS, attack the recall alone; IoU is measured too.")
    ] = False,
    score: Score = None,
    iou: Iou = None,
    classes: Classes = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="For detectors and classifiers: random noise of the same norm, too (default).",
        ),
    ] = None,
    smallest: Annotated[
        bool,
        typer.Option(
            "--smallest", help="For detectors and classifiers: the smallest perturbation for each goal, too."
        ),
    ] = False,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="For detectors: keep all perturbations, to try them on other models."),
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
    from onelip.apps.kinds import task_of

    common: dict[str, Any] = {
        "model": model,
        "data": data,
        "out": out,
        "split": split,
        "eps": tuple(parse_numbers(eps)),
        "p": parse_numbers(p, "--p")[0],
        "limit": limit,
        "size": parse_size(size),
        "pictures": pictures,
        "resume": resume,
        "seed": seed,
        "device": device,
        "steps": steps,
        "restarts": restarts,
    }
    given = {
        "--attack": method,
        "--quick": quick or None,
        "--score": score,
        "--iou": iou,
        "--classes": classes,
    }
    given |= {"--control": control, "--smallest": smallest or None, "--keep": keep or None}
    doors = {"classification": _labels, "detection": _boxes, "segmentation": _pixels}
    doors[task_of(model)](common, goal, given)


def _labels(common: dict[str, Any], goal: str | None, given: dict[str, Any]) -> None:
    """Attack a classifier."""
    from onelip.apps.boxes.opened import refuse
    from onelip.apps.labels.assault import AssaultLabels, assault_labels
    from onelip.apps.labels.tables import show_attack

    names = ("--quick", "--score", "--iou", "--classes", "--keep")
    refuse({name: given[name] for name in names}, "a classifier")
    run = AssaultLabels(
        **common,
        goals=parse_words(goal or "accuracy"),
        attack=given["--attack"] or "strongest",
        control=given["--control"] is not False,
        smallest=bool(given["--smallest"]),
    )
    run_and_show(lambda: assault_labels(run), show_attack, run.out)


def _boxes(common: dict[str, Any], goal: str | None, given: dict[str, Any]) -> None:
    """Attack a detector."""
    from onelip.apps.boxes.assault import AssaultBoxes, assault_boxes
    from onelip.apps.boxes.opened import refuse
    from onelip.apps.boxes.tables import show_attack

    refuse({name: given[name] for name in ("--attack", "--quick")}, "a detector")
    run = AssaultBoxes(
        **common,
        goals=parse_words(goal or "vanish"),
        control=given["--control"] is not False,
        smallest=bool(given["--smallest"]),
        keep=bool(given["--keep"]),
        score=0.5 if given["--score"] is None else given["--score"],
        iou=0.5 if given["--iou"] is None else given["--iou"],
        classes=parse_words(given["--classes"]),
    )
    run_and_show(lambda: assault_boxes(run), show_attack, run.out)


def _pixels(common: dict[str, Any], goal: str | None, given: dict[str, Any]) -> None:
    """Attack a segmentation model."""
    from onelip.apps.assault import Assault, assault
    from onelip.apps.boxes.opened import refuse

    others = {name: value for name, value in given.items() if name not in ("--attack", "--quick")}
    refuse(others, "a segmentation model")
    method, quick = given["--attack"] or "strongest", bool(given["--quick"])
    run = Assault(**common, goal=goal or "accuracy", attack=method, quick=quick)
    run_and_show(lambda: assault(run), _show, run.out)


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
