"""`onelip explain`: why a classifier decides as it does about one image, and what would change its mind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Device,
    Model,
    Out,
    Seed,
    Size,
    Split,
    guarded,
    parse_size,
    radius_text,
    show_python,
    show_table,
    write_results,
)


@guarded
def explain(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|DATA",
            help="Picture, .npy file with values in [0, 1], or a data set with one class an image.",
        ),
    ],
    index: Annotated[int, typer.Option(min=0, help="Which image of a data set.")] = 0,
    to: Annotated[
        str | None,
        typer.Option(help="Class of the counterfactual, by name or number; default: any other."),
    ] = None,
    overshoot: Annotated[
        float, typer.Option(min=0, help="1: to the boundary; 2: as far again beyond it.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search, at most.")] = 100,
    box: Annotated[
        bool, typer.Option("--box/--no-box", help="Keep the counterfactual in [0, 1] (default).")
    ] = True,
    split: Split = "val",
    size: Size = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/explain"),
) -> None:
    """Explain one decision: saliency, the nearest counterfactual found, and the proof of how near there can be any.

    A model without a proven bound is explained too, but gets no certificate.

    Example: onelip explain runs/digits digits --split test --index 3 --to 8 --out runs/explained
    """
    from onelip.apps.labels.explained import Question, explain_one

    question = Question(
        model=model,
        data=data,
        out=out,
        index=index,
        to=to,
        overshoot=overshoot,
        steps=steps,
        box=box,
        split=split,
        size=parse_size(size),
        seed=seed,
        device=device,
    )
    results = explain_one(question)
    _show(results)
    show_python(results["python"])
    write_results(out, results)
    typer.echo(f"picture: {out / results['picture']}")


def _show(results: dict[str, Any]) -> None:
    gap, distance = results["gap"], results["distance"]
    label = [] if results["label"] is None else [("label", results["label"])]
    show_table(
        f"{results['model']['path']}: {results['data']['id']}",
        ["", ""],
        [
            *label,
            ("predicted", results["predicted"]),
            ("certified radius", radius_text(results["radius"])),
            ("runner-up", results["runner_up"]),
            ("counterfactual", results["to"] if results["found"] else "none found"),
            ("its l2 distance", "-" if distance is None else f"{distance:.4g}"),
            ("none is nearer than", radius_text(results["lower_bound"])),
            ("distance / proven", "-" if gap is None else f"{gap:.4g}"),
        ],
    )
    if results["refusal"]:
        typer.echo(f"no certificate: {results['refusal']}")
