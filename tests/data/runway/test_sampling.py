import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.core.errors import InputError
from onelip.data.runway.sampling import cover, pulses

SAMPLES = 20_000
place = st.floats(-50, 50)
width = st.floats(0.05, 80)


def window(c, w):
    """The middles of fine steps that fill a window."""
    return c + w * ((np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5)


@given(c=place, a=place, length=st.floats(0, 60), w=width)
def test_cover_is_the_numeric_integral_of_the_interval(c, a, length, w):
    inside = (window(c, w) >= a) & (window(c, w) <= a + length)
    assert float(cover(np.float32([c]), a, a + length, w)[0]) == pytest.approx(inside.mean(), abs=3e-4)


@given(c=place, start=place, period=st.floats(0.5, 30), part=st.floats(0, 1), w=width)
def test_pulses_are_the_numeric_integral_of_the_train(c, start, period, part, w):
    on = part * period
    inside = np.mod(window(c, w) - start, period) < on
    share = float(pulses(np.float32([c]), np.float32([w]), period=period, on=on, start=start)[0])
    # float32 places of up to 100 m are off by 4e-6 m: that is felt beside a window of 5 cm; each pulse is counted to
    # one step, with the same sign for all of them where the period is a whole number of steps
    assert share == pytest.approx(inside.mean(), abs=2e-3 + (w / period + 1) / SAMPLES)


def test_nothing_is_covered_by_an_interval_that_ends_before_it_starts():
    assert cover(np.float32([0, 1, 2]), 1.5, 0.5, 0.1).tolist() == [0, 0, 0]


def test_a_wide_window_sees_the_duty_cycle_and_a_narrow_one_sees_the_pulse():
    c = np.linspace(-40, 40, 801, dtype=np.float32)
    wide = pulses(c, np.float32(4000), period=7, on=2)
    assert np.abs(wide - 2 / 7).max() < 1e-3
    narrow = pulses(c, np.float32(0), period=7, on=2)
    clear = np.abs(np.mod(c, 7)[:, None] - np.array([0, 2, 7])).min(1) > 1e-2
    assert np.abs(narrow - (np.mod(c, 7) < 2))[clear].max() < 0.01  # float32 at 40 m beside 1 mm


def test_pulses_that_tile_cover_everything():
    c = np.linspace(-100, 100, 333, dtype=np.float32)
    assert np.allclose(
        pulses(c, np.float32(3), period=5, on=2) + pulses(c, np.float32(3), period=5, on=3, start=2),
        1,
        atol=1e-5,
    )


@pytest.mark.parametrize(("period", "on"), [(0, 0), (-1, 0), (2, 3), (2, -1), (float("nan"), 1)])
def test_impossible_pulses_are_refused(period, on):
    with pytest.raises(InputError, match=r"train of pulses.*period > 0 and 0 <= on <= period"):
        pulses(np.float32([0]), 1.0, period=period, on=on)
