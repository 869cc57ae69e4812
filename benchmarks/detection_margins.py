"""What margins cost a detector: clean average precision against certified recall, one point for each training.

    python benchmarks/detection_margins.py --data runs/runways --model "margin 0.3"=runs/margin-0.3/model ...

Certified recall is the largest over the thresholds with at most one possible false alarm in an image. Writes
results/detection-margins.json and docs/images/detection-margins.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import common
from onelip.apps.boxes.evaluate import evaluate_boxes
from onelip.apps.boxes.plan import BoxPlan

EPS = (0.1, 0.25, 0.5)
IMAGES = Path(__file__).parent.parent / "docs" / "images"


def point(model: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Clean and certified values of one model."""
    found = evaluate_boxes(
        BoxPlan(
            model=model,
            data=options.data,
            split=options.split,
            out=folder,
            eps=EPS,
            limit=options.limit,
            pictures=0,
            resume=True,
        )
    )
    best = {(row["allowed"], row["eps"]): row["recall"] for row in found["best"]}
    return {
        "model": model,
        "weights_sha256": found["model"]["weights_sha256"],
        "images": found["data"]["images"],
        "regression": found["regression"],
        "map50": found["clean"]["map50"],
        "map": found["clean"]["map50_95"],
        "recall": found["clean"]["recall"],
        "certified": {str(k): [best[k, eps] for eps in EPS] for k in (0, 1)},
    }


def draw(points: dict[str, Any]) -> None:
    """One panel for each eps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(EPS), figsize=(4 * len(EPS), 3.6), sharex=True, layout="constrained")
    for k, (axis, eps) in enumerate(zip(axes, EPS, strict=True)):
        for name, found in points.items():
            x, y = found["map50"], found["certified"]["1"][k]
            axis.plot(x, y, "o" if found["regression"] == "free" else "s", label=name)
        axis.set(xlabel="clean mAP@50", title=f"eps {eps:g}")
        axis.margins(0.15)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("certified recall, at most one false alarm")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "detection-margins.png", dpi=120)


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="runways")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/detection-margins"))
    options = parser.parse_args()
    models = dict(text.split("=", 1) for text in options.model)
    points = {
        name: point(model, options.out / name.replace(" ", "-"), options) for name, model in models.items()
    }
    draw(points)
    common.write(
        "detection-margins",
        {"eps": EPS, "models": points},
        seed=0,
        notes=[
            "certified recall is the largest over the thresholds, with at most so many possible false alarms"
        ],
    )


if __name__ == "__main__":
    main()
