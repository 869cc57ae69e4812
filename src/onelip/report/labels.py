"""Pictures about single images of a classifier: saliency, counterfactuals, attacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onelip.core.numbers import round_down, round_up
from onelip.report.panels import Array, Panel, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from onelip.explain import Counterfactual

MORE, LESS = np.array((0.70, 0.09, 0.17)), np.array((0.13, 0.40, 0.67))


def colour(image: Tensor) -> Array:
    """(H, W, 3) picture in [0, 1] of an image (C, H, W); the mean of its channels unless there are three."""
    known = image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)
    found: Array = known.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    return found


def signed(values: Tensor) -> Array:
    """(H, W, 3) picture of signed values (C, H, W), their sum over channels: red above 0, blue below, white at 0.

    Example:
        >>> import torch
        >>> signed(torch.tensor([[[0.0, 2.0]]])).round(2).tolist()
        [[[1.0, 1.0, 1.0], [0.7, 0.09, 0.17]]]
    """
    flat: Array = values.detach().double().sum(0).cpu().numpy()
    top = float(np.abs(flat).max()) or 1.0
    strength = np.sqrt(np.abs(flat) / top)[..., None]  # faint values are seen too
    found: Array = 1.0 - strength * (1.0 - np.where(flat[..., None] > 0, MORE, LESS))
    return found


def explained(
    found: Counterfactual, saliency: Tensor, names: Sequence[str], index: int = 0, *, side: float = 2.1
) -> Figure:
    """Image, saliency, counterfactual and what it changes, side by side.

    Args:
        found: of a batch.
        saliency: (B, C, H, W) of the same images.
        names: of the classes.
        index: which image.
        side: width of a panel in inches.

    Returns:
        A matplotlib figure, not bound to any window.
    """
    start, end = names[int(found.predicted[index])], names[int(found.to[index])]
    distance, reached = float(found.boundary_distance[index]), bool(found.found[index])
    if not reached:
        text = "no crossing found"
    elif found.refusal:
        text = f"{round_up(distance, 3)}, none proven"
    else:
        text = f"{round_up(distance, 3)}, proven {round_down(float(found.lower_bound[index]), 3)}"
    change = found.images[index].double() - found.x[index].double()
    panels = [
        Panel(colour(found.x[index]), start),
        Panel(signed(saliency[index]), f"of {start}"),
        Panel(colour(found.images[index]), end if reached else "-"),
        Panel(signed(change), text),
    ]
    return grid([panels], titles=("image", "saliency", "counterfactual", "difference, l2"), side=side)


def attacked(panels: Sequence[tuple[str, Tensor, int]], names: Sequence[str]) -> Figure:
    """Clean image, and what attacks made of it, each above its change.

    Args:
        panels: (title, image (C, H, W), predicted class), the clean image first; at least one more.
        names: of the classes.
    """
    clean = panels[0][1].double().cpu()
    first: list[Panel | None] = [Panel(colour(image), names[label]) for _, image, label in panels]
    second: list[Panel | None] = [None]
    for _, image, _ in panels[1:]:
        change: Any = image.double().cpu() - clean
        second.append(Panel(signed(change), f"l2 {float(change.norm()):.3g}"))
    return grid([first, second], titles=[title for title, *_ in panels], side=1.35)
