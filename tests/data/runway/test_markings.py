"""Markings: closed-form places, both ends alike, and footprints that average what fine ones see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.data.runway import glyphs
from onelip.data.runway.markings import aiming_point, designation, paint, rectangles, stripes
from onelip.data.runway.scene import Runway

RUNWAY = Runway(
    length=3000,
    width=45,
    number=9,
    letter="",
    albedo=0.3,
    paint=0.9,
    wear=0,
    shoulder=5,
    blast_pad=60,
    rubber=0.5,
)


def _at(x: object, y: object, runway: Runway = RUNWAY, window: float = 0.02) -> list[float]:
    x, y = np.broadcast_arrays(np.float32(x), np.float32(y))
    w = np.full(x.size, window, np.float32)
    return paint(runway, x.ravel(), y.ravel(), w, w).round(2).tolist()


def test_threshold_stripes() -> None:
    """1.8 m wide, 1.8 m apart, a gap of 3.6 m in the middle, from 6 to 36 m."""
    assert _at([0.9, 2.7, 4.5, 6.3, -2.7, -4.5], 20) == [0, 1, 0, 1, 1, 0]
    assert _at(2.7, [5.9, 6.1, 35.9, 36.1]) == [0, 1, 1, 0]
    painted = np.array(_at(np.arange(0, 21.6, 0.1) + 0.05, 20)) > 0.5
    assert (np.diff(painted.astype(int)) == 1).sum() == 6  # of 12, on the right


@pytest.mark.parametrize(
    ("width", "count"), [(18, 4), (23, 6), (30, 8), (45, 12), (60, 16), (44.1, 12), (59.0, 16)]
)
def test_number_of_stripes(width: float, count: int) -> None:
    assert stripes(replace(RUNWAY, width=width)) == count


def test_lines() -> None:
    assert _at([22.4, 21.7, 21.5, 22.6, -22.4], 1000) == [1, 1, 0, 0, 1]
    # The centreline: 30 m on, 20 m off, 0.9 m wide, from 90 m.
    assert _at(0, [89, 91, 119, 121, 139, 141]) == [0, 1, 1, 0, 0, 1]
    assert _at([0.4, 0.5], 100) == [1, 0]


def test_aiming_point_and_touchdown_zone() -> None:
    assert aiming_point(RUNWAY) == (10, 19, 400, 455)
    assert aiming_point(replace(RUNWAY, length=2000)) == (7, 13, 300, 345)
    assert _at([9.9, 10.1, 18.9, 19.1, -12], 430) == [0, 1, 1, 0, 1]
    counts = {}
    for _left, _right, start, _stop in list(rectangles(replace(RUNWAY, length=3400)))[1:]:
        counts[start] = counts.get(start, 0) + 1
    assert counts == {150: 3, 550: 2, 700: 2, 850: 1, 1000: 1}
    assert _at([10.9, 12.6, 14.2, -10.9], 160) == [1, 0, 1, 1]


@pytest.mark.parametrize("width", [18, 23, 30, 45, 60])
def test_all_paint_lies_on_the_runway(width: float) -> None:
    runway = replace(RUNWAY, width=width, length=1300)
    assert all(right <= width / 2 - 0.9 for _, right, _, _ in rectangles(runway))
    assert all(stop < 1300 / 2 for _, _, _, stop in rectangles(runway))
    assert sum(_at([-width / 2 - 0.1, width / 2 + 0.1], [[-1], [40], [700], [1299]], runway)) == 0
    assert sum(_at([-5, 0, 5], [[-1.0], [1301.0]], runway)) == 0


@given(st.floats(-22, 22), st.floats(0, 84))
def test_the_far_end_is_the_near_end_of_the_opposite_direction(x: float, y: float) -> None:
    other = replace(RUNWAY, number=27, length=3000)
    assert _at(-x, 3000 - y, window=0.5) == pytest.approx(_at(x, y, other, window=0.5), abs=0.02)


def test_designations() -> None:
    pairs = {n: designation(replace(RUNWAY, number=n), True)[0] for n in (1, 9, 18, 19, 27, 36)}
    assert pairs == {1: 19, 9: 27, 18: 36, 19: 1, 27: 9, 36: 18}
    assert [designation(replace(RUNWAY, letter=c), True)[1] for c in ("", "L", "R", "C")] == [
        "",
        "R",
        "L",
        "C",
    ]


def test_digits_stand_at_50_m_and_with_a_letter_at_72_m() -> None:
    rows = np.arange(40, 100, 0.25)

    def painted(runway: Runway) -> np.ndarray:
        columns = np.arange(-12, 12, 0.25)
        return rows[np.array(_at(columns, rows[:, None], runway)).reshape(len(rows), -1).any(1)]

    assert (painted(RUNWAY)[painted(RUNWAY) < 89].min(), painted(RUNWAY)[painted(RUNWAY) < 89].max()) == (
        50,
        68,
    )
    found = painted(replace(RUNWAY, letter="L"))
    assert (found.min(), found[found <= 64].max(), found[found > 64].min(), found.max()) == (48, 64, 72, 90)


def test_a_wide_footprint_sees_the_mean_of_fine_ones() -> None:
    x, y = np.meshgrid(np.arange(0, 6, 0.02) + 0.01, np.arange(0, 18, 0.02) + 0.01)
    x, y = (np.float32(a.ravel()) for a in (x, y))
    tiny, one = np.full_like(x, 0.02), np.ones(1, np.float32)
    for glyph in "0123456789LRC":
        fine = glyphs.cover(glyph, x, y, tiny, tiny, height=18)
        whole = glyphs.cover(glyph, 3 * one, 9 * one, 6 * one, 18 * one, height=18)
        assert whole[0] == pytest.approx(fine.mean(), abs=0.002)
        assert 0.2 < whole[0] < 0.7
        part = glyphs.cover(glyph, 1.5 * one, 9 * one, 3 * one, 18 * one, height=18)
        assert part[0] == pytest.approx(fine[x < 3].mean(), abs=0.002)


def test_paint_of_a_wide_footprint_is_its_mean() -> None:
    """Footprints from a few metres to the whole threshold, across the centreline: numbers from integration."""
    for left, right, start, stop in (
        (0, 22.5, 0, 40),
        (-22.5, 22.5, 0, 48),
        (-3, 11, 20, 31),
        (8, 20, 380, 470),
    ):
        x, y = np.meshgrid(np.arange(left, right, 0.05) + 0.025, np.arange(start, stop, 0.05) + 0.025)
        fine = np.mean(_at(x, y, window=0.05))
        place = ((left + right) / 2, (start + stop) / 2, right - left, stop - start)
        wide = paint(RUNWAY, *(np.float32([v]) for v in place))
        assert wide[0] == pytest.approx(fine, abs=0.005)


@pytest.mark.parametrize("glyph", ["6", "9", "2", "5"])
def test_glyphs_are_not_upside_down(glyph: str) -> None:
    """The ink of 6 is heavier below, of 9 above; 2 ends at the lower right, 5 begins at the upper left."""
    one = np.ones(1, np.float32)

    def ink(x: float, y: float) -> float:
        return round(float(glyphs.cover(glyph, x * one, y * one, 0.1 * one, 0.1 * one, height=9)[0]), 3)

    assert (ink(0.4, 3.3), ink(2.6, 6)) == {"6": (1, 0), "9": (0, 1), "2": (0, 1), "5": (0, 0)}[glyph]
    assert (ink(2.6, 3.3), ink(0.4, 6)) == {"6": (1, 1), "9": (1, 1), "2": (0, 0), "5": (1, 1)}[glyph]
