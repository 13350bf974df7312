"""The closing table's rows on steering say what the JSON files say."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.steering_summary import Row, coefficients, instruct, planted, steering, transfer
from common.config import Config
from common.errors import PipelineError
from common.runs.artifacts import CROSS_MODEL_COMPARISON, SELECTED_COEFFICIENTS, STEERING_ANALYSIS, PhasePaths
from common.runs.files import write_json
from common.runs.metadata import Extent, OutputFile, write_record
from common.statistics.steering import rank_among
from common.steering_comparison import compare_steering
from common.steering_effects import arms_of, direction_effects, noise_floor, selective_effects
from tests.common.steering_rows import (
    DOWN,
    UP,
    ZERO_ARM,
    direction_control,
    feature_control,
    results,
    steered,
)

pytestmark = pytest.mark.unit

DOWN_CONTROLS = [
    direction_control(draw)._replace(name=f"down_{draw}", direction="incorrect", layer=1) for draw in range(2)
]
ARMS = arms_of(
    results(
        steered(ZERO_ARM, "wwwfkkkb"),
        steered(UP, "fffwkkbB"),
        steered(DOWN, "wwwfbbbB"),
        steered(direction_control(0), "ffwwkkkk"),
        steered(direction_control(1), "wwwwkkbb"),
        steered(direction_control(2), "wwwwkkkb"),
        steered(direction_control(3), "fwwwkkkk"),
        steered(feature_control(0), "wwwwkkkk"),
        steered(DOWN_CONTROLS[0], "wwwwbkkB"),
        steered(DOWN_CONTROLS[1], "wwwwkkkk"),
    )
)


def analysis(**changes: Any) -> dict[str, Any]:
    """An analysis as phases 4.8 and 7.6 write it, without selective steering."""
    directions = {
        name: {**direction_effects(ARMS, name), "selective": None, "in_residual_norms": 0.25}  # type: ignore[arg-type]
        for name in ("correct", "incorrect")
    }
    made = {"noise_floor": noise_floor(ARMS), "directions": directions, **changes}
    return json.loads(json.dumps(made))


def write(tmp_path: Path, name: str, content: Any) -> PhasePaths:
    """Publishes a JSON file of a phase."""
    paths, entry = PhasePaths(tmp_path), OutputFile(name, write_json(tmp_path / name, content))
    write_record(
        paths,
        phase="4.8",
        config=Config(),
        extent=Extent(1, 1),
        inputs=[],
        outputs=[entry],
        wall_seconds={},
        details={},
    )
    return paths


def shown(tmp_path: Path, content: dict[str, Any]) -> list[Row]:
    rows = steering(write(tmp_path, STEERING_ANALYSIS, content), "base")
    assert all(len(row) == 3 and all(isinstance(cell, str) for cell in row) for row in rows)
    assert "None" not in str(rows) and "nan" not in str(rows)
    return rows


def percent(text: str) -> list[int]:
    return [int(figure) for figure in re.findall(r"(\d+)%", text)]


# --- what steering did


def test_net_change_rates_and_n_are_those_of_the_analysis(tmp_path: Path) -> None:
    content = analysis()
    rows = {row[0]: row for row in shown(tmp_path, content) if row[0]}
    assert set(rows) == {"steering base: correct", "steering base: incorrect"}
    _, found, sure = rows["steering base: correct"]
    effect = content["directions"]["correct"]["effect"]
    assert re.findall(r"net ([+-]\d+): fixed (\d+) of (\d+) .* broke (\d+) of (\d+)", found) == [
        ("+1", "3", "4", "2", "4")
    ]
    bounds = [effect[name][end] for name in ("correction", "corruption") for end in ("low", "high")]
    assert percent(found) == [round(100 * bound) for bound in bounds]
    assert sure == f"9 × layer 2 feature 20, n = 8, McNemar p {effect['mcnemar_p']:.3f}"


def test_the_rank_among_controls_is_that_of_the_analysis(tmp_path: Path) -> None:
    content = analysis()
    up, down = (row for row in shown(tmp_path, content) if "; " in row[1])
    found = "fixes − breaks 1; 4 random directions: -2 to 2, median 0"
    assert up == ("", found, "n = 8, rank p 0.600 (smallest possible 0.200)")
    assert down[1] == "breaks that parse 3; 2 random directions: 0 to 1, median 0.5"
    assert down[2] == "n = 8, rank p 0.333 (smallest possible 0.333)"


def test_each_direction_is_followed_by_its_controls_and_the_noise_floor_comes_last(tmp_path: Path) -> None:
    firsts = [row[0] for row in shown(tmp_path, analysis())]
    assert firsts == ["steering base: correct", "", "steering base: incorrect", "", ""]
    assert shown(tmp_path, analysis())[-1][1] == "noise floor: coefficient 0 flips 2 of 8"


def test_a_damaged_analysis_is_refused_by_name_and_not_shown(tmp_path: Path) -> None:
    paths = write(tmp_path, STEERING_ANALYSIS, analysis())
    path = tmp_path / STEERING_ANALYSIS
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(PipelineError, match=f"{STEERING_ANALYSIS} is damaged"):
        steering(paths, "base")


def test_without_a_zero_arm_there_is_no_noise_floor(tmp_path: Path) -> None:
    assert "noise floor" not in str(shown(tmp_path, analysis(noise_floor=None)))


def test_the_span_of_the_controls_is_from_the_least_to_the_most(tmp_path: Path) -> None:
    content = analysis()
    rank = {"minimum": -9.0, "percentile_2_5": -7.0, "median": 0.5, "percentile_97_5": 5.0, "maximum": 8.0}
    content["directions"]["correct"]["controls"]["rank"].update(rank)
    assert shown(tmp_path, content)[1][1].endswith(": -9 to 8, median 0.5")


def test_missing_controls_are_named_as_missing(tmp_path: Path) -> None:
    content = analysis()
    content["directions"]["correct"]["controls"]["rank"] = rank_among(1, []).as_dict()
    rows = shown(tmp_path, content)
    assert rows[1] == ("", "no controls were run", "")
    assert "2 random directions: 0 to 1" in rows[3][1]


def test_rates_of_nothing_have_no_interval(tmp_path: Path) -> None:
    everything_passed = arms_of(results(steered(UP, "kkb"), steered(DOWN, "kbb"), steered(ZERO_ARM, "kkk")))
    content = analysis()
    for direction in ("correct", "incorrect"):
        made = direction_effects(everything_passed, direction)  # type: ignore[arg-type]
        content["directions"][direction].update(made)
    row = shown(tmp_path, content)[0]
    assert "fixed 0 of 0, broke 1 of 3 [" in row[1]


def test_nothing_broken_and_nothing_fixed_is_shown_as_such(tmp_path: Path) -> None:
    still = direction_effects(arms_of(results(steered(UP, "wwkk"))), "correct")
    content = analysis()
    content["directions"]["correct"].update(still)
    row = shown(tmp_path, content)[0]
    assert row[1].startswith("net +0: fixed 0 of 2 [0%, ") and row[2].endswith("McNemar p 1.000")


def test_no_problem_at_all_is_shown_without_figures(tmp_path: Path) -> None:
    content = analysis()
    content["directions"]["correct"].update(direction_effects(arms_of(results(steered(UP, "xx"))), "correct"))
    row = shown(tmp_path, content)[0]
    assert "fixed 0 of 0, broke 0 of 0" in row[1] and row[2].endswith("n = 0, McNemar p not defined")


def test_very_small_p_is_written_by_its_power(tmp_path: Path) -> None:
    content = analysis()
    content["directions"]["correct"]["effect"]["mcnemar_p"] = 6.36e-8
    assert shown(tmp_path, content)[0][2].endswith("McNemar p 6.4e-08")


def test_selective_steering_is_shown_where_there_is_some(tmp_path: Path) -> None:
    content = analysis()
    found = selective_effects(ARMS, ARMS[1], "correct", [100, 106])
    content["directions"]["correct"]["selective"] = {"threshold": 3.0, "reason": None, **found}
    (row,) = [row for row in shown(tmp_path, content) if "only where predicted" in row[1]]
    assert row[1] == "only where predicted: net +0, 1 fixed, 1 broken"
    assert row[2] == "2 of 8 steered, McNemar p 1.000"


@pytest.mark.parametrize("selective", [None, {"threshold": None, "n_scored": 0, "reason": "no threshold"}])
def test_selective_steering_that_was_not_done_adds_no_row(tmp_path: Path, selective: Any) -> None:
    content = analysis()
    content["directions"]["correct"]["selective"] = selective
    assert shown(tmp_path, content) == shown(tmp_path, analysis())


# --- coefficients


def chosen(value: float, how: str, norms: float) -> dict[str, Any]:
    return {"coefficient": value, "chosen": how, "in_residual_norms": norms, "layer": 1, "feature_idx": 2}


def test_coefficients_are_shown_with_how_they_were_chosen(tmp_path: Path) -> None:
    content = {"correct": chosen(30.0, "suggested", 0.4567), "incorrect": chosen(-2.5, "by hand", -0.1)}
    (row,) = coefficients(write(tmp_path, SELECTED_COEFFICIENTS, content))
    assert row == (
        "steering coefficients",
        "correct 30 (suggested), incorrect -2.5 (by hand)",
        "0.46, -0.10 of the residual stream's norm",
    )


def test_before_anything_is_chosen_there_is_no_row(tmp_path: Path) -> None:
    assert coefficients(PhasePaths(tmp_path)) == []


# --- the instruction-tuned model

RATE = {"passed": 187, "judged": 388, "pass_rate": 187 / 388, "low": 0.43, "high": 0.53, "reason": None}
UNKNOWN = {"passed": 0, "judged": 0, "pass_rate": None, "low": None, "high": None, "reason": "phase 3.5 has not run"}


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ({**RATE, "pass_rate": 0.5}, "base: 50.0% [43.0%, 53.0%] of 388; prompts: chat"),
        (UNKNOWN, "base: not known (phase 3.5 has not run); prompts: chat"),
    ],
)
def test_the_pass_rate_stands_beside_the_base_models(base: dict[str, Any], text: str) -> None:
    record = {"pass_rates": {"instruct": RATE, "base": base}, "prompt_format": "chat"}
    assert instruct(record) == [("pass rate, instruct", "48.2% [43.0%, 53.0%] of 388", text)]


def comparison() -> dict[str, Any]:
    one = analysis()["directions"]
    other = copy.deepcopy(one)
    auroc = {"value": 0.97, "low": 0.952, "high": 0.985, "n": 388}
    flat = {"value": 0.5, "low": None, "high": None, "n": 388}
    none = {"value": None, "low": None, "high": None, "n": 0}
    steered_both = {
        name: compare_steering(name, one[name], other[name], whole=True)  # type: ignore[arg-type]
        for name in one
    }
    return {
        "detection": {
            "correct": {"instruct": {"auroc": flat}, "base": {"auroc": none}, "transferred": None},
            "incorrect": {
                **{"instruct": {"auroc": auroc}, "base": {"auroc": {**auroc, "value": 0.9}}, "transferred": True}
            },
        },
        "steering": steered_both,
    }


def test_what_transferred_is_shown_with_verdict_outcome_and_change(tmp_path: Path) -> None:
    rows = {row[0]: row[1:] for row in transfer(write(tmp_path, CROSS_MODEL_COMPARISON, comparison()))}
    assert rows["transfer: incorrect predictor"] == (
        "yes: AUROC 0.970 [0.952, 0.985]",
        "base model 0.900 [0.952, 0.985]; n = 388",
    )
    assert rows["transfer: correct predictor"] == ("cannot be told: AUROC 0.500", "base model not defined; n = 388")
    assert rows["transfer: correct direction"][0] == "cannot be told: fixes − breaks 1 on 8 problems"
    assert rows["transfer: incorrect direction"][0] == "cannot be told: breaks that parse 3 on 8 problems"
    for direction, rate, word in (("correct", "correction", "fixed"), ("incorrect", "corruption", "broken")):
        change = comparison()["steering"][direction]["differences"][rate]
        bounds = f"[{change['low']:+.2f}, {change['high']:+.2f}]"
        assert rows[f"transfer: {direction} direction"][1] == f"share {word}, instruct − base: +0.00 {bounds}"


def test_a_change_that_cannot_be_computed_is_said_to_be_undefined(tmp_path: Path) -> None:
    content = comparison()
    content["steering"]["correct"]["differences"]["correction"] = {"value": None, "low": None, "high": None}
    rows = transfer(write(tmp_path, CROSS_MODEL_COMPARISON, content))
    assert ("share fixed: not defined") in [row[2] for row in rows]


@pytest.mark.parametrize(("verdict", "word"), [(True, "yes"), (False, "no"), (None, "cannot be told")])
def test_each_verdict_has_its_word(tmp_path: Path, verdict: bool | None, word: str) -> None:
    content = comparison()
    content["steering"]["incorrect"]["transferred"] = verdict
    rows = {row[0]: row[1:] for row in transfer(write(tmp_path, CROSS_MODEL_COMPARISON, content))}
    assert rows["transfer: incorrect direction"][0] == f"{word}: breaks that parse 3 on 8 problems"


# --- the planted truth


def answers(intended: int, breaks: int, controls: list[tuple[int, int]]) -> dict[str, Any]:
    def counts(few: int, many: int) -> dict[str, Any]:
        return {"intended": few, "breaks": many, "intended_share_of_breaks": {"value": few / many if many else None}}

    beside = {str(place): counts(*pair) for place, pair in enumerate(controls)}
    compared = {"target": counts(intended, breaks), "controls": beside}
    entry = {"all_problems": counts(77, 99), "control_problems": compared}
    return {"steering": {"7.6": {"directions": {"incorrect": entry}, "model": {"role": "instruct"}}}}


TWO, NONE = "2 controls: 10% to 26%, median 18%, phase 7.6", "no control broke anything, phase 7.6"


@pytest.mark.parametrize(
    ("found", "own", "beside"),
    [
        ((60, 106, [(13, 50), (1, 10), (0, 0)]), "planted bug in 60 of 106 breaks (57%)", TWO),
        ((60, 106, [(0, 0)]), "planted bug in 60 of 106 breaks (57%)", NONE),
        ((0, 0, []), "planted bug in 0 of 0 breaks", NONE),
    ],
)
def test_planted_bugs_are_counted_beside_the_controls_on_their_problems(found: Any, own: str, beside: str) -> None:
    assert planted(answers(*found)) == [("truth: steering, instruct", own, beside)]


def test_without_steering_there_is_nothing_to_hold_against_the_truth() -> None:
    assert planted({}) == planted({"steering": {}}) == []
