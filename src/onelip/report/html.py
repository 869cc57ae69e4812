"""Rendering of results.json into one HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onelip.core import errors, files
from onelip.core.numbers import round_down, round_up
from onelip.report.classification import named
from onelip.report.curves import NARROW, WIDE, curve_svg
from onelip.report.detection import gap, shown
from onelip.report.figures import figures
from onelip.report.lines import NAMES, averaged, lines
from onelip.report.merge import merge
from onelip.report.schema import lacking

TEMPLATES = Path(__file__).parent / "templates"


def read(folder: str | Path) -> dict[str, Any]:
    """Read `results.json` of a run and check that a report can be made from it.

    Args:
        folder: folder written by `onelip certify`, `attack`, `compare` or `demo`.

    Raises:
        DataError: when there is none, or it holds something else.
    """
    path = Path(folder) / "results.json"
    result = files.read_json(path)
    missing = lacking(result) if isinstance(result, dict) else ["an object"]
    if missing:
        raise errors.DataError(
            errors.explain(
                f"report: {path} holds no results of a data set",
                received=f"no {', '.join(missing)}",
                expected="the results.json of `onelip certify`, `attack`, `compare` or `demo`",
                fix="run `onelip certify MODEL DATA --out DIR` first",
            )
        )
    return {**result, "folder": str(folder)}


def render(
    results: Sequence[dict[str, Any]],
    *,
    title: str = "",
    curves: Sequence[str] = (),
    gallery: Sequence[dict[str, Any]] = (),
) -> str:
    """One HTML page for the results of one or more commands and models.

    Results about the same model and images are joined, so that certified and attacked values stand together.
    Pictures are read from the folder of each result and written into the page: the file needs no network and no
    neighbours.

    Args:
        results: as returned by `read`.
        title: headline; by default what the models do.
        curves: criteria to draw, as "iou:car"; none: all.
        gallery: pictures that stand first: `folder`, `file` in it, `caption`.

    Returns:
        The page.
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
        share=share,
        share_up=share_up,
        up=_up,
        down=_down,
        plain=_number,
        shown=shown,
        reached=partial(shown, attacked=True),
        gap=gap,
        criterion=lambda name: NAMES.get(name, name),
        named=named,
        average=averaged,
    )
    runs = [_with_pictures(run) for run in merge(results)]
    for run in runs:
        run["figures"] = figures(run, curves, share, share_up)
    drawn = lines(runs, curves)
    norms = sorted({str(run["p"]).removesuffix(".0") for run in runs})
    return environment.get_template("report.html.j2").render(
        runs=runs,
        title=title or _title(runs),
        gallery=[_picture(picture) for picture in gallery],
        lines=drawn,
        wide=curve_svg(drawn, norms, size=WIDE) if drawn else "",
        narrow=curve_svg(drawn, norms, size=NARROW) if drawn else "",
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
    )


def write(folders: Sequence[str | Path], out: str | Path | None = None, **options: Any) -> Path:
    """Render the results of one or more folders into `report.html`.

    Args:
        folders: folders with a results.json each.
        out: folder of the page; by default the first of `folders`.
        **options: those of `render`.

    Returns:
        The path of the page.

    Raises:
        DataError: when a folder holds no results.
        StorageError: when the page cannot be written.
    """
    path = Path(out if out is not None else folders[0]) / "report.html"
    files.atomic_write(path, render([read(folder) for folder in folders], **options))
    return path


def _with_pictures(run: dict[str, Any]) -> dict[str, Any]:
    return {
        **run,
        "pictures": [_picture(p) for p in run["pictures"]],
        "components": [_picture(p) for p in run["components"]],
        "worst": [_picture(p) for p in run["worst"]["pictures"]],
        "sheets": [{**sheet, **_picture(sheet)} for sheet in run["sheets"]],
    }


def _title(runs: Sequence[dict[str, Any]]) -> str:
    tasks = {run["task"] or "segmentation" for run in runs}
    return f"Certified {tasks.pop()}" if len(tasks) == 1 else "Certified models"


def _picture(picture: dict[str, Any]) -> dict[str, str]:
    path = Path(picture["folder"]) / picture["file"]
    try:
        content = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise errors.DataError(
            errors.explain(
                f"report: the picture {path} cannot be read",
                received=error.strerror,
                fix="run the command that wrote it again",
            )
        ) from error
    return {"source": f"data:image/png;base64,{content}", "caption": str(picture.get("caption", ""))}


def share(value: float | None) -> str:
    """A certified or clean share in per cent, rounded down; a dash where it is undefined."""
    return "-" if value is None else f"{math.floor(value * 1e4 + 1e-9) / 100:.2f} %"


def share_up(value: float | None) -> str:
    """The same rounded up, for attacked values and for certified error rates."""
    return "-" if value is None else f"{math.ceil(value * 1e4 - 1e-9) / 100:.2f} %"


def _up(value: Any) -> str:
    return round_up(float(value))


def _down(value: Any) -> str:
    """A radius with four digits; a dash where it is undefined."""
    return "-" if value is None else round_down(float(value), 4)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
