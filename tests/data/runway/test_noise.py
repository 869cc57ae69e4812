import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.data.runway.noise import SIDE, STEPS, Octave, Sheet, above, amplitude, cut_for, dice, tiles, unit

RNG = np.random.default_rng(3)
X, Y = RNG.uniform(-4e4, 4e4, (2, 40_000)).astype(np.float32)


def test_each_tile_has_mean_0_and_variance_1():
    for tile in tiles():
        assert tile.shape == (SIDE, SIDE)
        assert tile.mean() == pytest.approx(0, abs=1e-5)
        assert tile.var() == pytest.approx(1, abs=1e-4)


def test_tiles_continue_across_their_edges():
    for tile in tiles():
        for axis in (0, 1):
            seam = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis))
            assert seam.max() <= np.abs(np.diff(tile, axis=axis)).max()
            assert seam.mean() > 0.01


@given(size=st.sampled_from([1.7, 70.0, 2600.0]), tile=st.integers(0, 3), seed=st.integers(0, 99))
def test_octaves_are_continuous_everywhere(size, tile, seed):
    rng = np.random.default_rng(seed)
    octave = Octave(size, tuple(rng.uniform(0, SIDE, 2)), tile)
    turn = rng.uniform(0, 2 * np.pi)
    # a line across more than one period, in steps of a tenth of a sample
    along = np.arange(12 * SIDE) * 0.1 * size / STEPS
    values = octave.at((along * np.cos(turn)).astype(np.float32), (along * np.sin(turn)).astype(np.float32))
    assert np.abs(np.diff(values)).max() < 0.12
    assert values.std() > 0.5


def test_octaves_repeat_only_after_64_cells():
    octave = Octave.drawn(10.0, np.random.default_rng(1))
    line = np.arange(0, 500, 2.0, dtype=np.float32)
    values = octave.at(line, np.zeros_like(line))
    for shift in range(20, 200):
        assert np.abs(values[shift:] - values[:-shift]).max() > 0.2


@given(size=st.floats(0.5, 5000), feet=st.lists(st.floats(0, 1e5), min_size=2, max_size=20))
def test_amplitude_falls_with_the_footprint(size, feet):
    left = amplitude(size, np.float32(sorted(feet)))
    assert (np.diff(left) <= 0).all()
    assert (left > 0).all()
    assert (left <= 1).all()


def test_amplitude_has_its_closed_form():
    assert amplitude(10.0, 5.0) == pytest.approx(1 / np.sqrt(2))
    assert amplitude(10.0, 0.0) == 1


@pytest.mark.parametrize("footprint", [0.0, 30.0, 300.0, 3000.0])
def test_seen_and_unseen_variance_of_a_sheet_add_up_to_one(footprint):
    sheets = [Sheet((900.0, 250.0, 60.0), (1.0, 0.6, 0.4), np.random.default_rng(k)) for k in range(8)]
    total = 0.0
    for sheet in sheets:
        level, spread = sheet.level(X, Y, np.full_like(X, footprint))
        total += (np.square(level).mean() + np.square(spread).mean()) / len(sheets)
    assert total == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_share_above_a_cut_is_the_same_under_every_footprint(share):
    sheets = [Sheet((900.0, 250.0, 60.0), (1.0, 0.6, 0.4), np.random.default_rng(k)) for k in range(8)]
    for footprint in (1.0, 50.0, 400.0, 5000.0):
        feet = np.full_like(X, footprint)
        seen = np.mean([above(*sheet.level(X, Y, feet), cut_for(share)).mean() for sheet in sheets])
        assert seen == pytest.approx(share, abs=0.035)


@given(level=st.floats(-5, 5), spread=st.floats(0, 3), cut=st.floats(-5, 5))
def test_above_is_a_share_and_falls_with_the_cut(level, spread, cut):
    one = above(np.float32([level]), np.float32([spread]), cut)[0]
    two = above(np.float32([level]), np.float32([spread]), cut + 0.5)[0]
    assert 0 <= two <= one <= 1


def test_dice_are_even_and_differ_by_cell_and_seed():
    i, j = (a.ravel().astype(np.int32) for a in np.mgrid[-100:100, -100:100])
    mixed = dice(i, j, 5)
    assert len(np.unique(mixed)) > 0.9999 * mixed.size
    assert np.array_equal(mixed, dice(i, j, 5))
    assert (mixed != dice(i, j, 6)).mean() > 0.999
    for part in range(4):
        values = unit(mixed, part)
        assert values.min() >= 0
        assert values.max() < 1
        assert np.histogram(values, 16, (0, 1))[0].std() / (mixed.size / 16) < 0.05
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
