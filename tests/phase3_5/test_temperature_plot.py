from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import plotting
from phase3_5.temperature_plot import by_temperature

pytestmark = pytest.mark.unit


def figure(value: float | None, low: float | None = None, high: float | None = None, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "n_problems": 8}


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
    assert caption.startswith("8 problems; n = 8, 40, 40 solutions")


def test_a_single_temperature_can_be_drawn(tmp_path: Path) -> None:
    only = {direction: figures[:1] for direction, figures in AUROCS.items()}
    plotting.save(by_temperature([0.0], RATES[:1], only), tmp_path / "plot")
