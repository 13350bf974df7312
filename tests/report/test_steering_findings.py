"""The findings on steering and on the instruction-tuned model say what the JSON files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.errors import PipelineError
from common.steering_effects import selective_effects
from report.finding import Finding
from report.run import Run
from report.steering_findings import coefficients, instruct, steering, transfer
from tests.report.helpers import publish
from tests.report.sections.looking import plain
from tests.report.sections.steering_artifacts import analysis, arms, comparison, estimate, instruct_record, pass_rate

pytestmark = pytest.mark.unit


def steered(tmp_path: Path, content: dict[str, Any], phase: str = "4.8") -> dict[str, Finding]:
    config = Config(data_dir=str(tmp_path))
    publish(config, phase, {"steering_effect_analysis.json": content})
    return by_what(steering(Run(config), phase))


def by_what(every: Any) -> dict[str, Finding]:
    found = list(every)
    assert "None" not in str([one[:7] for one in found])
    return {one.what: Finding(*(plain(text) for text in one[:7]), one.headline) for one in found}


# --- what steering did


# Wilson's intervals of 2, 1 and 4 of 4: see sections/test_steering.py.
def test_net_change_rates_and_n_are_those_of_the_analysis(tmp_path: Path) -> None:
    rows = steered(tmp_path, analysis(arms()))
    assert list(rows) == ["steering base: correct", "steering base: incorrect"]
    correct, incorrect = rows.values()
    assert correct.found == "net +1: fixed 2 of 4 [15 %, 85 %], broke 1 of 4 [5 %, 70 %]; McNemar p 1.000"
    assert incorrect.found == "net −3: fixed 1 of 4 [5 %, 70 %], broke 4 of 4 [51 %, 100 %]; McNemar p 0.375"
    assert correct.n == "n = 8" and correct.headline and correct.section == "steering"


def test_the_rank_among_controls_is_that_of_the_analysis(tmp_path: Path) -> None:
    rows = steered(tmp_path, analysis(arms(controls=["ffwwkkkk", "wwwwkkbb", "wwwwkkkb", "fwwwkkkk"])))
    correct = rows["steering base: correct"]
    assert correct.control == "fixes − breaks 1; 4 matched random features −2 to 2, median 0"
    assert correct.ahead == "rank p 0.600 (smallest possible 0.200), n = 8"


def test_missing_controls_are_named_as_missing(tmp_path: Path) -> None:
    correct = steered(tmp_path, analysis(arms()))["steering base: correct"]
    assert (correct.control, correct.ahead) == ("no controls were run", "")


def test_the_zero_arm_is_the_trivial_baseline(tmp_path: Path) -> None:
    rows = steered(tmp_path / "with", analysis(arms(zero="wwwfkkkb")))
    assert {row.trivial for row in rows.values()} == {"coefficient 0 flips 2 of 8"}
    assert {row.trivial for row in steered(tmp_path / "without", analysis(arms(zero=None))).values()} == {""}


def test_a_damaged_analysis_is_refused_by_name_and_not_shown(tmp_path: Path) -> None:
    steered(tmp_path, analysis(arms()))
    path = tmp_path / "phase4_8" / "steering_effect_analysis.json"
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(PipelineError, match=r"steering_effect_analysis\.json is damaged"):
        list(steering(Run(Config(data_dir=str(tmp_path))), "4.8"))


def test_rates_of_nothing_have_no_interval(tmp_path: Path) -> None:
    correct = steered(tmp_path, analysis(arms("kkb", "kbb", zero=None)))["steering base: correct"]
    assert "fixed 0 of 0, broke 1 of 3 [" in correct.found


def test_no_problem_at_all_is_shown_without_figures(tmp_path: Path) -> None:
    correct = steered(tmp_path, analysis(arms("xx", "kb", zero=None)))["steering base: correct"]
    assert correct.found == "net +0: fixed 0 of 0, broke 0 of 0; McNemar p not defined" and correct.n == "n = 0"


def test_very_small_p_is_written_by_its_power(tmp_path: Path) -> None:
    content = analysis(arms())
    content["directions"]["correct"]["effect"]["mcnemar_p"] = 6.36e-8
    assert steered(tmp_path, content)["steering base: correct"].found.endswith("McNemar p 6.4e-08")


def test_selective_steering_is_shown_where_there_is_some(tmp_path: Path) -> None:
    made = arms()
    content = analysis(made)
    where = {"threshold": 3.0, "reason": None, "steered_where": "the predictor reaches its threshold"}
    found = selective_effects(made, made[1], "correct", [100, 107])
    content["directions"]["correct"]["selective"] = {**where, **found}
    row = steered(tmp_path, content)["steering base: correct, selective"]
    assert row.found == "net +0: 1 fixed, 1 broken (2 steered); McNemar p 1.000" and row.n == "n = 8"
    assert not row.headline


def test_selective_steering_of_all_or_none_says_which(tmp_path: Path) -> None:
    made = arms()
    content = analysis(made)
    found = selective_effects(made, made[1], "correct", [])
    content["directions"]["correct"]["selective"] = {"threshold": 3.0, "reason": None, **found}
    assert steered(tmp_path, content)["steering base: correct, selective"].found == "the predictor fires on no problem"


@pytest.mark.parametrize("selective", [None, {"threshold": None, "n_scored": 0, "reason": "no threshold"}])
def test_selective_steering_that_was_not_done_adds_no_row(tmp_path: Path, selective: Any) -> None:
    content = analysis(arms())
    content["directions"]["correct"]["selective"] = selective
    assert len(steered(tmp_path, content)) == 2


def test_steering_the_instruct_model_is_no_headline_of_its_own(tmp_path: Path) -> None:
    rows = steered(tmp_path, analysis(arms(), "instruct"), "7.6")
    assert list(rows) == ["steering instruct: correct", "steering instruct: incorrect"]
    assert [(row.headline, row.section) for row in rows.values()] == [(False, "instruct")] * 2


def test_a_phase_that_steered_nothing_has_no_row(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "4.8", {})
    assert list(steering(Run(config), "4.8")) == list(steering(Run(config), "7.6")) == []


# --- coefficients


def test_coefficients_are_shown_with_how_they_were_chosen(tmp_path: Path) -> None:
    place = {"layer": 1, "feature_idx": 2}
    content = {
        "correct": {
            **place,
            "coefficient": 30.0,
            "chosen": "suggested",
            "in_residual_norms": 0.4567,
            "on_other_problems": {"n": 20},
        },
        "incorrect": {
            **place,
            "coefficient": -2.5,
            "chosen": "by hand",
            "in_residual_norms": -0.1,
            "on_other_problems": None,
        },
    }
    config = Config(data_dir=str(tmp_path))
    publish(config, "4.5", {"selected_coefficients.json": content})
    rows = by_what(coefficients(Run(config)))
    assert rows["coefficient, correct"][2:4] == (
        "30 (suggested) along layer 1, feature 2, 0.46 of the residual stream's norm",
        "tried on 20 others",
    )
    assert (
        rows["coefficient, incorrect"].found.startswith("−2.5 (by hand)")
        and "−0.10 of" in rows["coefficient, incorrect"].found
    )


def test_before_anything_is_chosen_there_is_no_row(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "4.5", {})
    assert list(coefficients(Run(config))) == []


# --- the instruction-tuned model


def test_the_pass_rate_stands_beside_the_base_models(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "7.3", {}, details=instruct_record(pass_rate(4, 8), pass_rate(2, 8)))
    row = by_what(instruct(Run(config)))["pass rate, instruct"]
    assert row[2:5] == ("50.0 % [21.5 %, 78.5 %]", "8 problems", "base model 25.0 % [7.1 %, 59.1 %], n = 8")


def test_an_unknown_base_pass_rate_has_its_reason(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish(config, "7.3", {}, details=instruct_record(pass_rate(4, 8), pass_rate(0, 0, "phase 3.5 has not been run")))
    row = by_what(instruct(Run(config)))["pass rate, instruct"]
    assert row.control == "base model not known (phase 3.5 has not been run), n = 0"


def transferred(tmp_path: Path, content: dict[str, Any]) -> dict[str, Finding]:
    config = Config(data_dir=str(tmp_path))
    publish(config, "7.6", {"cross_model_comparison.json": content})
    return by_what(transfer(Run(config)))


def compared(up: str = "fffwkkkk", controls: int = 39) -> dict[str, Any]:
    base, own = (
        analysis(arms(controls=["wwwwkkkb"] * controls)),
        analysis(arms(up=up, controls=["wwwwkkkb"] * controls)),
    )
    return comparison(base, own)


def test_what_transferred_is_shown_with_verdict_outcome_and_change(tmp_path: Path) -> None:
    rows = transferred(tmp_path, compared())
    predictor = rows["transfer: correct predictor"]
    assert predictor.found == "transferred: AUROC 0.850 [0.700, 0.900]; F1 0.800, balanced accuracy 0.750"
    assert (predictor.control, predictor.ahead) == (
        "base model 0.900 [0.800, 0.950]",
        "difference −0.050 [−0.100, +0.020]",
    )
    assert predictor.trivial == "calling everything passed has F1 0.667"
    # Newcombe by hand: see sections/test_instruct.py.
    direction = rows["transfer: correct direction"]
    assert direction.found == "transferred: fixes − breaks 3; fixed +25.0 points [−32.0, +65.5] against base"
    assert direction.control == "39 matched random features −1 to −1, median −1"
    assert direction.ahead == "rank p 0.025 (smallest possible 0.025), n = 8"


def test_a_change_that_cannot_be_computed_is_said_to_be_undefined(tmp_path: Path) -> None:
    content = compared()
    content["steering"]["correct"]["differences"]["correction"] = {"value": None, "low": None, "high": None}
    assert transferred(tmp_path, content)["transfer: correct direction"].found.endswith(
        "fixed against base not defined"
    )


def test_detection_that_could_not_be_measured_has_no_figures(tmp_path: Path) -> None:
    content = compared()
    content["detection"]["correct"] |= {"transferred": None, "auroc_difference": estimate(None)}
    content["detection"]["correct"]["instruct"] |= {"auroc": estimate(None), "classification": None}
    row = transferred(tmp_path, content)["transfer: correct predictor"]
    assert (row.found, row.ahead, row.trivial) == ("cannot be told: AUROC not defined", "difference not defined", "")


@pytest.mark.parametrize(
    ("verdict", "word"), [(True, "transferred"), (False, "not transferred"), (None, "cannot be told")]
)
def test_each_verdict_has_its_word(tmp_path: Path, verdict: bool | None, word: str) -> None:
    content = compared()
    content["steering"]["incorrect"]["transferred"] = verdict
    row = transferred(tmp_path, content)["transfer: incorrect direction"]
    assert row.found.startswith(f"{word}: breaks that still parse 3; broken ")
