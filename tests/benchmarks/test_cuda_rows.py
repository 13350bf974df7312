"""The rows of a GPU say that they are not measured where there is none, and are the promised ones where there is."""

from __future__ import annotations

import pytest
import torch

from benchmarks import cuda_rows
from benchmarks.random_models import GEMMA_2_2B
from benchmarks.workloads import Workload

pytestmark = pytest.mark.unit


def test_without_a_device_no_row_has_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = cuda_rows.cuda_rows(3)
    assert {row.not_measured for row in rows} == {"no CUDA device"}
    assert all(row.value is None and row.reached is None and GEMMA_2_2B.name in row.what for row in rows)
    assert sorted({row.name for row in rows}) == ["P1", "P2", "P4", "P5", "P6"]


def test_what_is_measured_is_what_was_promised(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_rows, "BATCHES", {3: 0.45, 4: 0.35})
    monkeypatch.setattr(cuda_rows, "SWEPT_PROBLEMS", (1, 2))
    monkeypatch.setattr(cuda_rows, "TOKEN_LIMIT", 16)
    monkeypatch.setattr(cuda_rows, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(cuda_rows, "measured_apart", lambda module, rows: {"tokens": 3})
    rows = cuda_rows.measured(small, repeats=1)
    assert [(row.name, row.what, row.goal) for row in rows] == cuda_rows.promised(small.name)
    assert all(row.value is not None and row.value > 0 for row in rows)


def test_the_share_of_the_floor_is_its_seconds_over_the_measured_ones(
    small: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_rows, "copy_bandwidth", lambda device: 1e9)
    monkeypatch.setattr(cuda_rows, "seconds", lambda action: action() and 2.0)
    monkeypatch.setattr(cuda_rows, "floor_seconds", lambda *given: 1.0)
    row = cuda_rows.floor_row(small, 0.45, repeats=3)
    assert (row.value, row.unit, row.reached, row.samples) == (50.0, "%", True, (50.0,) * 3)
    assert row.details["tokens"] == 39 and row.details["tokens_a_second"] == 19.5


def test_the_reference_is_scaled_by_the_problem(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([6.0, 0.01])  # two problems of the reference, four of ours
    monkeypatch.setattr(cuda_rows, "TOKEN_LIMIT", 4)
    monkeypatch.setattr(cuda_rows, "seconds", lambda action: next(took))
    row = cuda_rows.procedure_row(small, repeats=1)
    assert row.value == pytest.approx((6.0 / 2) / (0.01 / 4)) and row.reached


def test_agreement_counts_tokens_up_to_the_first_that_differs(small: Workload) -> None:
    assert cuda_rows.common_start((1, 2, 3), (1, 2, 4)) == 2
    assert cuda_rows.common_start((1, 2), (1, 2)) == 2
    alone, eager = cuda_rows.agreement_rows(small)
    assert (alone.value, eager.value, alone.details["tokens"]) == (100.0, 100.0, 39)
