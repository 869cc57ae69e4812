"""False objects: where a detector should see something though nothing is there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from onelip.attacks.boxes.heads import Heads, iou
from onelip.attacks.boxes.objects import Objects
from onelip.core import checks
from onelip.core.errors import InputError, explain

APART = 0.1
"""Largest IoU of a false object with any object, and with the false ones drawn before it."""
SIDES = (1 / 16, 1 / 3)
"""Sides of false objects over the shorter side of the image, where no sizes are given: their geometric mean."""
_TRIES = 200
_SMALLER_EVERY = 40


def streams(heads: Heads, seed: int) -> list[torch.Generator]:
    """One generator an image, from the seed and the content of the image (8 bits a value) alone.

    So the draws are the same for every model, size of the ball, batch and order of the images.
    """
    if heads.images is None:
        raise InputError(
            explain("the images behind these outputs are not known", fix="ask the goal for them")
        )
    pictures = (heads.images.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return [_stream(picture, seed) for picture in pictures]


def _stream(picture: Tensor, seed: int) -> torch.Generator:
    text = f"{seed} {tuple(picture.shape)} ".encode() + picture.contiguous().numpy().tobytes()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


def check_sizes(goal: str, sizes: Any) -> None:
    """Raise unless sizes are None or (M, 2) widths and heights in pixels."""
    if sizes is None:
        return
    good = isinstance(sizes, Tensor) and sizes.dim() == 2 and sizes.shape[1] == 2 and len(sizes) > 0
    if not good or not bool((sizes.isfinite() & (sizes > 0)).all()):
        raise InputError(
            explain(
                f"{goal}: `sizes` are not usable",
                received=tuple(sizes.shape) if isinstance(sizes, Tensor) else type(sizes).__name__,
                expected="a tensor (M, 2) of widths and heights in pixels, > 0, as those of the training boxes",
            )
        )


def check_count(goal: str, count: Any) -> None:
    """Raise unless a count is two integers 1 <= low <= high."""
    good = isinstance(count, Sequence) and len(count) == 2
    if not good or checks.positive_int("count[0]", count[0]) > checks.positive_int("count[1]", count[1]):
        raise InputError(
            explain(
                f"{goal}: `count` is not usable",
                received=repr(count),
                expected="(low, high), 1 <= low <= high",
            )
        )


def false_objects(
    heads: Heads, state: Objects, *, count: Sequence[int], sizes: Tensor | None, seed: int
) -> list[dict[str, Tensor]]:
    """Random boxes and labels for each image, away from its objects and from each other.

    The centre is uniform where the box fits into the image, the class uniform. Where no room is found, smaller and
    smaller boxes are tried, and in the end an image gets fewer.

    Args:
        heads: of the clean images: their content, size, and number of classes.
        state: the objects.
        count: least and largest number of boxes in an image.
        sizes: (M, 2) widths and heights from which one is drawn for each box; None: any between 1/16 and 1/3 of the
            shorter side of the image, of aspect ratio 1/2 to 2.
        seed: with the content of an image it decides all.

    Returns:
        For each image boxes (F, 4) float64 and labels (F,).
    """
    found = []
    for b, draw in enumerate(streams(heads, seed)):
        taken = state.boxes[b][state.real[b]].cpu()
        boxes = _boxes(draw, taken, heads.layout.size, count, sizes)
        labels = torch.randint(heads.classes, (len(boxes),), generator=draw)
        found.append({"boxes": boxes.to(state.boxes), "labels": labels.to(state.labels)})
    return found


def _boxes(
    draw: torch.Generator, taken: Tensor, size: tuple[int, int], count: Sequence[int], sizes: Tensor | None
) -> Tensor:
    number = int(torch.randint(count[0], count[1] + 1, (), generator=draw))
    boxes = torch.empty(0, 4, dtype=torch.float64)
    for _ in range(number):
        for attempt in range(_TRIES):
            box = _box(draw, size, sizes, 0.5 ** (attempt // _SMALLER_EVERY))
            if bool((iou(box, torch.cat([taken, boxes])) < APART).all()):
                boxes = torch.cat([boxes, box[None]])
                break
    return boxes


def _box(draw: torch.Generator, size: tuple[int, int], sizes: Tensor | None, scale: float) -> Tensor:
    edge = torch.tensor([size[1], size[0]], dtype=torch.float64)
    if sizes is None:
        low, high = (math.log(side) for side in SIDES)
        u = torch.rand(2, generator=draw, dtype=torch.float64)
        side = float(edge.min()) * (low + (high - low) * u[0]).exp()
        stretch = 2.0 ** (u[1] - 0.5)
        sides = torch.stack([side * stretch, side / stretch])
    else:
        row = int(torch.randint(len(sizes), (), generator=draw))
        sides = sizes[row].detach().cpu().double()
    sides = torch.minimum(scale * sides, edge)
    corner = torch.rand(2, generator=draw, dtype=torch.float64) * (edge - sides)
    return torch.cat([corner, corner + sides])
