"""What attacks did to single images of a detector: perturbations to use again, and pictures for the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from onelip.core import errors, files
from onelip.metrics import match

if TYPE_CHECKING:
    from onelip.apps.boxes.assault import AssaultBoxes
    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.attacks import AttackResult

Record = dict[str, Any]
TRUE, FALSE, LOST = "#1a9850", "#d73027", "#fdae61"


def picture(opened: OpenedBoxes, index: int) -> Path:
    """Where the picture of an image lies."""
    name = Path(opened.dataset.ids[index]).name
    return opened.run.out / "pictures" / f"{index:05d}-{name}-attack.png"


def perturbations(out: Path, index: int) -> Path:
    """Where the perturbations of an image lie."""
    return out / "perturbations" / f"{index:05d}.npz"


def there(opened: OpenedBoxes, index: int, *, kept: bool, drawn: bool) -> bool:
    """Whether an image has all that was to be kept of it."""
    lacking = drawn and not picture(opened, index).is_file()
    return not lacking and (not kept or perturbations(opened.run.out, index).is_file())


def keep(opened: OpenedBoxes, index: int, found: Mapping[str, AttackResult]) -> None:
    """Keep the perturbations of all goals and eps, (E, C, H, W), in 16 bits: the largest value and shares of it."""
    arrays: dict[str, Any] = {}
    for number, result in enumerate(found.values()):
        delta = (result.images - result.clean)[:, 0].cpu()
        scale = delta.abs().amax((1, 2, 3)).clamp_min(1e-30)
        arrays[f"{number}/scale"] = scale.numpy()
        arrays[f"{number}/delta"] = (delta / scale[:, None, None, None]).half().numpy()
    buffer, save = io.BytesIO(), cast("Any", np.savez_compressed)
    save(buffer, **arrays)
    target = perturbations(opened.run.out, index)
    target.parent.mkdir(parents=True, exist_ok=True)
    files.atomic_write(target, buffer.getvalue())


def read(out: Path, index: int, number: int) -> Tensor:
    """(E, C, H, W) float64 perturbations of an image for the goal of this number; rounding may leave the ball.

    Raises:
        DataError: they were not kept.
    """
    path = perturbations(out, index)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            scale, delta = (
                torch.from_numpy(arrays[f"{number}/{name}"]).double() for name in ("scale", "delta")
            )
    except (OSError, KeyError, ValueError) as error:
        raise errors.DataError(
            errors.explain(
                f"{path} holds no perturbations",
                received=str(error) or type(error).__name__,
                fix="attack with --keep",
            )
        ) from error
    return delta * scale[:, None, None, None]


def draw(opened: OpenedBoxes, index: int, found: Mapping[str, AttackResult]) -> None:
    """Draw one image: for each goal clean, perturbation and attacked, at the largest eps."""
    from matplotlib.figure import Figure

    run: Any = opened.run
    height, width = next(iter(found.values())).clean.shape[-2:]
    figure = Figure(figsize=(10.5, len(found) * (3.5 * height / width + 0.35)), layout="constrained")
    axes = figure.subplots(len(found), 3, squeeze=False)
    for row, (name, result) in zip(axes, found.items(), strict=True):
        _row(row, name, result, run, opened.dataset.classes)
    figure.suptitle(
        "objects: dashed, orange where they are not found; detections: green where they are right, red where not",
        fontsize=8,
    )
    target = picture(opened, index)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, bbox_inches="tight", pad_inches=0.05)


def _row(axes: Any, name: str, result: AttackResult, run: AssaultBoxes, names: tuple[str, ...]) -> None:
    clean, attacked = result.clean[0].cpu(), result.images[-1, 0].cpu()
    before = result.clean_outputs.detections(run.score)[0]
    after = result.detections(run.score)[-1][0]
    target = result.target[0]
    delta = attacked - clean
    largest = float(delta.abs().max())
    shade = 0.5 + delta / (2 * max(largest, 1e-30))
    norm = float(result.norms[-1, 0])
    panels = (
        (clean, before, f"clean: {_count(before)}"),
        (shade, None, f"perturbation, norm {norm:.3g}, largest value {255 * largest:.2g}/255"),
        (attacked, after, f"{name}, eps {run.asked[-1]:g}: {_count(after)}"),
    )
    for axis, (image, boxes, title) in zip(axes, panels, strict=True):
        height, width = image.shape[-2:]
        axis.imshow(_colour(image).numpy(), vmin=0, vmax=1, cmap="gray", extent=(0, width, height, 0))
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
        axis.set_xlim(0, width)
        axis.set_ylim(height, 0)
        if boxes is not None:
            _boxes(axis, boxes, target, run.iou, names)


def _boxes(
    axis: Any, found: Mapping[str, Tensor], target: Mapping[str, Tensor], iou: float, names: tuple[str, ...]
) -> None:
    """Objects and detections."""
    found = {key: value.cpu() for key, value in found.items()}
    target = {key: value.cpu() for key, value in target.items()}
    owner = match(found, target, iou=iou)
    seen = set(owner.tolist())
    for number, box in enumerate(target["boxes"].tolist()):
        _box(axis, box, "white" if number in seen else LOST, dashed=True)
    for box, score, label, mine in zip(
        found["boxes"].tolist(),
        found["scores"].tolist(),
        found["labels"].tolist(),
        owner.tolist(),
        strict=True,
    ):
        colour = TRUE if mine >= 0 else FALSE
        _box(axis, box, colour, dashed=False)
        text = f"{names[label]} {score:.2f}" if len(names) > 1 else f"{score:.2f}"
        axis.text(box[0], box[1] - 1, text, color=colour, fontsize=6, va="bottom", clip_on=True)


def _box(axis: Any, box: list[float], colour: str, *, dashed: bool) -> None:
    from matplotlib.patches import Rectangle

    x, y, right, bottom = box
    style = "--" if dashed else "-"
    axis.add_patch(
        Rectangle((x, y), right - x, bottom - y, fill=False, color=colour, linestyle=style, linewidth=1.2)
    )


def _colour(image: Tensor) -> Tensor:
    """(H, W, 3) of a (C, H, W) tensor."""
    return (image.expand(3, -1, -1) if image.shape[0] == 1 else image[:3]).permute(1, 2, 0)


def _count(found: Mapping[str, Tensor]) -> str:
    number = len(found["labels"])
    return f"{number} detection{'' if number == 1 else 's'}"


def entry(opened: OpenedBoxes, record: Record) -> dict[str, str]:
    """The picture of an image with its caption."""
    run: Any = opened.run
    return {
        "file": str(picture(opened, record["index"]).relative_to(run.out)),
        "caption": f"{run.split} image {record['id']} clean and under attack, eps {run.asked[-1]:g}; the perturbation "
        f"is scaled to full contrast; detections with scores above {run.score:g}",
    }
