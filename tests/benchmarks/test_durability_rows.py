"""Row C11 measures what durability costs in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import durability_rows
from common.errors import PipelineError

pytestmark = pytest.mark.unit


def answering(monkeypatch: pytest.MonkeyPatch, code: int, out: str) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **named: subprocess.CompletedProcess(command, code, stdout=out)
    )


@pytest.mark.parametrize(("share", "reached"), [(0.004, True), (0.02, False)])
def test_the_row_tells_the_share_in_percent_with_its_parts(
    monkeypatch: pytest.MonkeyPatch, share: float, reached: bool
) -> None:
    answering(monkeypatch, 0, "said before\n" + json.dumps({"share": share, "StageStore.write": 0.1}) + "\n")
    (row,) = durability_rows.durability_rows()
    assert (row.name, row.unit, row.reached) == ("C11", "%", reached)
    assert row.value == pytest.approx(100 * share)
    assert row.details["StageStore.write"] == 0.1


def test_a_run_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 1, "")
    with pytest.raises(PipelineError, match="phase 1.0 could not be timed"):
        durability_rows.durability_rows()


def test_seconds_add_up_over_calls_also_where_one_fails() -> None:
    spent: dict[str, float] = {}

    def fail(number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return 2 * number

    timed = durability_rows._timed(fail, "fail", spent)
    assert timed(4) == 8
    once = spent["fail"]
    with pytest.raises(ValueError):
        timed(-1)
    assert spent["fail"] > once > 0


def test_a_batch_of_a_real_models_shape_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REAL_LAYERS", 2), ("REAL_WIDTH", 8), ("REAL_BATCH", 3)):
        monkeypatch.setattr(durability_rows, name, value)
    found: dict[str, Any] = durability_rows._real_shape(tmp_path)
    assert found["real_batch_seconds"] > 0
    assert len(list(tmp_path.rglob("*.parquet"))) == 5
