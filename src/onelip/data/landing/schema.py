"""Tables of the LARD runway data set: columns, units, reading, writing."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError, explain
from ...core.files import atomic_write

NAUTICAL_MILE, FOOT = 1852.0, 0.3048  # metres
CORNERS = ("A", "B", "C", "D")
CORNER_COLUMNS = tuple(f"{axis}_{name}" for name in CORNERS for axis in "xy")
COLUMNS = (
    "image",
    "height",
    "width",
    "type",
    "original_dataset",
    "scenario",
    "airport",
    "runway",
    "time_to_landing",
    "weather",
    "night",
    "time",
    "slant_distance",
    "along_track_distance",
    "height_above_runway",
    "lateral_path_angle",
    "vertical_path_angle",
    "yaw",
    "pitch",
    "roll",
    "watermark_height",
    *CORNER_COLUMNS,
)
_NEEDED = ("image", "height", "width", *CORNER_COLUMNS)
_BOX = ("x1", "y1", "x2", "y2")
_TEXTS = ("original_dataset", "scenario", "airport", "runway", "weather", "night", "time")
_ANGLES = ("lateral_path_angle", "vertical_path_angle", "yaw", "roll", "time_to_landing")

Point = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One picture of a LARD table, in metres, degrees and pixels; None or "" where the cell is empty.

    Attributes:
        image: Path of the picture, relative to the table.
        height: Of the picture with its watermark bands, pixels.
        width: Pixels.
        type: "earth_studio", "real", "synthetic", or the name of a test set.
        original_dataset: Where the picture comes from.
        scenario: Name of the approach.
        airport: ICAO code.
        runway: Designation, as "08L".
        time_to_landing: Seconds.
        weather: "" or "rain".
        night: As it is written.
        time: yyyy-MM-dd HH:mm:ss.
        slant_distance: From the middle of the landing threshold, metres (the file has nautical miles).
        along_track_distance: Before the threshold on the extended centreline, metres; negative past the threshold.
        height_above_runway: Metres (the file has feet); LARD drops the sign, so it never says "below".
        lateral_path_angle: Degrees, seen from 3,050 m beyond the threshold. Its sign depends on the order of corners
            in LARD's database, and it is not the lateral angle of the approach cone: compare neither.
        vertical_path_angle: Degrees, seen from 305 m beyond the threshold.
        yaw: Degrees from north, clockwise; relative to the runway's true heading, not to ten times its number.
        pitch: Degrees above the horizon (the file has 90 more).
        roll: Degrees.
        watermark_height: Height of the band above and of the one below, pixels; None where the table does not say.
        corners: The four corners in the order of the file (by y, then x: no polygon order), truncated to whole pixels;
            None where they are missing.
        box: x1, y1, x2, y2 of tables that list it, None otherwise.
    """

    image: str
    height: int
    width: int
    type: str = ""
    original_dataset: str = ""
    scenario: str = ""
    airport: str = ""
    runway: str = ""
    time_to_landing: float | None = None
    weather: str = ""
    night: str = ""
    time: str = ""
    slant_distance: float | None = None
    along_track_distance: float | None = None
    height_above_runway: float | None = None
    lateral_path_angle: float | None = None
    vertical_path_angle: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    watermark_height: int | None = None
    corners: tuple[Point, Point, Point, Point] | None = None
    box: tuple[float, float, float, float] | None = None


def read_table(path: str | Path) -> list[Row]:
    """Read a LARD table, or the reduced one with `subset` and boxes; the separator is found in the header.

    Args:
        path: A CSV file with a header. Separator ";" means LARD's units (nautical miles); a table with a `subset`
            column has kilometres.

    Returns:
        The rows, in order.

    Raises:
        DataError: the file cannot be read, a column is missing, it has no rows, or a cell is no number.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            explain(f"{path} cannot be read", received=error, expected="a table of LARD (CSV)")
        ) from error
    header = lines[0] if lines else ""
    separator = ";" if header.count(";") >= header.count(",") else ","
    reader = csv.DictReader(lines, delimiter=separator)
    missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            explain(
                f"{path} lacks {len(missing)} columns of a LARD table",
                received=f"no {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}",
                expected=f"at least {', '.join(_NEEDED)}",
                fix="export the table again, or point at another file",
            )
        )
    rows = [_row(cells, f"{path} line {reader.line_num}") for cells in reader]
    if not rows:
        raise DataError(explain(f"{path} holds no rows", expected="one line a picture below the header"))
    return rows


def _row(cells: Mapping[str, str | None], place: str) -> Row:
    mile = 1000.0 if "subset" in cells else NAUTICAL_MILE

    def number(name: str, factor: float = 1.0) -> float | None:
        text = (cells.get(name) or "").strip()
        if not text or text.lower() == "nan":
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(explain(f"{place}: {name} is no number", received=repr(text)))
        return value * factor

    def group(names: tuple[str, ...]) -> list[float] | None:
        found = [v for v in map(number, names) if v is not None]
        if found and len(found) != len(names):
            raise DataError(explain(f"{place}: some of {', '.join(names)} are empty", expected="all or none"))
        return found or None

    image, height, width = (cells.get("image") or "").strip(), number("height"), number("width")
    if not image or not height or not width or min(height, width) < 1:
        raise DataError(
            explain(
                f"{place}: image, height or width is wrong",
                received=f"{image!r}, {height}, {width}",
                expected="a path and two positive integers",
            )
        )
    corners, box, band = group(CORNER_COLUMNS), group(_BOX), number("watermark_height")
    pitch = number("pitch")
    more: dict[str, Any] = {name: (cells.get(name) or "").strip() for name in _TEXTS}
    more.update({name: number(name) for name in _ANGLES})
    return Row(
        image=image,
        height=int(height),
        width=int(width),
        type=(cells.get("type") or cells.get("subset") or "").strip(),
        slant_distance=number("slant_distance", mile),
        along_track_distance=number("along_track_distance", mile),
        height_above_runway=number("height_above_runway", FOOT),
        pitch=None if pitch is None else pitch - 90.0,
        watermark_height=None if band is None else int(band),
        corners=None if corners is None else _points(corners),
        box=None if box is None else (box[0], box[1], box[2], box[3]),
        **more,
    )


def _points(flat: list[float]) -> tuple[Point, Point, Point, Point]:
    a, b, c, d = zip(flat[::2], flat[1::2], strict=True)
    return a, b, c, d


def write_table(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a table with LARD's 29 columns, separator ";" and units; distances and angles have two decimals.

    Raises:
        StorageError: the file could not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    atomic_write(path, text.getvalue())


def _cells(row: Row) -> list[str]:
    units = {
        "slant_distance": 1 / NAUTICAL_MILE,
        "along_track_distance": 1 / NAUTICAL_MILE,
        "height_above_runway": 1 / FOOT,
    }
    cells = []
    for name in COLUMNS[: -len(CORNER_COLUMNS)]:
        value = getattr(row, name)
        if isinstance(value, float):
            value = f"{value * units.get(name, 1.0) + (90.0 if name == 'pitch' else 0.0):.2f}"
        cells.append("" if value is None else str(value))
    flat = [value for corner in row.corners or () for value in corner]
    return cells + ([f"{v:.10g}" for v in flat] or [""] * len(CORNER_COLUMNS))


def reading_order(points: Iterable[Point], width: int) -> tuple[Point, Point, Point, Point]:
    """Truncate four corners to whole pixels and sort them as LARD does, by y * width + x.

    Example:
        >>> reading_order([(3.9, 8.2), (7.1, 8.8), (6.5, 1.2), (5.5, 1.9)], 10)
        ((5.0, 1.0), (6.0, 1.0), (3.0, 8.0), (7.0, 8.0))
    """
    whole = [(float(int(x)), float(int(y))) for x, y in points]
    a, b, c, d = sorted(whole, key=lambda p: p[1] * width + p[0])
    return a, b, c, d
