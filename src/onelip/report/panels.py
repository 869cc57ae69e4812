"""Pictures side by side: photographs, label maps, and what a prediction of one class finds and misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

FOUND, MISSED, INVENTED = (0.0, 0.62, 0.45), (0.84, 0.15, 0.16), (0.95, 0.78, 0.10)
LEGEND = (("found", FOUND), ("missed", MISSED), ("not there", INVENTED))
_SMALLEST = 64


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a row.

    Attributes:
        picture: (H, W, 3) in [0, 1], or (H, W) for a map of radii.
        text: a line below it.
        frame: (top, left, height, width) of a rectangle drawn on it.
        grey: (H, W) in [0, 1] under a map of radii.
        top: value at which the colours of a map of radii end; None: its own largest.
    """

    picture: Array
    text: str = ""
    frame: tuple[int, int, int, int] | None = None
    grey: Array | None = None
    top: float | None = None


def against(image: Array, prediction: Array, target: Array, label: int) -> Array:
    """(H, W, 3) picture of the pixels of a class over a dimmed image: found, missed, and predicted elsewhere.

    Args:
        image: (H, W, 3) in [0, 1].
        prediction: (H, W) classes.
        target: (H, W) labels.
        label: the class.

    Example:
        >>> image, classes = np.zeros((1, 2, 3)), np.array([[1, 0]])
        >>> against(image, classes, classes, 1)[0, 0].round(1).tolist()
        [0.0, 0.6, 0.4]
    """
    grey = 0.25 + 0.55 * image.mean(-1, keepdims=True).repeat(3, -1)
    there, seen = target == label, prediction == label
    for where, colour in ((there & seen, FOUND), (there & ~seen, MISSED), (seen & ~there, INVENTED)):
        grey[where] = 0.1 * image[where].mean(-1, keepdims=True) + 0.9 * np.asarray(colour)
    found: Array = grey
    return found


def window(mask: Array, *, margin: float = 0.35) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a square around the pixels of a mask, inside the picture; all of it when empty.

    Args:
        mask: (H, W) bool.
        margin: room on each side, as a share of the longer side of the box.

    Example:
        >>> mask = np.zeros((256, 256), dtype=bool)
        >>> mask[100:110, 120:140] = True
        >>> window(mask)
        (73, 98, 64, 64)
    """
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, 0, height, width
    tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    side = max(_SMALLEST, int((1 + 2 * margin) * max(tall, wide)))
    high, broad = min(side, height), min(side, width)
    top = int(np.clip((rows[0] + rows[-1] + 1 - high) // 2, 0, height - high))
    left = int(np.clip((columns[0] + columns[-1] + 1 - broad) // 2, 0, width - broad))
    return top, left, high, broad


def cut(picture: Array, frame: tuple[int, int, int, int]) -> Array:
    """The part of a picture inside a frame (top, left, height, width)."""
    top, left, height, width = frame
    return picture[top : top + height, left : left + width]


def grid(
    rows: Sequence[Sequence[Panel | None]],
    *,
    titles: Sequence[str] = (),
    names: Sequence[str] = (),
    side: float = 1.9,
    legend: bool = False,
) -> Figure:
    """A figure of rows of panels.

    Args:
        rows: panels; None leaves a place empty.
        titles: above the columns.
        names: left of the rows.
        side: width of a panel in inches.
        legend: explain the colours of `against`.

    Returns:
        The figure; `savefig` writes it.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Patch

    columns = max(len(row) for row in rows)
    shapes = [panel.picture.shape for row in rows for panel in row if panel is not None]
    tall = max(height / width for height, width, *_ in shapes)
    texts = any(panel is not None and panel.text for row in rows for panel in row)
    size = (side * columns + 0.3 * bool(names), (side * tall + 0.24 * texts) * len(rows) + 0.35)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size, layout=layout)
    axes = np.atleast_2d(figure.subplots(len(rows), columns, squeeze=False))
    for place, row in enumerate(rows):
        for axis, panel in zip(axes[place], [*row, *[None] * (columns - len(row))], strict=True):
            _draw(figure, axis, panel)
        if names:
            axes[place, 0].set_ylabel(names[place], fontsize=9)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=9)
    if legend:
        patches = [Patch(color=colour, label=text) for text, colour in LEGEND]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _draw(figure: Figure, axis: Any, panel: Panel | None) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    if panel is None:
        return
    axis.set_xlabel(panel.text, fontsize=8, labelpad=2)
    if panel.picture.ndim == 3:
        axis.imshow(np.clip(panel.picture, 0, 1), interpolation="nearest")
        _frame(axis, panel)
        return
    if panel.grey is not None:
        axis.imshow(panel.grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    known = panel.picture[np.isfinite(panel.picture)]
    top = panel.top or (float(known.max()) if known.size else 0.0) or 1.0
    shown = axis.imshow(
        np.ma.masked_invalid(panel.picture),
        cmap="viridis",
        vmin=0,
        vmax=top,
        alpha=0.8,
        interpolation="nearest",
    )
    bar = figure.colorbar(shown, ax=axis, fraction=0.046, pad=0.02)
    bar.ax.tick_params(labelsize=7)


def _frame(axis: Any, panel: Panel) -> None:
    from matplotlib.patches import Rectangle

    if panel.frame is not None:
        top, left, height, width = panel.frame
        axis.add_patch(
            Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="white", linewidth=1.2)
        )
