"""Page about detectors of anomalies: scores, certified metrics, and why the most abnormal rows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onelip.core import errors, files
from onelip.core.numbers import round_down, round_up
from onelip.report.curves import INK, NARROW, WIDE, curve_svg, themed_svg
from onelip.report.html import TEMPLATES, share, share_up
from onelip.report.lines import COLOURS, Line

METRICS = {"auroc": "AUROC", "aupr": "AUPR", "tpr": "TPR at FPR 5 %", "f1": "F1 at the threshold"}
_NEEDED = ("step", "date", "command", "python", "model", "data", "scores", "certified", "metrics", "abnormal")


def read(run: str | Path) -> dict[str, Any]:
    """Read the results of `onelip anomaly fit` (a folder) or `score` (its CSV, or the JSON beside it).

    Raises:
        DataError: there are none, or they are of something else.
    """
    run = Path(run)
    path = run / "results.json" if run.is_dir() else run.with_suffix(".json")
    result = files.read_json(path)
    fits = isinstance(result, dict) and result.get("kind") == "anomaly"
    missing = [key for key in _NEEDED if key not in result] if fits else ["kind anomaly"]
    if missing:
        raise errors.DataError(
            errors.explain(
                f"report: {path} holds no results about anomalies",
                received=f"no {', '.join(missing)}",
                expected="what `onelip anomaly fit` or `score` wrote",
                fix="run `onelip anomaly score MODEL DATA --out scores.csv` first",
            )
        )
    return dict(result)


def render(runs: Sequence[Mapping[str, Any]], *, title: str = "Anomalies, certified") -> str:
    """One HTML page, readable without a network.

    Args:
        runs: as returned by `read`.
        title: headline.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=share, share_up=share_up, up=_up, down=_down, value="{:.4g}".format, short="{:.3g}".format
    )
    names = _labels(runs)
    lines = certified_lines(runs, names)
    shown = [
        {
            **run,
            "label": name,
            "figures": _figures(run),
            "wide": histogram_svg(run["scores"], WIDE),
            "narrow": histogram_svg(run["scores"], NARROW),
        }
        for run, name in zip(runs, names, strict=True)
    ]
    return environment.get_template("anomaly.html.j2").render(
        runs=shown,
        title=title,
        lines=lines,
        metrics=METRICS,
        wide=curve_svg(lines, ["2"], size=WIDE) if lines else "",
        narrow=curve_svg(lines, ["2"], size=NARROW) if lines else "",
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )


def write(runs: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Render into a file.

    Raises:
        StorageError: it could not be written.
    """
    path = Path(path)
    files.atomic_write(path, render(runs))
    return path


def certified_lines(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Line]:
    """Certified AUROC of the runs that have labels."""
    found: list[Line] = []
    for run, name in zip(runs, names, strict=True):
        if run["metrics"]:
            curve, clean = run["metrics"]["curve"], run["metrics"]["clean"]["auroc"]
            points = tuple(zip(curve["eps"], curve["auroc"], strict=True))[1:]
            found.append(Line(name, "pairs of rows", COLOURS[len(found) % len(COLOURS)], "", points, clean))
    return found


def histogram_svg(scores: Mapping[str, Any], size: tuple[float, float]) -> str:
    """Histogram of the scores, each kind of rows with a total of 1, and the threshold.

    Args:
        scores: section `scores` of a result.
        size: width and height in inches.
    """
    histogram, labelled = scores["histogram"], scores["anomalies"] is not None
    edges = histogram["edges"]
    kinds = [("normal rows" if labelled else "all rows", histogram["rows"], 0, COLOURS[0])]
    if labelled:
        kinds.append(("anomalies", histogram["anomalies"], 1, COLOURS[1]))

    def draw(axes: Any) -> None:
        for name, counts, kind, colour in kinds:
            total = sum(counts) + histogram["left_of_them"][kind]
            if total:
                heights = [100 * count / total for count in counts]
                axes.stairs(heights, edges, fill=True, color=colour, alpha=0.35)
                axes.stairs(heights, edges, color=colour, linewidth=1.4, label=name)
        axes.axvline(scores["offset"], color=INK, linestyle="--", linewidth=1.2, label="threshold")
        axes.set_xlabel("score (low: abnormal)")
        axes.set_ylabel("rows, per cent" + (" of their kind" if labelled else ""))
        axes.legend(frameon=False, loc="upper left")
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)

    return themed_svg(draw, size)


def _figures(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The large figures at the top: a value and what it is."""
    scores, metrics, calibrated = run["scores"], run["metrics"], run.get("calibration")
    found = [
        (str(scores["rows"]), "rows scored"),
        (str(scores["flagged"]), f"flagged as anomalies, {share_up(scores['flagged'] / scores['rows'])}"),
    ]
    if metrics:
        found.append((share(metrics["clean"]["auroc"]), "clean AUROC"))
        row = next((row for row in metrics["rows"] if row["eps"] > 0), None)
        if row:
            found.append((share(row["auroc"]), f"AUROC, certified at eps {row['eps']:g}"))
    if calibrated:
        under = f" at eps {_down(calibrated['eps'])}" if calibrated["eps"] else ""
        found.append((share_up(calibrated["alpha"]), f"false alarms, at most{under}"))
    found.append((_up(run["lipschitz"]), "Lipschitz constant, at most"))
    return found


def _labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names that tell the runs apart."""
    names = [f"{run['model']['name']} on {Path(run['data']['name']).name}" for run in runs]
    return [
        f"{name} ({run['step']})" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _up(value: Any) -> str:
    return round_up(float(value))


def _down(value: Any) -> str:
    return round_down(float(value), 4)
