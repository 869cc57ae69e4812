"""Pictures of counterfactuals of regions and boxes. Matplotlib is loaded on the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from onelip.core.numbers import round_down, round_up
from onelip.explain.picture import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.explain.dense_result import BoxCounterfactual, RegionCounterfactual
    from onelip.explain.result import Counterfactual


def _change(axes: Any, found: Counterfactual, index: int) -> None:
    """What changed, and how much: red more, blue less."""
    change = (found.images[index].double() - found.x[index].double()).mean(0).cpu().numpy()
    top = max(float(abs(change).max()), 1e-12)
    drawn = axes.imshow(change, cmap="RdBu_r", vmin=-top, vmax=top)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.7)
    distance = round_up(float(found.boundary_distance[index]), 3)
    bound = "no proven bound" if found.refusal else f"proven {round_down(float(found.lower_bound[index]), 3)}"
    axes.set_title(f"change {distance}, {bound}", fontsize="small")


def _classes(axes: Any, classes: Tensor, count: int, title: str) -> None:
    axes.imshow(classes.cpu().numpy(), cmap="tab10" if count > 2 else "gray", vmin=0, vmax=max(count - 1, 1))
    axes.set_title(title, fontsize="small")


def draw_region(found: RegionCounterfactual, index: int = 0) -> Figure:
    """Image, change, counterfactual and both maps of classes of one image, the region outlined."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 3.0), layout="constrained")
    axes = figure.subplots(1, 5)
    before, after = found.predicted[index], found.to[index]
    count = 1 + int(max(before.max(), after.max()))
    axes[0].imshow(shown(found.x[index]))
    axes[0].set_title(f"{found.mode}: {int(found.region[index].sum())} pixels", fontsize="small")
    _classes(axes[1], before, count, "classes before")
    _change(axes[2], found, index)
    axes[3].imshow(shown(found.images[index]))
    axes[3].set_title(f"counterfactual (overshoot {found.overshoot:g})", fontsize="small")
    _classes(axes[4], after, count, f"classes after, {int(found.elsewhere[index])} others changed")
    outline = found.region[index].float().cpu().numpy()
    for ax in axes:
        if outline.min() < outline.max():
            ax.contour(outline, levels=[0.5], colors="orange", linewidths=0.8)
        ax.set_axis_off()
    return figure


def draw_box(found: BoxCounterfactual, index: int = 0) -> Figure:
    """Image, change and counterfactual of one image, with the box (dashed) and all detections."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(8.5, 3.2), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(shown(found.x[index]))
    axes[0].set_title(found.story(index), fontsize="small")
    _change(axes[1], found, index)
    axes[2].imshow(shown(found.images[index]))
    axes[2].set_title(f"counterfactual (overshoot {found.overshoot:g})", fontsize="small")

    def outline(ax: Any, corners: Any, **style: Any) -> None:
        x1, y1, x2, y2 = (float(v) for v in corners)
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, linewidth=1.0, **style))

    for ax, detections in ((axes[0], found.before[index]), (axes[2], found.after[index])):
        for corners, score, label in zip(
            *(detections[n] for n in ("boxes", "scores", "labels")), strict=True
        ):
            outline(ax, corners, edgecolor="lime")
            ax.text(
                float(corners[0]), float(corners[1]) - 2, f"{int(label)}: {float(score):.2f}", color="lime"
            )
    for ax in axes:
        outline(ax, found.boxes[index], edgecolor="orange", linestyle="--")
        ax.set_axis_off()
    return figure


__all__ = ["draw_box", "draw_region"]
