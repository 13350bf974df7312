"""Rows P3 and P4: what is counted, and references that give the same tokens and vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks import generation_rows
from benchmarks.reference import nnsight_capture, transformer_lens_capture
from benchmarks.reference.captured import Captured
from benchmarks.workloads import Workload, tiny


@pytest.mark.unit
def test_a_completion_counts_up_to_the_last_line_of_its_program() -> None:
    text = "\ndef f(x):\n    return x\n\nprint(f(1))"
    assert generation_rows.up_to_program(text, "f") == "\ndef f(x):\n    return x"


@pytest.mark.smoke
def test_the_tiny_model_needs_most_of_the_tokens_that_it_makes() -> None:
    row = generation_rows.stopping_row(tiny(4))
    assert row.details["problems"] == 4
    assert row.value == row.details["tokens"] / row.details["tokens_needed"] >= 1


@pytest.mark.unit
def test_capture_is_timed_against_none_on_the_same_rows(small: Workload) -> None:
    row = generation_rows.capture_row(small, repeats=2)
    assert (row.name, row.details["layers"], row.details["tokens"], len(row.samples)) == ("P4", 3, 39, 6)
    assert row.value == row.details["with_seconds"] / row.details["without_seconds"]


@pytest.mark.numeric
@pytest.mark.parametrize("work", ["small", "tiny"])
def test_transformer_lens_generates_and_captures_the_same(work: str, request: pytest.FixtureRequest) -> None:
    chosen = tiny(1) if work == "tiny" else request.getfixturevalue("small")
    row = generation_rows.reference_row(chosen, "TransformerLens", transformer_lens_capture.prepared, repeats=1)
    assert row.details["same_tokens"] and row.details["largest_difference"] < 1e-5
    assert row.reached is None and row.value is not None and row.value > 0


@pytest.mark.numeric
def test_nnsight_generates_and_captures_the_same_where_it_is_installed() -> None:
    pytest.importorskip("nnsight", reason="nnsight is not among the requirements")
    row = generation_rows.reference_row(tiny(1), "nnsight", nnsight_capture.prepared, repeats=1)
    assert row.details["same_tokens"] and row.details["largest_difference"] < 1e-5


@pytest.mark.unit
def test_a_reference_that_is_not_installed_is_not_measured(small: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nnsight", None)
    row = generation_rows.reference_row(small, "nnsight", nnsight_capture.prepared, repeats=1)
    assert (row.value, row.not_measured) == (None, "nnsight is not installed")


@pytest.mark.unit
def test_a_reference_that_differs_is_seen(small: Workload) -> None:
    def prepare(work: Workload, n_tokens: int) -> Callable[[str], Captured]:
        wrong = [[0.0] * work.loaded.model.config.hidden_size] * len(work.points)
        return lambda prompt: Captured((0,) * n_tokens, wrong)

    row = generation_rows.reference_row(small, "a wrong one", prepare, repeats=1)
    assert not row.details["same_tokens"] and row.details["largest_difference"] == 1.0
