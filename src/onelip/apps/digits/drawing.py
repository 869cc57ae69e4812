"""From a drawing, or a key, to an image as the digits of MNIST are: 20 pixels of ink around the centre of mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from onelip.core.errors import InputError, explain

SIDE, INK, FAINT = 28, 20, 0.1
LARGEST = 512  # pixels a side of a drawing


def drawing(rows: Any) -> Tensor:
    """Read the grey values of a drawing.

    Args:
        rows: of values 0 (empty) to 255 (ink), at least 2 x 2 and at most 512 x 512.

    Returns:
        (H, W) in [0, 1].

    Raises:
        InputError: anything else.
    """
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    fits = values.ndim == 2 and all(2 <= side <= LARGEST for side in values.shape)
    if not fits or not bool(((values >= 0) & (values <= 255)).all()):
        raise InputError(
            explain(
                "the drawing is not usable",
                received=f"shape {values.shape}" if not fits else "values outside 0 to 255",
                expected=f"rows of equal length of grey values 0 to 255, at most {LARGEST} x {LARGEST}",
            )
        )
    return torch.from_numpy(values / 255.0)


def centred(picture: Tensor) -> Tensor:
    """Crop to the ink, scale its longer side to 20 pixels, and put its centre of mass at that of 28 x 28.

    Args:
        picture: (H, W) in [0, 1], ink bright.

    Returns:
        (1, 1, 28, 28) float32.

    Raises:
        InputError: nothing is drawn.

    Example:
        >>> stroke = torch.zeros(100, 100)
        >>> stroke[20:80, 48:54] = 1.0
        >>> image = centred(stroke)
        >>> image.shape, (image.amax((1, 2, 3)) > 0.9).item()
        (torch.Size([1, 1, 28, 28]), True)

    Source: the preparation of MNIST, LeCun et al., Gradient-based learning applied to document recognition, 1998.
    """
    ink = picture > FAINT
    if not bool(ink.any()):
        raise InputError(explain("nothing is drawn", expected="at least one stroke"))
    (top, bottom), (left, right) = (_span(ink.any(axis)) for axis in (1, 0))
    part = picture[top:bottom, left:right].float()[None, None]
    scale = INK / max(part.shape[2:])
    height, width = (max(1, round(side * scale)) for side in part.shape[2:])
    part = F.interpolate(part, (height, width), mode="bilinear", antialias=True).clamp(0, 1)[0, 0]
    total = part.sum().clamp_min(1e-9)
    row = float((part.sum(1) * torch.arange(height)).sum() / total)
    column = float((part.sum(0) * torch.arange(width)).sum() / total)
    centre = (SIDE - 1) / 2
    y = min(max(round(centre - row), 0), SIDE - height)
    x = min(max(round(centre - column), 0), SIDE - width)
    image = torch.zeros(1, 1, SIDE, SIDE)
    image[0, 0, y : y + height, x : x + width] = part
    return image


def typed(key: Any) -> Tensor:
    """The digit of a key, printed: (H, W) in [0, 1].

    Raises:
        InputError: a key that is no digit.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not isinstance(key, str) or key not in tuple("0123456789"):
        raise InputError(explain("the key is no digit", received=repr(key)[:40], expected="0 to 9"))
    picture = Image.new("L", (160, 200))
    ImageDraw.Draw(picture).text((30, 10), key, fill=255, font=ImageFont.load_default(size=150))
    return torch.from_numpy(np.asarray(picture, dtype=np.float64) / 255.0)


def _span(used: Tensor) -> tuple[int, int]:
    places = used.nonzero().flatten()
    return int(places[0]), int(places[-1]) + 1
