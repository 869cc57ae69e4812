"""`onelip info`: this machine, or one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from onelip.apps.common import (
    Device,
    Out,
    Seed,
    guarded,
    model_folder,
    p_text,
    parse_numbers,
    parse_size,
    show_padding,
    show_python,
    show_table,
    write_results,
)


@guarded
def info(
    model: Annotated[
        str | None, typer.Argument(help="Folder of a model, or the name of a shipped one.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Image size HxW of the bound; default: the recorded one.")
    ] = None,
    p: Annotated[str, typer.Option(help="Norm: 1, 2 or inf.")] = "2",
    seed: Seed = 0,
    device: Device = "auto",
    out: Out = Path("runs/info"),
) -> None:
    """Show this machine and its data sets, or the bound of a model.

    Example: onelip info runs/camvid --size 360x480
    """
    if model is None:
        _environment(seed, device, out)
    else:
        _model(model, parse_size(size), parse_numbers(p, "--p")[0], seed, device, out)


def _environment(seed: int, device: str, out: Path) -> None:
    from onelip import data, models
    from onelip.core import runtime

    results: dict[str, Any] = {
        "kind": "info",
        "versions": runtime.versions(),
        "machine": runtime.machine(),
        "device": str(runtime.device(device)),
        "seed": seed,
        "data": {
            name: _place(name)
            for name in sorted({*data.names(), *data.boxes.box_names(), *data.label_names()})
        },
        "models": models.pretrained(),
    }
    show_table("Versions", ["package", "version"], list(results["versions"].items()))
    machine = [*results["machine"].items(), ("device", results["device"])]
    show_table("Machine", ["", "value"], machine)
    found = [(name, place or "not found") for name, place in results["data"].items()]
    show_table("Data sets (folders: ONELIP_DATA)", ["name", "where"], found)
    shipped = list(results["models"].items()) or [("none", "")]
    show_table("Shipped models", ["name", "what"], shipped)
    show_python("from onelip.core import runtime\nruntime.versions(), runtime.machine()")
    write_results(out, results)


def _place(name: str) -> str | None:
    from onelip import data
    from onelip.core import errors
    from onelip.data.catalog import DRAWN

    if name in DRAWN:
        return "drawn on request"
    door: Callable[..., Any] = data.open_boxes
    kind = " with boxes"
    if name in data.label_names():
        door, kind = data.open_labels, " with one class each"
    elif name in data.names():
        door, kind = data.open, ""
    for split in ("val", "test", "train"):
        try:
            dataset: Any = door(name, split)
        except errors.DataError:
            continue
        what = "labels without pictures" if getattr(dataset, "label_only", False) else "images"
        return f"{len(dataset)} {what}{kind} in {split}"
    return None


def _model(path: str, size: tuple[int, int] | None, p: float, seed: int, device: str, out: Path) -> None:
    import onelip
    from onelip.core import numbers, runtime

    folder = model_folder(path)
    model = onelip.load(folder).to(runtime.device(device))
    if size is None:
        size = _recorded_size(folder) or model.default_size
    bound = onelip.lipschitz(model, size, p=p, in_channels=model.in_channels)
    from onelip.apps.boxes import about
    from onelip.apps.common import console
    from onelip.certify.fingerprint import weights_hash

    results: dict[str, Any] = {
        "kind": "model",
        "model": {
            "name": model.name,
            "path": path,
            "config": model.config,
            "parameters": sum(v.numel() for v in model.parameters()),
            "weights_sha256": weights_hash(model),
        },
        "size": list(size),
        "padded_size": list(model.padded_size(size)),
        "stride": model.multiple_of,
        "lipschitz": bound.value,
        "bound": bound.to_dict(),
        "versions": runtime.versions(),
        "seed": seed,
    }
    if isinstance(model, onelip.models.Detector):
        results["detector"] = about.about(model, size, bound.value)
    rows = [
        (row.name, row.rule, numbers.round_up(row.local), numbers.round_up(row.running), row.reason)
        for row in bound.layers
    ]
    show_table(f"Bound of {path}", ["layer", "rule", "local", "running", "reason"], rows)
    console().print(str(bound), markup=False, highlight=False)
    show_table("Model", ["", "value"], [(k, v) for k, v in results["model"].items() if k != "config"])
    if "detector" in results:
        show_table("Detector", ["", "value"], about.rows(results["detector"]))
    show_padding(size, model.padded_size(size), model.multiple_of)
    show_python(f"model = onelip.load({folder!r})\nprint(onelip.lipschitz(model, {size}, p={p_text(p)}))")
    write_results(out, results)


def _recorded_size(folder: str) -> tuple[int, int] | None:
    from onelip.core import files
    from onelip.models.shipped import find

    record = files.read_json(find(folder) / "config.json")
    height, width = record["lipschitz"]["size"]
    return int(height), int(width)
