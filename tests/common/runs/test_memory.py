"""The warning about memory that runs out."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.runs.memory import MemoryWatch, used_share

pytestmark = pytest.mark.unit


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    100 kB\n")
    return path


def test_used_memory_is_what_new_work_cannot_have(meminfo: Path, tmp_path: Path) -> None:
    assert used_share(meminfo) == pytest.approx(0.9)
    assert used_share(tmp_path / "absent") is None


def test_a_full_memory_is_warned_about_once(meminfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("common.runs.memory._log.warning", lambda text, *values: told.append(text % values))
    watch = MemoryWatch(0.85, meminfo)
    for _ in range(3):
        watch.check()
    MemoryWatch(0.95, meminfo).check()
    assert told == ["90 % of the memory is in use; a smaller --batch-size needs less"]
