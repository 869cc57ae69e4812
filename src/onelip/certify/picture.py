"""Pictures of a certificate. Matplotlib is loaded on the first use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.certify.certificate import SegmentationCertificate

_VOID_COLOUR = (0.0, 0.0, 0.0)


def colours(classes: int, palette: Sequence[Sequence[int]] | None = None) -> np.ndarray[Any, Any]:
    """(classes, 3) RGB in [0, 1]: the palette of the data set, or well separated colours."""
    if palette is not None and len(palette) >= classes:
        return np.asarray(palette, dtype=float)[:classes] / 255.0
    from matplotlib import colormaps

    table = np.concatenate([colormaps[name].colors for name in ("tab10", "tab20b", "Set3")])  # type: ignore[attr-defined]
    return table[np.arange(classes) % len(table), :3]


def paint(
    labels: torch.Tensor, table: np.ndarray[Any, Any], void: torch.Tensor | None = None
) -> np.ndarray[Any, Any]:
    """(H, W, 3) picture of a label map; void pixels are black."""
    indices = labels.cpu().numpy()
    picture: np.ndarray[Any, Any] = table[np.clip(indices, 0, len(table) - 1)]
    if void is not None:
        picture[void.cpu().numpy()] = _VOID_COLOUR
    return picture


def draw(
    certificate: SegmentationCertificate,
    index: int = 0,
    *,
    palette: Sequence[Sequence[int]] | None = None,
    top: float | None = None,
) -> Figure:
    """Image, truth (when known), prediction, and the radius map over the image with its colour bar."""
    from matplotlib.figure import Figure

    image = certificate.images[index].permute(1, 2, 0).cpu().numpy()
    grey = image.mean(-1)
    image = np.repeat(grey[..., None], 3, -1) if image.shape[-1] != 3 else image
    table = colours(certificate.logits.shape[1], palette)
    panels: list[tuple[str, np.ndarray[Any, Any]]] = [("image", image)]
    void = None
    if certificate.target is not None:
        target = certificate.target[index]
        void = target == certificate.ignore_index
        panels.append(("truth (void black)" if bool(void.any()) else "truth", paint(target, table, void)))
    panels.append(("prediction", paint(certificate.prediction[index], table)))

    height, width = grey.shape
    figure = Figure(
        figsize=(3.0 * (len(panels) + 1) + 0.5, 3.0 * height / width + 0.45), layout="constrained"
    )
    axes = np.atleast_1d(figure.subplots(1, len(panels) + 1))
    for axis, (title, picture) in zip(axes[:-1], panels, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    _radius_panel(figure, axes[-1], certificate, index, grey, top)
    for axis in axes:
        axis.set_axis_off()
    return figure


def _radius_panel(
    figure: Figure,
    axis: Any,
    certificate: SegmentationCertificate,
    index: int,
    grey: np.ndarray[Any, Any],
    top: float | None,
) -> None:
    radius = certificate.radius_map[index].cpu().numpy()
    known = radius[np.isfinite(radius)]
    limit = top or (float(np.quantile(known, 0.99)) if known.size else 0.0) or 1.0
    axis.imshow(grey, cmap="gray", vmin=0, vmax=1)
    shown = axis.imshow(np.ma.masked_invalid(radius), cmap="viridis", vmin=0.0, vmax=limit, alpha=0.8)
    axis.set_title("certified radius", fontsize=9)
    bar = figure.colorbar(shown, ax=axis, fraction=0.04, pad=0.02)
    wrong = "; 0 where wrong" if certificate.target is not None else ""
    bar.set_label(f"eps (l{certificate.p:g}){wrong}", fontsize=7)
    bar.ax.tick_params(labelsize=7)
