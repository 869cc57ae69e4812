"""Explanations of LipNets and of two unconstrained twins, one with batch normalisation: all metrics, one command.

    onelip train digits-convnet --out runs/digits-convnet      # and so on: all recipes of MODELS
    python benchmarks/explain.py mnist fashion_mnist

measures, for each model, accuracy and certified accuracy on the test part, counterfactuals and their proven gap (beside
foolbox's DDN, with `--foolbox PATH`, a folder it was installed in), and the metrics of attribution maps with trivial
controls beside them, on the same images for all models. Writes results/explain-NAME.json and
docs/images/explain-NAME.png; an interrupted run goes on with the next model. For segmentation see explain_runways.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import common
import explain_gallery as gallery
import onelip
from onelip import explain
from onelip.core import files
from onelip.explain.attributions import importance

MODELS = {
    "mnist": {
        "LipNet": "digits-convnet",
        "twin": "runs/digits-convnet-twin/model",
        "BatchNorm twin": "runs/digits-convnet-twin-bn/model",
    },
    "fashion_mnist": {
        "LipNet, accurate": "runs/fashion-convnet/model",
        "LipNet, robust": "runs/fashion-convnet-robust/model",
        "twin": "runs/fashion-convnet-twin/model",
        "BatchNorm twin": "runs/fashion-convnet-twin-bn/model",
    },
}
EPS = (0.141, 0.25, 0.5, 1.0, 1.5)
METHODS = ("saliency", "smoothgrad", "integrated_gradients", "grad_cam")
BASELINES = ("zero", "uniform", "blur")
Maps = Callable[[nn.Module, Tensor, Tensor], Tensor]


def images_of(name: str, models: dict[str, nn.Module], count: int) -> tuple[Tensor, Tensor]:
    """Test images that all models classify correctly: explanations of mistakes are another question."""
    dataset = onelip.data.open_labels(name, "test")
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[: 3 * count].tolist()
    x = torch.stack([dataset[i][0] for i in order])
    y = torch.tensor([int(dataset[i][1]) for i in order])
    with torch.no_grad():
        right = torch.stack([model(x).argmax(1) == y for model in models.values()]).all(0)
    chosen = right.nonzero().flatten()[:count]
    return x[chosen], y[chosen]


def batches(name: str, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The test part, 500 images at a time."""
    dataset = onelip.data.open_labels(name, "test", limit=limit or None)
    for first in range(0, len(dataset), 500):
        items = [dataset[i] for i in range(first, min(first + 500, len(dataset)))]
        yield torch.stack([image for image, _ in items]), torch.tensor([int(label) for _, label in items])


def accuracy(name: str, model: nn.Module, limit: int) -> dict[str, Any]:
    """Accuracy and certified accuracy, by the constants of pairs and by the joint one."""
    certifier = onelip.certify.ClassificationCertifier(model)
    right, total, pairs, joint, bound = 0, 0, torch.zeros(len(EPS)), torch.zeros(len(EPS)), float("nan")
    for images, targets in batches(name, limit):
        found = certifier(images, targets)
        right += int((found.predicted == targets).sum())
        total += len(targets)
        pairs += found.accuracy(EPS).float() * len(targets)
        bound = found.lipschitz
        ordered = found.logits.sort(dim=1, descending=True).values
        half = (ordered[:, 0] - ordered[:, 1]) / (2**0.5 * bound) * (found.predicted == targets)
        joint += (half[None] > torch.tensor(EPS)[:, None]).sum(1)
    return {
        "images": total,
        "accuracy": right / total,
        "eps": EPS,
        "certified": (pairs / total).tolist(),
        "certified_joint": (joint / total).tolist(),
        "lipschitz": bound,
    }


def distances(model: nn.Module, x: Tensor, foolbox: str) -> dict[str, Any]:
    """Counterfactuals to any other class: how far, how far at least, beside DDN with 200 steps."""
    found: dict[str, Any] = {}
    for box in (False, True):
        start = time.perf_counter()
        result = explain.counterfactual(model, x, box=box)
        row: dict[str, Any] = {
            "success": float(result.crossed.double().mean()),
            "distance": float(result.distance.median()),
            "seconds": time.perf_counter() - start,
        }
        if not result.refusal:
            row["lower_bound"] = float(result.lower_bound.median())
            row["gap"] = explain.bootstrap(result.gap, statistic="median")
            row["least_gap"] = float(result.gap.min())
        if foolbox:
            row |= fooled(model, x, result, foolbox, box=box)
        found["box" if box else "free"] = row
    return found


def fooled(model: nn.Module, x: Tensor, ours: Any, folder: str, *, box: bool) -> dict[str, Any]:
    """What DDN finds on the same images; nothing it finds may be below the proven bound."""
    sys.path.append(folder)
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1) if box else (-100, 100))
    attack = foolbox.attacks.DDNAttack(steps=200)
    start = time.perf_counter()
    _, adversarial, success = attack(wrapped, x, ours.predicted, epsilons=None)
    far = (adversarial.double() - x.double()).flatten(1).norm(dim=1)
    far[~success] = torch.inf
    if not ours.refusal and bool((far < ours.lower_bound).any()):
        raise SystemExit("DDN found a flip below the proven bound")
    return {
        "ddn": float(far.median()),
        "ddn_success": float(success.double().mean()),
        "ddn_seconds": time.perf_counter() - start,
        "ours_nearer": float((ours.distance <= far).double().mean()),
    }


def methods() -> dict[str, Maps]:
    """Attribution methods, each (model, images, classes) to maps."""

    def by(method: str) -> Maps:
        return lambda model, x, y: explain.attribute(model, x, y, method=method)

    return {method: by(method) for method in METHODS}


def attributions(model: nn.Module, x: Tensor, y: Tensor, few: int) -> dict[str, Any]:
    """Metrics of all methods and controls on one model, with bootstrap intervals."""
    temperature = explain.calibrate(model, x)
    made = {name: importance(how(model, x, y).abs()) for name, how in methods().items()}
    made |= explain.controls(x)
    rows: dict[str, Any] = {}
    for name, maps in made.items():
        live = maps.flatten(1).abs().amax(1) > 0  # Grad-CAM may say nothing at all
        values = measured(model, x[live], y[live], maps[live], temperature, few) if live.any() else {}
        rows[name] = {"images": int(live.sum())} | {
            key: explain.bootstrap(v[v.isfinite()]) for key, v in values.items() if v.isfinite().any()
        }
    steady = explain.stability(model, x[:few], explain.saliency, y[:few])
    rows["saliency"] |= {
        "unsteady_l2": explain.bootstrap(steady.l2),
        "unsteady_rank": explain.bootstrap(steady.rank),
        "from_smoothgrad": explain.bootstrap(
            1 - explain.spearman(made["saliency"].flatten(1), made["smoothgrad"].flatten(1))
        ),
    }
    return {"temperature": temperature, "rows": rows}


def measured(
    model: nn.Module, x: Tensor, y: Tensor, maps: Tensor, temperature: float, few: int
) -> dict[str, Tensor]:
    """All metrics of one kind of map, (B,) each; those that cost much on the first `few` images."""
    ink = nn.functional.max_pool2d((x.amax(1, keepdim=True) > 0.1).float(), 3, 1, 1)[:, 0] > 0
    partial = ink.flatten(1).any(1) & ~ink.flatten(1).all(1)
    simple = explain.sparsity(maps)
    found = {
        "deletion": explain.deletion(model, x, maps, y, temperature=temperature),
        "insertion": explain.insertion(model, x, maps, y, temperature=temperature),
        "deletion_blur": explain.deletion(model, x, maps, y, temperature=temperature, baseline="blur"),
        "gini": simple.gini,
        "jpeg_kb": simple.jpeg_kb,
        "mass": explain.localisation(maps[partial], ink[partial]).mass,
    }
    for baseline in BASELINES:
        found[f"mu_{baseline}"] = explain.mu_fidelity(
            model, x[:few], maps[:few], y[:few], baseline=baseline, grid=7, samples=100
        )
    robust = explain.robustness_sr(model, x[:few], maps[:few], shares=(0.2, 0.5), steps=30, refine=1)
    found["robustness"] = robust.mean(1)
    return found


def measure(name: str, label: str, model: nn.Module, x: Tensor, y: Tensor, options: Any) -> dict[str, Any]:
    """Everything about one model, kept in a file so that an interruption loses one model at most."""
    kept = Path("runs/benchmarks/explain") / f"{name}-{label.replace(', ', '-').replace(' ', '-')}.json"
    weights = onelip.certify.ClassificationCertifier(model).weights_hash
    key = {"weights": weights, "images": len(x), "few": options.few, "limit": options.limit}
    if kept.is_file() and (old := files.read_json(kept))["key"] == key:
        return dict(old["found"])
    found = {
        "model": options.models[name][label],
        "weights_sha256": weights,
        **accuracy(name, model, options.limit),
        "counterfactuals": distances(model, x, options.foolbox),
        "attributions": attributions(model, x, y, options.few),
    }
    if found["counterfactuals"]["free"].get("gap"):
        report = explain.transport_report(model, x, y)
        found["transport"] = {
            "slope": float(report.slope.median()),
            "residual": float(report.residual.median()),
            "straight": float(report.straight.median()),
            "flips": {f"{k:g}": v for k, v in report.flips.items()},
        }
    files.write_json(kept, {"key": key, "found": found})
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(MODELS))
    parser.add_argument("--images", type=int, default=150, help="explained images")
    parser.add_argument("--few", type=int, default=60, help="images for metrics that cost much")
    parser.add_argument("--limit", type=int, default=0, help="test images for the accuracy, 0: all")
    parser.add_argument("--foolbox", default="", help="folder with foolbox")
    parser.add_argument("--model", action="append", default=[], metavar="SET:NAME=DIR")
    options = parser.parse_args()
    options.models = {name: dict(rows) for name, rows in MODELS.items()}
    for text in options.model:
        place, _, folder = text.partition("=")
        name, _, label = place.partition(":")
        options.models[name][label] = folder
    for name in options.names:
        models = {label: onelip.fold(onelip.load(path)) for label, path in options.models[name].items()}
        x, y = images_of(name, models, options.images)
        results = {label: measure(name, label, model, x, y, options) for label, model in models.items()}
        gallery.draw(name, models, x, y)
        notes = [
            f"{len(x)} test images that all models classify correctly, {options.few} for MuFidelity, stability and "
            "robustness; intervals: 95 %, bootstrap over images",
            "probabilities after calibration of each model to a mean confidence of .98",
        ]
        common.write(f"explain-{name}", results, seed=0, notes=notes)


if __name__ == "__main__":
    main()
