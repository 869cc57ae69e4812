"""One class of pictures against the rest: clean, attacked and certified AUROC of each class, beside k-NN on pixels.

    python benchmarks/oneclass_images.py --data mnist --log runs/images.jsonl              # all ten classes
    python benchmarks/oneclass_images.py --data mnist --log runs/images.jsonl --classes 3  # one

Trained on all training pictures of one class; tested on the whole test set. Certified at eps over 255 (pixels in
[0, 1], l2 norm, both classes moved). The attack (projected gradients with restarts, both classes moved) is measured on
a random part of the test set, where clean >= attacked >= certified is asserted. Each (set, class, seed, settings) is
one line of the log; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import common
from onelip.data.labels import ClassificationDataset, open_labels
from onelip.oneclass import CertifiedKNN, ImageSignedDistance, certified_auroc
from onelip.oneclass.image_attack import attack_scores

EPS = (8, 16, 36, 72)
IMAGES = Path(__file__).parent.parent / "docs" / "images"
Record = dict[str, Any]


def pictures(dataset: ClassificationDataset, rows: np.ndarray) -> np.ndarray:
    """Pictures as (n, C, H, W) float64 in [0, 1]."""
    stack = np.stack([np.asarray(dataset.picture(int(i))) for i in rows])
    return np.moveaxis(stack, -1, 1).astype(np.float64) / 255


def auroc(normal: np.ndarray, anomalies: np.ndarray, lipschitz: float) -> list[float]:
    """Clean and certified at EPS."""
    return certified_auroc(normal, anomalies, [0.0, *np.array(EPS) / 255], lipschitz).round(6).tolist()


def attacked(
    detector: ImageSignedDistance, normal: np.ndarray, anomalies: np.ndarray, options: Any
) -> Record:
    """AUROC of a part, clean, attacked and certified; the order of the three is asserted."""
    sizes = np.array([0, *EPS]) / 255
    how = {"steps": options.attack_steps, "restarts": options.restarts, "seed": options.seed}
    down = attack_scores(detector, normal, sizes, up=False, **how)
    up = attack_scores(detector, anomalies, sizes, up=True, **how)
    under = [float(certified_auroc(n, a, 0.0)[0]) for n, a in zip(down, up, strict=True)]
    proven = certified_auroc(down[0], up[0], sizes, detector.lipschitz_).tolist()
    for size, found, least in zip(sizes, under, proven, strict=True):
        assert under[0] >= found >= least, (
            f"eps {size:.4f}: clean {under[0]}, attacked {found}, certified {least}"
        )
    return {
        "pictures": [len(normal), len(anomalies)],
        "clean": under[0],
        "attacked": under[1:],
        "certified": proven[1:],
    }


def measure(
    label: int, train: Any, test: Any, options: argparse.Namespace
) -> tuple[Record, ImageSignedDistance, Any]:
    """Train on one class, and measure it."""
    normal = pictures(train, np.flatnonzero(np.asarray(train.labels) == label))
    everything, truth = pictures(test, np.arange(len(test))), np.asarray(test.labels) == label
    start = time.process_time()
    detector = ImageSignedDistance(**settings(options), random_state=options.seed).fit(normal)
    seconds = time.process_time() - start
    scores = detector.score_samples(everything)
    knn = CertifiedKNN(k=5, standardize=False).fit(normal.reshape(len(normal), -1))
    rival = knn.score_samples(everything.reshape(len(everything), -1))
    random = np.random.default_rng(options.seed)
    chosen = [random.permutation(np.flatnonzero(part))[: options.attack_pictures] for part in (truth, ~truth)]
    record: Record = {
        "training pictures": len(normal),
        "test pictures": [int(truth.sum()), int((~truth).sum())],
        "SignedDistance": auroc(scores[truth], scores[~truth], detector.lipschitz_),
        "CertifiedKNN": auroc(rival[truth], rival[~truth], knn.lipschitz_),
        "attack": attacked(detector, everything[chosen[0]], everything[chosen[1]], options),
        "lipschitz": detector.lipschitz_,
        "margin": detector.margin_,
        "gradient norm": detector.gradient_norm_,
        "mean scores": [float(scores[truth].mean()), float(scores[~truth].mean())],
        "CPU seconds of the fit": round(seconds, 1),
    }
    return record, detector, (normal, everything[chosen[1]])


def settings(options: argparse.Namespace) -> Record:
    """What is learned and how."""
    names = ("steps", "batch_size", "newton_steps", "eta", "margin_rate", "lam", "prior", "lr")
    return {name: getattr(options, name) for name in names} | {
        "widths": options.widths,
        "hidden": options.hidden,
    }


def gallery(
    detector: ImageSignedDistance, normal: np.ndarray, anomalies: np.ndarray, path: Path, seed: int
) -> None:
    """Training pictures; noise that followed the score to their median; anomalies that followed it."""
    level, count = float(np.median(detector.score_samples(normal[:500]))), 10
    random = np.random.default_rng(seed)
    mixed = normal[
        random.integers(len(normal), size=(count, *normal.shape[1:])),
        *np.ogrid[tuple(map(slice, normal.shape[1:]))],
    ]
    noise = random.random((count, *normal.shape[1:]))
    rows = {"normal": normal[:count]}
    for name, start in (("noise", noise), ("shuffled pixels", mixed), ("anomalies", anomalies[:count])):
        rows |= {name: start, f"{name},\nfollowed": detector.follow(start, level=level)}
    figure = Figure(figsize=(count * 0.95 + 1, len(rows) * 1.0), layout="constrained")
    axes = figure.subplots(len(rows), count)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        scores = detector.score_samples(images)
        for axis, image, score in zip(line, images, scores, strict=True):
            axis.imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            axis.set_title(f"{score:.2f}", fontsize=7, pad=2)
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def read(path: Path) -> dict[str, Record]:
    """Records by what makes them the same; a line cut off by an interruption is measured again."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[json.dumps(record["key"], sort_keys=True)] = record
    return found


def summary(records: list[Record]) -> Record:
    """Means over the classes that were measured."""
    names = ["clean", *(f"certified at {e}/255" for e in EPS)]
    means = {
        method: dict(zip(names, np.mean([r[method] for r in records], axis=0).round(4).tolist(), strict=True))
        for method in ("SignedDistance", "CertifiedKNN")
    }
    return {"classes measured": len(records), "means": means, "by class": records}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", choices=("mnist", "fashion_mnist", "cifar10"))
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--classes", type=int, nargs="*")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--newton-steps", type=int, default=8)
    parser.add_argument("--eta", type=float, default=8.0)
    parser.add_argument("--margin-rate", type=float, default=0.02)
    parser.add_argument("--lam", type=float, default=10.0)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--prior", default="uniform", choices=("uniform", "pixels", "both"))
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--hidden", type=int, nargs="*", default=[64])
    parser.add_argument("--attack-steps", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--attack-pictures", type=int, default=100, help="of each kind")
    parser.add_argument("--gallery", action="store_true", help="write docs/images/oneclass-DATA-CLASS.png")
    options = parser.parse_args()
    train, test = (open_labels(options.data, split) for split in ("trainval", "test"))
    log, wanted = read(options.log), []
    attack = {name: getattr(options, name) for name in ("attack_steps", "restarts", "attack_pictures")}
    for label in range(len(train.classes)) if options.classes is None else options.classes:
        key = {"data": options.data, "class": label, "seed": options.seed, **settings(options), **attack}
        name = json.dumps(key, sort_keys=True)
        if name not in log or options.gallery:
            record, detector, shown = measure(label, train, test, options)
            log[name] = {"key": key, "name": train.classes[label], **record}
            options.log.parent.mkdir(parents=True, exist_ok=True)
            with options.log.open("a") as file:
                file.write("\n" * bool(options.log.stat().st_size) + json.dumps(log[name]))
            if options.gallery:
                gallery(detector, *shown, IMAGES / f"oneclass-{options.data}-{label}.png", options.seed)
        wanted.append(log[name])
        print(
            options.data,
            label,
            {k: wanted[-1][k] for k in ("SignedDistance", "CertifiedKNN", "attack")},
            flush=True,
        )
    notes = [__doc__ or "", "lists: clean, then certified at 8, 16, 36, 72 over 255"]
    common.write(f"oneclass_images_{options.data}", summary(wanted), seed=options.seed, notes=notes)


if __name__ == "__main__":
    main()
