"""Joint augmentation of image and boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ...core.errors import InputError, explain
from .. import cropping
from .dataset import Target, target
from .files import THINNEST


@dataclass(frozen=True)
class BoxAugment:
    """Random scale, crop, flip and colour; the same for an image and its boxes.

    Attributes:
        crop: (h, w) of the result, or None to keep the size.
        scale: Smallest and largest zoom; (1, 1) for none. Used with `crop` only.
        flip: Probability of a horizontal flip.
        jitter: Largest relative change of brightness, contrast and saturation.
        focus: Probability that the crop is placed so that it holds an object, if that is not larger than the crop
            (else its centre): the object's class is drawn from those in the image, each equally likely, then the
            object. Otherwise anywhere.
        visible: Objects of which the crop shows less than this share of the area are dropped; of the others the box of
            the part inside remains.
        noise: Standard deviation of Gaussian noise added last, not clipped: what a base model of randomized
            smoothing is trained on.

    Guarantee:
        The boxes of the result are the pictures of the boxes of the input under the same map as the pixels, clipped
        to the image; labels stay with their boxes, in order. The result is a function of the input and the generator
        alone, and no option shifts the random numbers of another one.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> image, boxes = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.tensor([[1.0, 2.0, 4.0, 6.0]])
        >>> generator = torch.Generator().manual_seed(0)
        >>> _, target = BoxAugment(flip=1.0)(image, boxes, torch.tensor([0]), generator)
        >>> target["boxes"]
        tensor([[4., 2., 7., 6.]])
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    jitter: float = 0.0
    noise: float = 0.0
    focus: float = 0.0
    visible: float = 0.3

    def __post_init__(self) -> None:
        low, high = self.scale
        legal = 0 < low <= high < float("inf") and all(0 <= v <= 1 for v in (self.flip, self.focus))
        legal = legal and 0 <= self.jitter < 1 and 0 <= self.noise < float("inf") and 0 < self.visible <= 1
        if not legal or (self.crop is not None and min(self.crop) < 1):
            raise InputError(
                explain(
                    "this augmentation is not possible",
                    received=self,
                    expected="0 < scale[0] <= scale[1], flip and focus in [0, 1], jitter in [0, 1), "
                    "visible in (0, 1], noise >= 0",
                )
            )

    def __call__(
        self, image: Tensor, boxes: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Target]:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            boxes: (G, 4) x1, y1, x2, y2 in its pixels; G may be 0.
            labels: int64 (G,).
            generator: Source of every random number.

        Returns:
            float32 (3, h, w) in [0, 1], beyond it by what `noise` adds, and the target: boxes float32 (G', 4),
            labels int64 (G',).
        """
        draw = torch.rand(10, generator=generator, dtype=torch.float64).tolist()
        boxes = boxes.double()
        if self.crop is not None:
            image, boxes, kept = self._cropped(image, boxes, labels, self.crop, draw)
            boxes, labels = boxes[kept], labels[kept]
        if draw[0] < self.flip:
            image = F.horizontal_flip(image)
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.stack([image.shape[-1] - x2, y1, image.shape[-1] - x1, y2], 1)
        pixels = image.float().div_(255.0)
        if self.jitter:
            pixels = cropping.recoloured(pixels, self.jitter, draw[1:4])
        if self.noise:
            pixels = pixels + self.noise * torch.randn(pixels.shape, generator=generator)
        return pixels.contiguous(), target(boxes, labels)

    def _cropped(
        self, image: Tensor, boxes: Tensor, labels: Tensor, crop: tuple[int, int], draw: list[float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the crop, the boxes in its pixels, and which of them are seen well enough."""
        height, width = int(image.shape[-2]), int(image.shape[-1])
        zoom, place = cropping.zoom(self.scale, draw[4]), (draw[5], draw[6])
        if draw[7] < self.focus and len(boxes):
            x1, y1, x2, y2 = _chosen(boxes, labels, draw[8], draw[9])
            h, w = cropping.reach(crop, zoom)
            place = (
                cropping.around(height, h, *_pixels(y1, y2, height), place[0]),
                cropping.around(width, w, *_pixels(x1, x2, width), place[1]),
            )
        window = cropping.window((height, width), crop, zoom, place)
        factor = boxes.new_tensor([crop[1] / window.width, crop[0] / window.height] * 2)
        moved = (boxes - boxes.new_tensor([window.left, window.top] * 2)) * factor
        inside = torch.minimum(moved.clamp(min=0), moved.new_tensor([crop[1], crop[0]] * 2))
        sides = (inside[:, 2:] - inside[:, :2]).clamp(min=0)
        share = sides.prod(1) / (moved[:, 2:] - moved[:, :2]).prod(1)
        kept = (share >= self.visible) & (sides >= THINNEST).all(1)
        return cropping.enlarged(window.cut(image), crop), inside, kept


def _chosen(boxes: Tensor, labels: Tensor, kind: float, which: float) -> list[float]:
    """Return the box of an object of a class drawn from those in the image."""
    present = labels.unique()
    mine = (labels == present[int(kind * len(present))]).nonzero()[:, 0]
    box: list[float] = boxes[mine[int(which * len(mine))]].tolist()
    return box


def _pixels(low: float, high: float, total: int) -> tuple[int, int]:
    """Return the first and the last pixel that an interval meets."""
    first = min(int(low), total - 1)
    return first, max(first, min(math.ceil(high), total) - 1)
