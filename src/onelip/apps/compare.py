"""`onelip compare`: a Lipschitz certificate beside randomized smoothing and an attack."""

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
    Out,
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
from onelip.core import errors


@guarded
def compare(
    model: Model,
    data: Data,
    smoothing: Annotated[
        str, typer.Option(help="Noise of the smoothing, as sigma=0.1,0.2.")
    ] = "sigma=0.1,0.2",
    eps: Eps = "0.1,0.17",
    base: Annotated[str, typer.Option(help="Model to smooth; default: the certified model itself.")] = "",
    split: Split = "val",
    n0: Annotated[
        int | None,
        typer.Option(min=1, help="Noisy copies that choose the class of each pixel: 10; not for detectors."),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(min=1, help="Noisy copies that test it: 100; for detectors, all of them: 1000."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Accepted probability of error for one image.")] = 1e-3,
    correction: Annotated[
        str | None, typer.Option(help="holm (default) or bonferroni; not for detectors.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Noisy copies in one forward pass.")] = 8,
    attack_steps: Annotated[int, typer.Option(min=0, help="Steps of the attack; 0: no attack.")] = 0,
    score: Score = None,
    iou: Iou = None,
    classes: Classes = None,
    limit: Limit = 20,
    size: Size = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/compare"),
) -> None:
    """Compare the certified pixel accuracy, or recall of a detector, with that of randomized smoothing.

    Example: onelip compare runs/camvid camvid --smoothing sigma=0.1,0.2 --eps 0.1 0.17 --base runs/camvid-twin
    """
    from onelip.apps.boxes.opened import refuse
    from onelip.apps.kinds import task_of

    common: dict[str, Any] = {
        "model": model,
        "data": data,
        "sigmas": read_sigmas(smoothing),
        "eps": tuple(parse_numbers(eps)),
        "base": base,
        "split": split,
        "alpha": alpha,
        "batch_size": batch_size,
        "attack_steps": attack_steps,
        "limit": limit,
        "size": parse_size(size),
        "resume": resume,
        "seed": seed,
        "device": device,
        "out": out,
    }
    task = task_of(model)
    if task == "classification":
        raise errors.InputError(
            errors.explain(
                "compare is not for classifiers",
                received=f"{model}, a classifier",
                expected="a segmentation model or a detector",
                fix="onelip certify and onelip attack take classifiers",
            )
        )
    if task == "detection":
        from onelip.apps.boxes.comparison import compare_boxes
        from onelip.apps.boxes.comparison_plan import ComparisonBoxes

        refuse({"--n0": n0, "--correction": correction}, "a detector")
        boxes = ComparisonBoxes(
            **common,
            n=1000 if n is None else n,
            score=0.5 if score is None else score,
            iou=0.5 if iou is None else iou,
            classes=parse_words(classes),
        )
        run_and_show(lambda: compare_boxes(boxes), _show, out)
        return
    from onelip.apps.comparison import Comparison
    from onelip.apps.comparison import compare as run

    refuse({"--score": score, "--iou": iou, "--classes": classes}, "a segmentation model")
    plan = Comparison(**common, n0=n0 or 10, n=n or 100, correction=correction or "holm")
    run_and_show(lambda: run(plan), _show, out)


def read_sigmas(text: str) -> tuple[float, ...]:
    """Read the noise: numbers separated by commas, `sigma=` before any of them.

    Example:
        >>> read_sigmas("sigma=0.1,0.2"), read_sigmas("0.1, sigma=0.2")
        ((0.1, 0.2), (0.1, 0.2))
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in parts if "=" in part and not part.startswith("sigma=")]
    if unknown:
        raise errors.InputError(
            errors.explain(
                "--smoothing has an unknown part", received=repr(unknown[0]), expected="as sigma=0.1,0.2"
            )
        )
    plain = ",".join(part.removeprefix("sigma=") for part in parts)
    return tuple(dict.fromkeys(parse_numbers(plain, "--smoothing")))


def _show(results: dict[str, Any]) -> None:
    data, boxes = results["data"], results.get("task") == "detection"
    attacked = "attacked" in results or any(row.get("attacked") is not None for row in results["comparison"])
    columns = [
        "eps",
        "method",
        "certified",
        *(["attacked"] if attacked else []),
        "clean",
        "per image",
        "passes",
        "",
    ]
    rows = []
    for row in results["comparison"]:
        upper = [percent(row.get("attacked"), up=True)] if attacked else []
        seconds = f"{row['seconds']:.3g} s"
        rows.append(
            (
                row["eps"],
                row["method"],
                percent(row["accuracy"]),
                *upper,
                percent(row["clean"]),
                seconds,
                row["passes"],
                row["note"],
            )
        )
    what = f"recall of {results['objects']} objects" if boxes else "pixel accuracy"
    title = f"{results['model']['path']} on {data['name']} {data['split']}, {data['images']} images: {what}"
    show_table(title, columns, rows)
