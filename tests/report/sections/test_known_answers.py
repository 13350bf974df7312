from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.errors import PipelineError
from common.runs.files import write_json
from report.run import Run
from report.sections.known_answers import section
from tests.report.helpers import publish
from tests.report.sections.looking import plain, table, texts
from tests.report.sections.saying import rows, said, sound
from tests.report.sections.steering_artifacts import analysis, arms
from tests.report.sections.truth_artifacts import answers, rate, steered

pytestmark = pytest.mark.unit


def run_with(tmp_path: Path, content: dict[str, Any]) -> Run:
    write_json(tmp_path / "known_answers.json", content)
    return Run(Config(data_dir=str(tmp_path)))


def test_without_known_answers_there_is_no_section(tmp_path: Path) -> None:
    assert section(Run(Config(data_dir=str(tmp_path)))) is None


# Planted bugs on the controls' problems: 3 of 4, Wilson's interval 30.1 % to 95.4 % (see test_coefficients.py);
# controls 25 % and 50 %, the third broke nothing; the median is 37.5 %.
def test_the_lead_holds_found_against_planted(tmp_path: Path) -> None:
    lead = plain(sound(section(run_with(tmp_path, answers()))).lead)
    assert lead == (
        "Held out (n = 16), the wording cues allow an AUROC of 0.960 at best: the correct-preferring predictor has "
        "0.930 (95 % interval 0.880 to 0.960), 0.97 of it, and the incorrect-preferring predictor has 0.800 (95 % "
        "interval 0.750 to 0.830), 0.83 of it. Of the solutions of the base model that steering along the incorrect "
        "direction broke, 75.0 % (3 of 4; 95 % interval 30.1 % to 95.4 %) carry the planted bug (2 controls: 25.0 % to "
        "50.0 %, median 37.5 %)."
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (((0, 0), (0, 0), [(1, 2)]), "broke nothing, so no bug can be looked for"),
        (((2, 3), (1, 2), []), "carry the planted bug (no controls were run)"),
        (((2, 3), (1, 2), [(0, 0)]), "carry the planted bug (no control broke anything)"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, found: Any, words: str) -> None:
    made = sound(section(run_with(tmp_path, answers(steering={"4.8": steered(*found)}))))
    assert words in plain(made.lead)


def test_before_the_held_out_phases_the_lead_says_so(tmp_path: Path) -> None:
    content = answers(steering={})
    del content["detection"]
    made = sound(section(run_with(tmp_path, content)))
    assert made.lead == (
        "Phase 3.8 has not been run, so nothing held out can be compared; the features are judged in-sample. No "
        "steering phase has been run."
    )
    assert "planted, of breaks" not in said(made) and "The predictors held out" not in said(made)


def test_pass_rates_by_care_stand_side_by_side(tmp_path: Path) -> None:
    shown = rows(table(sound(section(run_with(tmp_path, answers()))), "Pass rate on the sae split"))
    assert [row["problems"] for row in shown] == ["all", "asked with care", "asked carelessly"]
    # Wilson of 9 of 10: centre 0.7889, half-width 0.1932.
    assert shown[1]["solved"] == "90.0 % [59.6 %, 98.2 %]"


def test_a_group_without_problems_has_no_rate(tmp_path: Path) -> None:
    content = answers()
    content["pass_rate"]["careless"] = rate(0, 0)
    shown = rows(table(sound(section(run_with(tmp_path, content))), "Pass rate"))
    assert shown[2]["solved"] == "not defined (no such problem)"


def test_features_and_predictors_stand_beside_what_the_cues_allow(tmp_path: Path) -> None:
    made = sound(section(run_with(tmp_path, answers())))
    features = rows(table(made, "The best steering features on the sae split, on which they were chosen"))
    assert features[0]["what cues allow"] == "0.950" and features[0]["rank correlation"] == "−0.80"
    predictors = rows(table(made, "The predictors held out, on the validation split; n = 16 problems."))
    assert [(row["share of it"], row["≥ 0.9"]) for row in predictors] == [("0.97", "yes"), ("0.83", "no")]
    assert predictors[0]["ahead of random"] == "+0.200 [+0.100, +0.300]"


# Of three controls none has 3 planted bugs: p = 1 / 4.
def test_planted_bugs_stand_beside_the_controls(tmp_path: Path) -> None:
    made = sound(section(run_with(tmp_path, answers())))
    shown = {row["direction"]: row for row in rows(table(made, "How many of the broken solutions"))}
    expected = {"planted, there": "75 % [30, 95] 3/4", "controls": "38 %", "least to most": "25 % to 50 %"}
    assert expected.items() <= shown["incorrect"].items()
    assert (shown["incorrect"]["rank p"], shown["incorrect"]["beats all"]) == ("0.250", "yes")
    assert shown["correct"]["planted, there"] == "not defined (no breaks)"
    every = rows(table(made, "3 controls against the planted bugs"))
    assert [row["share of breaks"] for row in every][2] == "not defined (no breaks)"


# --- answers of an earlier run


def test_answers_that_still_hold_carry_no_warning(tmp_path: Path) -> None:
    run = run_with(tmp_path, answers())
    best = {"layer": 2, "p_max_permutation": 0.001}
    publish(run.config, "2.5", {"top_20_features.json": {"correct": [{**best, "feature_idx": 20}], "incorrect": [
        {**best, "feature_idx": 10}]}})  # fmt: skip
    assert texts(sound(section(run)), "warning") == []


def test_answers_about_another_feature_are_said_to_be_old(tmp_path: Path) -> None:
    run = run_with(tmp_path, answers())
    best = {"layer": 2, "feature_idx": 20, "p_max_permutation": 0.001}
    publish(run.config, "2.5", {"top_20_features.json": {"correct": [best], "incorrect": [best]}})
    (warning,) = texts(sound(section(run)), "warning")
    assert warning.startswith("This page is older than phase 2.5: its figures are of an earlier run.")


def test_answers_about_other_solutions_are_said_to_be_old(tmp_path: Path) -> None:
    run = run_with(tmp_path, answers())
    publish(run.config, "4.8", {"steering_effect_analysis.json": analysis(arms())})
    (warning,) = texts(sound(section(run)), "warning")
    assert warning.startswith("This page is older than phase 4.8")


def test_damaged_answers_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "known_answers.json").write_text("{")
    with pytest.raises(PipelineError, match=r"known_answers\.json is damaged"):
        section(Run(Config(data_dir=str(tmp_path))))
