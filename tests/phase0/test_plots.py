from __future__ import annotations

import pytest

from phase0.plots import complexity_histogram
from tests.common.figures import crowded

pytestmark = pytest.mark.unit


def test_the_histogram_has_a_labelled_bar_for_each_complexity_that_occurs_and_says_n() -> None:
    made = complexity_histogram([1, 1, 1, 2, 2, 9])
    (axes,) = made.axes
    assert {round(bar.get_center()[0]): bar.get_height() for bar in axes.patches} == {1: 3, 2: 2, 9: 1}
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2", "3"]
    assert made.get_supxlabel().startswith("n = 6 problems")
    assert axes.get_xlabel() and axes.get_ylabel()


@pytest.mark.parametrize(
    ("counts", "rotation"),
    [({1: 9, 5: 2}, {0.0}), ({one: 268 for one in range(1, 17)}, {90.0}), ({1: 268, 2: 250, 60: 1}, set())],
)
def test_counts_stand_above_their_bars_lying_or_upright_where_there_is_room(
    counts: dict[int, int], rotation: set[float]
) -> None:
    made = complexity_histogram([value for value, n in counts.items() for _ in range(n)])
    assert {text.get_rotation() for text in made.axes[0].texts} == rotation
    assert crowded(made) == []
