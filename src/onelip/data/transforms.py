"""Joint augmentation of image and labels, on torchvision's transforms v2; what is padded is void, never class 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ..core.errors import InputError, explain
from . import cropping
from .dataset import VOID, Pixels

_GREY = 128  # the colour of what rotation uncovers; its labels are void


@dataclass(frozen=True)
class Augment:
    """Random scale, crop, flip, rotation and colour; the same for an image and its labels.

    The crop is cut before it is resized, so that the cost is that of the crop and not of the image.

    Attributes:
        crop: (h, w) of the result, or None to keep the size.
        scale: Smallest and largest zoom; (1, 1) for none. Used with `crop` only.
        flip: Probability of a horizontal flip.
        vflip: Probability of a vertical flip.
        rotate: Largest angle in degrees, to both sides.
        jitter: Largest relative change of brightness, contrast and saturation.
        focus: Probability that the crop is placed so that it shows a pixel of a class drawn from those in the image,
            each equally likely: small things are then seen as often as large ones. Otherwise anywhere.
        noise: Standard deviation of Gaussian noise added last, not clipped: what a base model of randomized
            smoothing is trained on.

    Guarantee:
        A pixel of the result has either the label of the place in the image that it shows, or 255. The result is a
        function of the input and the generator alone.

    Raises:
        InputError: a value is out of range.

    Example:
        >>> augment = Augment(crop=(8, 8), scale=(0.5, 0.5))
        >>> image, labels = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)
        >>> _, target = augment(image, labels, torch.Generator().manual_seed(0))
        >>> target.unique()  # at half the scale, three quarters are padding
        tensor([  0, 255])
    """

    crop: tuple[int, int] | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.5
    vflip: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.0
    noise: float = 0.0
    focus: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        legal = 0 < low <= high and all(0 <= v <= 1 for v in (self.flip, self.vflip, self.focus))
        legal = legal and 0 <= self.jitter < 1 and 0 <= self.noise < float("inf")
        if not legal or not 0 <= self.rotate <= 180 or (self.crop is not None and min(self.crop) < 1):
            raise InputError(
                explain(
                    "this augmentation is not possible",
                    received=self,
                    expected="0 < scale[0] <= scale[1], flip, vflip and focus in [0, 1], jitter in [0, 1), "
                    "rotate in [0, 180], noise >= 0",
                )
            )

    def __call__(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augment one image.

        Args:
            image: uint8 (3, H, W).
            labels: uint8 (H, W), void 255.
            generator: Source of every random number.

        Returns:
            float32 (3, h, w) in [0, 1], beyond it by what `noise` adds, and int64 (h, w).
        """
        draw = torch.rand(
            9, generator=generator
        ).tolist()  # always nine: no option shifts another one's numbers
        mask = tv_tensors.Mask(labels)
        if self.rotate:
            angle = self.rotate * (2 * draw[0] - 1)
            image = F.rotate(image, angle, interpolation=InterpolationMode.BILINEAR, fill=[_GREY] * 3)
            mask = F.rotate(mask, angle, fill=VOID)
        if self.crop is not None:
            zoom, place = cropping.zoom(self.scale, draw[1]), (draw[2], draw[3])
            if self.focus and torch.rand((), generator=generator) < self.focus:
                place = _place(mask, self.crop, zoom, place, generator)
            image, mask = _zoomed_crop(image, mask, self.crop, zoom, place)
        if draw[4] < self.flip:
            image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
        if draw[5] < self.vflip:
            image, mask = F.vertical_flip(image), F.vertical_flip(mask)
        pixels = image.float().div_(255.0)
        if self.jitter:
            pixels = cropping.recoloured(pixels, self.jitter, draw[6:])
        if self.noise:
            pixels = pixels + self.noise * torch.randn(pixels.shape, generator=generator)
        return pixels.contiguous(), mask.as_subclass(Tensor).long()


def _zoomed_crop(
    image: Tensor, mask: tv_tensors.Mask, crop: tuple[int, int], zoom: float, place: tuple[float, float]
) -> tuple[Tensor, tv_tensors.Mask]:
    """Cut the window that fills the crop at this zoom; where it leaves the image, pad with grey and void."""
    window = cropping.window(image.shape[-2:], crop, zoom, place)
    # As plain images: the kernel for masks knows only the nearest neighbour that is off by half a pixel.
    plain = window.cut(mask.as_subclass(Tensor)[None], [VOID])
    if (window.height, window.width) != crop:
        plain = F.resize(plain, list(crop), interpolation=InterpolationMode.NEAREST_EXACT)
    return cropping.enlarged(window.cut(image), crop), tv_tensors.Mask(plain[0])


def _place(
    mask: Tensor, crop: tuple[int, int], zoom: float, place: tuple[float, float], generator: torch.Generator
) -> tuple[float, float]:
    """Move a place, as `window` takes it, so that the window shows a pixel of a class drawn from those present."""
    labels = mask.as_subclass(Tensor)
    present = labels[labels != VOID].unique()
    if len(present) == 0:
        return place
    chosen, pixel = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    shown = (labels == present[int(chosen * len(present))]).nonzero()
    y, x = shown[int(pixel * len(shown))].tolist()
    height, width = cropping.reach(crop, zoom)
    return (
        cropping.around(labels.shape[0], height, y, y, place[0]),
        cropping.around(labels.shape[1], width, x, x, place[1]),
    )


def to_bytes(image: Pixels, labels: Pixels) -> tuple[Tensor, Tensor]:
    """Turn the arrays of `SegmentationDataset.read` into the tensors that `Augment` takes."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(labels.copy())
