from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import Interrupted, OtherSettingsError, PipelineError, UsageError
from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.locks import span_lock
from common.runs.slices import Span
from experiment_pathway_token_analysis.src import step3_pathway_discovery
from experiment_pathway_token_analysis.src.memory_use import GB, MemoryMeter, OverCeiling
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.step3_pathway_discovery import Discovery, run_step
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.target_work import TargetWork
from tests.experiment_pathway_token_analysis import planted

DRIVER = """
import pickle, sys
from experiment_pathway_token_analysis.src.step3_pathway_discovery import run_step
with open(sys.argv[1], "rb") as file:
    run_step(pickle.load(file))
"""
ONE_BY_ONE = "gradient.targets_per_batch=1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return planted.planted_run(place)


@pytest.fixture(scope="module")
def expected(run: Run) -> bytes:
    """What an undisturbed run writes."""
    elsewhere = at(run, "undisturbed")
    run_step(elsewhere)
    return elsewhere.paths.validated.read_bytes()


def at(run: Run, name: str, *given: str) -> Run:
    """Returns the same run in a directory of its own, perhaps under other settings."""
    root = run.paths.root.with_name(name)
    (root / "data").mkdir(parents=True)
    for path in (run.paths.causal_features, run.paths.prompts):
        (root / "data" / path.name).write_bytes(path.read_bytes())
    settings = load_settings("organism", [*planted.SMALL, *given])
    return replace(run, paths=type(run.paths)(root), settings=settings)


def run_in_a_process(run: Run) -> subprocess.Popen[bytes]:
    file = run.paths.root / "run.pickle"
    file.write_bytes(pickle.dumps(run))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", DRIVER, str(file)]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)


def segments(run: Run) -> int:
    return len(list((run.paths.pathways / "segments" / "targets" / "all").glob("*.parquet")))


@pytest.mark.fault
def test_killing_step_3_and_resuming_gives_identical_bytes(run: Run) -> None:
    undisturbed = at(run, "one by one", ONE_BY_ONE)
    run_step(undisturbed)
    killed = at(run, "killed", ONE_BY_ONE)
    n_kills = 0
    for wanted in (1, 3, 4):
        process = run_in_a_process(killed)
        while segments(killed) < wanted and process.poll() is None:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        n_kills += process.returncode == -signal.SIGKILL
        assert not killed.paths.validated.exists()
    assert n_kills == 3 and 0 < segments(killed) < len(planted.TARGETS)
    assert run_in_a_process(killed).wait() == 0
    assert killed.paths.validated.read_bytes() == undisturbed.paths.validated.read_bytes()


@pytest.mark.numeric
def test_two_slices_in_either_order_give_the_same_bytes_as_one(run: Run, expected: bytes) -> None:
    for name, spans in (("two", (Span(0, 2), Span(3, 5))), ("backwards", (Span(4, 5), Span(0, 3)))):
        sliced = at(run, name)
        for span in spans:
            Discovery(sliced, worker=True).compute(span)
        Discovery(sliced, computes_here=False).publish()
        assert sliced.paths.validated.read_bytes() == expected


@pytest.mark.numeric
def test_the_number_of_targets_at_once_changes_no_figure(run: Run, expected: bytes) -> None:
    alone = at(run, "alone", ONE_BY_ONE)
    run_step(alone)
    found, wanted = json.loads(alone.paths.validated.read_bytes()), json.loads(expected)
    assert found["edges"] == wanted["edges"] and found["chains"] == wanted["chains"]


@pytest.mark.numeric
def test_opening_says_what_is_left_on_the_grid_of_batches(run: Run) -> None:
    opened_run = at(run, "opened")
    before = Discovery(opened_run, computes_here=False).opened()
    assert [tuple(lack) for lack in before.lacks] == [(0, 4, 5), (5, 5, 1)] and before.due and before.batch_size == 5
    Discovery(opened_run, worker=True).compute(Span(0, 4))
    assert [tuple(lack) for lack in Discovery(opened_run).opened().lacks] == [(5, 5, 1)]
    with pytest.raises(PipelineError, match="targets 5 to 5 are not computed"):
        Discovery(opened_run).publish()
    Discovery(opened_run, worker=True).compute(Span(5, 5))
    Discovery(opened_run).publish()
    after = Discovery(opened_run).opened()
    assert after.lacks == [] and not after.due


@pytest.mark.numeric
def test_a_directory_made_under_other_settings_is_refused(run: Run) -> None:
    first = at(run, "settings")
    Discovery(first).compute(Span(0, 0))
    other = replace(first, settings=load_settings("organism", [*planted.SMALL, "gradient.min_abs=0.2"]))
    with pytest.raises(OtherSettingsError, match="gradient: .* use --fresh"):
        Discovery(other).compute()
    with pytest.raises(OtherSettingsError, match="targets: "):
        Discovery(replace(first, limit=3)).opened()
    Discovery(other).set_aside()
    Discovery(other).compute(Span(0, 0))


@pytest.mark.numeric
def test_what_is_put_aside_is_kept_and_a_worker_there_refuses_it(run: Run, expected: bytes) -> None:
    kept = at(run, "kept")
    run_step(kept)
    n_segments = segments(kept)
    with span_lock(PhasePaths(kept.paths.pathways).locks, Span(0, 0)), pytest.raises(UsageError):
        Discovery(kept).set_aside()
    Discovery(kept).set_aside()
    Discovery(kept).set_aside()  # nothing stands: nothing happens
    aside = kept.paths.pathways / "superseded" / "0001"
    assert (aside / "validated_pathways.json").read_bytes() == expected
    assert len(list(aside.rglob("*.parquet"))) == n_segments > 0
    assert not kept.paths.validated.exists() and segments(kept) == 0
    run_step(kept)
    assert kept.paths.validated.read_bytes() == expected
    Discovery(kept).set_aside()
    assert [path.name for path in sorted(aside.parent.iterdir())] == ["0001", "0002"]


@pytest.mark.numeric
def test_thresholds_that_only_judge_are_changed_without_computing_anew(
    run: Run, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = at(run, "judged")
    run_step(judged)
    monkeypatch.setattr(TargetWork, "records", lambda *_: pytest.fail("a target was computed again"))
    stricter = replace(judged, settings=load_settings("organism", [*planted.SMALL, "replay.min_effect=100"]))
    run_step(stricter)
    assert not any(edge["validated"] for edge in json.loads(judged.paths.validated.read_bytes())["edges"])
    run_step(judged)
    assert judged.paths.validated.read_bytes() == expected


@pytest.mark.numeric
def test_a_damaged_segment_is_computed_again(run: Run, expected: bytes) -> None:
    damaged = at(run, "damaged")
    run_step(damaged)
    segment = sorted((damaged.paths.pathways / "segments" / "targets" / "all").glob("*.parquet"))[2]
    segment.write_bytes(segment.read_bytes()[:-100] + bytes(100))
    run_step(damaged)
    assert damaged.paths.validated.read_bytes() == expected


@pytest.mark.numeric
def test_running_out_of_memory_halves_the_batch_and_changes_no_byte(
    run: Run, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    whole = TargetWork._records

    def short_of_memory(self: TargetWork, targets: Any) -> Any:
        sizes.append(len(targets))
        if len(targets) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, targets)

    monkeypatch.setattr(TargetWork, "_records", short_of_memory)
    halved = at(run, "halved")
    run_step(halved)
    assert sizes == [5, 3, 2, 1, 2, 1]
    assert halved.paths.validated.read_bytes() == expected


@pytest.mark.numeric
def test_a_single_target_that_does_not_fit_is_an_error_and_the_others_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TargetWork._records

    def one_too_large(self: TargetWork, targets: Any) -> Any:
        if any(target.position == 1 for target in targets):
            raise MemoryError("too large")
        return whole(self, targets)

    monkeypatch.setattr(TargetWork, "_records", one_too_large)
    failing = at(run, "failing")
    run_step(failing)
    targets = json.loads(failing.paths.validated.read_bytes())["targets"]
    assert [target["status"] for target in targets] == ["ok", "error", "ok", "ok", "ok", "ok"]
    assert targets[1]["reason"] == "out of memory: too large"


@pytest.mark.numeric
def test_a_polite_stop_keeps_what_is_done_and_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, whole = at(run, "stopped", ONE_BY_ONE), TargetWork.records

    def asked_to_stop(self: TargetWork, targets: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, targets)

    monkeypatch.setattr(TargetWork, "records", asked_to_stop)
    with pytest.raises(Interrupted, match="stopped with 1 of 6 targets done; to go on: python3 run.py pathway"):
        run_step(stopped)
    note = json.loads((stopped.paths.pathways / "partial.json").read_text())
    assert (note["done"], note["expected"]) == (1, 6) and segments(stopped) == 1
    monkeypatch.undo()
    run_step(stopped)
    assert not (stopped.paths.pathways / "partial.json").exists()


@pytest.mark.numeric
def test_a_stop_ends_a_long_batch_between_two_prompts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.runs.interruption.GRACE_SECONDS", -1.0)
    stopped, whole = at(run, "cut short"), TargetWork.records

    def asked_to_stop(self: TargetWork, targets: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, targets)

    monkeypatch.setattr(TargetWork, "records", asked_to_stop)
    with pytest.raises(Interrupted, match="stopped with 0 of 6 targets done"):
        run_step(stopped)


@pytest.mark.numeric
def test_a_ceiling_that_the_model_alone_passes_ends_it_though_nobody_foresaw_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step3_pathway_discovery, "require_room", lambda *_: None)
    low = at(run, "low", "memory_ceiling_gb=0.01")
    with pytest.raises(PipelineError, match=r"the model alone took .* more than memory_ceiling_gb = 0.01"):
        run_step(low)
    assert segments(low) == 0


@pytest.mark.numeric
def test_the_peak_is_read_before_it_is_reset_and_holds_what_was_allocated() -> None:
    meter = MemoryMeter(torch.device("cpu"), 1000)
    before = meter.now()
    ballast = torch.ones(100_000_000)
    assert meter.now() - before > 0.3 * GB
    peak = meter.reset()
    del ballast
    assert peak.reserved >= before + 0.3 * GB
    assert meter.peak().reserved <= peak.reserved + 10_000_000  # the kernel counts in pages a processor
    ballast = torch.ones(200_000_000)
    assert meter.peak().reserved >= before + 0.7 * GB
    assert len(ballast) == 200_000_000


@pytest.mark.numeric
def test_holding_more_than_the_ceiling_ends_as_running_out_of_memory_does() -> None:
    meter = MemoryMeter(torch.device("cpu"), 0.001)
    with pytest.raises(OverCeiling, match="memory_ceiling_gb is 0.001"):
        meter.check()
    assert issubclass(OverCeiling, MemoryError)
    with pytest.raises(PipelineError, match="step 3 took"):
        meter.refuse_over("step 3")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_peak_on_a_device_is_the_allocators_own() -> None:
    meter = MemoryMeter(torch.device("cuda"), 1000)
    meter.reset()
    ballast = torch.ones(50_000_000, device="cuda")
    del ballast
    peak = meter.reset()
    assert peak.allocated >= 0.2 * GB and peak.reserved >= peak.allocated
    assert meter.peak().allocated < peak.allocated
