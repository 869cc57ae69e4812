"""`onelip report`: render results again, or several models on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onelip.apps.common import Device, Seed, guarded, percent, show_python, show_table


@guarded
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders with a results.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of report.html; default: the first DIR.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Render report.html from the results of earlier runs.

    Example: onelip report runs/lipnet runs/twin --out runs/both
    """
    from onelip import report as library
    from onelip.core import files

    del seed, device  # every command takes them; nothing here is random or heavy
    results = [library.read(folder) for folder in folders]
    page = library.write(folders, out)
    rows = [
        (r["model"]["name"], row["eps"], percent(row["accuracy_micro"]), percent(row["stability_micro"]))
        for r in results
        for row in r["rows"]
    ]
    show_table("Certified", ["model", "eps", "accuracy", "stability"], rows)
    if out is not None and out.resolve() not in {folder.resolve() for folder in folders}:
        files.write_json(out / "results.json", {"kind": "report", "runs": results})
    show_python(f"onelip.report.write({[str(f) for f in folders]}, {None if out is None else str(out)!r})")
    typer.echo(f"report:  {page}")
