"""Both generations of checkpoints and both kinds of trials become one record; everything else is a named fault."""

from __future__ import annotations

from typing import Any

import pytest

from experiment_pathway_token_analysis.src.schema import Fault, FeatureRecord, TrialRecord, Vocabulary
from experiment_pathway_token_analysis.src.settings import load_settings

pytestmark = pytest.mark.unit

LLAMA = Vocabulary(load_settings("llama-3.1-8b").study, width=32768, n_layers=32)
OURS = Vocabulary(load_settings("organism").study, width=512, n_layers=4)
RESULT = {"feature": "L3-17", "layer": 3, "feature_id": 17, "cohen_d": -0.5}
TRIAL = {
    "feature": "L3-17",
    "condition": "safe_with_safe_patch",
    "trial": 4,
    "response": "I stop.",
    "parsed": {"action": "stop", "bet": 0, "valid": True},
}
OUR_TRIAL = {
    "feature": "L3-17",
    "condition": "correct_baseline",
    "trial": 4,
    "task_id": 601,
    "response": "return 1",
    "test_passed": True,
}


def result(**changes: Any) -> FeatureRecord | Fault:
    return LLAMA.result({**RESULT, "is_causal": True, **changes})


def without(raw: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name not in names}


def code(record: Any) -> str:
    assert isinstance(record, Fault), record
    return record.code


def test_a_result_of_the_first_generation_tells_its_flag_at_the_top() -> None:
    record = LLAMA.result({**RESULT, "is_causal": True, "mean_safe": 0.25, "risky_mean": 1.5, "class": "risky"})
    assert record == FeatureRecord("L3-17", 3, 17, -0.5, True, 0.25, 1.5, "risky", 1)


@pytest.mark.parametrize(("safe", "risky"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_result_of_the_second_generation_is_causal_if_either_prompt_says_so(safe: bool, risky: bool) -> None:
    record = LLAMA.result({**RESULT, "causality": {"is_causal_safe": safe, "is_causal_risky": risky, "p": 1}})
    assert record == FeatureRecord("L3-17", 3, 17, -0.5, safe or risky, None, None, None, 2)


@pytest.mark.parametrize("name", ["feature", "layer", "feature_id", "cohen_d", "is_causal"])
def test_each_required_field_of_a_result_is_missed_by_name(name: str) -> None:
    fault = LLAMA.result(without({**RESULT, "is_causal": True}, name))
    assert fault == Fault("missing_field", f"it has no {name}")


def test_half_a_nested_flag_is_a_missing_field() -> None:
    assert LLAMA.result({**RESULT, "causality": {"is_causal_safe": True}}) == Fault(
        "missing_field", "it has no causality.is_causal_risky"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_causal": "perhaps"}, "wrong_type"),
        ({"is_causal": None}, "wrong_type"),
        ({"is_causal": [True]}, "wrong_type"),
        ({"cohen_d": "0.5"}, "wrong_type"),
        ({"cohen_d": None}, "wrong_type"),
        ({"cohen_d": True}, "wrong_type"),
        ({"feature": 17}, "wrong_type"),
        ({"feature": "3-17"}, "bad_feature"),
        ({"feature": "L03-17"}, "bad_feature"),
        ({"feature": "L3-17 "}, "bad_feature"),
        ({"layer": 4}, "feature_mismatch"),
        ({"feature_id": "17"}, "feature_mismatch"),
        ({"feature": "L32-17", "layer": 32}, "layer_outside_model"),
        ({"feature": "L3-32768", "feature_id": 32768}, "id_outside_dictionary"),
    ],
)
def test_what_is_wrong_with_a_result_has_its_own_name(changes: dict[str, Any], expected: str) -> None:
    assert code(result(**changes)) == expected


def test_the_last_id_and_the_last_layer_are_inside() -> None:
    record = result(feature="L31-32767", layer=31, feature_id=32767)
    assert isinstance(record, FeatureRecord) and record.feature_id == 32767


@pytest.mark.parametrize("flag", ["True", "true", 1])
def test_a_flag_that_was_written_as_text_or_number_is_read(flag: Any) -> None:
    record = result(is_causal=flag)
    assert isinstance(record, FeatureRecord) and record.is_causal is True


def test_a_cohens_d_that_is_not_finite_is_none() -> None:
    record = result(cohen_d=float("nan"))
    assert isinstance(record, FeatureRecord) and record.cohen_d is None


def test_a_trial_of_the_earlier_study_is_read_under_its_alias() -> None:
    place = LLAMA.conditions.index("safe_amplification")
    assert LLAMA.trial(TRIAL) == TrialRecord(3, 17, place, 4, None, True, "I stop.")


@pytest.mark.parametrize(
    ("parsed", "outcome"),
    [
        ({"action": "bet", "valid": True}, False),
        ({"action": "stop"}, True),
        ({"action": "stop", "valid": False}, None),
        ({"valid": False}, None),
    ],
)
def test_an_action_that_the_parser_made_up_is_no_outcome(parsed: dict[str, Any], outcome: bool | None) -> None:
    record = LLAMA.trial({**TRIAL, "parsed": parsed})
    assert isinstance(record, TrialRecord) and record.outcome is outcome


def test_a_trial_of_this_pipeline_has_a_problem_and_a_verdict() -> None:
    assert OURS.trial(OUR_TRIAL) == TrialRecord(3, 17, 0, 4, 601, True, "return 1")


@pytest.mark.parametrize("name", ["feature", "condition", "trial", "task_id", "response", "test_passed"])
def test_each_required_field_of_a_trial_is_missed_by_name(name: str) -> None:
    assert OURS.trial(without(OUR_TRIAL, name)) == Fault("missing_field", f"it has no {name}")


def test_the_earlier_study_needs_an_outcome_and_no_problem() -> None:
    assert LLAMA.trial(without(TRIAL, "parsed")) == Fault("missing_field", "it has no parsed")
    assert LLAMA.trial({**TRIAL, "parsed": {"bet": 1}}) == Fault("missing_field", "it has no parsed.action")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trial": -1}, "wrong_type"),
        ({"trial": 1.0}, "wrong_type"),
        ({"trial": True}, "wrong_type"),
        ({"response": None}, "wrong_type"),
        ({"parsed": "stop"}, "wrong_type"),
        ({"parsed": {"action": 1}}, "wrong_type"),
        ({"condition": None}, "unknown_condition"),
        ({"feature": "L3_17"}, "bad_feature"),
        ({"feature": "L3-99999"}, "id_outside_dictionary"),
    ],
)
def test_what_is_wrong_with_a_trial_has_its_own_name(changes: dict[str, Any], expected: str) -> None:
    assert code(LLAMA.trial({**TRIAL, **changes})) == expected


def test_a_renamed_condition_is_answered_with_the_nearest_name() -> None:
    fault = LLAMA.trial({**TRIAL, "condition": "safe-baseline"})
    assert fault == Fault("unknown_condition", "condition is 'safe-baseline'; did you mean 'safe_baseline'?")


@pytest.mark.parametrize("raw", [None, [], "trial", 3])
def test_a_record_that_is_no_object_is_of_the_wrong_type(raw: Any) -> None:
    assert code(LLAMA.trial(raw)) == code(LLAMA.result(raw)) == "wrong_type"
