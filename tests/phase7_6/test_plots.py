from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from common import plotting
from phase7_6.plots import comparison_figure
from tests.common.figures import caption_of, crowded, points

pytestmark = pytest.mark.unit


def figure(value: float | None, low: float | None = None, high: float | None = None, n: int | None = 388) -> Any:
    return {"value": value, "low": low, "high": high, "n": n}


NOTHING = figure(None, n=0)
ROWS = [
    {"what": "AUROC", "direction": "correct", "base": figure(0.8, 0.7, 0.9), "instruct": figure(0.6, 0.5, 0.7, 1234)},
    {"what": "AUROC", "direction": "incorrect", "base": figure(0.7, 0.6, 0.8), "instruct": figure(0.65)},
    {"what": "correction", "direction": "correct", "base": figure(0.1, 0.05, 0.2, 240), "instruct": NOTHING},
    {"what": "preservation", "direction": "correct", "base": NOTHING, "instruct": NOTHING},
]


def bars(axes: Axes, colour: str) -> list[tuple[float, float, float]]:
    found = []
    for lines in axes.collections:
        assert isinstance(lines, LineCollection)
        if plotting_colour(lines) == colour:
            found += [np.asarray(segment) for segment in lines.get_segments()]
    return [(round(float(one[0, 1]), 6), float(one[0, 0]), float(one[1, 0])) for one in found]


def plotting_colour(lines: LineCollection) -> str:
    from matplotlib.colors import to_hex

    return to_hex(np.asarray(lines.get_color())[0]).upper()


def test_both_models_stand_below_each_other_with_their_intervals(tmp_path: Path) -> None:
    made = comparison_figure(ROWS)
    (axes,) = made.axes
    base, instruct = (points(axes, plotting.CORRECT, fillstyle=one) for one in ("full", "none"))
    assert base == [[(0.8, -0.16)], [(0.1, pytest.approx(2.4 - 0.16))]]
    assert instruct == [[(0.6, 0.16)]]
    assert points(axes, plotting.INCORRECT) == [[(0.7, 0.84)], [(0.65, 1.16)]]
    assert bars(axes, plotting.CORRECT) == [(-0.16, 0.7, 0.9), (0.16, 0.5, 0.7), (2.24, 0.05, 0.2)]
    assert bars(axes, plotting.INCORRECT) == [(0.84, 0.6, 0.8)], "the other has no interval"
    assert crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_each_row_is_named_and_has_its_numbers_of_problems() -> None:
    made = comparison_figure(ROWS)
    (axes,) = made.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "AUROC, correct direction",
        "AUROC, incorrect direction",
        "correction, correct direction",
        "preservation, correct direction",
    ]
    (right,) = axes.child_axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["388 / 1,234", "388 / 388", "240 / 0", "0 / 0"]
    assert axes.yaxis_inverted()
    assert "n of the base and of the instruction-tuned model" in caption_of(made)


def test_chance_is_drawn_for_areas_under_the_curve_only() -> None:
    (axes,) = comparison_figure(ROWS).axes
    chance = [np.asarray(one.get_segments()[0]) for one in axes.collections if plotting_colour(one) == "#000000"]
    assert [(one[0, 0], one[0, 1], one[1, 1]) for one in chance] == [(0.5, -0.5, 0.5), (0.5, 0.5, 1.5)]
    shares = comparison_figure(ROWS[2:])
    assert [one for one in shares.axes[0].collections if plotting_colour(one) == "#000000"] == []
    assert "chance" not in [text.get_text() for text in shares.legends[0].get_texts()]


def test_a_missing_figure_leaves_a_note_in_its_place() -> None:
    (axes,) = comparison_figure(ROWS).axes
    notes = [(text.get_text(), text.get_position()) for text in axes.texts]
    assert notes == [
        ("instruction-tuned model: no figure", (0, pytest.approx(2.56))),
        ("base model: no figure", (0, pytest.approx(3.64))),
        ("instruction-tuned model: no figure", (0, pytest.approx(3.96))),
    ]


@pytest.mark.parametrize("n_rows", [0, 1, 20])
def test_any_number_of_rows_can_be_drawn_without_crowding(n_rows: int, tmp_path: Path) -> None:
    made = comparison_figure([{**ROWS[row % 4], "what": f"figure {row // 2}"} for row in range(n_rows)])
    assert crowded(made) == []
    said = [text.get_text() for text in made.axes[0].texts]
    assert ("nothing to compare" in said) == (n_rows == 0)
    plotting.save(made, tmp_path / "plot")
