from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from common.runs.records import StageStore
from tests.cli.conftest import Workspace
from tests.cli.helpers import (
    SAE_PROBLEMS,
    Directory,
    Here,
    assert_same_data,
    finish,
    loads_the_model,
    record,
    refusal,
    run,
    segments,
    start,
    stopped,
    wait_until,
)


@pytest.fixture
def running(workspace: Workspace, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A run of one problem a batch that has stored two of its batches; its process group is ended after the test."""
    data = workspace.copy(tmp_path / "running")
    child = start(*command_of(workspace, data))
    try:
        wait_until(lambda: len(segments(data)) >= 2, child)
        yield data, child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def command_of(workspace: Workspace, data: Path) -> list[object]:
    settings = ("--set", "max_new_tokens=400", "--batch-size", 1)
    return ["phase", "1.0", "--profile", workspace.profile, "--data-dir", data, *settings]


@pytest.mark.smoke
def test_a_second_process_on_the_same_slice_is_refused_and_a_killed_one_is_taken_over(
    workspace: Workspace, running: tuple[Path, Any], here: Here
) -> None:
    data, child = running
    for more in (("--start", 3, "--end", 3), ("--fresh",)):
        line = stopped(here(*command_of(workspace, data), *more), 2)
        assert f"positions 0 to 15 are being worked on by process {child.pid} on host" in line
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = segments(data)
    assert done == [(number, number) for number in range(len(done))]
    assert "phase 1.0, which is unfinished" in refusal(here("phase", "2.5", *command_of(workspace, data)[2:]))
    assert "unfinished; to go on: python3 run.py phase 1.0" in here("status", *command_of(workspace, data)[2:]).out
    answer = here(*command_of(workspace, data), "--end", 1)
    assert answer.code == 0
    assert segments(data) == done


@pytest.mark.smoke
def test_a_polite_stop_ends_with_130_says_how_to_go_on_and_keeps_what_is_done(
    workspace: Workspace, running: tuple[Path, Any]
) -> None:
    data, child = running
    before = segments(data)
    child.send_signal(signal.SIGTERM)
    line = stopped(finish(child), 130)
    assert "of 16 problems done; to go on: python3 run.py phase 1.0 --profile" in line
    after = segments(data)
    assert after[: len(before)] == before
    assert segments(data, "evaluation") == after
    note = json.loads((data / "phase1_0" / "partial.json").read_text())
    assert (note["expected"], note["done"]) == (SAE_PROBLEMS, len(after))
    assert not (data / "phase1_0" / "metadata.json").exists()


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_data_of_an_undisturbed_one(
    workspace: Workspace, whole: Path, tmp_path: Path
) -> None:
    data = workspace.copy(tmp_path / "data")
    for wanted in (1, 2, 3):
        child = start("phase", "1.0", "--profile", workspace.profile, "--data-dir", data)
        wait_until(lambda wanted=wanted: len(segments(data)) >= wanted, child)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert not (data / "phase1_0" / "metadata.json").exists()
    answer = run("phase", "1.0", "--profile", workspace.profile, "--data-dir", data)
    assert answer.code == 0
    assert_same_data(data, whole)
    assert list((data / "phase1_0").rglob(".writing-*")) == []


@pytest.mark.slow
def test_a_run_killed_while_it_labels_again_keeps_what_was_generated(finished: Directory, whole: Path) -> None:
    command = ("phase", "1.0", *finished.options, "--set", "evaluation_timeout_seconds=3")
    child = start(*command)
    wait_until(lambda: len(segments(finished.data, "evaluation")) >= 1, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    answer = run(*command)
    assert answer.code == 0
    assert not loads_the_model(answer)
    assert_same_data(finished.data, whole)


@pytest.mark.slow
def test_a_stop_before_the_saes_fit_was_measured_is_made_up_for(
    untouched: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phase1_0.dataset_builder import DatasetBuilder

    measured = DatasetBuilder.extra_work

    def stop_asked(self: DatasetBuilder, stop: Any) -> None:
        stop.handle(signal.SIGTERM, None)
        measured(self, stop)

    monkeypatch.setattr(DatasetBuilder, "extra_work", stop_asked)
    stopped(untouched.phase("1.0"), 130)
    assert not (untouched.data / "phase1_0" / "metadata.json").exists()
    monkeypatch.undo()
    assert untouched.phase("1.0").code == 0
    assert record(untouched.data)["complete"]
    assert (untouched.data / "phase1_0" / "sae_fit.json").is_file()


@pytest.mark.slow
def test_a_run_killed_while_it_reopens_published_files_generates_nothing_again(
    finished: Directory, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = StageStore.write

    def killed_at_the_second(self: StageStore, span: Any, table: pa.Table) -> Any:
        if self.directory.parent.name == "generation" and span.start == 4:
            raise KeyboardInterrupt
        return write(self, span, table)

    monkeypatch.setattr(StageStore, "write", killed_at_the_second)
    stopped(finished.phase("1.0", "--set", "evaluation_timeout_seconds=3"), 130)
    monkeypatch.undo()
    answer = finished.phase("1.0", "--set", "evaluation_timeout_seconds=3")
    assert answer.code == 0
    assert not loads_the_model(answer)
    assert_same_data(finished.data, whole)
