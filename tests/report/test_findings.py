"""The rows of the closing table and of the report's summary say what the artifacts say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cli.summary import summary
from common.config import Config
from common.runs.files import write_json
from report.finding import Finding
from report.findings import findings
from report.run import Run
from tests.report.helpers import publish
from tests.report.sections.looking import plain
from tests.report.sections.steering_artifacts import estimate
from tests.report.sections.truth_artifacts import answers, steered

pytestmark = pytest.mark.unit


def found(config: Config) -> dict[str, Finding]:
    """Returns the findings by what they are about; no text of one is a stray None."""
    every = findings(Run(config))
    assert not re.search(r"\b(None|nan)\b", str([one[:7] for one in every]))
    assert len({one.what for one in every}) == len(every)
    return {one.what: Finding(*(plain(text) for text in one[:7]), one.headline) for one in every}


def config_of(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path))


def test_an_empty_directory_has_no_findings(tmp_path: Path) -> None:
    assert findings(Run(config_of(tmp_path))) == []


def test_problems_and_splits_are_counted(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    publish(config, "0", {}, details={"cyclomatic_complexity": {"minimum": 1, "maximum": 5, "mean": 2.044, "n": 20}})
    sizes = {"sizes": {"sae": 10, "hyperparams": 2, "validation": 8}, "ks_distance": {"a": 0.1, "b": 0.25}}
    publish(config, "0.1", {}, details=sizes)
    rows = found(config)
    assert rows["difficulty"][2:4] == ("complexity 1 to 5, mean 2.04", "20 problems")
    assert rows["splits"][2:4] == ("10 / 2 / 8 (sae / hyperparams / validation)", "largest KS distance 0.250")
    assert not rows["splits"].headline


# Wilson's interval of 265 of 489 by hand: 49.8 % to 58.6 %.
def test_the_pass_rate_has_its_interval_and_failures_are_counted(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    outcomes = {"wrong_answer": 200, "passed": 265, "exception": 24}
    result = {"passed": 265, "judged": 489, "pass_rate": 265 / 489, "outcomes": outcomes}
    publish(config, "1.0", {}, details={"results": {"greedy": result}})
    rows = found(config)
    assert rows["pass rate, sae split"][2:4] == ("54.2 % [49.8 %, 58.6 %]", "489 problems")
    assert rows["failures"].found == "24 exception, 200 wrong answer"


def test_a_run_without_judged_problems_has_no_pass_rate(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    result = {"passed": 0, "judged": 0, "pass_rate": None, "outcomes": {}}
    publish(config, "1.0", {}, details={"results": {"greedy": result}})
    assert found(config)["pass rate, sae split"].found == "not known (no problem was judged)"
    assert found(config)["failures"].found == "none"


def layer(own: float | None, *beside: float | None, tokens: int = 90) -> dict[str, Any]:
    neighbours = [{"fraction_unexplained": value} for value in beside]
    return {"layer": 0, "fraction_unexplained": own, "neighbours": neighbours, "n_tokens": tokens}


def test_the_fit_stands_beside_the_neighbouring_sites(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    greedy = {"passed": 1, "judged": 2, "pass_rate": 0.5, "outcomes": {"passed": 1}}
    layers = [layer(0.05, 0.3, 0.4), layer(0.08, 0.07, tokens=80), layer(None, 0.5)]
    publish(config, "1.0", {"sae_fit.json": {"layers": layers}}, details={"results": {"greedy": greedy}})
    fit = found(config)["SAE fit"]
    assert fit[2:4] == ("0.050 to 0.080 of the variance unexplained in 3 layers", "80 tokens")
    assert fit.control == "one block away 0.070 to 0.500"
    assert fit.ahead == "the declared site fits better in 1 of 3 layers"


@pytest.mark.parametrize("layers", [[layer(None, None)], []])
def test_a_fit_that_could_not_be_computed_is_not_defined(tmp_path: Path, layers: list[dict[str, Any]]) -> None:
    config = config_of(tmp_path)
    greedy = {"passed": 1, "judged": 2, "pass_rate": 0.5, "outcomes": {"passed": 1}}
    files = {"sae_fit.json": {"layers": layers}}
    publish(config, "1.0", files, details={"results": {"greedy": greedy}})
    assert found(config)["SAE fit"].found.startswith("not defined of the variance")


def test_the_best_features_stand_beside_shuffled_labels(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    item = {"layer": 2, "feature_idx": 20, "f_correct": 0.86, "f_incorrect": 0.12, "separation_score": 0.74}
    top = {"correct": [{**item, "p_max_permutation": 0.001}], "incorrect": []}
    publish(config, "2.5", {"top_20_features.json": top}, details={"n_correct": 251, "n_incorrect": 238})
    rows = found(config)
    assert list(rows) == ["best correct feature"]
    best = rows["best correct feature"]
    assert best.found == "layer 2, feature 20: fires on 86 % of correct, 12 % of incorrect (score 0.74)"
    assert (best.n, best.ahead) == ("n = 251 + 238", "max-permutation p 0.001")


def test_pass_rates_by_temperature_have_their_counts(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    results = {"temp_0_0": {"pass_rate": 0.5, "judged": 388}, "temp_0_3": {"pass_rate": None, "judged": 0}}
    publish(config, "3.5", {}, details={"results": results, "temperatures": [0.0, 0.3]})
    row = found(config)["pass rate, validation"]
    assert row[2:4] == ("50.0 %, not defined at temperatures 0, 0.3", "n = 388, 0")


def detection(auroc: dict[str, Any], at: dict[str, Any] | None, random: float | None) -> dict[str, Any]:
    lead = None if random is None else estimate(0.164, 0.146, 0.189)
    rivals = {
        "random directions": {"auroc": {"median": random}, "target_minus_median": lead},
        "logistic regression": {"auroc": {"median": None if random is None else 0.978}},
    }
    feature = {"layer": 3, "index": 257}
    return {
        "feature": feature,
        "positive": "passed",
        "validation": {"n": 388, "auroc": auroc, "classification": at},
        "rivals": rivals,
    }


def test_detectors_stand_beside_rivals_and_the_trivial_f1(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    at = {"f1": 0.932, "f1_all_positive": 0.669, "balanced_accuracy": 0.93}
    report = detection(estimate(0.979, 0.965, 0.99), at, 0.815)
    publish(config, "3.8", {"evaluation_results.json": {"directions": {"correct": report}}})
    row = found(config)["detector of passed"]
    assert row.found == "layer 3, feature 257: AUROC 0.979 [0.965, 0.990]; F1 0.932, balanced accuracy 0.930"
    assert row.control == "random directions 0.815 in the median, logistic regression 0.978"
    assert row.ahead == "ahead of random by +0.164 [+0.146, +0.189]"
    assert row.trivial == "calling everything passed has F1 0.669"


def test_a_detector_that_could_not_be_measured_has_no_figures(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    report = detection(estimate(None), None, None)
    publish(config, "3.8", {"evaluation_results.json": {"directions": {"correct": report}}})
    row = found(config)["detector of passed"]
    assert row.found == "layer 3, feature 257: AUROC not defined"
    assert (row.control, row.ahead, row.trivial) == ("not defined", "", "")


def test_a_damaged_file_has_a_row_and_takes_no_other_with_it(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    publish(config, "0", {}, details={"cyclomatic_complexity": {"minimum": 1, "maximum": 5, "mean": 2.0, "n": 20}})
    (tmp_path / "known_answers.json").write_text("{")
    rows = found(config)
    assert list(rows) == ["difficulty", "cannot be shown"]
    assert "known_answers.json is damaged" in rows["cannot be shown"].found


# --- the planted truth


def test_the_truth_stands_beside_what_was_found(tmp_path: Path) -> None:
    content = answers(steering={"4.8": steered((6, 8), (3, 4), [(1, 4), (2, 4), (0, 0)])})
    write_json(tmp_path / "known_answers.json", content)
    rows = found(config_of(tmp_path))
    assert rows["truth: asked with care"][2:5] == ("90.0 % pass", "n = 10", "asked carelessly: 10.0 %, n = 10")
    assert rows["truth: correct feature"].found == "AUROC 0.900 for the label; rank correlation with carelessness −0.80"
    held = rows["truth: correct predictor"]
    assert held.found == "AUROC 0.930, 0.97 of what the cues allow; rank correlation with carelessness −0.70"
    assert (held.n, held.control) == ("n = 16", "the wording cues allow 0.960")


@pytest.mark.parametrize(
    ("pairs", "words", "beside"),
    [
        (((6, 8), (3, 4), [(1, 10), (13, 50), (0, 0)]), "3 of 4 breaks (75 %)", "2 controls 10 % to 26 %, median 18 %"),
        (((6, 8), (3, 4), [(0, 0)]), "3 of 4 breaks (75 %)", "no control broke anything"),
        (((0, 0), (0, 0), []), "0 of 0 breaks", "no controls were run"),
    ],
)
def test_planted_bugs_are_counted_beside_the_controls(tmp_path: Path, pairs: Any, words: str, beside: str) -> None:
    write_json(tmp_path / "known_answers.json", answers(steering={"7.6": steered(*pairs, role="instruct")}))
    row = found(config_of(tmp_path))["truth: steering, instruct"]
    assert (row.found, row.n, row.control) == (f"planted bug in {words}, phase 7.6", "n = 8", beside)


def test_without_held_out_figures_and_steering_there_are_no_rows_of_them(tmp_path: Path) -> None:
    content = answers(steering={})
    del content["detection"]
    write_json(tmp_path / "known_answers.json", content)
    assert [what for what in found(config_of(tmp_path)) if "predictor" in what or "steering" in what] == []


# --- in the terminal


def test_a_finding_is_a_line_with_lines_of_what_stands_beside_it() -> None:
    bare = Finding("steering", "steered", "net +1", "n = 8")
    assert bare.lines() == [("steered", "net +1", "n = 8")]
    whole = bare._replace(control="9 controls", ahead="p 0.1", trivial="coefficient 0 flips 0")
    assert whole.lines()[1:] == [("", "beside it: 9 controls", "p 0.1"), ("", "trivially: coefficient 0 flips 0", "")]


def test_the_closing_table_is_made_of_the_findings(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    publish(config, "0", {}, details={"cyclomatic_complexity": {"minimum": 1, "maximum": 5, "mean": 2.0, "n": 20}})
    write_json(tmp_path / "known_answers.json", answers())
    said = summary(config)
    for finding in findings(Run(config)):
        for cells in finding.lines():
            assert all(cell in said for cell in cells)
    assert f"{tmp_path}/phase0/  difficulty of every problem" in said
    assert f"{tmp_path}/known_answers.json  the findings against the planted truth" in said
    assert "phase4_8" not in said
