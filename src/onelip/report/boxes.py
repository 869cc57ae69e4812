"""Pictures of attacked detections: clean, perturbation and attacked, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from onelip.metrics import match

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUE, FALSE, LOST = "#1a9850", "#d73027", "#fdae61"
Boxes = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Scene:
    """One attack on one image.

    Attributes:
        title: of the attack.
        clean: (C, H, W) in [0, 1].
        attacked: likewise.
        norm: of their difference.
        before: detections on the clean image: boxes, scores, labels.
        after: detections on the attacked one.
        target: boxes and labels of the objects.
    """

    title: str
    clean: Tensor
    attacked: Tensor
    norm: float
    before: Boxes
    after: Boxes
    target: Boxes


def figure(scenes: Sequence[Scene], *, names: Sequence[str], iou: float = 0.5) -> Figure:
    """Draw a row for each scene: objects dashed, detections green where they are right and red where not.

    Args:
        scenes: at least one, all of one size.
        names: of the classes.
        iou: overlap from which on a detection is right.
    """
    from matplotlib.figure import Figure

    height, width = scenes[0].clean.shape[-2:]
    drawn = Figure(figsize=(10.5, len(scenes) * (3.5 * height / width + 0.35)), layout="constrained")
    for axes, scene in zip(drawn.subplots(len(scenes), 3, squeeze=False), scenes, strict=True):
        _row(axes, scene, names, iou)
    drawn.suptitle(
        "objects: dashed, orange where they are not found; detections: green where they are right, red where not",
        fontsize=8,
    )
    return drawn


def _row(axes: Any, scene: Scene, names: Sequence[str], iou: float) -> None:
    delta = scene.attacked - scene.clean
    largest = float(delta.abs().max())
    shade = 0.5 + delta / (2 * max(largest, 1e-30))
    panels = (
        (scene.clean, scene.before, f"clean: {_count(scene.before)}"),
        (shade, None, f"perturbation, norm {scene.norm:.3g}, largest value {255 * largest:.2g}/255"),
        (scene.attacked, scene.after, f"{scene.title}: {_count(scene.after)}"),
    )
    for axis, (image, boxes, title) in zip(axes, panels, strict=True):
        height, width = image.shape[-2:]
        axis.imshow(_colour(image).numpy(), vmin=0, vmax=1, cmap="gray", extent=(0, width, height, 0))
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
        if boxes is not None:
            _boxes(axis, boxes, scene.target, iou, names)


def _boxes(axis: Any, seen: Boxes, objects: Boxes, iou: float, names: Sequence[str]) -> None:
    """Objects and detections."""
    found = {key: value.cpu() for key, value in seen.items()}
    target = {key: value.cpu() for key, value in objects.items()}
    owner = match(found, target, iou=iou).tolist()
    for number, box in enumerate(target["boxes"].tolist()):
        _box(axis, box, "white" if number in owner else LOST, dashed=True)
    columns = (found[key].tolist() for key in ("boxes", "scores", "labels"))
    for box, score, label, mine in zip(*columns, owner, strict=True):
        colour = TRUE if mine >= 0 else FALSE
        _box(axis, box, colour, dashed=False)
        text = f"{names[label]} {score:.2f}" if len(names) > 1 else f"{score:.2f}"
        axis.text(box[0], box[1] - 1, text, color=colour, fontsize=6, va="bottom", clip_on=True)


def _box(axis: Any, box: Sequence[float], colour: str, *, dashed: bool) -> None:
    from matplotlib.patches import Rectangle

    x, y, right, bottom = box
    style = "--" if dashed else "-"
    axis.add_patch(
        Rectangle((x, y), right - x, bottom - y, fill=False, color=colour, linestyle=style, linewidth=1.2)
    )


def _colour(image: Tensor) -> Tensor:
    """(H, W, 3) of a (C, H, W) tensor."""
    return (image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]).permute(1, 2, 0)


def _count(found: Boxes) -> str:
    number = len(found["labels"])
    return f"{number} detection{'' if number == 1 else 's'}"
