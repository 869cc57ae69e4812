"""`onelip anomaly`: detectors of anomalies in tables, with certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    INTERRUPTED,
    Device,
    Seed,
    fail,
    guarded,
    parse_numbers,
    percent,
    radius_text,
    show_python,
    show_table,
)

app = typer.Typer(
    help="Find anomalies in tables, with certificates. Example: onelip anomaly fit normal.csv --out runs/pump",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Table = Annotated[
    str, typer.Argument(metavar="DATA", help="Table: .csv, .tsv, .parquet, or .npz with X and perhaps y.")
]
Label = Annotated[
    str | None,
    typer.Option(help="Column with 1 for anomalies, 0 for normals; never fitted. An npz has it as y."),
]
Eps = Annotated[
    str | None, typer.Option(help="Perturbation sizes of the tables, in standardised units, as 0.1 0.5.")
]


@app.command("fit")
@guarded
def fit(
    data: Table,
    out: Annotated[Path, typer.Option("--out", help="Folder of model, results.json and report.html.")] = Path(
        "runs/anomaly"
    ),
    detector: Annotated[
        str, typer.Option(help="sdf (signed distance), knn (nearest neighbours) or ocsvm.")
    ] = "sdf",
    margin: Annotated[
        float | None,
        typer.Option(help="Margin of sdf: 0.05 for clean rows, about 1 with anomalies among them."),
    ] = None,
    lam: Annotated[
        float | None, typer.Option(help="Weight of the hinges of sdf; larger ones fit tighter.")
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="auto: choose the options of sdf on held-out rows, without anomalies.")
    ] = None,
    contamination: Annotated[
        str, typer.Option(help="Share of the fitted rows below the threshold, in (0, 0.5], or auto: 5 %.")
    ] = "auto",
    label: Label = None,
    normals_only: Annotated[
        bool, typer.Option("--normals-only", help="Drop rows labelled as anomalies before fitting.")
    ] = False,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out; repeatable.")] = None,
    calibrate: Annotated[
        float | None,
        typer.Option(
            metavar="ALPHA",
            help="Hold out rows and set the threshold so that at most this share of normal rows raises an alarm, "
            "under any perturbation of the one --eps.",
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="With --calibrate: let the rate hold with this probability, as 0.95.")
    ] = None,
    units: Annotated[
        str, typer.Option(help="With --calibrate: units of --eps, standardized or raw.")
    ] = "standardized",
    eps: Eps = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fit a detector to the rows of a table, which it holds in memory.

    Example: onelip anomaly fit normal.csv --calibrate 0.05 --eps 0.1 --out runs/pump
    """
    from onelip.apps.anomaly import fitting
    from onelip.apps.anomaly.stored import CALIBRATION
    from onelip.core import runtime
    from onelip.report import anomaly as pages

    runtime.device(device)  # checked; tables are scored on the CPU, in float64
    asked = fitting.Fit(
        data,
        out,
        detector=detector,
        margin=margin,
        lam=lam,
        select=select,
        contamination=contamination,
        label=label,
        normals_only=normals_only,
        drop=tuple(drop or ()),
        alpha=calibrate,
        confidence=confidence,
        units=units,
        eps=tuple(parse_numbers(eps)) if eps is not None else (),
        seed=seed,
    )
    results = fitting.fit(asked)
    page = pages.write([results], out / "report.html")
    _show(results)
    more = f", {CALIBRATION}" if calibrate is not None else ""
    typer.echo(f"model:   {out} (model/{more})\nresults: {out / 'results.json'}\nreport:  {page}")


@app.command("score")
@guarded
def score(
    model: Annotated[str, typer.Argument(help="Folder of onelip anomaly fit, or of a saved detector.")],
    data: Table,
    out: Annotated[
        Path, typer.Option("--out", help="CSV file of the scores; results go beside it as .json.")
    ] = Path("scores.csv"),
    label: Label = None,
    eps: Eps = None,
    block: Annotated[int, typer.Option(help="Rows that are in memory at a time.")] = 16384,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score the rows of a table of any length; the file of scores appears whole or not at all.

    Example: onelip anomaly score runs/pump today.csv --out today-scores.csv
    """
    from onelip.apps.anomaly import scoring
    from onelip.core import runtime

    runtime.device(device)
    sizes = tuple(parse_numbers(eps)) if eps is not None else ()
    asked = scoring.Score(model, data, out, label=label, eps=sizes, block=block, seed=seed)
    try:
        results = scoring.score(asked)
    except KeyboardInterrupt as error:
        fail(f"interrupted; {out} is as it was before")
        raise typer.Exit(INTERRUPTED) from error
    _show(results)
    typer.echo(f"scores:  {out}\nresults: {scoring.sidecar(out)}")


@app.command("report")
@guarded
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of fit, or files of scores (.csv).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The page, or its folder; default: beside the first RUN.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Write one HTML page about fits and scored files.

    Example: onelip anomaly report runs/pump today-scores.csv --out today.html
    """
    from onelip.report import anomaly as pages

    del seed, device  # every command takes them; nothing here is random or heavy
    results = [pages.read(run) for run in runs]
    first = runs[0]
    if out is None:
        path = first / "report.html" if first.is_dir() else first.with_suffix(".html")
    else:
        path = out if out.suffix.lower() == ".html" else out / "report.html"
    for result in results:
        _show(result, python=False)
    typer.echo(f"report:  {pages.write(results, path)}")


def _show(results: dict[str, Any], *, python: bool = True) -> None:
    """Tables of a result."""
    from onelip.core.numbers import round_up

    model, data, scores = results["model"], results["data"], results["scores"]
    rows = [
        ("detector", model["detector"]),
        ("features", model["features"]),
        ("rows", data["rows"]),
        ("scored here", f"{scores['rows']} ({data['scored']})"),
        (
            "flagged as anomalies",
            f"{scores['flagged']} ({percent(scores['flagged'] / scores['rows'], up=True)})",
        ),
        ("Lipschitz constant, at most", round_up(results["lipschitz"])),
    ]
    calibrated = results["calibration"]
    if calibrated:
        under = (
            f" under any perturbation of at most {radius_text(calibrated['eps'])}"
            if calibrated["eps"]
            else ""
        )
        rows.append(("false alarms, at most", percent(calibrated["alpha"], up=True) + under))
    show_table(f"{model['name']}: {results['step']}", ["", "value"], rows)
    for key, text in (
        ("constant", "constant columns (a change there counts in their own units)"),
        ("ignored", "columns left out"),
    ):
        if data[key]:
            typer.echo(f"{text}: {', '.join(data[key])}")
    certified = [(f"{r['eps']:g}", r["rows"], percent(r["share"])) for r in results["certified"]]
    show_table("Answers that no perturbation changes", ["eps", "rows", "share"], certified)
    if results["metrics"]:
        names = ("auroc", "aupr", "tpr", "f1")
        values = [(f"{r['eps']:g}", *(percent(r[n]) for n in names)) for r in results["metrics"]["rows"]]
        show_table(
            "Certified, attacker moves normals and anomalies",
            ["eps", "AUROC", "AUPR", "TPR at FPR 5 %", "F1"],
            values,
        )
    if python:
        show_python(results["python"])
