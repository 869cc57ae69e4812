"""`onelip export`: a model for other runtimes, with its bound in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onelip.apps.common import (
    Device,
    Out,
    Seed,
    guarded,
    model_folder,
    parse_size,
    show_python,
    show_table,
    write_results,
)


@guarded
def export(
    model: Annotated[
        str, typer.Argument(help="Folder of a model or training, or the name of a shipped model.")
    ],
    size: Annotated[str, typer.Option(help="Image size HxW the file is made for.")],
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/export"),
) -> None:
    """Export a model to ONNX, with its bound in the file.

    Example: onelip export runs/camvid --size 360x480 --out runs/onnx
    """
    import onelip
    from onelip.core import numbers, runtime

    del device  # exported on the CPU, for every runtime
    folder, shape, path = model_folder(model), parse_size(size), out / "model.onnx"
    assert shape is not None
    bound = onelip.export_onnx(onelip.load(folder), path, shape)
    rows = [
        ("file", path),
        ("bytes", path.stat().st_size),
        ("size", size),
        ("Lipschitz bound", numbers.round_up(bound.value)),
    ]
    show_table("Exported", ["", "value"], rows)
    show_python(f"onelip.export_onnx(onelip.load({folder!r}), {str(path)!r}, {shape})")
    results = {
        "kind": "export",
        "model": model,
        "file": path.name,
        "size": list(shape),
        "lipschitz": bound.value,
        "bound": bound.to_dict(),
        "versions": runtime.versions(),
        "seed": seed,
        "date": runtime.now(),
    }
    write_results(out, results)
