"""Row P1: seconds a problem of the reference procedure over those of phase 3.6."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import procedure_rows

FOUND: dict[str, Any] = {
    **{"pairs": [[6.0, 0.05], [8.0, 0.04], [7.0, 0.07]], "problems": 97, "reference_problems": 3},
    **{"reference_limit": 900, "reference_tokens": 900.0, "same_programs": 3, "same_labels": 3},
    "fresh_process_seconds_a_problem": 0.1,
}


@pytest.mark.unit
def test_the_row_is_the_ratio_of_the_medians() -> None:
    row = procedure_rows.row_of(FOUND)
    assert row.value == pytest.approx(7.0 / 0.05) and row.reached
    assert row.samples == pytest.approx((120.0, 200.0, 100.0))
    assert row.details["fresh_process"] == pytest.approx(70.0)


@pytest.mark.unit
@pytest.mark.parametrize("change", [{"same_programs": 2}, {"pairs": [[0.5, 0.05]]}])
def test_another_program_or_too_little_speed_does_not_reach_the_goal(change: dict[str, Any]) -> None:
    assert procedure_rows.row_of({**FOUND, **change}).reached is False


@pytest.mark.slow
def test_both_do_the_whole_work_and_find_the_same(tmp_path: Path) -> None:
    found = procedure_rows.measure(tmp_path, repeats=1, few=2, limit=120)
    assert (found["same_programs"], found["same_labels"], found["reference_limit"]) == (2, 2, 120)
    assert found["problems"] == 97 and found["features_that_fire"] > 0
    assert all(side > 0 for side in found["pairs"][0])
