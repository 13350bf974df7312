from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from common_simplified.temperature_rows import TemperatureRows, positive_rows, temperature_report, temperature_rows

pytestmark = pytest.mark.numeric


def dataset(temperature: float, rows: list[tuple[int, bool | None]]) -> pa.Table:
    return pa.table(
        {
            "sample": pa.array(range(len(rows)), pa.int32()),
            "task_id": pa.array([task for task, _ in rows], pa.int64()),
            "temperature": pa.array([temperature] * len(rows), pa.float64()),
            "test_passed": pa.array([label for _, label in rows], pa.bool_()),
        }
    )


GREEDY = dataset(0.0, [(1, True), (2, False), (3, None), (4, True)])
WARM = dataset(0.6, [(1, True), (1, False), (2, False), (2, False), (3, True), (3, True), (4, True), (4, None)])
SCORES, IDS = np.array([3.0, 1.0, 2.0]), np.array([1, 2, 4])


def report(direction: str = "correct", threshold: float | None = 2.0) -> list[dict]:
    rows = temperature_rows([GREEDY, WARM])
    return temperature_report(direction, SCORES, IDS, rows, threshold, 0, 200)  # type: ignore[arg-type]


def test_rows_without_a_label_are_left_out_at_their_temperature_alone() -> None:
    rows = temperature_rows([GREEDY, WARM])
    assert rows.task_ids.tolist() == [1, 2, 4, 1, 1, 2, 2, 3, 3, 4]
    assert rows.temperature.tolist() == [0.0] * 3 + [0.6] * 7
    assert rows.passed.tolist() == [True, False, True, True, False, False, False, True, True, True]
    assert rows.passed.dtype == np.bool_


def test_a_problem_has_one_score_at_every_temperature_and_one_without_a_score_is_left_out() -> None:
    cold, warm = report()
    assert [cold["group"], warm["group"]] == [0.0, 0.6]
    assert (cold["n"], warm["n"], warm["n_problems"]) == (3, 5, 3)
    labels, scores = [True, False, False, False, True], [3.0, 3.0, 1.0, 1.0, 2.0]
    assert warm["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert (warm["classification"]["tp"], warm["classification"]["fp"]) == (2, 1)


def test_the_incorrect_direction_detects_what_failed() -> None:
    passed = np.array([True, False, True])
    assert positive_rows(passed, "correct").tolist() == [True, False, True]
    assert positive_rows(passed, "incorrect").tolist() == [False, True, False]
    correct, incorrect = report("correct")[1], report("incorrect")[1]
    assert incorrect["n_positive"] == correct["n"] - correct["n_positive"] == 3
    assert incorrect["auroc"]["value"] == pytest.approx(1 - correct["auroc"]["value"])


def test_without_a_threshold_only_ranking_figures_are_there() -> None:
    for row in report(threshold=None):
        assert row["classification"] is None and row["reason"]
        assert row["auroc"]["value"] is not None


def test_every_row_that_a_report_leaves_out_is_counted() -> None:
    """One greedy row and one warm row have no label; two labelled warm rows belong to a problem without a score."""
    assert [row["n_excluded"] for row in report()] == [1, 3]


def test_a_temperature_at_which_nothing_is_labelled_keeps_its_place() -> None:
    rows = temperature_rows([GREEDY, dataset(0.6, [(1, None), (2, None), (4, None)])])
    found = temperature_report("correct", SCORES, IDS, rows, 2.0, 0, 200)
    assert [(row["group"], row["n"]) for row in found] == [(0.0, 3), (0.6, 0)]


def test_rows_of_several_temperatures_may_come_in_any_order() -> None:
    rows = temperature_rows([WARM, GREEDY])
    assert isinstance(rows, TemperatureRows)
    found = temperature_report("correct", SCORES[::-1], IDS[::-1], rows, 2.0, 0, 200)
    assert found == report()
