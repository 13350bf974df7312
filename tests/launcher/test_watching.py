from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from common.errors import Interrupted, PipelineError, UsageError
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest
from common.runs.slice_records import SliceKeeper
from common.runs.slices import Span
from launcher import watching
from launcher.engine import Ended
from launcher.watching import Watch, last_lines

pytestmark = pytest.mark.unit
FIRST, SECOND, THIRD = Span(0, 3), Span(4, 7), Span(8, 11)
NAMES = {FIRST: "cuda:0", SECOND: "cuda:1", THIRD: "cuda:2"}
GO_ON = "python3 multi_gpu_launcher.py --phase 3.6"


class ScriptedEngine:
    """An engine whose workers end as a script says, one poll after the other."""

    def __init__(self, script: Sequence[Sequence[Ended]], found_again: str | None = None) -> None:
        self.script, self.found_again, self.stops = list(script), found_again, 0

    def attach(self) -> tuple[Span, ...]:
        return ()

    def start(self, works: object) -> None:
        raise AssertionError("nothing is started while watching")

    def poll(self) -> list[Ended]:
        return list(self.script.pop(0)) if self.script else []

    def describe(self) -> str:
        return "an engine"

    def stop(self) -> None:
        self.stops += 1

    def leave(self) -> str | None:
        return self.found_again


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase3_6")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    root = logging.getLogger("pva_sae")
    before, root.propagate = root.propagate, True
    caplog.set_level(logging.INFO, logger="pva_sae")
    yield caplog
    root.propagate = before


def watch(engine: ScriptedEngine, paths: PhasePaths, stop: StopRequest | None = None) -> Watch:
    return Watch(engine, paths, NAMES, stop or StopRequest(), phase="3.6", go_on=GO_ON)


def worked(paths: PhasePaths, span: Span, error: BaseException | None = None) -> None:
    try:
        with SliceKeeper(paths, span, phase="3.6", device="cpu", arms=1, expected=len(span)) as keeper:
            keeper.begin(0, "0" * 16)
            keeper.advance(2)
            if error is not None:
                raise error
    except BaseException as caught:
        assert caught is error


def log(paths: PhasePaths, span: Span, *lines: str) -> None:
    paths.logs.mkdir(parents=True, exist_ok=True)
    with open(paths.worker_log(*span), "a") as handle:
        handle.write("\n$ python3 run.py phase 3.6\n" + "".join(f"{line}\n" for line in lines))


def good(span: Span) -> Ended:
    return Ended(span, True, "")


def bad(span: Span, reason: str) -> Ended:
    return Ended(span, False, reason)


def test_when_every_worker_ended_well_there_is_nothing_to_say(paths: PhasePaths) -> None:
    engine = ScriptedEngine([[], [good(SECOND)], [], [good(FIRST), good(THIRD)]])
    watch(engine, paths).wait(12)
    assert engine.script == [] and engine.stops == 0


def test_a_worker_that_died_is_told_of_at_once_and_the_others_go_on(
    paths: PhasePaths, said: pytest.LogCaptureFixture
) -> None:
    worked(paths, SECOND, error=None)
    log(paths, SECOND, "an earlier run", "its last word")
    log(paths, SECOND, "loading the model", "reading problems")
    engine = ScriptedEngine([[bad(SECOND, "signal 9")], [good(FIRST)], [good(THIRD)]])
    with pytest.raises(PipelineError) as told:
        watch(engine, paths).wait(12)
    assert engine.script == []
    assert told.value.exit_code == 1
    assert str(told.value).startswith("1 of 3 workers failed") and str(told.value).endswith(GO_ON)
    assert "positions 4 to 7 on cuda:1 ended: signal 9; 2 others go on" in said.messages
    (shown,) = [message for message in said.messages if "last lines" in message]
    assert str(paths.worker_log(*SECOND)) in shown
    assert shown.endswith(":\n  | loading the model\n  | reading problems")


def test_the_error_is_the_one_that_the_worker_wrote_down(paths: PhasePaths, said: pytest.LogCaptureFixture) -> None:
    worked(paths, FIRST, UsageError("the weights do not fit"))
    worked(paths, SECOND, Interrupted("stopped"))
    log(paths, THIRD, "2026-01-01 INFO began", "error: positions 8 to 11 are being worked on", "")
    endings = [bad(FIRST, "exit 2"), bad(SECOND, "exit 130"), bad(THIRD, "exit 2")]
    with pytest.raises(PipelineError, match="3 of 3 workers failed"):
        watch(ScriptedEngine([endings]), paths).wait(12)
    assert [message for message in said.messages if " ended: " in message] == [
        "positions 0 to 3 on cuda:0 ended: exit 2: the weights do not fit; 2 others go on",
        "positions 4 to 7 on cuda:1 ended: exit 130: it was asked to stop; 1 other goes on",
        "positions 8 to 11 on cuda:2 ended: exit 2: positions 8 to 11 are being worked on",
    ]


def test_a_request_to_stop_stops_the_workers_and_says_how_far_they_are(paths: PhasePaths) -> None:
    worked(paths, FIRST, Interrupted("stopped"))
    stop = StopRequest()
    stop.handle(signal.SIGINT, None)
    engine = ScriptedEngine([[]])
    with pytest.raises(Interrupted) as told:
        watch(engine, paths, stop).wait(20)
    assert engine.stops >= 1
    assert str(told.value) == f"stopped with 10 of 20 positions done; to go on: {GO_ON}"


def test_workers_that_outlive_a_launcher_are_left_at_work(paths: PhasePaths) -> None:
    stop = StopRequest()
    stop.handle(signal.SIGTERM, None)
    engine = ScriptedEngine([[]], found_again="array 7 goes on; the same command again attaches to it")
    with pytest.raises(Interrupted, match="^array 7 goes on; the same command again attaches to it$"):
        watch(engine, paths, stop).wait(12)
    assert engine.stops == 0


def test_whatever_else_ends_a_launcher_ends_its_workers(paths: PhasePaths, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ScriptedEngine([])
    monkeypatch.setattr(engine, "poll", lambda: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        watch(engine, paths).wait(12)
    assert engine.stops == 1


def test_a_stop_that_comes_when_all_have_ended_changes_nothing_here(paths: PhasePaths) -> None:
    stop = StopRequest()
    stop.handle(signal.SIGINT, None)
    engine = ScriptedEngine([[good(FIRST), good(SECOND), good(THIRD)]])
    watch(engine, paths, stop).wait(12)
    assert engine.stops == 0


def test_a_log_without_lines_or_with_odd_bytes_is_no_trouble(paths: PhasePaths) -> None:
    assert last_lines(paths.worker_log(*FIRST)) == []
    log(paths, FIRST)
    assert last_lines(paths.worker_log(*FIRST)) == []
    paths.worker_log(*SECOND).write_bytes(b"\xff\xfe\n" + b"".join(b"line %d\n" % place for place in range(9_000)))
    assert last_lines(paths.worker_log(*SECOND)) == [f"line {place}" for place in range(8_992, 9_000)]
