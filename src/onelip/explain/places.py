"""Is what a map calls important where it should be: against masks, and in blocks that carry no information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from onelip.core import checks
from onelip.core.errors import InputError, explain
from onelip.core.runtime import generator
from onelip.explain.attributions import importance, pixels, ranks, region

SHARES = (0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@dataclass(frozen=True, eq=False)
class Localisation:
    """Agreement of maps with masks; higher is better.

    Attributes:
        pointing: (B,) share of the largest pixels of the map (more than one if tied) that lie inside.
        mass: (B,) share of the absolute map that lies inside; nan for a map of zeros.
        auc: (B,) probability that a pixel inside is ranked above one outside, ties counting half.
        iou: (B,) intersection over union of the mask and the top share of the pixels.
    """

    pointing: Tensor
    mass: Tensor
    auc: Tensor
    iou: Tensor


def localisation(maps: Tensor, mask: Tensor, *, share: float = 0.1) -> Localisation:
    """Compare maps with masks of the object.

    Args:
        maps: (B, H, W), or (B, C, H, W), of which the largest absolute value over channels is taken. Absolute values
            are compared.
        mask: (B, H, W) or (H, W), bool or 0 and 1; pixels inside and outside in every image.
        share: of the pixels, for `iou`.

    Raises:
        InputError: maps and masks that do not fit.

    Example:
        >>> maps = torch.tensor([[[4.0, 1.0], [2.0, 1.0]]])
        >>> found = localisation(maps, torch.tensor([[1, 0], [0, 0]]), share=0.25)
        >>> [value.item() for value in (found.pointing, found.mass, found.auc, found.iou)]
        [1.0, 0.5, 1.0, 1.0]
    """
    values = pixels(importance(maps) if isinstance(maps, Tensor) and maps.dim() == 4 else maps).abs()
    inside = region(mask, values).flatten(1)
    flat = values.flatten(1)
    top = checks.number("share", share, low=0.0, high=1.0)
    largest = flat == flat.amax(1, keepdim=True)
    order = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    chosen = order < max(1, round(top * flat.shape[1]))
    n = inside.sum(1).double()
    rest = flat.shape[1] - n
    wins = (ranks(flat) * inside).sum(1) - n * (n + 1) / 2
    return Localisation(
        pointing=(largest & inside).sum(1) / largest.sum(1).double(),
        mass=(flat * inside).sum(1) / flat.sum(1),
        auc=wins / (n * rest),
        iou=(chosen & inside).sum(1) / (chosen | inside).sum(1).double(),
    )


def block_images(x: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Stack each image with a block that is the same for all and tells nothing: above or below it, at random.

    The null block is a frame with its two diagonals, of the largest value of the images. A model trained on such
    images has no reason to look at it, and a faithful map none to show it.

    Args:
        x: (B, C, H, W) in [0, 1].
        seed: of the places.

    Returns:
        (B, C, 2 H, W) images and (B, 2 H, W) bool, True in the null block.

    Raises:
        InputError: images that are not in [0, 1].

    Example:
        >>> images, null = block_images(torch.rand(4, 1, 28, 28))
        >>> images.shape, null.sum((1, 2)).tolist()
        (torch.Size([4, 1, 56, 28]), [784, 784, 784, 784])

    Source: Shah et al., Do input gradients highlight discriminative features?, NeurIPS 2021.
    """
    checks.images(x, "x")
    batch, channels, height, width = x.shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    a, b = rows * max(width - 1, 1), columns * max(height - 1, 1)
    near = max(height, width) // 2
    frame = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    cross = ((a - b).abs() <= near) | ((a + b - (width - 1) * (height - 1)).abs() <= near)
    block = (frame | cross).to(x) * float(x.max())
    block = block.expand(batch, channels, height, width)
    above = torch.rand(batch, generator=generator(seed)) < 0.5
    above = above.to(x.device).reshape(-1, 1, 1, 1)
    stacked = torch.where(above, torch.cat([block, x], 2), torch.cat([x, block], 2))
    lower = torch.arange(2 * height, device=x.device)[None, :, None] >= height
    null = lower ^ above[:, 0]
    return stacked, null.expand(batch, 2 * height, width).clone()


def null_share(maps: Tensor, null: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """(B, shares) share of the most important pixels that lie in the null block; 0.5 for random maps, lower is better.

    Args:
        maps: as for `localisation`.
        null: (B, H, W) of `block_images`.
        shares: of the pixels, each in (0, 1].

    Raises:
        InputError: maps, masks or shares that do not fit.

    Example:
        >>> maps = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]])
        >>> null_share(maps, torch.tensor([[0, 1], [1, 0]]), shares=(0.25, 0.5)).tolist()
        [[0.0, 0.5]]
    """
    values = pixels(importance(maps) if isinstance(maps, Tensor) and maps.dim() == 4 else maps).abs()
    inside = region(null, values).flatten(1)
    if not shares or not all(0 < checks.number("shares", share) <= 1 for share in shares):
        raise InputError(explain("`shares` is not usable", received=shares, expected="numbers in (0, 1]"))
    order = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    sorted_in = inside.gather(1, order).double()
    counts = [max(1, round(share * order.shape[1])) for share in shares]
    return torch.stack([sorted_in[:, :count].mean(1) for count in counts], 1)
