"""Write the tables of README.md and docs from the files in benchmarks/results; nothing is typed by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onelip.core.numbers import round_up

HERE = Path(__file__).parent
CURVE = ("pixel_accuracy", "certified@0.05", "certified@0.1", "certified@0.17", "certified@0.5")


def load(name: str) -> dict[str, Any]:
    """Read one result."""
    record: dict[str, Any] = json.loads((HERE / "results" / f"{name}.json").read_text())
    return record


def source(record: dict[str, Any]) -> str:
    """Say where and when a result was measured."""
    machine = record["machine"]
    place = f"{machine['processor']}, {machine['cores']} cores, torch {record['versions']['torch']}"
    return f"From `benchmarks/results/{record['benchmark']}.json` ({record['date'][:10]}, {place})."


def percent(value: float) -> str:
    """Print a share in per cent; certified shares are rounded down."""
    return f"{int(value * 10_000) / 100:.2f} %"


def segmentation() -> str:
    """Tabulate trained LipNets against their twins."""
    head = "| data, model | pixel accuracy | mIoU | Lipschitz bound "
    head += "| certified at 0.05 | 0.1 | 0.17 | 0.5 | 1.0 | certified mIoU at 0.1 |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    notes = []
    for name in ("camvid", "kvasir"):
        record = load(f"segmentation-{name}")
        for kind in ("lipnet", "twin"):
            found = record["results"][kind]
            certified = " | ".join(
                percent(found["certified_accuracy"][e]) for e in ("0.05", "0.1", "0.17", "0.5", "1")
            )
            miou = percent(found["criteria"]["miou"]["certified"]["micro"]["0.1"])
            rows.append(
                f"| {name} val, {kind} | {percent(found['pixel_accuracy'])} | {percent(found['miou'])} | "
                f"{round_up(found['bound'], 4)} | {certified} | {miou} |"
            )
        notes.append(source(record))
    return "\n".join([*rows, "", *notes])


def smoothing() -> str:
    """Tabulate the certificate beside randomized smoothing."""
    record = load("rivals-camvid")
    rows = ["| eps | method | certified accuracy | s / image | passes | |", "|---|---|---|---|---|---|"]
    runs = record["results"]["smoothing"]
    first = next(iter(runs.values()))["comparison"]
    for eps in sorted({row["eps"] for row in first}):
        lipschitz = next(r for r in first if r["eps"] == eps and r["method"] == "Lipschitz")
        rows.append(compared(lipschitz, ""))
        for base, run in runs.items():
            found = [r for r in run["comparison"] if r["eps"] == eps and r["method"] != "Lipschitz"]
            rows += [compared(row, f", base {Path(base).name}") for row in found]
    images = next(iter(runs.values()))["images"]
    return "\n".join([*rows, "", f"{images} images. {source(record)}"])


def compared(row: dict[str, Any], base: str) -> str:
    """One line of the comparison."""
    method = row["method"].removesuffix(" (best)") + base
    return (
        f"| {row['eps']:g} | {method} | {percent(row['accuracy'])} | {row['seconds']:.2g} | {row['passes']} "
        f"| {row['note']} |"
    )


def sandwich() -> str:
    """Tabulate certified, attacked and clean accuracy of both models."""
    record = load("rivals-camvid")
    rows = ["| model | eps | certified | attacked | clean |", "|---|---|---|---|---|"]
    for name, run in record["results"]["attacked"].items():
        for row in run["rows"]:
            attacked = f"{math.ceil(row['attacked'] * 10_000) / 100:.2f} %"  # an upper bound: rounded up
            certified, clean = percent(row["certified"]), percent(row["clean"])
            rows.append(f"| {name} | {row['eps']:g} | {certified} | {attacked} | {clean} |")
    images = record["results"]["attacked"]["lipnet"]["images"]
    return "\n".join([*rows, "", f"{images} images; {record['notes'][-1]}. {source(record)}"])


def layers() -> str:
    """Tabulate the speed of the layers."""
    record = load("layers")
    found = record["results"]
    weights = found["weights, DeepLabV3 S"]["forward + backward"]["orthogonal"]["time / orthogonium"][
        "median"
    ]
    step = found["training step, DeepLabV3 S"]["orthogonal"]["time / twin"]["median"]
    inference = next(v for k, v in found.items() if k.startswith("inference"))
    folded = next(v for k, v in inference.items() if k.startswith("folded"))["time / twin"]["median"]
    rows = [
        "| DeepLabV3 S, measured in one run | compared with | time ratio, median |",
        "|---|---|---|",
        f"| weights of all layers, forward + backward | Orthogonium's layers | {weights:.2f} |",
        f"| training step | unconstrained twin | {step:.2f} |",
        f"| inference, folded | unconstrained twin | {folded:.2f} |",
    ]
    return "\n".join([*rows, "", source(record)])


def tried() -> str:
    """Tabulate the short trainings."""
    record = load("tried-camvid")
    rows = [
        "| changed | pixel accuracy | certified at 0.05 | 0.1 | 0.17 | 0.5 | Lipschitz bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in record["results"].items():
        metrics = found["metrics"]
        shown = " | ".join(percent(metrics[key]) for key in CURVE)
        rows.append(f"| {name} | {shown} | {round_up(metrics['lipschitz'], 4)} |")
    return "\n".join([*rows, "", *record["notes"], "", source(record)])


def main() -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`."""
    tables: dict[str, list[Callable[[], str]]] = {
        "README.md": [segmentation, smoothing, sandwich, layers],
        "docs/training.md": [tried],
    }
    for page, makers in tables.items():
        path = HERE.parent / page
        text = path.read_text()
        for make in makers:
            name = make.__name__
            pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
            table = make().replace("\\", r"\\")
            text, count = re.subn(pattern, rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
            if count != 1:
                raise SystemExit(f"{page} needs one block <!-- {name} --> ... <!-- /{name} -->")
        path.write_text(text)


if __name__ == "__main__":
    main()
