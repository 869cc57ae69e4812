"""A trained LipNet and its unconstrained twin on a data set: clean and certified numbers, times, the price paid.

    python benchmarks/segmentation.py camvid --lipnet runs/camvid --twin runs/camvid-twin

reads two training folders, certifies both on the validation part, and writes results/segmentation-camvid.json.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

import common
from onelip.apps.evaluate import evaluate
from onelip.apps.plan import Plan
from onelip.core import files

EPS = (0.05, 0.1, 0.17, 0.5)


def measure(training: Path, data: str, split: str, out: Path, limit: int) -> dict[str, Any]:
    """Certify one trained model and join what its training recorded."""
    results = evaluate(
        Plan(model=str(training), data=data, split=split, eps=EPS, limit=limit, out=out, resume=True)
    )
    trained = files.read_json(training / "results.json")
    rows = results["rows"]
    return {
        "pixel_accuracy": results["clean"]["pixel_accuracy_micro"],
        "pixel_accuracy_mean_over_images": results["clean"]["pixel_accuracy_macro"],
        "miou": results["clean"]["miou"],
        "bound": max(r["lipschitz"] for r in lines(out / "results.jsonl")),
        "certified_accuracy": {f"{row['eps']:g}": row["accuracy_micro"] for row in rows if row["eps"] in EPS},
        "certified_stability": {
            f"{row['eps']:g}": row["stability_micro"] for row in rows if row["eps"] in EPS
        },
        "seconds_per_image": statistics.median(r["seconds"] for r in lines(out / "results.jsonl")),
        "images": results["data"]["images"],
        "size": results["data"]["size"],
        "weights_sha256": results["model"]["weights_sha256"],
        "training": {
            key: trained[key] for key in ("seconds", "epochs", "recipe", "parameters") if key in trained
        },
    }


def lines(path: Path) -> list[dict[str, Any]]:
    """Read the records of single images; the first line says what they belong to."""
    import json

    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [r for r in records if "index" in r]


def main() -> None:
    """Measure both and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--lipnet", type=Path, required=True)
    parser.add_argument("--twin", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.manual_seed(0)
    measured = {
        name: measure(
            training, options.data, options.split, options.out / f"{options.data}-{name}", options.limit
        )
        for name, training in (("lipnet", options.lipnet), ("twin", options.twin))
    }
    gap = measured["twin"]["pixel_accuracy"] - measured["lipnet"]["pixel_accuracy"]
    notes = [
        f"{options.split} part; accuracies over all valid pixels; eps is an l2 norm in [0, 1] units of the whole image",
        "certified in float64; seconds per image are the median of forward pass and certificates",
    ]
    results = {**measured, "pixel_accuracy_gap_points": 100 * gap}
    common.write(f"segmentation-{options.data}", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
