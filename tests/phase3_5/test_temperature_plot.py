from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import plotting
from phase3_5.temperature_plot import by_temperature
from tests.common.figures import caption_of, crowded

pytestmark = pytest.mark.unit


def figure(value: float | None, low: float | None = None, high: float | None = None, n: int = 40) -> dict[str, Any]:
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "n_problems": 8,
        "reason": None if value is not None else "no positive row",
    }


RATES = [figure(0.5, 0.4, 0.6, n=8), figure(0.25, 0.2, 0.3), figure(0.0)]
AUROCS = {
    "correct": [figure(0.8, 0.7, 0.9), figure(0.7, 0.6, 0.8), figure(None)],
    "incorrect": [figure(0.6, 0.5, 0.7), figure(1.0), figure(None)],
}


def test_pass_rates_and_areas_stand_at_their_temperatures_and_what_is_missing_leaves_a_gap(tmp_path: Path) -> None:
    made = by_temperature([0.0, 0.6, 1.2], RATES, AUROCS)
    left, right = made.axes
    rates = left.lines[0]
    assert np.asarray(rates.get_xdata()).tolist() == [0.0, 0.6, 1.2]
    assert np.asarray(rates.get_ydata()).tolist() == [0.5, 0.25, 0.0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in right.lines}
    assert drawn["correct-preferring feature"] == pytest.approx([0.8, 0.7, np.nan], nan_ok=True)
    assert drawn["incorrect-preferring feature"] == pytest.approx([0.6, 1.0, np.nan], nan_ok=True)
    assert drawn["chance"] == [0.5, 0.5]
    bars = [np.asarray(segment)[:, 1].tolist() for segment in right.collections[0].get_segments() if len(segment)]
    assert bars == [[0.7, 0.9], [0.6, 0.8]]
    plotting.save(made, tmp_path / "plot")


def test_the_caption_gives_problems_and_the_solutions_of_each_temperature() -> None:
    caption = by_temperature([0.0, 0.6, 1.2], RATES, AUROCS).get_supxlabel().replace("\n", " ")
    assert caption.startswith("8 problems; n = 8 solutions at 0, 40 solutions at each of 0.6 to 1.2.")
    assert "No AUROC" not in caption


def test_a_direction_without_any_figure_has_its_reason_and_a_panel_without_any_says_it() -> None:
    only = {**AUROCS, "incorrect": [figure(None)] * 3}
    made = by_temperature([0.0, 0.6, 1.2], RATES, only)
    assert "No AUROC of the incorrect-preferring feature: no positive row." in caption_of(made)
    assert len(made.axes[1].texts) == 0
    nothing = by_temperature([0.0, 0.6, 1.2], [figure(None)] * 3, {name: [figure(None)] * 3 for name in AUROCS})
    assert [[text.get_text() for text in axes.texts] for axes in nothing.axes] == [["no positive row"]] * 2
    assert crowded(nothing) == []


@pytest.mark.parametrize("n", [1, 2, 5, 21, 101])
def test_any_number_of_temperatures_can_be_drawn_without_crowding(n: int) -> None:
    temperatures = [place / 10 for place in range(n)]
    made = by_temperature(temperatures, RATES[:1] * n, {name: figures[:1] * n for name, figures in AUROCS.items()})
    assert crowded(made) == []
    ticks = {*made.axes[1].get_xticks(), *made.axes[1].get_xticks(minor=True)}
    assert ticks == set(temperatures)
