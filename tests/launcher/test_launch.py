"""The order of a launch's steps, with an engine and processes that only note what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.phases import get_phase
from common.runs.artifacts import PhasePaths
from common.runs.interruption import StopRequest
from common.runs.merging import Lack, Opened
from common.runs.records import StageStore
from common.runs.slice_records import SliceKeeper, read_slice_record
from common.runs.slices import Span
from launcher import launch as launch_module
from launcher.arguments import Commands, build_parser
from launcher.engine import Device, Ended, Work
from launcher.launch import Launch, works_of

pytestmark = pytest.mark.unit
LACKS = [Lack(0, 3, 4), Lack(4, 7, 4), Lack(8, 9, 2)]
CPU = [Device("cpu 1", "cpu", {"OMP_NUM_THREADS": "2"}), Device("cpu 2", "cpu", {"OMP_NUM_THREADS": "2"})]
GPU = [Device("task 0", "cuda", {}), Device("task 1", "cuda", {})]
FOUND_AGAIN = "the array goes on"


class NotingEngine:
    """Stores every slice it is given, and notes what it was asked."""

    def __init__(self, paths: PhasePaths, *, attached: Sequence[Span] = (), outlives: bool = False) -> None:
        self.paths, self.attached, self.outlives = paths, tuple(attached), outlives
        self.works: list[Work] = []
        self.left_out: Span | None = None
        self._ended = [Ended(span, True, "") for span in attached]

    def attach(self) -> tuple[Span, ...]:
        return self.attached

    def start(self, works: Sequence[Work]) -> None:
        self.works += works
        for work in works:
            if work.span != self.left_out and "--merge" not in work.command:
                store(self.paths, work.span)
            self._ended.append(Ended(work.span, True, ""))

    def poll(self) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def describe(self) -> str:
        return "the array"

    def stop(self) -> None:
        raise AssertionError("nothing is to be stopped")

    def leave(self) -> str | None:
        return FOUND_AGAIN if self.outlives else None


class NotingSteps:
    """Answers an opening as it is told to, and notes every command."""

    def __init__(self, opened: Opened) -> None:
        self.opened, self.opening, self.runs = opened, 0, []

    def open(self, command: Sequence[str]) -> Opened:
        assert "--open" in command
        self.opening += 1
        return self.opened

    def run(self, command: Sequence[str]) -> None:
        assert "--merge" in command
        self.runs.append(command)


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase4_5")


@pytest.fixture(autouse=True)
def one_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_module, "VISIBLE_SECONDS", 0.0)
    monkeypatch.setattr(launch_module, "cuda_device_count", lambda: 0)
    monkeypatch.setattr(launch_module, "choose_isolation", _rung_three)


def _rung_three(sandbox: str) -> Any:
    class Chosen:
        isolation = type("Isolation", (), {"rung": 3})

    return Chosen()


def store(paths: PhasePaths, span: Span) -> None:
    stage = StageStore(paths.stage("evaluation", "grid"))
    stage.open({"seed": 1})
    stage.write(span, pa.table({"position": list(range(span.start, span.end + 1))}))


def opened(lacks: Sequence[Lack] = LACKS, *, due: bool = True) -> Opened:
    return Opened("4.5", Span(0, 9), 10, 4, 2, due, list(lacks))


def launch(
    engine: NotingEngine, steps: NotingSteps, *words: str, devices: Sequence[Device] = CPU, phase: str = "4.5"
) -> Launch:
    parsed = build_parser().parse_args(["--phase", phase, *words])
    place = (engine, engine.paths, steps, StopRequest())
    return Launch(Commands(get_phase(phase), parsed), Config(), devices, *place)  # type: ignore[arg-type]


def test_what_is_missing_is_opened_cut_computed_and_merged(paths: PhasePaths) -> None:
    engine, steps = NotingEngine(paths), NotingSteps(opened())
    launch(engine, steps).run()
    assert [work.span for work in engine.works] == [Span(0, 3), Span(4, 9)]
    assert [work.log.name for work in engine.works] == ["worker_000000-000003.log", "worker_000004-000009.log"]
    assert steps.opening == 1 and len(steps.runs) == 1


def test_records_of_earlier_workers_on_the_same_slices_go_before_new_ones_start(paths: PhasePaths) -> None:
    for span in (Span(4, 9), Span(0, 9)):
        with SliceKeeper(paths, span, phase="4.5", device="cpu", arms=1, expected=6):
            pass
    launch(NotingEngine(paths), NotingSteps(opened())).run()
    assert read_slice_record(paths, Span(4, 9)) is None
    assert read_slice_record(paths, Span(0, 9)) is not None


def test_where_nothing_is_due_nothing_is_done(paths: PhasePaths) -> None:
    engine, steps = NotingEngine(paths), NotingSteps(opened([], due=False))
    launch(engine, steps).run()
    assert engine.works == [] and steps.runs == []


def test_what_only_lacks_publishing_is_merged_at_once(paths: PhasePaths) -> None:
    engine, steps = NotingEngine(paths), NotingSteps(opened([]))
    launch(engine, steps).run()
    assert engine.works == [] and len(steps.runs) == 1


@pytest.mark.parametrize("outlives", [False, True])
def test_a_slice_that_is_missing_though_its_worker_ended_well_is_not_merged(paths: PhasePaths, outlives: bool) -> None:
    engine, steps = NotingEngine(paths, outlives=outlives), NotingSteps(opened())
    engine.left_out = Span(4, 9)
    with pytest.raises(PipelineError, match="not merged: positions 4 to 9 are missing"):
        launch(engine, steps).run()
    assert steps.runs == []


def test_workers_of_an_earlier_launcher_are_waited_for_before_anything_is_opened(paths: PhasePaths) -> None:
    engine, steps = NotingEngine(paths, attached=[Span(0, 3), Span(4, 9)], outlives=True), NotingSteps(opened([]))
    for span in engine.attached:
        store(paths, span)
    launch(engine, steps, "--engine", "slurm", phase="4.8", devices=GPU).run()
    assert engine.works == [] and steps.opening == 1 and len(steps.runs) == 1


def test_workers_that_are_at_work_are_not_started_afresh(paths: PhasePaths) -> None:
    engine = NotingEngine(paths, attached=[Span(0, 9)], outlives=True)
    with pytest.raises(UsageError, match="the array is at work on phase 4.5: --cancel it before --fresh"):
        launch(engine, NotingSteps(opened()), "--fresh").run()


def test_a_phase_that_computes_in_its_merge_does_so_where_the_devices_are(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, steps = NotingEngine(paths, outlives=True), NotingSteps(opened())
    launch(engine, steps, "--engine", "slurm", devices=GPU).run()
    *workers, merge = engine.works
    assert len(workers) == 2 and steps.runs == []
    assert "--merge" in merge.command and merge.log == paths.worker_log(*merge.span)
    monkeypatch.setattr(launch_module, "cuda_device_count", lambda: 1)
    steps.opened = opened([])
    launch(engine, steps, "--engine", "slurm", devices=GPU).run()
    assert len(steps.runs) == 1


def test_workers_of_one_machine_share_its_cores_and_one_isolation(
    paths: PhasePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launcher import devices

    monkeypatch.setattr(devices, "cores", lambda: 6)

    def words(phase: str, *more: str) -> str:
        commands = Commands(get_phase(phase), build_parser().parse_args(["--phase", phase, *more]))
        return " ".join(works_of(opened(), commands, CPU, paths, Config())[0].command)

    assert "--set evaluation_workers=3 --sandbox 3" in words("4.5")
    assert "--sandbox" not in words("2.2")  # it tests nothing
    assert "--sandbox" not in words("4.5", "--engine", "slurm")
    assert "evaluation_workers" not in words("4.5", "--engine", "slurm")
