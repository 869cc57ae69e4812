"""The gallery of explanations: what each model looks at, and what would have to change for another class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from onelip import explain
from onelip.explain.attributions import importance

IMAGES = Path(__file__).parent.parent / "docs" / "images"
ROWS = 6
FAR = 3.0  # how far beyond the boundary the last picture is


def draw(name: str, models: dict[str, nn.Module], x: Tensor, y: Tensor) -> None:
    """Write docs/images/explain-NAME.png: one image a row; of each model saliency, change, and the image at 3 x it."""
    import matplotlib.pyplot as plt

    chosen = [int((y == c).nonzero()[0]) for c in y.unique().tolist()][:ROWS]
    images, targets = x[chosen], y[chosen]
    figure, axes = plt.subplots(
        len(chosen), 1 + 3 * len(models), figsize=(1.3 * (1 + 3 * len(models)), 1.45 * len(chosen))
    )
    for row, image in enumerate(images):
        _grey(axes[row, 0], image[0])
    axes[0, 0].set_title("image", fontsize=8)
    for place, (label, model) in enumerate(models.items()):
        _model(axes[:, 1 + 3 * place : 4 + 3 * place], label, model, images, targets)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"explain-{name}.png", dpi=110, bbox_inches="tight")
    plt.close(figure)


def _model(axes: Any, label: str, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Three columns of one model."""
    maps = importance(explain.saliency(model, x, y).abs())
    found = explain.counterfactual(model, x, overshoot=FAR, box=True)
    change = (found.boundary.double() - x.double()).mean(1)
    axes[0, 0].set_title(f"{label}\nsaliency", fontsize=8)
    axes[0, 1].set_title("change", fontsize=8)
    axes[0, 2].set_title(f"{FAR:g} x change", fontsize=8)
    for row in range(len(x)):
        axes[row, 0].imshow(maps[row], cmap="inferno")
        top = max(float(change[row].abs().max()), 1e-12)
        axes[row, 1].imshow(change[row], cmap="RdBu_r", vmin=-top, vmax=top)
        far, least = float(found.boundary_distance[row]), float(found.lower_bound[row])
        proven = "" if found.refusal else f", proven {least:.2f}"
        axes[row, 1].set_xlabel(f"{far:.2f}{proven}", fontsize=7, labelpad=1)
        _grey(axes[row, 2], found.images[row, 0])
        axes[row, 2].set_xlabel(
            f"{int(found.predicted[row])} to {int(found.to[row])}", fontsize=7, labelpad=1
        )


def _grey(axis: Any, image: Tensor) -> None:
    axis.imshow(image.clamp(0, 1), cmap="gray", vmin=0, vmax=1)
