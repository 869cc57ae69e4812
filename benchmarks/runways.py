"""The runway models against vanishing attacks on rendered runways: clean, attacked and certified IoU and recall.

    onelip data runways --n 300 --size 256 --split test --out runs/runways
    python benchmarks/runways.py --data runs/runways

reads the shipped models (or folders: --model standard=DIR ...), certifies them on the whole part, attacks them on
--attacked of its images (0: all), and writes results/runways.json and docs/images/runways.png. An interrupted run goes
on. Without --data the pictures are drawn on the way.

How strong the attack is, is measured on --checked images: with more steps, starts and members; by the smallest
perturbation that halves the IoU; and with the perturbations found on the other models.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
import onelip
from onelip.apps.assault import Assault, assault
from onelip.apps.evaluate import evaluate
from onelip.apps.exhibits import Exhibit
from onelip.apps.plan import Plan
from onelip.apps.runs import spread
from onelip.apps.showcase import overlap, verdict
from onelip.attacks import CriterionGoal, MinNorm
from onelip.certify import Certifier, IoU
from onelip.report.panels import Panel, against, cut, grid, window

MODELS = {
    "standard": "runway-unet-standard",
    "slightly robust": "runway-unet-slight",
    "strongly robust": "runway-unet",
}
EPS = (0.25, 0.5, 1.0, 2.0)
SHOWN = 1.0
KEYS = ("iou:runway", "recall:runway")
SHIFTS = ("far", "haze", "low-sun", "roll", "biome")
# IoU on LARD of an FCN with a vanishing attack of eps 1.0, from a slide that states neither resolution nor steps.
DECK = {
    "standard": {"clean": 0.89, "attacked": 0.26},
    "slightly robust": {"clean": 0.82, "attacked": 0.57},
    "strongly robust": {"clean": 0.79, "attacked": 0.65},
}
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "runways.png"


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Certify one model on the whole part and attack it on some of its images."""
    folder = options.out / name.replace(" ", "-")
    common_options: dict[str, Any] = {
        "model": options.models[name],
        "data": options.data,
        "eps": EPS,
        "resume": True,
        "split": "test",
    }
    certified = evaluate(
        Plan(
            **common_options,
            criteria=("accuracy", "stability", *KEYS),
            limit=options.limit,
            pictures=0,
            out=folder / "certified",
        )
    )
    attacked = attack(
        name,
        options,
        "attacked",
        limit=options.attacked or options.limit,
        pictures=options.pictures,
        strips=False,
    )
    criteria = {c["key"]: c for c in certified["criteria"]}
    return {
        "model": options.models[name],
        "weights_sha256": certified["model"]["weights_sha256"],
        "bound": certified["lipschitz"],
        "images": certified["data"]["images"],
        "size": certified["data"]["size"],
        "certified": {
            key: {
                average: {
                    "clean": criteria[key][f"clean_{average}"],
                    **{f"{row['eps']:g}": row[f"{key}_{average}"] for row in certified["rows"]},
                }
                for average in ("macro", "micro")
            }
            for key in KEYS
        },
        "attacked_images": attacked["data"]["images"],
        "attacked": attacked["attacked"],
        "attack": attacked["attack"],
        "largest_gain": attacked["largest_gain"],
        "seconds_certify": certified["seconds_per_image"],
        "seconds_attack": attacked["seconds_per_image"],
        "passes": attacked["queries"] / attacked["data"]["images"],
        "commands": [certified["command"], attacked["command"]],
    }


def shifted(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Clean and certified IoU of the data set on the held-out conditions."""
    found = {}
    for split in SHIFTS if options.shifted else ():
        results = evaluate(
            Plan(
                model=options.models[name],
                data="runways",
                split=split,
                eps=(0.25, 0.5, 1.0),
                criteria=("accuracy", "stability", *KEYS),
                limit=options.shifted,
                pictures=0,
                resume=True,
                out=options.out / name.replace(" ", "-") / split,
            )
        )
        clean = {c["key"]: c["clean_micro"] for c in results["criteria"]}
        found[split] = {
            "images": results["data"]["images"],
            "clean": clean["iou:runway"],
            **{f"{row['eps']:g}": row["iou:runway_micro"] for row in results["rows"]},
        }
    return found


def attack(name: str, options: argparse.Namespace, what: str, **changes: Any) -> dict[str, Any]:
    """Attack one model on images of the part; an interrupted run goes on."""
    table: dict[str, Any] = {
        "model": options.models[name],
        "data": options.data,
        "split": "test",
        "eps": EPS,
        "goal": "vanish:runway",
        "attack": options.attack,
        "steps": options.steps,
        "restarts": options.restarts,
        "pictures": 0,
        "resume": True,
        "out": options.out / name.replace(" ", "-") / what,
    }
    return assault(Assault(**table | changes))


def left(results: dict[str, Any], average: str) -> dict[str, float]:
    """Attacked IoU of the runway by eps."""
    rows = [r for r in results["attacked"] if (r["criterion"], r["average"]) == ("iou:runway", average)]
    return {f"{row['eps']:g}": row["attacked"] for row in rows}


def plain(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The IoU left by plain PGD, the attack that most papers report: a weaker one than that of the table."""
    results = attack(
        name, options, "plain", eps=(SHOWN,), attack="pgd", steps=20, restarts=1, limit=options.plain
    )
    shown = {"eps": SHOWN, "steps": 20, "images": results["data"]["images"]}
    return {**shown, "iou": left(results, "micro")[f"{SHOWN:g}"]}


def stronger(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The IoU left by the attack of the table and by a stronger one, on the same images."""
    harder = {"attack": "strongest", "steps": 2 * options.steps, "restarts": 2}
    kept = {
        what: left(attack(name, options, f"checked-{what}", limit=options.checked, **changes), "micro")
        for what, changes in (("table", {}), ("stronger", harder))
    }
    return {"images": options.checked, **kept, "smallest_norm": smallest(name, options)}


def smallest(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Smallest norm that halves the IoU, and whether the attacks within balls of the table missed it."""
    dataset = onelip.data.open(options.data, "test")
    model = onelip.load(options.models[name])
    certifier = Certifier(model, ignore_index=dataset.ignore_index)
    records = {r["index"]: r for r in lines(options.out / name.replace(" ", "-") / "checked-table")}
    norms, proven, missed = [], [], 0
    for index in spread(len(dataset), options.checked)[: options.smallest]:
        image, target = (t[None] for t in dataset[index])
        certificate = certifier(image, target)
        half = 0.5 * float(certificate.curve(IoU(1), [0.0]).clean[0])
        goal = CriterionGoal(IoU(1), threshold=half)
        search = MinNorm(goal, max_eps=4.0, steps=options.steps, searches=8, judge=certifier.model)
        radius = float(search(model, image, target).radius[0])
        norms.append(radius)
        proven.append(float(certificate.radius(IoU(1), half)[0]))
        values = zip(EPS, records[index]["values"]["iou:runway"]["attacked"], strict=True)
        missed += any(radius <= eps and value > half + 1e-9 for eps, value in values)
    if any(low > high for low, high in zip(proven, norms, strict=True)):
        raise SystemExit(f"{name}: an attack is inside a certified radius")
    finite = [n for n in norms if np.isfinite(n)]
    return {
        "images": len(norms),
        "median": statistics.median(finite) if finite else None,
        "median_proven": statistics.median(proven) if proven else None,
        "missed_by_the_table": missed,
    }


def lines(folder: Path) -> list[dict[str, Any]]:
    """Records of single images."""
    import json

    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return [r for r in found if "index" in r]


def exhibits(name: str, options: argparse.Namespace) -> dict[str, Exhibit]:
    """The attacked images of which a model's run kept the arrays, by file name."""
    paths = sorted((options.out / name.replace(" ", "-") / "attacked" / "pictures").glob("*.npz"))
    return {path.name: Exhibit.read(path) for path in paths}


def transferred(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Mean IoU of each model (second name) under the perturbations found on each (first name), at the largest eps."""
    found: dict[str, dict[str, float]] = {}
    models = {name: onelip.load(path) for name, path in options.models.items()}
    for source in MODELS:
        shown = list(exhibits(source, options).values())
        images = torch.stack([torch.from_numpy(e.image / 255.0 + e.delta).clamp(0, 1) for e in shown])
        images = images.permute(0, 3, 1, 2).float()
        for name, model in models.items():
            with torch.no_grad():
                predictions = torch.cat([model(one[None]).argmax(1) for one in images]).numpy()
            values = [overlap(p, e.target) for p, e in zip(predictions, shown, strict=True)]
            found.setdefault(source, {})[name] = statistics.fmean(values)
    return found


def draw(options: argparse.Namespace) -> None:
    """Rows: scenes; columns: image, truth, and for each model the prediction, clean and attacked."""
    found = [exhibits(name, options) for name in MODELS]
    names = list(found[0])
    chosen = [names[k] for k in options.scenes] if options.scenes else names[:4]
    titles = ["image", "truth"]
    for name in MODELS:
        titles += [name, f"attacked, eps {SHOWN:g}"]
    figure = grid(
        [list(_row([shown[key] for shown in found])) for key in chosen], titles=titles, side=1.55, legend=True
    )
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight", pad_inches=0.05)


def _row(shown: list[Exhibit]) -> Iterator[Panel]:
    first = shown[0]
    image, frame = first.image / 255.0, window(first.target == 1)
    near, truth = cut(image, frame), cut(first.target, frame)
    yield Panel(image, frame=frame)
    yield Panel(against(near, truth, truth, 1))
    for exhibit in shown:
        yield verdict(near, exhibit, exhibit.clean, frame)
        yield verdict(near, exhibit, exhibit.at(SHOWN), frame)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="runways", help="folder with the rendered part `test`, or runways")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=DIR", help="in place of a shipped one"
    )
    parser.add_argument("--limit", type=int, default=0, help="images of the part, 0: all")
    parser.add_argument("--attacked", type=int, default=0, help="images that are attacked, 0: all")
    parser.add_argument("--plain", type=int, default=0, help="images that plain PGD attacks, 0: all")
    parser.add_argument("--attack", default="erase")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--scenes", type=int, nargs="*", default=[], help="which of them are drawn")
    parser.add_argument("--checked", type=int, default=6, help="images of the checks of the attack, 0: none")
    parser.add_argument("--smallest", type=int, default=3, help="of them, for the smallest norm")
    parser.add_argument("--shifted", type=int, default=40, help="images of each held-out condition, 0: none")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/runways"))
    options = parser.parse_args()
    options.models = MODELS | dict(text.split("=", 1) for text in options.model)
    return options


def main() -> None:
    """Measure, draw and write."""
    options = arguments()
    torch.manual_seed(0)
    models = {
        name: measure(name, options) | {"shifted": shifted(name, options), "plain": plain(name, options)}
        for name in MODELS
    }
    strength: dict[str, Any] = {}
    if options.checked:
        strength = {name: stronger(name, options) for name in MODELS}
        strength["transfer"] = {"eps": EPS[-1], "iou": transferred(options)}
    draw(options)
    first = models["standard"]
    notes = [
        f"part test, {first['images']} images of {first['size'][0]}x{first['size'][1]}; eps is the l2 norm of "
        "the whole perturbation, values in [0, 1]",
        f"attack: {options.attack}, {options.steps} steps, {options.restarts} starts for each eps, from the best of "
        "the smaller one, on recall and on IoU; each image keeps the worst; judged in float64",
        "macro: mean of images; micro: sums over the data set, one perturbation an image",
        "deck: IoU on LARD of an FCN; its resolution, average and number of attack steps are not stated",
    ]
    results = {"eps": EPS, "models": models, "deck": {"eps": 1.0, "iou": DECK}, "strength": strength}
    common.write("runways", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
