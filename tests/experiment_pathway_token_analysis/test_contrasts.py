"""A feature's contrast: trials are counted or problems paired, and the sign means the same in both classes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest, false_discovery_control, fisher_exact

from common.statistics.contingency import Table, stratified_fisher
from experiment_pathway_token_analysis.src.contrasts import (
    FISHER,
    MCNEMAR,
    Trial,
    contrast,
    q_values,
    trials_of_features,
)
from experiment_pathway_token_analysis.src.settings import load_settings

pytestmark = pytest.mark.numeric
LLAMA, OURS = load_settings("llama-3.1-8b").study, load_settings("organism").study
SAFE_OWN, SAFE_OTHER = "safe_amplification", "safe_with_risky_patch"
RISKY_OWN, RISKY_OTHER = "risky_amplification", "risky_with_safe_patch"


def counted(positive: int, n: int, unknown: int = 0) -> list[Trial]:
    return [*[(None, place < positive) for place in range(n)], *[(None, None)] * unknown]


def solved(*outcomes: bool | None, first: int = 1) -> list[Trial]:
    return list(enumerate(outcomes, first))


def test_many_trials_a_prompt_are_counted_and_aligned_to_the_first_class() -> None:
    # The safe patch raises the rate in both prompts: in the safe one it is the own patch, in the risky one the other.
    trials = {
        SAFE_OWN: counted(24, 30),
        SAFE_OTHER: counted(9, 30),
        RISKY_OTHER: counted(20, 30),
        RISKY_OWN: counted(14, 30),
    }
    found = contrast(trials, LLAMA)
    assert (found.method, found.n_pairs, found.reason) == (FISHER, 60, None)
    assert found.effects == (pytest.approx(0.5), pytest.approx(0.2))
    assert found.rate_difference == pytest.approx(0.35)
    expected = [fisher_exact([[24, 6], [9, 21]]), fisher_exact([[20, 10], [14, 16]])]
    assert found.p_values == tuple(pytest.approx(one.pvalue, rel=1e-9) for one in expected)  # type: ignore[attr-defined]
    assert found.p == stratified_fisher([Table(24, 30, 9, 30), Table(20, 30, 14, 30)])


def test_outcomes_that_were_not_parsed_are_not_counted() -> None:
    trials = {SAFE_OWN: counted(5, 10, unknown=7), SAFE_OTHER: counted(2, 10, unknown=3)}
    found = contrast(trials, LLAMA)
    assert found.effects == (pytest.approx(0.3), None) and found.n_pairs == 10
    assert found.p == found.p_values[0] and found.p_values[1] is None


def test_one_trial_a_problem_is_paired_by_problem_over_both_classes() -> None:
    trials = {
        "correct_amplification": solved(True, True, True, True, False, True),
        "correct_with_incorrect_patch": solved(False, False, False, True, False, False),
        "incorrect_with_correct_patch": solved(True, True, False, first=11),
        "incorrect_amplification": solved(False, False, True, first=11),
    }
    found = contrast(trials, OURS)
    assert (found.method, found.n_pairs) == (MCNEMAR, 9)
    assert found.effects == (pytest.approx(4 / 6), pytest.approx(1 / 3))
    assert found.rate_difference == pytest.approx(5 / 9)
    assert found.p == pytest.approx(binomtest(6, 7).pvalue)
    assert found.p_values == (pytest.approx(binomtest(4, 4).pvalue), pytest.approx(binomtest(2, 3).pvalue))


def test_the_order_of_trials_changes_nothing_and_a_problem_on_one_side_only_takes_no_part() -> None:
    own, other = solved(True, False, True, True), solved(False, True, False, None, first=2)
    trials = {"correct_amplification": own, "correct_with_incorrect_patch": other}
    turned = {name: arm[::-1] for name, arm in trials.items()}
    found = contrast(trials, OURS)
    # Problems 2 (no, no), 3 (yes, yes), 4 (yes, no); problem 1 has one arm, 5 no verdict.
    assert found.n_pairs == 3 and found.rate_difference == pytest.approx(1 / 3)
    assert contrast(turned, OURS) == found


def test_several_trials_of_a_problem_are_no_several_problems() -> None:
    own, other = [(1, True), (1, True), (2, True)], [(1, False), (2, False)]
    found = contrast({"correct_amplification": own, "correct_with_incorrect_patch": other}, OURS)
    assert found.n_pairs == 1 and found.p == 1.0
    repeated = contrast({"correct_amplification": own[:2], "correct_with_incorrect_patch": other[:1]}, OURS)
    assert repeated.p is None and repeated.reason == "no problem has exactly one trial under each patch"


def test_what_cannot_be_tested_says_why() -> None:
    missing = contrast({SAFE_OWN: counted(3, 5), "safe_baseline": counted(3, 5)}, LLAMA)
    assert missing.p is None and missing.reason == "no class has trials under both patches"
    equal = contrast({SAFE_OWN: counted(5, 5), SAFE_OTHER: counted(5, 5)}, LLAMA)
    assert (equal.p, equal.rate_difference, equal.reason) == (None, 0.0, "every outcome is the same")


def test_the_q_values_are_scipys_over_what_was_tested() -> None:
    p_values = [0.01, None, 0.02, 0.8, 0.04, None, 0.001]
    tested = np.array([p for p in p_values if p is not None])
    expected = iter(false_discovery_control(tested))
    assert q_values(p_values) == [None if p is None else pytest.approx(next(expected)) for p in p_values]
    assert q_values([None, None]) == [None, None] and q_values([]) == []


def test_features_come_out_of_the_tables_whole_and_in_order() -> None:
    def table(features: list[str]) -> pa.Table:
        n = len(features)
        columns = {"condition": ["x", "y"] * n, "task_id": [None, 1] * n, "outcome": [True, None] * n}
        return pa.table({"feature": features, **{name: column[:n] for name, column in columns.items()}})

    found = dict(trials_of_features([table(["L1-1", "L1-1", "L1-2"]), table(["L2-0"])]))
    assert list(found) == ["L1-1", "L1-2", "L2-0"]
    assert found["L1-1"] == {"x": [(None, True)], "y": [(1, None)]}
