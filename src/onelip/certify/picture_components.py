"""Picture of the certified regions of one image. Matplotlib is loaded on the first use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onelip.certify.picture import colours
from onelip.core import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.certify.certificate import SegmentationCertificate
    from onelip.certify.components import Components


def draw(
    certificate: SegmentationCertificate,
    regions: Components,
    index: int,
    eps: float,
    *,
    palette: Sequence[Sequence[int]] | None = None,
    names: Sequence[str] | None = None,
    top: float | None = None,
) -> Figure:
    """Left the image under the radius of each region, right the regions whose radius is at least eps."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    eps = checks.number("eps", eps, low=0.0)
    table = colours(certificate.logits.shape[1], palette)
    grey = certificate.images[index].mean(0).cpu().numpy()
    labels = regions.labels[index].cpu().numpy()
    radius = np.concatenate([[np.nan], regions.radius[index].cpu().numpy()])
    classes = np.concatenate([[0], regions.classes[index].cpu().numpy()])
    finite = radius[np.isfinite(radius)]
    limit = top or (float(finite.max()) if finite.size else 0.0) or 1.0

    height, width = grey.shape
    figure = Figure(figsize=(9.5, 4.2 * height / width + 0.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(grey, cmap="gray", vmin=0, vmax=1)
    shown = left.imshow(
        np.ma.masked_invalid(radius[labels]),
        cmap="viridis",
        vmin=0.0,
        vmax=limit,
        alpha=0.8,
        interpolation="nearest",
    )
    left.set_title(f"budget to flip {regions.flipped:.0%} of each region", fontsize=9)
    bar = figure.colorbar(shown, ax=left, fraction=0.04, pad=0.02, shrink=0.85)
    bar.set_label(f"eps (l{certificate.p:g})", fontsize=7)
    bar.ax.tick_params(labelsize=7)

    certified = radius >= eps  # nan, outside of all regions, is not
    picture = np.where(certified[labels][..., None], table[classes[labels]], 1.0)
    right.imshow(picture, interpolation="nearest")
    right.set_title(
        f"{int(certified.sum())} of {len(radius) - 1} regions certified at eps {eps:g}", fontsize=9
    )
    for axis in (left, right):
        axis.set_xticks([])
        axis.set_yticks([])
    kept = sorted(set(classes[certified].tolist()))
    if kept:
        patches = [Patch(color=table[k], label=names[k] if names else str(k)) for k in kept]
        right.legend(
            handles=patches,
            title="class",
            fontsize=7,
            title_fontsize=7,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
        )
    return figure
