"""Helpers of the readers: find the parts of a folder, or say clearly what is missing."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import DataError, explain
from .dataset import Color, Sample

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def wrong_layout(name: str, root: Path, expected: str) -> DataError:
    """Build the error for a folder that is not the data set it should be."""
    found = sorted(p.name for p in root.iterdir())[:8] if root.is_dir() else "no folder"
    return DataError(
        explain(
            f"{root} does not hold {name} in a known layout",
            received=found or "an empty folder",
            expected=expected,
            fix="point ONELIP_DATA (or --root) at the folder that holds the data set",
        )
    )


def pick_split(name: str, split: str, available: Sequence[str]) -> str:
    """Return the available split meant by `split`; "val" and "validation" mean the same.

    Raises:
        DataError: there is no such split.
    """
    aliases = {"val": "validation", "validation": "val"}
    for candidate in (split, aliases.get(split, split)):
        if candidate in available:
            return candidate
    raise DataError(
        explain(f"{name} has no split {split!r}", expected=f"one of {', '.join(sorted(available))}")
    )


def pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by their name without ending.

    Raises:
        DataError: the folder is missing or holds no picture.
    """
    found = (
        {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in PICTURES}
        if folder.is_dir()
        else {}
    )
    if not found:
        what = "holds no pictures" if folder.is_dir() else "does not exist"
        raise DataError(explain(f"{folder} {what}", expected=f"files ending in {', '.join(PICTURES)}"))
    return found


def read_list(path: Path) -> list[str]:
    """Return the non-empty lines of a text file.

    Raises:
        DataError: the file is missing or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            explain(f"{path} cannot be read", received=error, expected="a list of images")
        ) from error
    if not lines:
        raise DataError(explain(f"{path} is empty", expected="one image a line"))
    return lines


def pair(images: Path, labels: Path, stems: Iterable[str] | None = None) -> list[Sample]:
    """Pair the pictures of two folders by name, in the order of `stems` (default: sorted).

    Raises:
        DataError: a folder is empty, or an image has no label.
    """
    image_files, label_files = pictures(images), pictures(labels)
    wanted = list(stems) if stems is not None else list(image_files)
    for files, folder in ((image_files, images), (label_files, labels)):
        missing = [stem for stem in wanted if stem not in files]
        if missing:
            raise DataError(
                explain(
                    f"{folder} lacks {len(missing)} of {len(wanted)} files",
                    received=f"nothing for {', '.join(missing[:3])}",
                    expected="an image and a label of the same name",
                    fix="complete the folder, or correct the list",
                )
            )
    return [Sample(stem, image_files[stem], label_files[stem]) for stem in wanted]


def colors(count: int) -> list[Color]:
    """Return `count` well separated colours.

    >>> colors(2)
    [(217, 76, 76), (76, 217, 117)]
    """
    hues = ((0.6180339887 * 0.6180339887 * k) % 1.0 for k in range(count))
    rgb = (colorsys.hsv_to_rgb(hue, 0.65, 0.85) for hue in hues)
    return [(round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rgb]
