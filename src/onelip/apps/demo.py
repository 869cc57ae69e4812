"""`onelip demo`: drawn runways, certified and attacked, in two minutes and without any data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Device,
    Out,
    Seed,
    guarded,
    model_folder,
    parse_size,
    percent,
    show_python,
    show_table,
)

STANDARD, ROBUST = "runway-unet-standard", "runway-unet"
DIGITS = "digits-convnet"


@guarded
def demo(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Models to compare, the usual one first; default: the shipped ones."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 6,
    size: Annotated[str, typer.Option(help="Size of the scenes, HxW.")] = "256x256",
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/demo"),
    digits: Annotated[
        bool, typer.Option("--digits", help="Draw digits in the browser instead, until interrupted.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page of --digits; 0: any.")] = 8765,
) -> None:
    """Draw runways, certify and attack an ordinary network and a LipNet on them, and write report.html.

    Example: onelip demo --out runs/demo
    """
    if digits:
        _digits((model or [DIGITS])[0], port)
        return
    import time

    from onelip.apps import showcase

    start = time.perf_counter()
    models = tuple(dict.fromkeys(model or (STANDARD, ROBUST)))
    asked = showcase.Demo(
        out=out, models=models, images=images, size=parse_size(size) or (256, 256), seed=seed, device=device
    )
    typer.echo(f"1/3 drawing {images} approaches to runways, {size}")
    showcase.render(asked)
    rows: list[dict[str, Any]] = []
    for name in models:
        typer.echo(f"2/3 certifying and attacking {name}")
        rows += showcase.measure(asked, name)
    typer.echo("3/3 writing the page")
    page = showcase.page(asked, rows, time.perf_counter() - start)
    _show(rows, asked.shown, showcase.KEY)
    show_python(_PYTHON.format(robust=models[-1], size=asked.size, eps=asked.shown, steps=asked.steps))
    typer.echo(f"results: {out / 'results.json'}\nreport:  {page.resolve()} - open it in a browser")


def _digits(model: str, port: int) -> None:
    """Serve the page of digits until interrupted, which is its ordinary end."""
    from onelip.apps.digits.answer import Answers
    from onelip.apps.digits.server import serve
    from onelip.models import load

    def ready(address: str) -> None:
        typer.echo(f"open {address} in a browser on this machine; Ctrl-C ends it")

    try:
        serve(Answers(load(model_folder(model))), port, ready=ready)
    except KeyboardInterrupt:
        typer.echo("ended")


_PYTHON = """\
model = onelip.load("{robust}")
image, target = onelip.data.runways(1, {size}, split="test")[0]
certificate = onelip.certify.segmentation(model, image[None], target[None])
runway = onelip.certify.IoU(1)
attack = onelip.attacks.Erase(onelip.attacks.CriterionGoal(runway), steps={steps})
print(certificate.curve(runway, [{eps}]), attack(model, image[None], target[None], {eps}).values(runway))"""


def _show(rows: list[dict[str, Any]], eps: float, key: str) -> None:
    """The main figures of each model."""
    chosen = [r for r in rows if r["eps"] == eps and r["average"] == "micro" and r["criterion"] == key]
    show_table(
        "IoU of the runway over all scenes",
        ["model", "Lipschitz bound", "clean", f"attacked, eps {eps:g}", f"certified at {eps:g}"],
        [
            (
                row["model"],
                f"{row['lipschitz']:.6g}",
                percent(row["clean"]),
                percent(row["attacked"], up=True),
                percent(row["certified"]),
            )
            for row in chosen
        ],
    )
