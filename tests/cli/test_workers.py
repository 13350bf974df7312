"""Workers on slices: what they store, what they leave to the merge, and what opening a phase says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from common.runs.locks import span_lock
from common.runs.slice_records import read_slice_records, slice_record_path
from common.runs.slices import Span
from tests.cli.conftest import Workspace
from tests.cli.helpers import (
    Answer,
    Directory,
    Here,
    assert_same_data,
    dataset,
    finish,
    loads_the_model,
    record,
    refusal,
    run,
    segments,
    start,
    stopped,
    tree,
)

pytestmark = pytest.mark.smoke
RESCORED = ("--set", "evaluation_timeout_seconds=3")


def paths(place: Directory, phase: str = "1.0") -> PhasePaths:
    return PhasePaths(place.data / f"phase{phase.replace('.', '_')}")


def opened(place: Directory, *more: object, phase: str = "1.0") -> dict[str, Any]:
    answer = place.phase(phase, "--open", *more)
    assert answer.code == 0 and not loads_the_model(answer), answer
    (line,) = answer.out.splitlines()
    return json.loads(line)


def worker(place: Directory, start: int, end: int, *more: object, phase: str = "1.0") -> Answer:
    answer = place.phase(phase, "--worker", "--start", start, "--end", end, *more)
    assert answer.code == 0, answer
    return answer


def published(place: Directory, phase: str = "1.0") -> list[str]:
    """What lies in a phase's directory besides what workers may leave there."""
    return sorted({path.name for path in paths(place, phase).root.iterdir()} - {"segments", "slices", "locks", "logs"})


# --- opening


def test_opening_says_what_is_left_and_computes_and_publishes_nothing(untouched: Directory) -> None:
    found = opened(untouched, "--go-on", "python3 multi_gpu_launcher.py --phase 1.0")
    assert found == {
        **{"phase": "1.0", "span": [0, 15], "total": 16, "batch_size": 4, "arms": 1, "due": True},
        "lacks": [[0, 3, 4], [4, 7, 4], [8, 11, 4], [12, 15, 4]],
    }
    assert published(untouched) == ["partial.json"] and segments(untouched.data) == []
    status = untouched.here("status", *untouched.options).out
    assert "unfinished; to go on: python3 multi_gpu_launcher.py --phase 1.0" in status


def test_opening_counts_what_is_done_and_what_only_the_saes_fit_lacks(untouched: Directory) -> None:
    worker(untouched, 4, 11, "--set", "sae_fit_positions=4")
    assert opened(untouched, "--set", "sae_fit_positions=4")["lacks"] == [[0, 3, 4], [12, 15, 4]]
    assert opened(untouched, "--end", 9, "--set", "sae_fit_positions=8")["lacks"] == [[0, 3, 4], [4, 7, 1]]


def test_opening_without_writing_says_the_same(untouched: Directory) -> None:
    before = tree(untouched.data)
    assert opened(untouched, "--dry-run")["lacks"][0] == [0, 3, 4]
    assert tree(untouched.data) == before


def test_opening_what_is_whole_finds_nothing_due(finished: Directory) -> None:
    found = opened(finished)
    assert (found["due"], found["lacks"]) == (False, [])
    assert "partial.json" not in published(finished)


def test_opening_with_fresh_puts_aside_what_stands(finished: Directory) -> None:
    assert len(opened(finished, "--fresh")["lacks"]) == 4
    assert published(finished) == ["partial.json", "superseded"]


# --- workers


@pytest.mark.parametrize("slices", [[(8, 15), (0, 7)], [(12, 15), (4, 7), (0, 3), (8, 11)], [(0, 11), (12, 15)]])
def test_workers_publish_nothing_and_the_merge_the_bytes_of_a_single_run(
    untouched: Directory, whole: Path, slices: list[tuple[int, int]]
) -> None:
    for first, last in slices:
        worker(untouched, first, last)
    assert published(untouched) == []
    done = read_slice_records(paths(untouched))
    assert [item.span for item in done] == sorted(Span(*pair) for pair in slices)
    assert all(item.state == "done" and item.done == item.expected == len(item.span) for item in done)
    assert len({item.fingerprint for item in done}) == 1 and done[0].fingerprint
    answer = untouched.phase("1.0")
    assert answer.code == 0 and not loads_the_model(answer)
    assert_same_data(untouched.data, whole)
    fit = "phase1_0/sae_fit.json"
    assert (untouched.data / fit).read_bytes() == (whole / fit).read_bytes()
    assert not paths(untouched).slices.exists() and not paths(untouched).segments.exists()
    assert [tuple(item["span"]) for item in record(untouched.data)["workers"]] == sorted(slices)
    assert {item["state"] for item in record(untouched.data)["workers"]} == {"done"}


def test_a_worker_on_everything_publishes_nothing_either(untouched: Directory) -> None:
    worker(untouched, 0, 15)
    assert published(untouched) == []
    assert len(segments(untouched.data, "evaluation")) == 4


def test_a_worker_computes_nothing_twice(untouched: Directory) -> None:
    worker(untouched, 0, 7)
    answer = worker(untouched, 0, 7)
    assert not loads_the_model(answer)
    (found,) = read_slice_records(paths(untouched))
    assert (found.state, found.done) == ("done", 8)


def test_a_worker_on_published_positions_finds_nothing_to_do(finished: Directory) -> None:
    before = tree(paths(finished).root)
    answer = worker(finished, 0, 7)
    assert "nothing to do" in answer.err and not loads_the_model(answer)
    (found,) = read_slice_records(paths(finished))
    assert (found.state, found.done) == ("done", 8)
    shutil.rmtree(paths(finished).slices)
    assert tree(paths(finished).root) == before


def test_labels_are_made_again_by_workers_and_merged(finished: Directory, whole: Path) -> None:
    assert len(opened(finished, *RESCORED)["lacks"]) == 4
    for start_, end in ((0, 7), (8, 15)):
        assert not loads_the_model(worker(finished, start_, end, *RESCORED))
    answer = finished.phase("1.0", *RESCORED)
    assert answer.code == 0 and not loads_the_model(answer)
    assert_same_data(finished.data, whole)
    assert record(finished.data)["fingerprints"]["evaluation"]["timeout_seconds"] == 3.0


def test_labels_are_not_taken_from_under_another_worker(finished: Directory) -> None:
    """Half of a run that was opened again under other limits; meanwhile somebody works on the rest."""
    opened(finished, *RESCORED)
    worker(finished, 0, 7, *RESCORED)
    with span_lock(paths(finished).locks, Span(8, 11)):
        line = stopped(finished.phase("1.0", "--start", 0, "--end", 7), 2)
    assert "positions 8 to 11 are being worked on by process" in line
    assert segments(finished.data, "evaluation") == [(0, 3), (4, 7)]


def test_a_failed_worker_says_why_in_its_record(untouched: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    from phase1_0.dataset_builder import DatasetBuilder

    def fail(self: Any, stop: Any) -> None:
        raise ValueError("no luck\ntoday")

    monkeypatch.setattr(DatasetBuilder, "extra_work", fail)
    with pytest.raises(ValueError, match="no luck"):
        untouched.phase("1.0", "--worker", "--start", 0, "--end", 7)
    (found,) = read_slice_records(paths(untouched))
    assert (found.state, found.error, found.done) == ("failed", "ValueError: no luck today", 8)


def test_workers_that_start_together_put_nothing_of_each_other_aside(workspace: Workspace, tmp_path: Path) -> None:
    data = workspace.copy(tmp_path / "data")
    common = ("phase", "1.0", "--profile", workspace.profile, "--data-dir", data, "--worker")
    children = [start(*common, "--start", first, "--end", first + 3) for first in (0, 4, 8, 12)]
    answers = [finish(child) for child in children]
    assert [answer.code for answer in answers] == [0, 0, 0, 0], answers
    assert not any("put aside" in answer.err for answer in answers)
    assert list((data / "phase1_0").rglob("aside")) == []
    assert segments(data, "evaluation") == [(0, 3), (4, 7), (8, 11), (12, 15)]


# --- general text


def test_general_text_is_read_by_workers_too(workspace: Workspace, tmp_path: Path, here: Here) -> None:
    one, other = (Directory(workspace.profile, workspace.copy(tmp_path / name), here) for name in ("single", "sliced"))
    assert one.phase("2.2").code == 0
    found = opened(other, phase="2.2")
    assert found["span"] == [0, 25] and sum(rows for *_, rows in found["lacks"]) == 26
    worker(other, 12, 25, phase="2.2")
    assert opened(other, phase="2.2")["lacks"] == [[0, 3, 4], [4, 7, 4], [8, 11, 4]]
    worker(other, 0, 11, phase="2.2")
    assert published(other, "2.2") == ["partial.json"]
    answer = other.phase("2.2")
    assert answer.code == 0 and not loads_the_model(answer)
    name = "feature_frequencies.npz"
    assert (paths(other, "2.2").root / name).read_bytes() == (paths(one, "2.2").root / name).read_bytes()
    assert opened(other, phase="2.2")["due"] is False


# --- refusals


def test_a_slice_that_was_made_elsewhere_under_other_settings_is_refused(untouched: Directory) -> None:
    worker(untouched, 0, 7)
    (found,) = read_slice_records(paths(untouched))
    foreign = found._replace(span=Span(8, 15), fingerprint="f" * 16, host="another")
    write_json(slice_record_path(paths(untouched), foreign.span), foreign._asdict())
    line = stopped(untouched.phase("1.0"), 2)
    assert "the slice of positions 8 to 15, made on another, was made under other settings" in line
    assert "--fresh" in line
    assert not (paths(untouched).root / "metadata.json").exists()


@pytest.mark.parametrize("mode", ["--worker", "--open"])
def test_a_phase_that_works_on_everything_at_once_has_no_workers(finished: Directory, mode: str) -> None:
    assert "works on all problems at once" in refusal(finished.phase("2.5", mode))


def test_a_worker_puts_nothing_aside(untouched: Directory) -> None:
    line = refusal(untouched.phase("1.0", "--worker", "--fresh"))
    assert "--fresh would put their work aside" in line


def test_positions_in_the_wrong_order_are_refused_before_anything_is_read(untouched: Directory) -> None:
    shutil.rmtree(untouched.data / "phase0_1")
    assert "--start 9 comes after --end 3" in refusal(untouched.phase("1.0", "--start", 9, "--end", 3))


def test_the_modes_of_the_launcher_are_not_advertised() -> None:
    said = run("phase", "--help").out
    assert "--allow-partial" in said
    assert not any(option in said for option in ("--worker", "--open", "--merge", "--go-on"))


def test_a_merge_keeps_the_labels_of_workers_that_were_isolated_otherwise(untouched: Directory) -> None:
    """Workers at rung 0, a merge on a machine that would choose another: the labels stay, and say so."""
    worker(untouched, 0, 15, "--sandbox", "0")
    answer = untouched.phase("1.0", "--merge")
    assert answer.code == 0 and "labels are made again" not in answer.err, answer
    assert record(untouched.data)["fingerprints"]["evaluation"]["sandbox_rung"] == 0
    assert set(dataset(untouched.data)["sandbox_rung"].to_pylist()) == {0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_merge_may_run_where_the_workers_device_is_not(untouched: Directory) -> None:
    """Slices stored on the CPU differ from a GPU's, so the refusal shows that the device was taken as it is named."""
    worker(untouched, 0, 15)
    line = stopped(untouched.phase("1.0", "--merge", "--device", "cuda:0"), 2)
    assert "device_type: cpu → cuda" in line and "dtype: float32 → bfloat16" in line
    assert "device cuda:0 does not exist here" in refusal(untouched.phase("1.0", "--device", "cuda:0"))
    assert "does not exist here" in stopped(untouched.phase("1.0", "--merge", "--device", "cuda:0", "--fresh"), 2)
