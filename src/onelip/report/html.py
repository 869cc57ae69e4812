"""Rendering of results.json into one HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onelip.core import errors, files
from onelip.core.numbers import round_down, round_up
from onelip.report.curves import NAMES, curve_svg

_TEMPLATES = Path(__file__).parent / "templates"


def read(folder: str | Path) -> dict[str, Any]:
    """Read `results.json` of a run and check that a report can be made from it.

    Args:
        folder: folder written by `onelip certify` or `onelip demo`.

    Raises:
        DataError: when there is none, or it holds something else.
    """
    path = Path(folder) / "results.json"
    result = files.read_json(path)
    missing = (
        [k for k in ("model", "data", "curves", "rows", "assumptions") if k not in result]
        if isinstance(result, dict)
        else ["an object"]
    )
    if missing:
        raise errors.DataError(
            errors.explain(
                f"report: {path} holds no certified results",
                received=f"no {', '.join(missing)}",
                expected="the results.json of `onelip certify` or `onelip demo`",
                fix="run `onelip certify MODEL DATA --out DIR` first",
            )
        )
    return {**result, "folder": str(folder)}


def render(results: Sequence[dict[str, Any]]) -> str:
    """One HTML page for the results of one or more models.

    Pictures are read from the folder of each result and written into the page: the file needs no network and no
    neighbours.

    Args:
        results: as returned by `read`.

    Returns:
        The page.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=_share, up=_up, down=_down, plain=_number, criterion=lambda name: NAMES.get(name, name)
    )
    runs = [
        {**result, "images": [_picture(result, p) for p in result.get("pictures", [])]} for result in results
    ]
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(runs=runs, svg=curve_svg(results), style=style)


def write(folders: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Render the results of one or more folders into `report.html`.

    Args:
        folders: folders with a results.json each.
        out: folder of the page; by default the first of `folders`.

    Returns:
        The path of the page.

    Raises:
        DataError: when a folder holds no results.
        StorageError: when the page cannot be written.
    """
    path = Path(out if out is not None else folders[0]) / "report.html"
    files.atomic_write(path, render([read(folder) for folder in folders]))
    return path


def _picture(result: dict[str, Any], picture: dict[str, Any]) -> dict[str, str]:
    path = Path(result["folder"]) / picture["file"]
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


def _share(value: float | None) -> str:
    """A certified or clean share in per cent, rounded down; a dash where it is undefined."""
    return "-" if value is None else f"{math.floor(value * 1e4 + 1e-9) / 100:.2f} %"


def _up(value: Any) -> str:
    return round_up(float(value))


def _down(value: Any) -> str:
    return round_down(float(value))


def _number(value: float) -> str:
    return f"{value:.3g}"
