from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from common.runs.slice_records import SliceRecord, slice_record_path
from common.runs.slices import Span
from launcher import progress
from launcher.progress import SliceProgress

pytestmark = pytest.mark.unit
NAMES = {Span(8, 15): "cuda:0", Span(16, 19): "cuda:1"}


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase3_5")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    root = logging.getLogger("pva_sae")
    before, root.propagate = root.propagate, True
    caplog.set_level(logging.INFO, logger="pva_sae")
    yield caplog
    root.propagate = before


def say(paths: PhasePaths, span: Span, done: int, *, rate: float = 0.0, state: str = "running", arms: int = 2) -> None:
    who = ("host", 1, "cpu", 1, None, arms, "")
    record = SliceRecord("3.5", span, state, done, arms * len(span), rate, *who)  # type: ignore[arg-type]
    write_json(slice_record_path(paths, span), record._asdict())


def seen(paths: PhasePaths, **more: object) -> SliceProgress:
    shown = SliceProgress("3.5", paths, NAMES, total=20, **more)  # type: ignore[arg-type]
    shown.update()
    return shown


def test_positions_are_counted_over_all_slices_and_arms_beside_what_was_there_before(paths: PhasePaths) -> None:
    """Of 20 positions 8 are in no slice; 16 and 8 arm-positions are in the slices: 10 of 16 are 5 positions."""
    say(paths, Span(8, 15), 10, rate=4.0)
    say(paths, Span(16, 19), 4, rate=0.5)
    shown = seen(paths)
    assert shown.done == 8 + 5 + 2
    assert shown.line() == (
        "phase 3.5: 15 of 20 positions, 2.2 a second, about 8 s left, cuda:0 62%, cuda:1 50%"
    )  # (4 + 0.5) / 2 positions a second; the slower slice has 4 units left at 0.5 a second


def test_before_workers_say_anything_they_get_ready(paths: PhasePaths) -> None:
    assert seen(paths).line() == "phase 3.5: 8 of 20 positions, getting ready, cuda:0 0%, cuda:1 0%"
    say(paths, Span(8, 15), 0)
    say(paths, Span(16, 19), 0)
    assert "getting ready" in seen(paths).line()


def test_a_worker_that_ended_lends_the_others_no_rate(paths: PhasePaths) -> None:
    say(paths, Span(8, 15), 16, rate=100.0, state="done")
    say(paths, Span(16, 19), 0, state="failed")
    assert seen(paths).line() == "phase 3.5: 16 of 20 positions, cuda:0 100%, cuda:1 0%"


def test_while_a_worker_has_no_rate_nothing_is_said_of_the_time_left(paths: PhasePaths) -> None:
    say(paths, Span(8, 15), 4, rate=2.0)
    say(paths, Span(16, 19), 0)
    assert seen(paths).line() == "phase 3.5: 10 of 20 positions, 1.0 a second, cuda:0 25%, cuda:1 0%"


def test_of_many_slices_the_least_and_the_most_are_shown(paths: PhasePaths) -> None:
    names = {Span(place, place): f"task {place}" for place in range(9)}
    for place in range(9):
        say(paths, Span(place, place), place % 2, rate=1.0, arms=1)
    shown = SliceProgress("3.5", paths, names, total=9, state=lambda: "Slurm array 7: 9 running")
    shown.update()
    assert shown.line().endswith(", slices 0% to 100%, Slurm array 7: 9 running")


def test_without_a_terminal_a_line_is_said_every_few_seconds(
    paths: PhasePaths, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment[0])
    with SliceProgress("3.5", paths, NAMES, total=20) as shown:
        for moment[0] in (1.0, 9.0, 10.0, 11.0, 20.5):
            shown.update()
    assert len([line for line in said.messages if line.startswith("phase 3.5: 8 of 20")]) == 2


def test_on_a_terminal_one_bar_shows_all(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say(paths, Span(8, 15), 16, rate=4.0)
    with SliceProgress("3.5", paths, NAMES, total=20) as shown:
        shown.update()
    shown_last = capsys.readouterr().err.split("\r")[-1]
    assert "phase 3.5:  80%" in shown_last and "16 of 20, 2.0 a second" in shown_last
