"""Row P7: the ranking and the loop compute the same from the same activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import ranking_rows
from benchmarks.ranking_rows import Size
from benchmarks.reference import feature_loop
from common.statistics.permutation import MaxStatisticNull, permuted_labels, separation_statistic

SIZE = Size(layers=2, features=40, problems=60, shuffles=30)
FOUND: dict[str, Any] = {
    **ranking_rows.FULL._asdict(),
    **{"cores": 2, "seconds": [12.0, 14.0, 13.0], "peak_gb": 0.4, "looped_features": 32},
    **{"loop_seconds": [0.4] * 3, "loop_seconds_shuffles_at_once": [0.08] * 3},
    **{"t_difference": 1e-9, "auroc_difference": 1e-12},
}


@pytest.fixture(autouse=True)
def every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves this process its cores."""
    monkeypatch.setattr(ranking_rows, "keep_to_cores", lambda count: count)


@pytest.mark.unit
def test_the_rows_tell_seconds_memory_and_both_loops() -> None:
    whole, memory, loop, at_once = ranking_rows.rows_of(FOUND)
    assert (whole.value, whole.reached, whole.samples) == (13.0, True, (12.0, 14.0, 13.0))
    assert (memory.value, memory.unit, memory.reached) == (0.4, "GB", True)
    a_feature = 13.0 / (26 * 16_384)
    assert loop.value == pytest.approx(0.4 / 32 / a_feature) and loop.reached
    assert at_once.value == pytest.approx(0.08 / 32 / a_feature) and at_once.reached is None


@pytest.mark.unit
@pytest.mark.parametrize("change", [{"t_difference": 1e-3}, {"auroc_difference": 1e-5}, {"loop_seconds": [0.01] * 3}])
def test_a_loop_with_other_values_or_too_little_speed_does_not_reach_the_goal(change: dict[str, Any]) -> None:
    assert ranking_rows.rows_of({**FOUND, **change})[2].reached is False


@pytest.mark.numeric
def test_what_is_timed_agrees() -> None:
    found = ranking_rows.measure(2, SIZE, looped=16)
    assert found["t_difference"] < 1e-9 and found["auroc_difference"] < 1e-12
    assert len(found["seconds"]) == len(found["loop_seconds"]) == 2 and found["peak_gb"] > 0


@pytest.mark.numeric
@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_the_loop_finds_the_largest_score_under_each_shuffle(one_at_a_time: bool) -> None:
    labels = np.random.default_rng(0).random(SIZE.problems) < 0.5
    values = ranking_rows.activations(SIZE, 0)
    looped = feature_loop.ranked(
        values, labels, permuted_labels(labels, SIZE.shuffles, 0), one_shuffle_at_a_time=one_at_a_time
    )
    null = MaxStatisticNull(labels, SIZE.shuffles, 0, separation_statistic)
    ours = ranking_rows.ranked(values, labels, null)
    np.testing.assert_allclose(looped.largest, null._largest["correct"], atol=1e-12)
    np.testing.assert_allclose(looped.f_correct - looped.f_incorrect, ours.score, atol=1e-12)


@pytest.mark.unit
def test_activations_are_sparse_and_the_same_each_time() -> None:
    values = ranking_rows.activations(Size(1, 2000, 50, 1), 3)
    assert values.shape == (50, 2000) and values.dtype == np.float32
    assert (values > 0).mean() == pytest.approx(ranking_rows.FIRING_SHARE, abs=0.005)
    assert np.array_equal(values, ranking_rows.activations(Size(1, 2000, 50, 1), 3))
