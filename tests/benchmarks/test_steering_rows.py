"""Rows P5 and P6: the same tokens on both sides, and no graph compiled anew."""

from __future__ import annotations

import pytest

from benchmarks import steering_rows
from benchmarks.timing import Paired
from benchmarks.workloads import Workload

pytestmark = pytest.mark.unit


def test_the_cost_of_steering_is_a_ratio_of_tokens_a_second(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering_rows, "in_turn", lambda first, second, repeats: Paired(9.0, 10.0, 0.9, (0.9,)))
    row = steering_rows.cost_row(small, repeats=1)
    assert (row.value, row.reached, row.samples) == (0.9, False, (0.9,))
    assert row.details["tokens"] == row.details["steered_tokens"] == 39


def test_neither_model_keeps_a_hook(small: Workload) -> None:
    steering_rows.cost_row(small, repeats=1)
    assert not [module for module in small.loaded.model.modules() if module._forward_pre_hooks]


def test_ten_coefficients_give_the_same_rows_in_one_batch_and_in_ten_runs(small: Workload) -> None:
    row = steering_rows.sweep_row(small.first(2), repeats=1, goal=0.5)
    assert row.details["rows"] == row.details["rows_with_the_same_tokens"] == 20
    assert row.value == row.details["one_batch_seconds"] / row.details["ten_runs_seconds"]


def test_the_rows_of_a_sweep_are_steered_apart(small: Workload) -> None:
    requests = steering_rows.swept(small.first(1), [1.0, 2.0])
    added = [request.steering.addition() for request in requests if request.steering is not None]  # type: ignore[union-attr]
    assert len(added) == 2 and added[1].equal(2 * added[0]) and float(added[0].norm()) == pytest.approx(4.0)


def test_no_graph_is_compiled_anew_over_a_sweep(small: Workload) -> None:
    row = steering_rows.compilation_row(small.first(2))
    assert (row.value, row.reached) == (0.0, True) and row.details["graphs"] >= 2
