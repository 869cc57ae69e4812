"""A trained LipNet and its unconstrained twin on a data set: clean and certified numbers, times, the price paid.

    python benchmarks/segmentation.py camvid --lipnet runs/camvid --twin runs/camvid-twin
    python benchmarks/segmentation.py kvasir --lipnet runs/kvasir --twin runs/kvasir-twin --threshold fnr:polyp=0.95

reads two training folders, certifies both on the validation part, and writes results/segmentation-camvid.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

import common
from onelip.apps.evaluate import evaluate
from onelip.apps.plan import Plan
from onelip.core import files

EPS = (0.05, 0.1, 0.17, 0.25, 0.5, 1.0)
AVERAGES = ("micro", "macro")


def measure(training: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Certify one trained model and join what its training recorded."""
    asked = [text.rsplit("=", 1) for text in options.threshold]
    thresholds = tuple((key, float(value)) for key, value in asked)
    criteria = tuple(dict.fromkeys(("accuracy", "stability", "miou", *(key for key, _ in thresholds))))
    results = evaluate(
        Plan(
            model=str(training),
            data=options.data,
            split=options.split,
            eps=EPS,
            limit=options.limit,
            criteria=criteria,
            thresholds=thresholds,
            per_class=True,
            out=out,
            resume=True,
        )
    )
    trained = files.read_json(training / "results.json")
    images = lines(out / "results.jsonl")
    return {
        "pixel_accuracy": results["clean"]["pixel_accuracy_micro"],
        "pixel_accuracy_mean_over_images": results["clean"]["pixel_accuracy_macro"],
        "miou": results["clean"]["miou"],
        "bound": max(r["lipschitz"] for r in images),
        "certified_accuracy": by_eps(results, "accuracy", "micro"),
        "certified_stability": by_eps(results, "stability", "micro"),
        "criteria": {
            criterion["key"]: {
                **criterion,
                "certified": {average: by_eps(results, criterion["key"], average) for average in AVERAGES},
            }
            for criterion in results["criteria"]
        },
        "classes": results["classes"],
        "radii": results["radii"],
        "seconds_forward": statistics.median(r["seconds_forward"] for r in images),
        "seconds_all_criteria": statistics.median(r["seconds"] for r in images),
        "images": results["data"]["images"],
        "size": results["data"]["size"],
        "weights_sha256": results["model"]["weights_sha256"],
        "training": {
            key: trained[key] for key in ("seconds", "epochs", "recipe", "parameters") if key in trained
        },
    }


def by_eps(results: dict[str, Any], key: str, average: str) -> dict[str, float | None]:
    """Certified values of one criterion at each eps."""
    return {f"{row['eps']:g}": row.get(f"{key}_{average}") for row in results["rows"]}


def lines(path: Path) -> list[dict[str, Any]]:
    """Read the records of single images; the first line says what they belong to."""
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
    parser.add_argument("--threshold", action="append", default=[], help="as fnr:polyp=0.95, a question Q2")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    torch.manual_seed(0)
    measured = {
        name: measure(training, options.out / f"{options.data}-{name}", options)
        for name, training in (("lipnet", options.lipnet), ("twin", options.twin))
    }
    gap = measured["twin"]["pixel_accuracy"] - measured["lipnet"]["pixel_accuracy"]
    notes = [
        f"{options.split} part; accuracies over all valid pixels; eps is an l2 norm in [0, 1] units of the whole image",
        "certified in float64; seconds per image are medians, of the forward pass and of it with all criteria",
    ]
    results = {**measured, "pixel_accuracy_gap_points": 100 * gap}
    common.write(f"segmentation-{options.data}", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
