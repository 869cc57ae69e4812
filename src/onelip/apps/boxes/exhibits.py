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

if TYPE_CHECKING:
    from onelip.apps.boxes.opened import OpenedBoxes
    from onelip.attacks import AttackResult

Record = dict[str, Any]


def picture(opened: OpenedBoxes, index: int) -> Path:
    """Where the picture of an image lies."""
    name = Path(opened.dataset.ids[index]).stem
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
    from onelip.report.boxes import Scene, figure

    run: Any = opened.run
    scenes = [
        Scene(
            title=f"{name}, eps {run.asked[-1]:g}",
            clean=result.clean[0].cpu(),
            attacked=result.images[-1, 0].cpu(),
            norm=float(result.norms[-1, 0]),
            before=result.clean_outputs.detections(run.score)[0],
            after=result.detections(run.score)[-1][0],
            target=result.target[0],
        )
        for name, result in found.items()
    ]
    target = picture(opened, index)
    target.parent.mkdir(parents=True, exist_ok=True)
    drawn = figure(scenes, names=opened.dataset.classes, iou=run.iou)
    drawn.savefig(target, dpi=110, bbox_inches="tight", pad_inches=0.05)


def entry(opened: OpenedBoxes, record: Record) -> dict[str, str]:
    """The picture of an image with its caption."""
    run: Any = opened.run
    return {
        "file": str(picture(opened, record["index"]).relative_to(run.out)),
        "caption": f"{run.split} image {record['id']} clean and under attack, eps {run.asked[-1]:g}; the perturbation "
        f"is scaled to full contrast; detections with scores above {run.score:g}",
    }
