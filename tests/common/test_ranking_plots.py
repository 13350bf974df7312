from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from common import plotting
from common.ranking_plots import firing_frequencies, score_by_layer

pytestmark = pytest.mark.unit

LAYER = np.array([0, 0, 2, 2, 2])
SCORE = np.array([0.1, -0.4, 0.5, -0.2, 0.3])


def lines_of(made: Figure) -> dict[str, list[list[float]]]:
    return {
        str(line.get_label()): [np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()]
        for line in made.axes[0].lines
    }


def test_each_layer_shows_its_best_score_of_either_direction() -> None:
    made = score_by_layer(LAYER, SCORE, "separation score", 0.3, -0.35, n_problems=48, n_permutations=999)
    lines = lines_of(made)
    assert lines["correct-preferring"] == [[0, 2], [0.1, 0.5]]
    assert lines["incorrect-preferring"] == [[0, 2], [0.4, 0.2]]
    levels = sorted(y[0] for x, y in lines.values() if list(x) == [0, 1] and len(set(y)) == 1)
    assert levels == [0.3, 0.35]
    for figure in ("48 problems", "5 features", "999 shuffles"):
        assert figure in made.get_supxlabel().replace("\n", " ")


def test_a_critical_value_out_of_reach_is_not_drawn(tmp_path: Path) -> None:
    made = score_by_layer(LAYER, SCORE, "separation score", math.inf, -math.inf, n_problems=48, n_permutations=9)
    assert all(np.isfinite(y).all() for _, y in lines_of(made).values())
    assert len(made.axes[0].lines) == 2
    plotting.save(made, tmp_path / "plot")


def test_the_top_features_are_marked_where_they_lie(tmp_path: Path) -> None:
    f_correct, f_incorrect = np.array([0.9, 0.1, 0.5, 0.0]), np.array([0.2, 0.8, 0.5, 0.0])
    made = firing_frequencies(f_correct, f_incorrect, np.array([0]), np.array([1]), n_correct=20, n_incorrect=28)
    axes = made.axes[0]
    marked = {str(points.get_label()): np.asarray(points.get_offsets()).tolist() for points in axes.collections[1:]}
    assert marked == {"top 1 correct-preferring": [[0.2, 0.9]], "top 1 incorrect-preferring": [[0.8, 0.1]]}
    assert "28" in axes.get_xlabel() and "20" in axes.get_ylabel()
    assert made.get_supxlabel().startswith("4 features")
    plotting.save(made, tmp_path / "plot")
