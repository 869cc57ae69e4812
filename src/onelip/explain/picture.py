"""Pictures of counterfactuals. Matplotlib is loaded on the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from onelip.core.numbers import round_down, round_up

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.explain.result import Counterfactual


def shown(image: Tensor) -> Any:
    """(H, W, 3) picture of an image (C, H, W); the mean of its channels, in grey, unless there are three."""
    colour = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
    return colour.float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()


def draw(found: Counterfactual, index: int = 0) -> Figure:
    """Image, change and counterfactual of one image, with the distances."""
    from matplotlib.figure import Figure

    image, other = found.x[index], found.images[index]
    change = (other.double() - image.double()).mean(0).cpu().numpy()
    top = max(float(abs(change).max()), 1e-12)
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(shown(image))
    axes[0].set_title(f"predicted {int(found.predicted[index])}")
    drawn = axes[1].imshow(change, cmap="RdBu_r", vmin=-top, vmax=top)
    figure.colorbar(drawn, ax=axes[1], shrink=0.7)
    distance = round_up(float(found.boundary_distance[index]), 3)
    bound = "no proven bound" if found.refusal else f"proven {round_down(float(found.lower_bound[index]), 3)}"
    axes[1].set_title(f"boundary {distance}, {bound}", fontsize="small")
    axes[2].imshow(shown(other))
    axes[2].set_title(f"{int(found.to[index])} (overshoot {found.overshoot:g})")
    for ax in axes:
        ax.set_axis_off()
    return figure
