"""Curves: where eps spans decades, the small ones are to be seen too."""

from __future__ import annotations

import re

import pytest

from onelip.report.curves import curve_svg
from onelip.report.lines import Line


def ticks(eps):
    line = Line("recall", "data set", "#0072b2", "", tuple((e, 0.5) for e in eps), 0.9)
    return re.findall(r"<text[^>]*>([^<]*)</text>", curve_svg([line], ["2"]))


@pytest.mark.parametrize(("eps", "stretched"), [((0.01, 0.1, 10.0), True), ((0.5, 1.0, 2.0), False)])
def test_small_eps_have_ticks_of_their_own_beside_large_ones(eps, stretched):
    found = ticks(eps)
    assert ({"0", "0.01", "0.1", "1", "10"} <= set(found)) == stretched
    assert not any("\\" in text or "$" in text for text in found)
