"""Windows of an image, and colours: what the augmentations of labels and of boxes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

_GREY = 128  # the colour of padding; it carries no label, so only the neighbours' receptive fields see it


class Window(NamedTuple):
    """A part of an image, in pixels; it may reach beyond it, or hold it all."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor, fill: Sequence[float] = (_GREY,) * 3) -> Tensor:
        """Return this part of an image (C, H, W), padded with `fill` where it leaves the image."""
        height, width = image.shape[-2:]
        bottom, right = self.top + self.height, self.left + self.width
        y0, x0, y1, x1 = max(self.top, 0), max(self.left, 0), min(bottom, height), min(right, width)
        padding = [x0 - self.left, y0 - self.top, right - x1, bottom - y1]
        image = image[..., y0:y1, x0:x1]
        return F.pad(image, padding, fill=list(fill)) if any(padding) else image


def window(size: Sequence[int], crop: tuple[int, int], zoom: float, place: tuple[float, float]) -> Window:
    """Return the part of an image (h, w) that fills the crop at this zoom.

    Args:
        size: (h, w) of the image.
        crop: (h, w) of the result.
        zoom: How much larger things are in the result.
        place: Two numbers in [0, 1): where the part lies among the possible places, from top and left.
    """
    height, width = reach(crop, zoom)
    return Window(_offset(size[0], height, place[0]), _offset(size[1], width, place[1]), height, width)


def reach(crop: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Return (h, w) of the part that fills the crop at this zoom."""
    return max(1, round(crop[0] / zoom)), max(1, round(crop[1] / zoom))


def enlarged(image: Tensor, crop: tuple[int, int]) -> Tensor:
    """Return an image (C, H, W) at the size of the crop, anti-aliased."""
    if tuple(image.shape[-2:]) == crop:
        return image
    resized: Tensor = F.resize(image, list(crop), interpolation=InterpolationMode.BILINEAR, antialias=True)
    return resized


def zoom(scale: tuple[float, float], draw: float) -> float:
    """Return a zoom, uniform in its logarithm: twice as large and half as large are equally likely."""
    low, high = scale
    return float(low * (high / low) ** draw)


def around(total: int, part: int, low: int, high: int, draw: float) -> float:
    """Return the number for `window` whose part holds the pixels low..high; the draw is spread evenly over these.

    Parts that cannot hold them all hold the one in the middle.
    """
    spare = total - part
    if spare <= 0:
        return draw  # the window holds everything
    first, last = max(0, high - part + 1), min(spare, low)
    if first > last:
        middle = (low + high) // 2
        first, last = max(0, middle - part + 1), min(spare, middle)
    start = first + min(int(draw * (last - first + 1)), last - first)
    return (start + 0.5) / (spare + 1)


def _offset(total: int, part: int, draw: float) -> int:
    """Choose where a window of `part` begins: inside the image, or around it when it is the larger one."""
    spare = total - part
    return min(int(draw * (abs(spare) + 1)), abs(spare)) * (1 if spare >= 0 else -1)


def recoloured(pixels: Tensor, jitter: float, draws: Sequence[float]) -> Tensor:
    """Change brightness, contrast and saturation of an image in [0, 1], each by a factor of 1 +- jitter."""
    strength = [1 + jitter * (2 * draw - 1) for draw in draws]
    pixels = F.adjust_brightness(pixels, strength[0])
    pixels = F.adjust_contrast(pixels, strength[1])
    changed: Tensor = F.adjust_saturation(pixels, strength[2])
    return changed
