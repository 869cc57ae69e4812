"""Contact sheets: many small pictures with their labels on one page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .dataset import Pixels, read_image

Box = Sequence[float] | NDArray[np.float64]
Polygon = Sequence[Sequence[float]] | NDArray[np.float64]
Shown = tuple[Path | Pixels, Box | None, Polygon | None, str]

_TILE, _COLUMNS, _LINE = 256, 6, 14
_BOX, _OUTLINE, _PAPER, _INK = (255, 210, 40), (60, 230, 255), (24, 24, 28), (220, 220, 220)


def sheet(shown: Sequence[Shown], *, tile: int = _TILE, columns: int = _COLUMNS) -> Pixels:
    """Draw pictures in a grid, each with its box, its outline and its name.

    Args:
        shown: (picture or its path, box x1 y1 x2 y2, polygon, name); box and polygon in pixels of the picture, or None.
        tile: Longest side of a picture on the sheet, pixels.
        columns: Pictures in a row, at most.

    Returns:
        (H, W, 3) bytes.

    Raises:
        DataError: a picture cannot be read.

    Example:
        >>> sheet([(np.zeros((20, 40, 3), np.uint8), (3, 3, 9, 9), None, "a")], tile=40).shape
        (34, 40, 3)
    """
    tiles = [_tile(*item, tile) for item in shown]
    columns = max(1, min(columns, len(tiles)))
    height = max((t.height for t in tiles), default=tile)
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * tile, max(rows, 1) * height), _PAPER)
    for number, picture in enumerate(tiles):
        page.paste(picture, (number % columns * tile, number // columns * height))
    return np.asarray(page)


def png(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) or (H, W) bytes as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _tile(
    source: Path | Pixels, box: Box | None, polygon: Polygon | None, name: str, tile: int
) -> Image.Image:
    pixels = read_image(source) if isinstance(source, Path) else source
    scale = tile / max(pixels.shape[:2])
    width, height = (max(1, round(n * scale)) for n in pixels.shape[1::-1])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    picture = Image.new("RGB", (tile, height + _LINE), _PAPER)
    picture.paste(small, (0, 0))
    pen = ImageDraw.Draw(picture)
    if polygon is not None:
        points = [(x * scale, y * scale) for x, y in polygon]
        pen.line([*points, points[0]], fill=_OUTLINE, width=1)
    if box is not None:
        x1, y1, x2, y2 = (v * scale for v in box)
        pen.rectangle((x1 - 2, y1 - 2, x2 + 1, y2 + 1), outline=_BOX, width=1)
    pen.text((2, height + 1), name[-tile // 6 :], fill=_INK)
    return picture
