"""Runways of the world from a LARD runway database: lengths, widths and slopes from the corners."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, explain

RADIUS = 6_371_010.0  # metres: the positions lie on a sphere, not on WGS84
_PAIRS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))  # A, B, C, D split into two ends


@dataclass(frozen=True)
class Measured:
    """One direction of one runway.

    Attributes:
        airport: ICAO code.
        name: Designation, for instance "09L".
        length: Metres between the middles of the two ends.
        width: Metres, the mean of both ends.
        slope: Rise from the landing threshold to the far end over the length.
    """

    airport: str
    name: str
    length: float
    width: float
    slope: float


def read_database(path: str | Path) -> tuple[Measured, ...]:
    """Read a runway database: airport -> runway -> corner A, B, C, D -> position x, y, z in metres.

    A and B are the corners of the far end, C and D those of the landing threshold. Each end is a pair, so nothing
    here depends on the order inside a pair, in which the database is not consistent: where it crosses, the
    polygon A-B-C-D is a bow tie.

    Raises:
        DataError: the file is no such database, or an entry is no runway.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        found = [_measure(a, name, entry) for a, names in table.items() for name, entry in names.items()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
        raise DataError(
            explain(
                f"{path} cannot be read as a runway database",
                received=f"{type(error).__name__}: {error}",
                expected="JSON: airport -> runway -> A, B, C, D -> position -> x, y, z",
                fix="pass LARD's runways_database.json",
            )
        ) from error
    if not found:
        raise DataError(explain(f"{path} holds no runways"))
    return tuple(found)


def _measure(airport: str, name: str, entry: dict[str, Any]) -> Measured:
    places = np.array([[float(entry[c]["position"][axis]) for axis in "xyz"] for c in "ABCD"])
    far, near = places[:2].mean(0), places[2:].mean(0)
    spans = [_gap(places, first) + _gap(places, second) for first, second in _PAIRS]
    length, width = float(np.linalg.norm(far - near)), spans[0] / 2
    if not np.isfinite(places).all() or spans[0] > min(spans) or not 0 < 4 * width < length:
        raise DataError(
            explain(
                f"runway {airport} {name}: the corners are not those of a runway",
                received=f"ends {width:.1f} m wide, {length:.1f} m apart",
                expected="A, B at the far end and C, D at the threshold, a length of more than four widths",
            )
        )
    rise = float(np.linalg.norm(far) - np.linalg.norm(near))
    return Measured(airport, name, length, float(width), rise / length)


def _gap(places: NDArray[np.float64], pair: tuple[int, int]) -> float:
    return float(np.linalg.norm(places[pair[0]] - places[pair[1]]))
