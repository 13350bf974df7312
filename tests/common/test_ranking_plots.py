from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from common import plotting
from common.ranking_plots import DASHES, firing_frequencies, score_by_layer
from tests.common.figures import caption_of, crowded

pytestmark = pytest.mark.unit

LAYER = np.array([0, 0, 2, 2, 2])
SCORE = np.array([0.1, -0.4, 0.5, -0.2, 0.3])


def lines_of(made: Figure) -> dict[str, list[list[float]]]:
    return {
        str(line.get_label()): [np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()]
        for line in made.axes[0].lines
        if line.get_label() != "shuffled labels"
    }


def thresholds_of(made: Figure) -> dict[str, float]:
    """Returns the height of each direction's threshold by its colour."""
    lines = [line for line in made.axes[0].lines if line.get_label() == "shuffled labels"]
    return {str(line.get_color()): float(np.asarray(line.get_ydata())[0]) for line in lines}


def test_each_layer_shows_its_best_score_of_either_direction() -> None:
    made = score_by_layer(LAYER, SCORE, "separation score", 0.3, -0.35, n_problems=48, n_permutations=999)
    lines = lines_of(made)
    assert lines["correct-preferring"] == [[0, 2], [0.1, 0.5]]
    assert lines["incorrect-preferring"] == [[0, 2], [0.4, 0.2]]
    assert thresholds_of(made) == {plotting.CORRECT: 0.3, plotting.INCORRECT: 0.35}
    for figure in ("n = 48 problems", "5 features in 2 layers", "999 shuffles"):
        assert figure in caption_of(made)


def test_thresholds_of_equal_height_are_both_seen() -> None:
    made = score_by_layer(LAYER, SCORE, "separation score", 0.3, -0.3, n_problems=48, n_permutations=999)
    correct, incorrect = (covered_by(*DASHES[direction]) for direction in ("correct", "incorrect"))
    assert thresholds_of(made) == {plotting.CORRECT: 0.3, plotting.INCORRECT: 0.3}
    assert correct and incorrect and not correct & incorrect


def covered_by(offset: float, pattern: tuple[float, ...]) -> set[int]:
    """Returns which tenths of the first ten points a dashed line covers."""
    ends = np.cumsum(pattern)
    places = (np.arange(100) / 10 + offset) % ends[-1]
    return {place for place, at in enumerate(places) if int(np.searchsorted(ends, at, side="right")) % 2 == 0}


def test_a_layer_whose_best_score_is_negative_is_on_the_page() -> None:
    made = score_by_layer(np.arange(3), np.array([-2.0, -1.0, 1.0]), "Welch's t", 3.0, -3.0, 48, 999)
    low, high = made.axes[0].get_ylim()
    assert low < -2 and high > 3 and crowded(made) == []


def test_without_a_ranked_feature_the_panel_says_so(tmp_path: Path) -> None:
    made = score_by_layer(LAYER[:0], SCORE[:0], "separation score", math.inf, -math.inf, 48, 999)
    assert [text.get_text() for text in made.axes[0].texts] == ["no feature could be ranked"]
    plotting.save(made, tmp_path / "plot")


def test_a_critical_value_out_of_reach_is_not_drawn(tmp_path: Path) -> None:
    made = score_by_layer(LAYER, SCORE, "separation score", math.inf, -math.inf, n_problems=48, n_permutations=9)
    assert all(np.isfinite(y).all() for _, y in lines_of(made).values())
    assert len(made.axes[0].lines) == 2 and "too few for a threshold" in caption_of(made)
    plotting.save(made, tmp_path / "plot")


def test_the_top_features_are_marked_where_they_lie(tmp_path: Path) -> None:
    f_correct, f_incorrect = np.array([0.9, 0.1, 0.5, 0.0]), np.array([0.2, 0.8, 0.5, 0.0])
    made = firing_frequencies(f_correct, f_incorrect, np.array([0]), np.array([1]), n_correct=20, n_incorrect=28)
    axes = made.axes[0]
    marked = {str(points.get_label()): np.asarray(points.get_offsets()).tolist() for points in axes.collections[1:]}
    assert marked == {"top 1 correct-preferring": [[0.2, 0.9]], "top 1 incorrect-preferring": [[0.8, 0.1]]}
    assert "28" in axes.get_xlabel() and "20" in axes.get_ylabel()
    assert caption_of(made).startswith("n = 4 features, also those not ranked, on 48 problems")
    plotting.save(made, tmp_path / "plot")


def test_a_class_without_problems_has_no_frequencies_and_the_panel_says_so(tmp_path: Path) -> None:
    nothing, nan = np.empty(0, dtype=np.int64), np.full(4, np.nan)
    made = firing_frequencies(np.array([0.9, 0.1, 0.5, 0.0]), nan, nothing, nothing, n_correct=20, n_incorrect=0)
    assert [text.get_text() for text in made.axes[0].texts] == ["no frequencies"]
    plotting.save(made, tmp_path / "plot")
