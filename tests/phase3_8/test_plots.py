from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics

from common import plotting
from common.statistics.detection import classification_at, f1_optimal_threshold
from common.statistics.detection_report import detection_report
from phase3_8 import curve_plots, plots

pytestmark = pytest.mark.unit

RNG = np.random.default_rng(0)
PASSED = RNG.random(60) < 0.4
SPARSE = np.maximum(RNG.standard_normal(60) + PASSED - 0.5, 0)
DENSE = 10 + RNG.standard_normal(60) - PASSED
RIVALS = {
    "logistic regression": (RNG.standard_normal(60) + PASSED)[:, None],
    "random directions": RNG.standard_normal((60, 7)),
    "random features": np.empty((60, 0)),
}


def detected(scores: NDArray, positive: NDArray[np.bool_]) -> plots.Detected:
    report = detection_report(scores, positive, np.arange(len(scores)), None, seed=1, n_draws=50)
    rivals = {name: values[: len(scores)] for name, values in RIVALS.items()}
    return plots.Detected(
        "layer 3, feature 1,234", scores, positive, len(scores), report["auroc"], report["average_precision"], rivals
    )


FEATURES = {"correct": "layer 3, feature 1,234", "incorrect": "layer 2, feature 9"}
BOTH = {"correct": detected(SPARSE, PASSED), "incorrect": detected(DENSE, ~PASSED)}
SINGLE_CLASS = {
    "correct": detected(SPARSE, np.zeros(60, dtype=bool)),
    "incorrect": detected(DENSE, np.ones(60, dtype=bool)),
}


def line(axes: Axes, label_start: str) -> tuple[NDArray, NDArray]:
    (found,) = [one for one in axes.lines if str(one.get_label()).startswith(label_start)]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def caption_of(made: Figure) -> str:
    return made.get_supxlabel().replace("\n", " ")


def test_the_roc_panels_show_the_feature_its_rivals_and_chance(tmp_path: Path) -> None:
    made = curve_plots.roc_curves(BOTH)
    for axes, direction, scores, positive in zip(
        made.axes, ("correct", "incorrect"), (SPARSE, DENSE), (PASSED, ~PASSED), strict=True
    ):
        false_rate, true_rate, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
        x, y = line(axes, "feature")
        np.testing.assert_allclose(x, false_rate)
        np.testing.assert_allclose(y, true_rate)
        assert axes.get_title(loc="left") == f"{direction}-preferring: layer 3, feature 1,234"
        names = legend_of(axes)
        assert names[0].startswith(f"feature, {metrics.roc_auc_score(positive, scores):.2f} (")
        assert names[1].startswith("logistic regression, ")
        assert names[2].startswith("7 random directions, ")
        assert names[3:] == ["chance, 0.50"]
    assert f"n = 60 solutions of 60 problems, {PASSED.sum()} passed" in caption_of(made)
    plotting.save(made, tmp_path / "plot")


def test_the_precision_recall_steps_enclose_the_average_precision(tmp_path: Path) -> None:
    made = curve_plots.precision_recall_curves(BOTH)
    for axes, scores, positive in zip(made.axes, (SPARSE, DENSE), (PASSED, ~PASSED), strict=True):
        recall, precision = line(axes, "feature")
        expected = metrics.average_precision_score(positive, scores)
        assert np.trapezoid(precision, recall) == pytest.approx(expected)
        assert legend_of(axes)[-1] == f"share of positives, {positive.mean():.2f}"
        assert [y[0] for y in (np.asarray(one.get_ydata()) for one in axes.lines) if len(set(y)) == 1 and len(y)] == [
            positive.mean()
        ]
    plotting.save(made, tmp_path / "plot")


@pytest.mark.parametrize("draw", [curve_plots.roc_curves, curve_plots.precision_recall_curves])
def test_a_panel_of_one_class_says_so_and_draws_nothing(draw: object, tmp_path: Path) -> None:
    assert callable(draw)
    made = draw(SINGLE_CLASS)
    assert [axes.texts[0].get_text() for axes in made.axes] == [
        "no positive row among 60",
        "no negative row among 60",
    ]
    assert all(len(axes.lines) == 0 for axes in made.axes)
    plotting.save(made, tmp_path / "plot")


def test_f1_stands_beside_the_f1_of_calling_everything_positive_on_both_splits(tmp_path: Path) -> None:
    half = np.arange(60) < 30
    chosen = {
        "correct": f1_optimal_threshold(SPARSE[half], PASSED[half]),
        "incorrect": f1_optimal_threshold(DENSE[half], ~PASSED[half]),
    }
    applied = {
        "correct": classification_at(SPARSE[~half], PASSED[~half], chosen["correct"].threshold),
        "incorrect": classification_at(DENSE[~half], ~PASSED[~half], chosen["incorrect"].threshold),
    }
    made = plots.f1_against_threshold(chosen, applied, FEATURES)
    for axes, direction in zip(made.axes, ("correct", "incorrect"), strict=True):
        x, y = line(axes, "hyperparameter split, by threshold")
        np.testing.assert_array_equal(x, chosen[direction].thresholds)
        np.testing.assert_array_equal(y, chosen[direction].f1_curve)
        # A threshold between two scores flags what the higher one flags: each step reaches back to the score below it.
        assert axes.lines[0].get_drawstyle() == "steps-pre"
        assert line(axes, "validation split at the chosen")[1][0] == applied[direction].f1
        assert line(axes, "validation split, everything")[1][0] == applied[direction].f1_all_positive
        assert line(axes, "hyperparameter split, everything")[1][0] == chosen[direction].f1_all_positive
        assert line(axes, "chosen threshold")[0][0] == chosen[direction].threshold
    sizes = f"Hyperparameter split: n = 30, {PASSED[half].sum()} passed; validation split: n = 30"
    assert caption_of(made).startswith(sizes)
    plotting.save(made, tmp_path / "plot")


def test_without_a_threshold_the_panels_give_the_reason(tmp_path: Path) -> None:
    nothing = f1_optimal_threshold(SPARSE, np.zeros(60, dtype=bool))
    made = plots.f1_against_threshold(
        {"correct": nothing, "incorrect": nothing}, {"correct": None, "incorrect": None}, FEATURES
    )
    assert [axes.texts[0].get_text() for axes in made.axes] == ["no positive row among 60"] * 2
    plotting.save(made, tmp_path / "f1")
    made = plots.confusion_matrices({"correct": None, "incorrect": None}, FEATURES)
    assert [axes.texts[0].get_text() for axes in made.axes] == ["no threshold was chosen"] * 2
    plotting.save(made, tmp_path / "matrices")


def wilson(successes: int, n: int) -> str:
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return f"{100 * interval.low:.0f}–{100 * interval.high:.0f}"


def test_the_confusion_matrix_shows_counts_and_the_shares_of_each_row(tmp_path: Path) -> None:
    # 8 of 10 positive rows are flagged, and 3 of 12 others.
    scores = np.repeat([1.0, 0.0, 1.0, 0.0], [8, 2, 3, 9])
    positive = np.repeat([True, True, False, False], [8, 2, 3, 9])
    at = classification_at(scores, positive, 1.0)
    flipped = classification_at(-scores, ~positive, 0.0)
    made = plots.confusion_matrices({"correct": at, "incorrect": flipped}, FEATURES)
    correct, incorrect = made.axes
    cells = {text.get_position(): text.get_text() for text in correct.texts}
    assert cells == {
        (0, 0): f"8\n80 % ({wilson(8, 10)})",
        (1, 0): f"2\n20 % ({wilson(2, 10)})",
        (0, 1): f"3\n25 % ({wilson(3, 12)})",
        (1, 1): f"9\n75 % ({wilson(9, 12)})",
    }
    assert [tick.get_text() for tick in correct.get_yticklabels()] == ["passed\n(10)", "failed\n(12)"]
    assert [tick.get_text() for tick in correct.get_xticklabels()] == ["flagged as passed\n(11)", "not flagged\n(11)"]
    assert [tick.get_text() for tick in incorrect.get_yticklabels()] == ["failed\n(12)", "passed\n(10)"]
    assert incorrect.texts[0].get_text().startswith("9\n75 %")
    assert [axes.get_title(loc="left") for axes in made.axes] == [
        "correct-preferring: layer 3, feature 1,234",
        "incorrect-preferring: layer 2, feature 9",
    ]
    plotting.save(made, tmp_path / "plot")


def test_a_class_without_rows_has_no_share_of_zero_in_the_matrix() -> None:
    at = classification_at(SPARSE, np.zeros(60, dtype=bool), 0.5)
    texts = [
        text.get_text() for text in plots.confusion_matrices({"correct": at, "incorrect": at}, FEATURES).axes[0].texts
    ]
    assert texts[:2] == ["0\nno rows", "0\nno rows"]


def filled(axes: Axes) -> list[StepPatch]:
    return [patch for patch in axes.patches if isinstance(patch, StepPatch) and patch.get_fill()]


def test_bars_of_each_class_add_up_to_one_and_common_zeros_stand_apart(tmp_path: Path) -> None:
    made = plots.score_distributions(BOTH, {"correct": 0.4, "incorrect": None})
    sparse, dense = made.axes
    heights = [np.asarray(patch.get_data().values) for patch in filled(sparse)]
    assert len(heights) == 4  # bars and the bar of zeros, of either class
    assert heights[0].sum() + heights[1].sum() == pytest.approx(1) == heights[2].sum() + heights[3].sum()
    assert heights[1][0] == np.mean(SPARSE[PASSED] == 0) and heights[3][0] == np.mean(SPARSE[~PASSED] == 0)
    assert sparse.get_xticklabels()[0].get_text() == "exactly\n0"
    assert [float(np.asarray(patch.get_data().values).sum()) for patch in filled(dense)] == pytest.approx([1, 1])
    n_passed = int(PASSED.sum())
    names = [f"passed (n = {n_passed})", f"failed (n = {60 - n_passed})"]
    assert legend_of(sparse) == [*names, "threshold, 0.4"] and legend_of(dense) == names
    # In the incorrect direction the positive class is the failures; the colours stay with the outcome.
    bars = filled(dense)[0].get_data()
    counts = np.histogram(DENSE[PASSED], bars.edges)[0]
    np.testing.assert_allclose(np.asarray(bars.values), counts / PASSED.sum())
    assert to_hex(filled(dense)[0].get_facecolor()).upper() == plotting.CORRECT
    plotting.save(made, tmp_path / "plot")


@pytest.mark.parametrize("scores", [np.zeros(60), np.full(60, 3.0), -SPARSE], ids=["all zero", "constant", "negative"])
def test_any_finite_scores_can_be_drawn(scores: NDArray, tmp_path: Path) -> None:
    odd = {"correct": detected(scores, PASSED), "incorrect": detected(scores, ~PASSED)}
    plotting.save(plots.score_distributions(odd, {"correct": 0.0, "incorrect": 1.0}), tmp_path / "scores")
    plotting.save(curve_plots.roc_curves(odd), tmp_path / "roc")
    plotting.save(curve_plots.precision_recall_curves(odd), tmp_path / "recall")
