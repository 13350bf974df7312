"""Row P11: the whole demo in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import demo_rows
from common.errors import PipelineError


@pytest.mark.unit
def test_the_row_is_the_median_of_the_runs() -> None:
    row = demo_rows.row_of([{"seconds": took, "cores": 2} for took in (290.0, 310.0, 250.0)])
    assert (row.value, row.reached, row.samples, row.details) == (290.0, True, (290.0, 310.0, 250.0), {"cores": 2})
    assert demo_rows.row_of([{"seconds": 301.0, "cores": 2}]).reached is False


@pytest.mark.unit
def test_each_run_has_a_fresh_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def measured(module: str, directory: str) -> dict[str, float]:
        assert not list(Path(directory).iterdir())
        seen.append(directory)
        return {"seconds": 1.0, "cores": 2}

    monkeypatch.setattr(demo_rows, "measured_apart", measured)
    (row,) = demo_rows.demo_rows(2)
    assert len(set(seen)) == 2 == len(row.samples)


@pytest.mark.smoke
def test_a_demo_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_rows, "keep_to_cores", lambda count: 2)
    with pytest.raises(PipelineError, match="--no-such-option failed with exit code 2"):
        demo_rows.measure(tmp_path, "--no-such-option")
