"""`onelip demo`: the whole way in about a minute, without any data set."""

from __future__ import annotations

from pathlib import Path

import typer

from onelip.apps.common import Device, Out, Seed, guarded, show_log, show_python


@guarded
def demo(seed: Seed = 0, device: Device = "auto", out: Out = Path("runs/demo")) -> None:
    """Train, certify and report on drawn scenes, in a minute.

    Example: onelip demo --out runs/demo
    """
    from onelip import train
    from onelip.apps.certify import certify_and_show
    from onelip.apps.plan import Plan

    show_log()
    typer.echo("1/3 training a tiny model on drawn scenes (recipe demo, about a minute)")
    overrides = [f"seed={seed}", f'run.device="{device}"']
    result = train.fit("demo", out=out / "training", resume=True, overrides=overrides)
    typer.echo("2/3 certifying 32 scenes it has never seen")
    height, width = result.recipe.data.size
    plan = Plan(
        model=str(out / "training"),
        data="scenes",
        split="test",
        eps=(0.05, 0.1, 0.25, 0.5, 1.0),
        size=(height, width),
        seed=seed,
        device=device,
        out=out,
        command=f"onelip demo --seed {seed} --out {out}",
    )
    certify_and_show(plan)
    show_python(f"onelip.train.fit('demo', out={str(out / 'training')!r})")
    typer.echo("3/3 done: open the report in a browser")
