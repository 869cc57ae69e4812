"""`onelip certify`: a model on a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    radius_text,
    run_and_show,
    show_table,
)

if TYPE_CHECKING:
    from onelip.apps.plan import Plan


@guarded
def certify(
    model: Model,
    data: Data,
    split: Split = "val",
    eps: Eps = "0.05,0.1,0.17,0.5",
    criteria: Annotated[
        str | None,
        typer.Option(
            help="What to certify: accuracy, stability, miou (default), or recall, fnr, iou, dice of a class, as "
            "iou:car; for detectors and classifiers everything is certified."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="Certified radius at which a criterion reaches a value, as fnr:polyp=0.95."),
    ] = None,
    per_class: Annotated[
        bool | None,
        typer.Option(
            help="Certified IoU of every class; default: when the data set is not too large for it."
        ),
    ] = None,
    score: Score = None,
    iou: Iou = None,
    classes: Classes = None,
    p: Norm = "2",
    limit: Limit = 0,
    size: Size = None,
    pictures: Pictures = 4,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/certify"),
) -> None:
    """Certify a model on a data set, and write a report.

    Example: onelip certify runs/camvid camvid --split val --eps 0.05 0.1 0.17 0.5 --criteria miou iou:car
    --threshold accuracy=0.8 --out runs/camvid-certified
    """
    from onelip.apps.boxes.opened import refuse
    from onelip.apps.kinds import task_of

    common: dict[str, Any] = {
        "model": model,
        "data": data,
        "split": split,
        "eps": tuple(parse_numbers(eps)),
        "p": parse_numbers(p, "--p")[0],
        "limit": limit,
        "size": parse_size(size),
        "pictures": pictures,
        "resume": resume,
        "seed": seed,
        "device": device,
        "out": out,
    }
    task = task_of(model)
    if task == "classification":
        given = {"--criteria": criteria, "--threshold": threshold, "--per-class": per_class}
        refuse({**given, "--score": score, "--iou": iou, "--classes": classes}, "a classifier")
        _certify_labels(**common)
        return
    if task == "detection":
        refuse({"--criteria": criteria, "--threshold": threshold, "--per-class": per_class}, "a detector")
        boxes = {"score": 0.5 if score is None else score, "iou": 0.5 if iou is None else iou}
        _certify_boxes(**common, **boxes, classes=parse_words(classes))
        return
    refuse({"--score": score, "--iou": iou, "--classes": classes}, "a segmentation model")
    from onelip.apps.plan import Plan, read_keys, read_thresholds

    keys = read_keys("accuracy,stability,miou" if criteria is None else criteria)
    plan = Plan(**common, criteria=keys, thresholds=read_thresholds(threshold), per_class=per_class)
    certify_and_show(plan)


def _certify_boxes(**options: Any) -> None:
    """Do the same with a detector."""
    from onelip.apps.boxes.evaluate import evaluate_boxes
    from onelip.apps.boxes.overview import show_certified
    from onelip.apps.boxes.plan import BoxPlan

    plan = BoxPlan(**options)
    run_and_show(lambda: evaluate_boxes(plan), show_certified, plan.out)


def _certify_labels(**options: Any) -> None:
    """Do the same with a classifier."""
    from onelip.apps.labels.evaluate import evaluate_labels
    from onelip.apps.labels.plan import LabelPlan
    from onelip.apps.labels.tables import show_certified

    plan = LabelPlan(**options)
    run_and_show(lambda: evaluate_labels(plan), show_certified, plan.out)


def certify_and_show(plan: Plan) -> dict[str, Any]:
    """Run, print the tables, write the report."""
    from onelip.apps.evaluate import evaluate

    return run_and_show(lambda: evaluate(plan), _show, plan.out)


def _show(results: dict[str, Any]) -> None:
    _show_accuracy(results)
    _show_criteria(results)
    _show_radii(results["radii"])
    seconds = (
        f"{results['seconds_per_image']:.3g} s per image ({results['seconds_forward']:.3g} s forward pass)"
    )
    typer.echo(f"clean mIoU {percent(results['clean']['miou'])}, {seconds}")


def _show_accuracy(results: dict[str, Any]) -> None:
    clean, data = results["clean"], results["data"]
    first = ("clean", "-", percent(clean["pixel_accuracy_micro"]), percent(clean["pixel_accuracy_macro"]))
    show_table(
        f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images",
        ["eps", "per value /255", "accuracy (pixels)", "accuracy (images)", "stability (pixels)"],
        [
            (*first, "100.00 %"),
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


def _show_criteria(results: dict[str, Any]) -> None:
    """The other criteria, one a line, and the certified IoU of each class."""
    rows: list[Sequence[object]] = []
    for criterion in results["criteria"][2:]:
        up = not criterion["higher_is_better"]
        for average, text in (("micro", "data set"), ("macro", "images")):
            clean, key = criterion[f"clean_{average}"], f"{criterion['key']}_{average}"
            if clean is None and average == "micro":
                continue
            values = [percent(row[key], up=up) for row in results["rows"]]
            kind = "exact" if criterion["exact_micro" if average == "micro" else "exact"] else "bound"
            left_out = criterion["undefined"] if average == "macro" else 0
            rows.append((criterion["key"], text, percent(clean, up=up), *values, kind, left_out))
    columns = ["criterion", "mean over", "clean", *(f"{row['eps']:g}" for row in results["rows"])]
    if rows:
        show_table("Certified at eps", [*columns, "is", "undefined"], rows)
    if results["classes"]:
        show_table(
            "Certified IoU of each class over the data set, at eps",
            ["class", "clean", *columns[3:]],
            [(c["class"], percent(c["clean"]), *map(percent, c["certified"])) for c in results["classes"]],
        )


def _show_radii(radii: Sequence[dict[str, Any]]) -> None:
    if radii:
        show_table(
            "Certified radius of an image: no smaller perturbation reaches the value",
            [
                "criterion",
                "value",
                "median",
                "quartiles",
                "mean of finite",
                "already there",
                "never",
                "undefined",
            ],
            [
                (
                    row["criterion"],
                    row["threshold"],
                    radius_text(row["median"]),
                    f"{radius_text(row['lower_quartile'])} to {radius_text(row['upper_quartile'])}",
                    radius_text(row["mean_of_finite"]),
                    row["zero"],
                    row["infinite"],
                    row["undefined"],
                )
                for row in radii
            ],
        )
