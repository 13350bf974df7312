from __future__ import annotations

import io
import logging
import sys

import pytest

from common import progress as module
from common.progress import Progress

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("pva_sae"), "propagate", True)
    caplog.set_level(logging.INFO, logger="pva_sae")
    return caplog


def test_what_was_done_before_counts_in_the_bar_and_not_in_the_rate(clock: list[float]) -> None:
    progress = Progress("phase 1.0", total=100, done=40)
    clock[0] += 10
    progress.advance(20)
    assert progress.line() == "phase 1.0: 60 of 100 problems, 2.0 a second, about 20 s left"


def test_the_pass_rate_runs_along(clock: list[float]) -> None:
    progress = Progress("phase 1.0", total=10, unit="layer")
    progress.judge(0, 0)
    clock[0] += 1
    progress.advance(8)
    progress.judge(1, 2)
    progress.judge(2, 2)
    assert progress.line() == "phase 1.0: 8 of 10 layers, 8.0 a second, about 0 s left, passing 75%"


def test_before_anything_is_done_no_time_left_is_promised(clock: list[float]) -> None:
    progress = Progress("phase 1.0", total=10)
    clock[0] += 5
    assert progress.line() == "phase 1.0: 0 of 10 problems, 0.0 a second"


def test_off_a_terminal_a_line_is_written_every_few_seconds(
    clock: list[float], heard: pytest.LogCaptureFixture
) -> None:
    with Progress("phase 1.0", total=100) as progress:
        for seconds in (4, 4, 4, 4, 9):
            clock[0] += seconds
            progress.advance(10)
    assert [record.getMessage().split(",")[0] for record in heard.records] == [
        "phase 1.0: 30 of 100 problems",
        "phase 1.0: 50 of 100 problems",
    ]


def test_on_a_terminal_there_is_a_bar_with_the_pass_rate_and_no_lines(
    monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("phase 1.0", total=4, done=1) as progress:
        progress.advance(1)
        progress.judge(1, 2)
        progress.advance(2)
    shown = terminal.getvalue()
    assert "phase 1.0: 100%" in shown
    assert "4/4" in shown
    assert "passing 50%" in shown
    assert heard.records == []
