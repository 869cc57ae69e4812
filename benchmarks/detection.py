"""Detectors against vanishing and fabrication: clean, attacked, disturbed by noise, and certified, over eps.

    onelip data runways --n 300 --size 256 --split test --out runs/runways
    python benchmarks/detection.py runways --data runs/runways --split test --sheet 2
    python benchmarks/detection.py bccd --model lipnet=runs/bccd-fcos/model --size 192x256 --classes WBC Platelets

certifies each model on the whole part, attacks it on --attacked of its images, tries the perturbations that were found
on the other models, and smooths the first model on --smoothed images. Writes results/detection-NAME.json and
docs/images/detection-NAME.png. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import common
from onelip.apps.boxes.assault import AssaultBoxes, assault_boxes
from onelip.apps.boxes.evaluate import evaluate_boxes
from onelip.apps.boxes.opened import open_boxes_run
from onelip.apps.boxes.plan import BoxPlan
from onelip.apps.boxes.transfer import transfer
from onelip.apps.common import parse_size
from onelip.apps.runs import Run
from onelip.smoothing import median_detection
from readme_boxes import named

MODELS = {"LipNet": "runway-fcos", "standard": "runway-fcos-standard"}
EPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ASKED = (0.1, 0.25, 0.5)  # certified recall with few false alarms
FINE = (0.01, 0.02, 0.05)  # certified only: average precision through boxes that move is so for small eps
# "vanish" is the best of four losses and goes on below the threshold, since average precision counts detections of any
# score; "tog" is the loss on all logits that published attacks use.
GOALS = ("vanish@0.05", "vanish:tog@0.05", "fabricate@0.9")
# mAP@50 on LARD of an FCOS, ratios LipNet / standard at eps 10, from a slide that states neither resolution nor steps.
DECK = {"vanish": 1.37, "fabricate": 3.3, "clean": 0.87}
IMAGES = Path(__file__).parent.parent / "docs" / "images"


def certified(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What is proven of one model on the whole part."""
    found = evaluate_boxes(
        BoxPlan(
            **shared(name, options),
            out=options.out / name / "certified",
            eps=tuple(sorted({*EPS, *ASKED, *FINE})),
            limit=options.limit,
            pictures=options.pictures,
            score=options.score,
        )
    )
    kept = ("lipschitz", "clean", "criteria", "rows", "objects", "best", "by_class", "silent", "capped")
    return {
        "model": options.models[name],
        "weights_sha256": found["model"]["weights_sha256"],
        "images": found["data"]["images"],
        "size": found["data"]["size"],
        "regression": found["regression"],
        "command": found["command"],
        **{key: found[key] for key in (*kept, "seconds_per_image", "seconds_forward")},
    }


def attacked(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What attacks leave of one model on some images."""
    found = assault_boxes(
        AssaultBoxes(
            **shared(name, options),
            out=options.out / name / "attacked",
            eps=EPS,
            limit=options.attacked,
            pictures=0,
            goals=GOALS,
            keep=True,
            steps=options.steps,
            score=options.score,
        )
    )
    kept = ("attacked", "goals", "attack", "largest_gain", "lipschitz", "queries", "seconds_per_image")
    return {
        "images": found["data"]["images"],
        "objects": found["objects"],
        "command": found["command"],
        **{key: found[key] for key in kept},
    }


def shared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What certificate and attack have in common."""
    return {
        "model": options.models[name],
        "data": options.data,
        "split": options.split,
        "size": parse_size(options.size),
        "classes": tuple(options.classes),
        "resume": True,
    }


def smoothed(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Median smoothing of the same model on a few images: certified objects, passes and seconds."""
    common_options = shared(name, options)
    classes = common_options.pop("classes")
    run = Run(**common_options, out=options.out, eps=ASKED, limit=options.smoothed)
    opened = open_boxes_run(run, threshold=options.score, classes=classes)
    found, objects, seconds, passes = torch.zeros(len(ASKED)), 0, [], 0
    ours = torch.zeros(len(ASKED))
    for index in opened.chosen:
        image, target = opened.dataset[index]
        start = time.perf_counter()
        result = median_detection(
            opened.model,
            image,
            sigma=options.sigma,
            n=options.samples,
            alpha=0.001,
            eps=ASKED,
            threshold=options.score,
            seed=0,
        )
        seconds.append(time.perf_counter() - start)
        passes = result.passes
        found += result.certified(target)[0].sum(-1).float()
        objects += len(target["labels"])
        ours += opened.certificate(index).found(ASKED)[:, 0].nan_to_num(0.0).float()
    return {
        "images": len(opened.chosen),
        "objects": objects,
        "sigma": options.sigma,
        "samples": options.samples,
        "alpha": 0.001,
        "passes": passes,
        "seconds_per_image": sorted(seconds)[len(seconds) // 2],
        "eps": list(ASKED),
        "smoothed_recall": (found / max(objects, 1)).tolist(),
        "ours_recall": (ours / max(objects, 1)).tolist(),
    }


def transferred(options: argparse.Namespace) -> dict[str, Any]:
    """mAP@50 of each model (second name) under the perturbations found on each other one (first name)."""
    found: dict[str, Any] = {}
    for source in options.models:
        for name in options.models:
            if name == source:
                continue
            rows = transfer(options.out / source / "attacked", options.models[name])["rows"]
            kept = [r for r in rows if r["criterion"] == "map50"]
            found.setdefault(source, {})[name] = {
                goal: {f"{r['eps']:g}": r["transferred"] for r in kept if r["goal"] == goal} for goal in GOALS
            }
    return found


def curve(found: dict[str, Any], goal: str, criterion: str, what: str) -> list[float | None]:
    """Values over EPS of one goal and criterion."""
    rows = {r["eps"]: r[what] for r in found["attacked"] if (r["goal"], r["criterion"]) == (goal, criterion)}
    return [rows.get(eps) for eps in EPS]


def ratios(models: dict[str, Any]) -> dict[str, Any]:
    """mAP@50 of the first model over that of the second at the largest eps, beside the published ratios."""
    if len(models) < 2:
        return {}
    first, second = list(models.values())[:2]
    found: dict[str, Any] = {}
    for goal in GOALS:
        mine, other = (curve(one["attacked"], goal, "map50", "attacked")[-1] for one in (first, second))
        found[goal] = {"LipNet": mine, "standard": other, "ratio": mine / other if mine and other else None}
    return {"eps": EPS[-1], "measured": found, "published": DECK}


def draw(models: dict[str, Any], options: argparse.Namespace) -> None:
    """One panel a goal: mAP@50 over eps, attacked, under noise, and what is proven."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(GOALS), figsize=(4.2 * len(GOALS), 3.4), sharey=True)
    for axis, goal in zip(axes, GOALS, strict=True):
        for (name, found), colour in zip(models.items(), ("#0072b2", "#d55e00", "#009e73"), strict=False):
            for what, style, width in (
                ("attacked", "-o", 1.8),
                ("noise", ":", 1.2),
                ("certified", "--", 1.4),
            ):
                key = "map50"
                values = curve(found["attacked"], goal, key, what)
                if what == "certified" and values[0] is None:
                    key = "recall_located"
                    values = curve(found["attacked"], goal, key, what)
                if values[0] is None or (what == "certified" and not max(values)):
                    continue
                label = f"{name}, {what}" + (" recall" if key != "map50" else "")
                axis.plot(EPS, values, style, color=colour, linewidth=width, markersize=3, label=label)
        axis.set(xscale="log", xlabel="eps, l2 norm of the perturbation", title=named(goal))
        axis.set_ylim(-0.02, 1.02)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP@50")
    axes[-1].legend(fontsize=7)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"detection-{options.name}.png", dpi=120, bbox_inches="tight")


def draw_sheet(options: argparse.Namespace) -> None:
    """The certificate of one image by the first model, docs/images/detection-sheet.png."""
    common_options = shared(next(iter(options.models)), options)
    classes = common_options.pop("classes")
    opened = open_boxes_run(
        Run(**common_options, out=options.out, eps=ASKED), threshold=options.score, classes=classes
    )
    figure = opened.certificate(options.sheet).figure(eps=ASKED[1], names=opened.dataset.classes)
    figure.savefig(IMAGES / "detection-sheet.png", dpi=90, bbox_inches="tight")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="runways, bccd or penn_fudan")
    parser.add_argument("--data", default="", help="folder of the data, if it is not found by its name")
    parser.add_argument("--split", default="val")
    parser.add_argument("--size", default=None, help="HxW")
    parser.add_argument("--classes", nargs="*", default=[])
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=DIR", help="default: the shipped ones"
    )
    parser.add_argument("--score", type=float, default=0.5)
    parser.add_argument("--limit", type=int, default=0, help="images that are certified, 0: all")
    parser.add_argument("--attacked", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--smoothed", type=int, default=0, help="images for median smoothing")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--sigma", type=float, default=0.1)
    parser.add_argument("--sheet", type=int, default=None, help="image whose certificate is drawn")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    options.models = dict(text.split("=", 1) for text in options.model) or MODELS
    options.data = options.data or options.name
    options.out = options.out or Path("runs/benchmarks") / f"detection-{options.name}"
    return options


def main() -> None:
    """Measure, draw and write."""
    options = arguments()
    torch.manual_seed(0)
    models = {
        name: {**certified(name, options), "attacked": attacked(name, options)} for name in options.models
    }
    first = next(iter(models))
    smoothing = smoothed(first, options) if options.smoothed else {}
    draw(models, options)
    if options.sheet is not None:
        draw_sheet(options)
    size = "x".join(map(str, models[first]["size"]))
    notes = [
        f"part {options.split}, {models[first]['images']} images of {size}; eps is the l2 norm of the whole "
        "perturbation, values in [0, 1]",
        f"attack: PGD, {options.steps} steps for each eps from the best of the smaller one, on {len(GOALS)} goals; "
        f"{models[first]['attacked']['images']} images; every result checked against its certificate",
        "noise: a random direction of the same norm",
    ]
    results = {
        "eps": EPS,
        "goals": GOALS,
        "models": models,
        "ratios": ratios(models),
        "transfer": transferred(options),
        "smoothing": smoothing,
    }
    common.write(f"detection-{options.name}", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
