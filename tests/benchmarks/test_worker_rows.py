"""Row P10: one worker against two, and what merging adds."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import worker_rows

ROUND: dict[str, Any] = {
    **{"one_worker": 60.0, "two_workers": 32.0, "merging": 0.08, "publishing": 1.0, "merging_process": 2.0},
    **{"rows": 5044, "same_files": True},
}


@pytest.mark.unit
def test_the_rows_are_ratios_of_seconds_without_fixed_cost() -> None:
    speed, merging = worker_rows.rows_of([ROUND, {**ROUND, "two_workers": 30.0}, {**ROUND, "two_workers": 31.0}])
    assert speed.value == pytest.approx(60 / 31) and speed.reached and len(speed.samples) == 3
    assert merging.value == pytest.approx(100 * 0.08 / 31.08) and merging.reached
    assert speed.details["publishing_seconds"] == 1.0


@pytest.mark.unit
def test_other_results_are_no_speed() -> None:
    speed, _ = worker_rows.rows_of([{**ROUND, "same_files": False}])
    assert speed.reached is False


@pytest.mark.unit
def test_the_merging_is_too_slow_above_its_share() -> None:
    _, merging = worker_rows.rows_of([{**ROUND, "merging": 0.5}])
    assert merging.reached is False


@pytest.mark.unit
@pytest.mark.parametrize(("problems", "batch"), [(388, 32), (97, 32), (64, 64), (65, 64)])
def test_halves_cover_the_split_at_the_grid(problems: int, batch: int) -> None:
    (start, middle), (after, end) = worker_rows.halves(problems, batch)
    assert (start, after, end) == (0, middle + 1, problems - 1)
    assert after % batch == 0


@pytest.mark.unit
def test_there_are_at_least_four_thousand_rows() -> None:
    from common.config import Config

    sampled = sum(temperature > 0 for temperature in Config().phase3_5_temperatures)
    assert worker_rows.PROBLEMS * (1 + worker_rows.SAMPLES * sampled) >= 4000
