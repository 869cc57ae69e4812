"""Runways from a database: statistics of the real one, any order of corners, and what is no database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onelip import data
from onelip.core.errors import DataError
from onelip.data.runway.database import RADIUS, read_database

CORNERS = ("A", "B", "C", "D")


def _entry(length: float = 2500.0, width: float = 45.0, rise: float = 0.0) -> dict[str, Any]:
    """A runway near the pole of the sphere: A, B at the far end, C, D at the threshold."""
    places = [(length, -width / 2, rise), (length, width / 2, rise), (0, width / 2, 0), (0, -width / 2, 0)]
    return {
        c: {"position": {"x": x - length / 2, "y": y, "z": RADIUS + z}}
        for c, (x, y, z) in zip(CORNERS, places, strict=True)
    }


def _write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def _real() -> Path:
    for root in data.roots():
        if (root / "lard" / "runways_database.json").is_file():
            return root / "lard" / "runways_database.json"
    pytest.skip("the runway database is not on this machine")


def test_the_real_database() -> None:
    found = read_database(_real())
    assert len(found) == 115
    assert len({r.airport for r in found}) == 53
    quantiles = np.percentile([r.length for r in found], [5, 25, 50, 75, 95])
    np.testing.assert_allclose(quantiles, [1980, 2404, 2818, 3196, 3611], atol=2)
    assert np.percentile([r.width for r in found], [25, 50, 75]) == pytest.approx(
        [44.0, 44.7, 59.1], abs=0.15
    )
    assert max(abs(r.slope) for r in found) < 0.0101


def test_both_directions_of_a_runway_agree() -> None:
    found = {(r.airport, r.name): r for r in read_database(_real())}
    one, other = found["ZBAA", "01"], found["ZBAA", "19"]
    assert one.length == pytest.approx(other.length)
    assert one.slope == pytest.approx(-other.slope)


@pytest.mark.parametrize("order", ["ABCD", "BACD", "ABDC", "BADC"])
def test_corners_that_cross(tmp_path: Path, order: str) -> None:
    entry = _entry(2500, 45, 10)
    crossed = {name: entry[taken] for name, taken in zip(CORNERS, order, strict=True)}
    (found,) = read_database(_write(tmp_path / "db.json", {"XXXX": {"09": crossed}}))
    assert (found.length, found.width) == pytest.approx((2500, 45), abs=0.1)
    assert found.slope == pytest.approx(10 / 2500, rel=1e-3)


def test_sizes_are_drawn_from_the_database(tmp_path: Path) -> None:
    path = _write(tmp_path / "db.json", {"XXXX": {"09": _entry(2100, 41), "18": _entry(3300, 52)}})
    dataset = data.runways(20, 128, database=path)
    sizes = {(round(s.length), round(s.width)) for s in (dataset.scene(k).runway for k in range(20))}
    assert sizes == {(2100, 41), (3300, 52)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{", "cannot be read as a runway database"),
        ([1, 2], "cannot be read as a runway database"),
        ({"XXXX": {"09": {"A": 1}}}, "cannot be read as a runway database"),
        ({}, "holds no runways"),
        (
            {"XXXX": {"09": {**_entry(), "A": _entry()["D"], "D": _entry()["A"]}}},
            "corners are not those of a runway",
        ),
        ({"XXXX": {"09": _entry(50, 45)}}, "corners are not those of a runway"),
    ],
)
def test_what_is_no_database(tmp_path: Path, value: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_database(_write(tmp_path / "db.json", value))


def test_a_missing_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a runway database"):
        data.runways(2, database=tmp_path / "none.json")
