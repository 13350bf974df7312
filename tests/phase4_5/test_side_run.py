"""Several workers beside one screening: one runs it, the others wait for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.errors import Interrupted, UsageError
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest
from common.runs.locks import EVERYTHING, span_lock
from phase4_5 import side_run

pytestmark = pytest.mark.unit


class Screening:
    """A side run that holds its lock while it works."""

    phase = "4.5"

    def __init__(self, root: Path) -> None:
        self.paths, self.runs = PhasePaths(root / "screening"), 0

    def execute(self) -> None:
        with span_lock(self.paths.locks, EVERYTHING):
            self.runs += 1


@pytest.fixture
def side(tmp_path: Path) -> Screening:
    return Screening(tmp_path)


def grid(*, worker: bool) -> Any:
    options = SimpleNamespace(worker=worker)
    return SimpleNamespace(options=options, stop=StopRequest(), command=lambda: "python3 multi_gpu_launcher.py")


def in_turn(side: Screening, of: Any) -> None:
    side_run._execute_in_turn(cast(Any, side), of)


def held_for(side: Screening, monkeypatch: pytest.MonkeyPatch, during: Callable[[], None]) -> Any:
    """Holds the screening's lock until somebody has waited once, and does something meanwhile."""
    lock = span_lock(side.paths.locks, EVERYTHING)
    lock.__enter__()

    def wait(seconds: float) -> None:
        during()
        lock.__exit__(None, None, None)

    monkeypatch.setattr(side_run.time, "sleep", wait)
    return lock


def test_a_worker_waits_for_the_one_that_screens(side: Screening, monkeypatch: pytest.MonkeyPatch) -> None:
    held_for(side, monkeypatch, lambda: None)
    in_turn(side, grid(worker=True))
    assert side.runs == 1


def test_a_worker_that_is_asked_to_stop_waits_no_longer(side: Screening, monkeypatch: pytest.MonkeyPatch) -> None:
    of = grid(worker=True)
    lock = held_for(side, monkeypatch, lambda: None)
    of.stop.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="stopped while waiting for another worker; to go on: python3 multi_gpu"):
        in_turn(side, of)
    lock.__exit__(None, None, None)
    assert side.runs == 0


def test_a_worker_that_comes_second_at_the_same_moment_waits_too(
    side: Screening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free when it was looked at, held when it was wanted."""
    held_for(side, monkeypatch, lambda: None)
    look, looks = side_run._is_held, [False]
    monkeypatch.setattr(side_run, "_is_held", lambda asked: looks.pop() if looks else look(asked))
    in_turn(side, grid(worker=True))
    assert side.runs == 1


def test_any_other_run_is_refused(side: Screening) -> None:
    with span_lock(side.paths.locks, EVERYTHING), pytest.raises(UsageError, match="being worked on by process"):
        in_turn(side, grid(worker=False))


def test_what_a_worker_cannot_use_is_refused_and_not_waited_for(
    side: Screening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise UsageError("made under other settings")

    monkeypatch.setattr(side, "execute", refuse)
    with pytest.raises(UsageError, match="made under other settings"):
        in_turn(side, grid(worker=True))
