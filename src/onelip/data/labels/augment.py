"""Augmentation of pictures with one class: what leaves the class as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.errors import InputError, explain


@dataclass(frozen=True)
class LabelAugment:
    """Random shift, flip and noise of a picture; its label stays.

    Attributes:
        shift: Largest shift in pixels, up, down, left and right; every whole number of pixels is equally likely.
        flip: Probability of a horizontal flip; 0 by default, because a mirrored digit is none.
        fill: Value in [0, 1] of what a shift uncovers; 0 is the paper of the digits and clothes.
        noise: Standard deviation of Gaussian noise added last, not clipped: what a base model of randomized
            smoothing is trained on.

    Guarantee:
        The result is a function of the input and the generator alone, and no option shifts the random numbers of
        another one.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> augment = LabelAugment(flip=1.0)
        >>> image = torch.tensor([[[0, 255]]], dtype=torch.uint8)
        >>> augment(image, 3, torch.Generator().manual_seed(0))
        (tensor([[[1., 0.]]]), 3)
    """

    shift: int = 0
    flip: float = 0.0
    fill: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        whole = isinstance(self.shift, int) and not isinstance(self.shift, bool) and self.shift >= 0
        if not whole or not (0 <= self.flip <= 1 and 0 <= self.fill <= 1 and 0 <= self.noise < math.inf):
            raise InputError(
                explain(
                    "this augmentation is not possible",
                    received=self,
                    expected="shift a whole number >= 0, flip and fill in [0, 1], noise >= 0",
                )
            )

    def __call__(self, image: Tensor, label: int, generator: torch.Generator) -> tuple[Tensor, int]:
        """Augment one image.

        Args:
            image: uint8 (C, H, W).
            label: Its class.
            generator: Source of every random number.

        Returns:
            float32 (C, H, W) in [0, 1], beyond it by what `noise` adds, and the label.

        Raises:
            InputError: the image is no bytes (C, H, W), or smaller than the shift.
        """
        if image.dtype != torch.uint8 or image.dim() != 3 or self.shift >= min(image.shape[1:]):
            raise InputError(
                explain(
                    "this image cannot be augmented",
                    received=f"{image.dtype} {tuple(image.shape)}",
                    expected=f"uint8 (C, H, W), larger than the shift of {self.shift}",
                )
            )
        draw = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        pixels = image.float().div_(255.0)
        down, right = (min(int(d * (2 * self.shift + 1)), 2 * self.shift) - self.shift for d in draw[:2])
        pixels = _moved(pixels, down, right, self.fill)
        if draw[2] < self.flip:
            pixels = pixels.flip(-1)
        if self.noise:
            pixels = pixels + self.noise * torch.randn(pixels.shape, generator=generator)
        return pixels.contiguous(), label


def _moved(pixels: Tensor, down: int, right: int, fill: float) -> Tensor:
    """Return a picture moved by whole pixels, at its own size."""
    if not down and not right:
        return pixels
    height, width = pixels.shape[1:]
    moved = torch.full_like(pixels, fill)
    moved[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = pixels[
        :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return moved
