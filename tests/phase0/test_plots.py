from __future__ import annotations

import pytest

from phase0.plots import complexity_histogram

pytestmark = pytest.mark.unit


def test_the_histogram_has_a_labelled_bar_for_each_complexity_that_occurs_and_says_n() -> None:
    made = complexity_histogram([1, 1, 1, 2, 2, 9])
    (axes,) = made.axes
    assert {round(bar.get_center()[0]): bar.get_height() for bar in axes.patches} == {1: 3, 2: 2, 9: 1}
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "3"]
    assert made.get_supxlabel().startswith("n = 6 problems")
    assert axes.get_xlabel() and axes.get_ylabel()
