"""Pictures side by side: colours mean what the legend says, and nothing of the class is cut away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onelip.report.panels import FOUND, INVENTED, MISSED, Panel, against, cut, grid, window


def test_found_missed_and_invented_have_their_colours():
    image = np.zeros((1, 4, 3))
    target, prediction = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    picture = against(image, prediction, target, 1)
    for place, colour in enumerate((FOUND, MISSED, INVENTED)):
        assert picture[0, place] == pytest.approx(0.9 * np.asarray(colour))
    assert np.ptp(picture[0, 3]) == 0  # what is right and elsewhere stays grey


SIZES, PLACES, BOXES = (
    st.tuples(st.integers(low, high), st.integers(low, high)) for low, high in ((8, 90), (0, 89), (1, 40))
)


@given(SIZES, PLACES, BOXES)
def test_a_window_holds_the_whole_mask_and_lies_in_the_picture(size, place, box):
    mask = np.zeros(size, dtype=bool)
    mask[place[0] : place[0] + box[0], place[1] : place[1] + box[1]] = True
    frame = window(mask)
    assert cut(mask, frame).sum() == mask.sum()
    assert cut(mask, frame).shape == frame[2:]
    assert min(frame) >= 0


def test_a_grid_has_a_place_for_every_panel(tmp_path):
    picture = np.full((20, 30, 3), 0.5)
    rows = [
        [Panel(picture, "left", frame=(2, 3, 5, 6)), Panel(picture[..., 0], grey=picture[..., 0])],
        [None, Panel(picture)],
    ]
    figure = grid(rows, titles=["a", "b"], names=["one", "two"], legend=True)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["a", "b"]
    assert figure.axes[0].get_xlabel() == "left"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["found", "missed", "not there"]
    figure.savefig(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000
