from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from common import plotting
from common.plot_parts import (
    ends,
    fitting,
    head,
    layer_axis,
    legend_below,
    merged,
    percent,
    reason_of,
    say,
    text_inches,
)
from tests.common.figures import crowded

pytestmark = pytest.mark.unit

KNOWN: dict[str, Any] = {"value": 0.5, "low": 0.4, "high": 0.7, "reason": None}
UNKNOWN: dict[str, Any] = {"value": None, "low": None, "high": None, "reason": "no rows"}


def panel(height: float = 2.0, label: str = "x") -> tuple[Figure, Any]:
    with plotting.figure(plotting.COLUMN, height) as (made, axes):
        axes.plot([0, 1], [0, 1], label="a line")
        axes.set(xlabel=label, ylabel="y")
        plotting.caption(made, "n = 2")
    return made, axes


def test_what_holds_for_all_is_said_once() -> None:
    assert merged({"a": "n = 3", "b": "n = 3"}) == "n = 3."
    assert merged({"first": "n = 3", "second": "n = 4"}) == "First: n = 3; second: n = 4."


def test_an_unknown_figure_is_a_gap_and_its_reason_is_kept_where_nothing_is_known() -> None:
    values, low, high = ends([KNOWN, UNKNOWN])
    assert values.tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert (low[0], high[0]) == (0.4, 0.7) and np.isnan([low[1], high[1]]).all()
    assert reason_of([UNKNOWN, KNOWN]) is None
    assert reason_of([UNKNOWN, {**UNKNOWN, "reason": "later"}]) == "no rows"
    assert reason_of([]) == "nothing was measured"


def test_a_panel_says_in_the_ink_of_text_why_it_is_empty_and_whose_it_is() -> None:
    made, axes = panel()
    say(axes, "no rows")
    head(axes, "incorrect", "incorrect-preferring")
    assert [text.get_text() for text in axes.texts] == ["no rows"]
    assert axes.title.get_text() == "" and axes.get_title(loc="left") == "incorrect-preferring"
    assert axes._left_title.get_color() == plotting.INK["incorrect"]
    assert crowded(made) == []


def test_shares_are_labelled_in_per_cent() -> None:
    made, axes = panel()
    axes.set_yticks([0, 0.005, 0.5, 1])
    percent(axes.yaxis)
    made.draw_without_rendering()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0 %", "0.5 %", "50 %", "100 %"]


@pytest.mark.parametrize("layers", [[3], [0, 1, 2, 3], list(range(26)), [0, 6, 8, 15, 17]])
def test_layers_are_marked_in_whole_numbers_and_all_are_on_the_page(layers: list[int]) -> None:
    made, axes = panel()
    layer_axis(axes, layers)
    made.draw_without_rendering()
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks and all(float(tick).is_integer() for tick in ticks)
    assert low < min(layers) and high > max(layers)


@pytest.mark.parametrize("height", [1.5, 4.0])
def test_a_legend_stands_below_the_labels_of_its_panel(height: float) -> None:
    made, axes = panel(height, "a long name of the axis")
    axes.set_xticks([0, 1], ["exactly\n0", "1"])
    legend = legend_below(axes, {"one": axes.lines[0], "both": (axes.lines[0], axes.lines[0])}, tick_lines=2)
    assert [text.get_text() for text in legend.get_texts()] == ["one", "both"]
    assert crowded(made) == []
    box, name = legend.get_window_extent(), axes.xaxis.label.get_window_extent()
    assert 0 <= name.y0 - box.y1 < 0.25 * made.dpi, "a gap that does not depend on the height"


def test_of_labels_that_would_touch_the_earlier_stays() -> None:
    wide = text_inches("1000")
    assert wide == pytest.approx(4 * 0.636 * plotting.SMALL / 72, rel=0.1), "digits of DejaVu Sans are 0.636 em wide"
    assert text_inches("1000\n1") == wide and text_inches("$\\frac$") > text_inches("frac")
    places = {0.0: 0.0, 1.0: 0.6 * wide, 2.0: 3 * wide}
    assert fitting(places, {1.0: "1000", 0.0: "1000", 2.0: "1000"}) == {1.0: "1000", 2.0: "1000"}
    assert fitting(places, {}) == {}
