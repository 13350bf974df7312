from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from common.runs.metadata import Extent
from report.blocks import Figure, Missing
from report.run import Run
from report.sections.detection import section
from tests.report.sections.artifacts import config_in
from tests.report.sections.detections import Direction, publish_detection
from tests.report.sections.looking import column, every_block, plain, shown, table, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit

N = 60
RANDOM = np.random.default_rng(7)
PASSED = RANDOM.random(N) < 0.45
GOOD = PASSED * 1.5 + RANDOM.normal(size=N)
NOISE = RANDOM.normal(size=N)


def good() -> tuple[Direction, Direction]:
    return Direction(GOOD, PASSED), Direction(-GOOD, ~PASSED)


def test_without_phase_3_8_the_section_names_its_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 3.8 --data-dir {tmp_path}"


def test_the_lead_says_auroc_and_f1_as_scikit_learn_has_them_beside_the_trivial_f1(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    results = publish_detection(config, *good())
    lead = plain(sound(section(Run(config))).lead)
    report = results["directions"]["correct"]
    called = report["threshold"]["threshold"] <= GOOD
    everything = np.ones(N, dtype=bool)
    auroc = report["validation"]["auroc"]
    assert (
        f"The correct-preferring feature (layer 3, feature 257) does better than chance: AUROC "
        f"{roc_auc_score(PASSED, GOOD):.3f} (95 % interval {auroc['low']:.3f} to {auroc['high']:.3f}) on 60 solutions."
    ) in lead
    assert (
        f"At its threshold F1 is {f1_score(PASSED, called):.3f}; calling everything “passed” has "
        f"{f1_score(PASSED, everything):.3f}."
    ) in lead


# The regression's score is half the feature's here: the same ranking.
def test_the_lead_sets_the_feature_beside_regression_and_random_directions(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    correct, incorrect = good()
    publish_detection(config, correct, incorrect)
    lead = plain(sound(section(Run(config))).lead)
    random = [roc_auc_score(PASSED, rival) for rival in correct.rivals["random directions"].T]
    reach = sum(one >= roc_auc_score(PASSED, GOOD) for one in random)
    assert f"A logistic regression on the same layer has {roc_auc_score(PASSED, GOOD):.3f} (the same)" in lead
    assert f"{reach} of 4 random directions do as well (median {np.median(random):.3f})" in lead


def test_a_feature_that_a_regression_beats_is_called_worse(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    oracle = PASSED[:, None] + 0.01 * RANDOM.normal(size=(N, 1))
    publish_detection(config, Direction(GOOD, PASSED, {"logistic regression": oracle}), good()[1])
    assert "has 1.000 (the feature is worse)" in sound(section(Run(config))).lead
    publish_detection(config, Direction(GOOD, PASSED, {"logistic regression": NOISE[:, None]}), good()[1])
    assert "(the feature is better)" in sound(section(Run(config))).lead
    near = (GOOD + 0.2 * NOISE)[:, None]
    publish_detection(config, Direction(GOOD, PASSED, {"logistic regression": near}), good()[1])
    assert "(no difference can be told)" in sound(section(Run(config))).lead


def test_a_feature_that_chance_can_explain_is_not_called_a_finding(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_detection(config, Direction(NOISE, PASSED), Direction(GOOD, ~PASSED))
    lead = sound(section(Run(config))).lead
    assert "The correct-preferring feature (layer 3, feature 257) does no better than chance can explain" in lead
    assert "The incorrect-preferring feature (layer 2, feature 257) does worse than chance" in lead


def test_a_threshold_that_only_calls_everything_positive_is_said_to_add_nothing(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_detection(config, Direction(np.zeros(N), PASSED), good()[1])
    assert "so the threshold adds nothing." in sound(section(Run(config))).lead


def test_one_class_only_gives_a_reason_and_no_figure(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    none = np.zeros(N, dtype=bool)
    publish_detection(config, Direction(GOOD, none), Direction(-GOOD, ~none))
    found = sound(section(Run(config)))
    assert "cannot be judged on 60 solutions: " in found.lead and "AUROC 0" not in found.lead
    rivals = table(found, "The correct-preferring feature beside simple rivals")
    assert all(text.startswith("not defined (") for text in shown(column(rivals, "AUROC")))
    assert shown(column(rivals, "F1"))[0] == "not defined (no threshold was chosen: its split has no positive row)"
    calls = table(found, "Calls of the correct-preferring feature")
    assert calls.rows == () and "none, no threshold was chosen" in calls.caption


def test_every_rival_stands_in_the_table_with_f1_beside_its_trivial_f1(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    results = publish_detection(config, *good())
    rivals = table(sound(section(Run(config))), "The correct-preferring feature beside simple rivals")
    assert shown(column(rivals, "score")) == [
        *(
            "the feature: layer 3, 257",
            "logistic regression",
            "difference of class means",
            "4 random directions, median (range)",
        ),
        *("4 matched random features, median (range)", "prompt length", "cyclomatic complexity"),
    ]
    called = results["directions"]["correct"]["threshold"]["threshold"] <= GOOD
    assert shown(column(rivals, "balanced accuracy"))[0] == f"{balanced_accuracy_score(PASSED, called):.3f}"
    assert shown(column(rivals, "F1, all positive"))[0] == f"{f1_score(PASSED, np.ones(N)):.3f}"
    assert shown(column(rivals, "feature ahead by"))[0] == "–"
    assert shown(column(rivals, "feature ahead by"))[1].startswith("+0.000")
    assert shown(column(rivals, "Matthews"))[5] == "not defined (each of 60 rows is flagged)"


# One of four random directions knows the labels, the others are noise: p = (1 + 1) / (1 + 4).
def test_what_chance_gives_is_calibrated_by_the_random_scores(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    scores = np.random.default_rng(5).normal(size=(N, 4))
    scores[:, 2] = PASSED + 0.01 * NOISE
    publish_detection(config, Direction(GOOD, PASSED, {"random directions": scores}), good()[1])
    note = texts(sound(section(Run(config))), "note")[0]
    aurocs = [roc_auc_score(PASSED, column) for column in scores.T]
    assert note.startswith(
        f"What chance gives: 4 random directions have AUROC {min(aurocs):.3f} to 1.000, median "
        f"{np.median(aurocs):.3f}; 1 of them reach the feature's (p = 0.400, smallest possible 0.200)"
    )
    assert "the feature fires on 70 % of the sae split, these on 25 % (median)" in note


def test_the_calls_are_counted_with_the_share_that_is_right(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    results = publish_detection(config, *good())
    called = results["directions"]["correct"]["threshold"]["threshold"] <= GOOD
    calls = table(sound(section(Run(config))), "Calls of the correct-preferring feature")
    tp, fn = int((called & PASSED).sum()), int((~called & PASSED).sum())
    fp, tn = int((called & ~PASSED).sum()), int((~called & ~PASSED).sum())
    assert [shown(row)[1:3] for row in calls.rows[:2]] == [[str(tp), str(fn)], [str(fp), str(tn)]]
    right = [text.rpartition(" ")[2] for text in shown([row[3] for row in calls.rows])]
    assert right == [f"({tp}/{tp + fn})", f"({tn}/{fp + tn})", f"({tp + tn}/{N})"]
    precision, of_negatives = shown(calls.rows[2])[1:3]
    assert precision.endswith(f"({tp}/{tp + fp})") and of_negatives.endswith(f"({tn}/{tn + fn})")


def test_difficulty_and_temperature_have_their_rows_with_n(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_detection(config, *good())
    found = sound(section(Run(config)))
    by_difficulty = table(found, "The correct-preferring feature by difficulty")
    assert shown(column(by_difficulty, "complexity")) == ["1", "2–3", "4 and more"]
    assert shown(column(by_difficulty, "solutions")) == ["15", "30", "15"]
    inside = np.arange(N) % 4 == 0
    assert shown(column(by_difficulty, "AUROC"))[0].startswith(f"{roc_auc_score(PASSED[inside], GOOD[inside]):.3f} [")
    by_temperature = table(found, "The correct-preferring feature by sampling temperature")
    assert shown(column(by_temperature, "temperature")) == ["0", "0.6"]
    assert shown(column(by_temperature, "AUROC"))[1].startswith("not defined (")


def test_every_published_plot_is_shown_and_says_its_figures_without_being_seen(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_detection(config, *good())
    figures = [block for block in every_block(sound(section(Run(config))).blocks) if isinstance(block, Figure)]
    assert len(figures) == 6
    assert all(f"AUROC {roc_auc_score(PASSED, GOOD):.3f}" in figure.alternative for figure in figures)
    assert all("n = 60" in figure.caption for figure in figures)


def test_without_a_threshold_no_curves_by_threshold_are_drawn(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    none = np.zeros(N, dtype=bool)
    publish_detection(config, Direction(GOOD, none), Direction(GOOD, none))
    figures = [block for block in every_block(sound(section(Run(config))).blocks) if isinstance(block, Figure)]
    assert len(figures) == 5


def test_what_must_be_known_before_the_figures_is_said_first(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    changes = {"predictor_note": "no phase 2.10", "site_given": True, "features_given": ["incorrect"]}
    publish_detection(config, *good(), Extent(388, 60), **changes)
    warnings = texts(sound(section(Run(config))), "warning")
    assert warnings == [
        "Partial: phase 3.8 covers 60 of 388 problems. Every figure below is about that part.",
        "no phase 2.10.",
        "The residual stream was read at a site given by hand, not where the SAEs' metadata say.",
        "The incorrect-preferring feature was given by hand, not chosen on the sae split.",
    ]


def test_problems_without_a_label_are_counted(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    results = publish_detection(config, *good())
    for report in results["directions"].values():
        report["validation"]["n_excluded"] = 2
    publish_detection(config, *good(), directions=results["directions"])
    assert "correct: 2 validation problems without a label left out." in texts(sound(section(Run(config))), "warning")
