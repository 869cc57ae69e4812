"""Curves: where eps spans decades, the small ones are to be seen too."""

from __future__ import annotations

import re

import pytest

from onelip.report.curves import curve_svg
from onelip.report.lines import Line


def ticks(points):
    line = Line("recall", "data set", "#0072b2", "", points, 0.9)
    return re.findall(r"<text[^>]*>([^<]*)</text>", curve_svg([line], ["2"]))


@pytest.mark.parametrize(
    ("points", "stretched"),
    [
        (((0.01, 0.8), (0.1, 0.3), (10.0, 0.0)), True),
        (((0.01, 0.8), (1.0, 0.7), (10.0, 0.3)), False),
        (((0.01, 0.8), (0.1, 0.3), (1.0, 0.0)), False),
        (((0.01, 0.8), (0.1, 0.8), (10.0, 0.8)), False),
    ],
)
def test_what_is_lost_at_small_eps_is_seen_beside_large_ones(points, stretched):
    found = ticks(points)
    assert ({"0", "0.1", "1", "10"} <= set(found)) == stretched
    assert not any("\\" in text or "$" in text for text in found)
