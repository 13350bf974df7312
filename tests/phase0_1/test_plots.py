from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from common import plotting
from phase0_1.plots import HIGHEST, split_difficulty
from tests.common.figures import bars, caption_of, crowded

pytestmark = pytest.mark.unit

SPLITS = {"sae": [1, 1, 2, 4, 1], "hyperparams": [1], "validation": [2, 1, 1, 4]}
DISTANCES = {"sae-hyperparams": 0.4, "sae-validation": 0.125, "hyperparams-validation": 0.5}


def test_each_split_has_its_share_of_every_complexity_with_the_interval_of_wilson(tmp_path: Path) -> None:
    made = split_difficulty(SPLITS, DISTANCES)
    (axes,) = made.axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axes.lines}
    assert drawn == {
        "sae (n = 5)": [3 / 5, 1 / 5, 1 / 5],
        "hyperparams (n = 1)": [1, 0, 0],
        "validation (n = 4)": [2 / 4, 1 / 4, 1 / 4],
    }
    interval = binomtest(3, 5).proportion_ci(method="wilson")
    assert bars(axes)[0][1:] == pytest.approx((interval.low, interval.high))
    assert [round(place) for place, _, _ in bars(axes)] == [1, 2, 4] * 3
    assert caption_of(made).startswith("n = 10 problems in 3 splits.") and "sae and validation 0.125" in caption_of(
        made
    )
    assert crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_the_highest_complexities_are_drawn_together() -> None:
    made = split_difficulty({"sae": [1, HIGHEST, 40], "validation": [2, 60]}, {})
    (axes,) = made.axes
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [1 / 3, 0, 2 / 3]
    assert axes.get_xticklabels()[-1].get_text() == f"{HIGHEST}+" and "distances" not in caption_of(made)
