"""What segmentation networks look at when they see a runway: attribution maps against the mask of the runway.

    onelip data runways --n 300 --size 256 --split test --out runs/runways
    python benchmarks/explain_runways.py --data runs/runways

explains the mean logit of the class runway over its pixels (`RegionLogits`) by saliency and SmoothGrad, for the shipped
LipNets and their unconstrained twin (with batch normalisation), with trivial controls. A map that points at it is
no proof of understanding: networks with small fields of view cannot but do so. Writes results/explain-runways.json and
docs/images/explain-runways.png; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import common
import onelip
from onelip import explain
from onelip.apps.records import Records
from onelip.core.runtime import generator
from onelip.explain.attributions import importance

MODELS = {
    "LipNet, strongly robust": "runway-unet",
    "LipNet, slightly robust": "runway-unet-slight",
    "BatchNorm twin": "runway-unet-standard",
}
RUNWAY, LEAST = 1, 80  # pixels of a runway that is worth a question
IMAGES = Path(__file__).parent.parent / "docs" / "images"


def maps_of(model: Any, image: Tensor, samples: int) -> dict[str, Tensor]:
    """Maps (1, H, W) of the class runway, and the controls."""
    target = torch.tensor([RUNWAY])
    smooth = explain.smoothgrad(model, image, target, samples=samples, sigma=0.05).maps
    return {
        "saliency": importance(explain.saliency(model, image, target).abs()),
        "smoothgrad": importance(smooth.abs()),
        **explain.controls(image),
    }


def measured(model: Any, image: Tensor, mask: Tensor, samples: int) -> dict[str, Any]:
    """Localisation, complexity and faithfulness of each map of one image."""
    found = {}
    for name, maps in maps_of(model, image, samples).items():
        place, simple = explain.localisation(maps, mask), explain.sparsity(maps)
        values = {
            "pointing": place.pointing,
            "mass": place.mass,
            "auc": place.auc,
            "iou": place.iou,
            "gini": simple.gini,
            "deletion": explain.deletion(model, image, maps, RUNWAY, baseline="blur", temperature=1.0),
            "insertion": explain.insertion(model, image, maps, RUNWAY, baseline="blur", temperature=1.0),
        }
        found[name] = {key: float(value[0]) for key, value in values.items()}
    return found


def chosen(dataset: Any, count: int) -> list[int]:
    """Images whose runway is large enough, in an order that a seed fixes."""
    order = torch.randperm(len(dataset), generator=generator(0)).tolist()
    kept = []
    for index in order:
        if int((dataset[index][1] == RUNWAY).sum()) >= LEAST:
            kept.append(index)
        if len(kept) == count:
            break
    return kept


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--samples", type=int, default=10, help="of SmoothGrad")
    options = parser.parse_args()
    dataset = onelip.data.open(options.data, "test")
    indices = chosen(dataset, options.images)
    results: dict[str, Any] = {}
    for label, name in MODELS.items():
        model = onelip.fold(onelip.load(name))
        key = {"model": onelip.certify.fingerprint.weights_hash(model), "samples": options.samples}
        records = Records(Path("runs/benchmarks/explain-runways") / f"{name}.jsonl", key, resume=True)
        for index in indices:
            if index not in records:
                image, mask = dataset[index]
                region = explain.RegionLogits(model, mask == RUNWAY).eval()
                found = measured(region, image[None], (mask == RUNWAY)[None], options.samples)
                records.add({"index": index, "found": found})
        results[label] = {"model": name, "rows": summed(records.chosen(indices))}
    draw(dataset, indices[:4])
    notes = [
        f"{len(indices)} test images with at least {LEAST} pixels of runway; the mean logit of the runway's own pixels",
        "SmoothGrad: sigma .05; deletion and insertion towards a blurred image",
    ]
    common.write("explain-runways", results, seed=0, notes=notes)


def summed(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the images with bootstrap intervals."""
    names = records[0]["found"]
    return {
        name: {
            key: explain.bootstrap(torch.tensor([r["found"][name][key] for r in records]).double())
            for key in names[name]
        }
        for name in names
    }


def draw(dataset: Any, indices: list[int]) -> None:
    """Write docs/images/explain-runways.png: an image a row, its runway, and the saliency of each model."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(indices), 2 + len(MODELS), figsize=(2.2 * (2 + len(MODELS)), 2.3 * len(indices))
    )
    for row, index in enumerate(indices):
        image, mask = dataset[index]
        axes[row, 0].imshow(image.permute(1, 2, 0))
        axes[row, 1].imshow(mask == RUNWAY, cmap="gray")
        for place, (label, name) in enumerate(MODELS.items()):
            region = explain.RegionLogits(onelip.fold(onelip.load(name)), mask == RUNWAY).eval()
            maps = importance(explain.saliency(region, image[None], RUNWAY).abs())[0]
            axes[row, 2 + place].imshow(maps.clamp_max(float(maps.flatten().quantile(0.999))), cmap="inferno")
            axes[0, 2 + place].set_title(label, fontsize=8)
    axes[0, 0].set_title("image", fontsize=8)
    axes[0, 1].set_title("runway", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / "explain-runways.png", dpi=90, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    main()
