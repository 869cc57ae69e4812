"""Picture of the certificate of one image. Matplotlib is loaded on the first use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from onelip.certify.boxes.geometry import reach
from onelip.core.numbers import round_down

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from onelip.certify.boxes.certificate import DetectionCertificate
    from onelip.certify.boxes.scene import Scene

KEPT, LOST, FOUND = "#1a9850", "#d73027", "#fdae61"


def draw(
    certificate: DetectionCertificate,
    index: int,
    eps: float | None,
    *,
    names: Sequence[str] | None = None,
    top: float | None = None,
    iou: float = 0.5,
) -> Figure:
    """Objects with radii, support heat map, and detections with their worst boxes at eps."""
    from matplotlib.figure import Figure

    height, width = certificate.size
    picture = _image(certificate, index)
    eps = _usual(certificate, index) if eps is None else eps
    figure = Figure(figsize=(12.0, 4.0 * height / width + 0.7), layout="constrained")
    first, second, third = figure.subplots(1, 3)
    for axis in (first, second, third):
        shown = picture.mean(-1) if axis is second else picture
        axis.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        axis.set_axis_off()
    _radii(first, certificate, index, eps, names, iou)
    _support(figure, second, certificate, index, top, iou)
    _worst(third, certificate, index, eps)
    figure.suptitle(_title(certificate, index), fontsize=9)
    for axis in (first, second, third):
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
    return figure


def _title(certificate: DetectionCertificate, index: int) -> str:
    silent = round_down(float(certificate.silent_radius[index]), 3)
    title = f"no location newly fires below eps {silent} (l2)"
    if certificate.targets is None:
        return title
    return (
        f"{title}, none outside of the objects below {round_down(float(certificate.alarm_radius[index]), 3)}"
    )


def support_map(certificate: DetectionCertificate, index: int, iou: float = 0.5) -> Tensor:
    """(H, W) float64: share of the squared radius of the object that each location carries, on its cell.

    Without targets the squared margin of the firing locations, relative to their sum. Cells of several levels add up.
    """
    scene, theta = certificate.scenes[index], certificate.theta
    share = torch.zeros(len(scene.logits), dtype=torch.float64)
    margins = (scene.logits - theta).clamp_min(0).square()
    if certificate.targets is None:
        share = margins.sum(1) / margins.sum().clamp_min(1e-300)
    elif certificate.settings.kappa is None:
        for g, k in enumerate(scene.labels.tolist()):
            own = margins[:, k] * scene.contains[:, g]
            share += own / own.sum().clamp_min(1e-300)
    else:
        supports = certificate.judges(iou)[index].supports
        standing, place = supports.at(theta), supports.place
        for g in range(scene.objects):
            mine = standing.alive & (standing.owner == g)
            share.index_add_(
                0, place[mine], standing.weak[mine, 0] / standing.weak[mine, 0].sum().clamp_min(1e-300)
            )
    return _painted(scene, share)


def _painted(scene: Scene, share: Tensor) -> Tensor:
    picture = torch.zeros(scene.size, dtype=torch.float64)
    for i in share.nonzero()[:, 0].tolist():
        (x, y), half = scene.points[i].tolist(), float(scene.strides[i]) / 2
        rows = slice(max(0, round(y - half)), max(0, round(y + half)))
        columns = slice(max(0, round(x - half)), max(0, round(x + half)))
        picture[rows, columns] += share[i]
    return picture


def worst_boxes(certificate: DetectionCertificate, index: int, eps: float) -> tuple[Tensor, Tensor]:
    """For each clean detection the interval of its box at eps: the smallest and the largest one, (M, 4) each.

    The sides move by at most kappa L eps strides each, with the constant of their level. With a free regression nothing
    is known, and there is no row.
    """
    scene, settings = certificate.scenes[index], certificate.settings
    found = certificate.detections[index]
    if settings.kappa is None:
        return torch.zeros(0, 4), torch.zeros(0, 4)
    place = [
        _place(scene, certificate, box, int(k))
        for box, k in zip(found["boxes"].double(), found["labels"], strict=True)
    ]
    at = torch.tensor(place, dtype=torch.int64)
    half = settings.kappa * settings.lipschitz * (eps + settings.rounding) / scene.sums.of_box()[at].sqrt()
    heads = (scene.points[at], scene.strides[at], scene.regression[at])
    low, high = reach(*heads, half[:, None].expand(-1, 4), scene.size)
    outer = torch.cat([low[:, :2], high[:, 2:]], 1)
    inner = torch.cat([high[:, :2], low[:, 2:]], 1)
    return inner, outer


def _place(scene: Scene, certificate: DetectionCertificate, box: Tensor, k: int) -> int:
    """The location of a detection: the firing one with this very box."""
    away = (scene.decoded - box).abs().amax(1)
    return int(torch.where(scene.logits[:, k] > certificate.theta, away, torch.inf).argmin())


def _image(certificate: DetectionCertificate, index: int) -> np.ndarray[Any, Any]:
    """(H, W, 3): the image, grey unless it has three channels; white when it is not known."""
    if certificate.images is None:
        return np.ones((*certificate.size, 3))
    picture: np.ndarray[Any, Any] = certificate.images[index].permute(1, 2, 0).numpy()
    return picture if picture.shape[-1] == 3 else np.repeat(picture.mean(-1, keepdims=True), 3, -1)


def _usual(certificate: DetectionCertificate, index: int) -> float:
    """Half of the median radius of the objects, else of the silent radius."""
    radii = certificate.silent_radius if certificate.targets is None else certificate.vanish_radius[index]
    known = radii[radii.isfinite() & (radii > 0)]
    return float(known.median()) / 2 if known.numel() else 0.1


def _frame(axis: Any, box: Tensor, colour: str, *, style: str = "-", wide: float = 1.6) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box.tolist()
    axis.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=style, linewidth=wide)
    )


def _radii(
    axis: Any,
    certificate: DetectionCertificate,
    index: int,
    eps: float,
    names: Sequence[str] | None,
    iou: float,
) -> None:
    if certificate.targets is None:
        axis.set_title("image", fontsize=9)
        return
    target, radii = certificate.targets[index], certificate.vanish_radii(iou)[index]
    for box, label, radius in zip(target["boxes"], target["labels"].tolist(), radii.tolist(), strict=True):
        colour = KEPT if radius >= eps else LOST
        _frame(axis, box, colour)
        name = names[label] if names else str(label)
        shown = "not certified" if math.isnan(radius) else f"r = {round_down(radius, 3)}"
        axis.text(float(box[0]), float(box[1]) - 1, f"{name}: {shown}", fontsize=7, color="white",
                  bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0})  # fmt: skip
    kept = int((radii >= eps).sum())
    axis.set_title(f"{kept} of {len(radii)} objects certified at eps {eps:.3g}", fontsize=9)


def _support(
    figure: Figure, axis: Any, certificate: DetectionCertificate, index: int, top: float | None, iou: float
) -> None:
    shares = support_map(certificate, index, iou).numpy()
    limit = top or float(shares.max()) or 1.0
    shown = axis.imshow(
        np.ma.masked_equal(shares, 0.0),
        cmap="viridis",
        vmin=0.0,
        vmax=limit,
        alpha=0.75,
        interpolation="nearest",
    )
    axis.set_title("where the support is", fontsize=9)
    bar = figure.colorbar(shown, ax=axis, fraction=0.04, pad=0.02)
    bar.set_label("share of the squared radius", fontsize=7)
    bar.ax.tick_params(labelsize=7)


def _worst(axis: Any, certificate: DetectionCertificate, index: int, eps: float) -> None:
    for box in certificate.detections[index]["boxes"]:
        _frame(axis, box, FOUND)
    inner, outer = worst_boxes(certificate, index, eps)
    for small, large in zip(inner, outer, strict=True):
        for box in (small, large):
            _frame(axis, box, FOUND, style=":", wide=1.0)
    if certificate.settings.kappa is None:
        axis.set_title("detections (their boxes are not certified)", fontsize=9)
        return
    axis.set_title(f"detections, and their range at eps {eps:.3g}", fontsize=9)
