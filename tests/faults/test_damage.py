"""Damage is found (C4): by every loader, and by the phase that reads the file, in one line that names it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.best_features import best_features
from common.runs.discovery import PhaseOutput
from common.runs.files import read_json, read_npz, read_parquet
from common.runs.metadata import read_record
from common.runs.publishing import ActivationReader, Snapshots
from common.runs.records import StageStore
from common.runs.slices import Span
from tests.cli.helpers import command, refusal, start, wait_until
from tests.cli.steering_place import quietly
from tests.common.runs.helpers import evaluated, generated, problem
from tests.faults.conftest import Figure
from tests.faults.damage import assert_all_noticed, cut, damaged_copies, flipped, unnoticed
from tests.faults.harness import Site, Undisturbed, assert_undisturbed, kill_group, run_words

D_MODEL = 16
# Which file is damaged, and the phase whose run must refuse it by name.
READ_BY = (
    ("phase0", "mbpp_difficulty_mapping_*.parquet", "0.1"),
    ("phase0", "metadata.json", "0.1"),
    ("phase0_1", "sae_mbpp.parquet", "1.0"),
    ("phase0_1", "metadata.json", "1.0"),
    ("phase2_5", "top_20_features.json", "3.5"),
    ("phase2_5", "feature_scores.parquet", "4.8"),
    ("phase3_5", "dataset_temp_0_0.parquet", "4.8"),
    ("phase3_5", "activations/index.parquet", "4.8"),
    ("phase3_5", "activations/task_activations/*_layer_2.npz", "4.8"),
    ("phase4_5", "selected_coefficients.json", "4.8"),
    ("phase4_5", "steering_directions.json", "4.8"),
    ("phase4_5", "metadata.json", "4.8"),
)


def output_of(data: Path, phase: str) -> PhaseOutput:
    paths = PhasePaths(Config(data_dir=str(data)).phase_dir(phase))
    record = read_record(paths)
    assert record is not None
    return PhaseOutput(phase, paths, record)


@pytest.fixture
def data(steered: Path, tmp_path: Path) -> Path:
    shutil.copytree(steered.parent / "data", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.fault
def test_every_loader_notices_every_flipped_bit_and_every_cut(data: Path, tmp_path: Path, figure: Figure) -> None:
    sampled = output_of(data, "3.5")
    reader = ActivationReader(sampled)
    name = next(iter(reader._hashes))
    root = sampled.paths.root
    parquet = root / "dataset_temp_0_0.parquet"
    kinds = {
        "parquet": (parquet, lambda: sampled.table(parquet.name)),
        "index": (sampled.paths.activation_index, lambda: ActivationReader(sampled)),
        "npz": (root / "activations" / name, lambda: reader.matrix([name], D_MODEL)),
        "json": (data / "phase2_5" / "top_20_features.json", lambda: best_features(output_of(data, "2.5"))),
        "metadata": (sampled.paths.metadata, lambda: read_record(sampled.paths)),
    }
    for path, load in kinds.values():
        assert_all_noticed(path, load)
    figure(f"C4: loaders of {', '.join(kinds)}: 300 of 300 flipped bits and 300 of 300 cuts each refused by name")


@pytest.mark.fault
def test_every_damaged_segment_is_put_aside(tmp_path: Path, figure: Figure) -> None:
    store = StageStore(tmp_path / "segments" / "generation" / "greedy")
    store.open({"model": "a"})
    path = store.write(Span(0, 3), generated(range(4))).path
    data = path.read_bytes()
    for copy in damaged_copies(data, 5):
        path.write_bytes(copy)
        store.verify()
        assert store.spans() == []
    path.write_bytes(data)
    store.verify()
    assert store.spans() == [Span(0, 3)]
    figure("C4: segments: 300 of 300 flipped bits and 300 of 300 cuts put aside")


@pytest.mark.fault
def test_of_damaged_snapshots_the_next_one_is_whole_and_none_takes_the_last_good_one_away(
    tmp_path: Path, figure: Figure
) -> None:
    """Nothing is computed from snapshots; whoever opens one is told of damage by its page checksums."""
    paths, rng = PhasePaths(tmp_path), random.Random(6)
    problems = [problem(number) for number in range(40)]

    def write(records: int) -> Path:
        labels = [position % 2 == 0 for position in range(records)]
        return Snapshots(paths, 4, 3).write(problems, generated(range(records)), evaluated(range(records), labels))

    last = [write(records) for records in (4, 8, 12)][-1]
    for records in (16, 20, 24, 28):
        for path in paths.snapshots.glob("*.parquet"):
            path.write_bytes((flipped if rng.random() < 0.5 else cut)(path.read_bytes(), rng))
        last = write(records)
        assert read_parquet(last).num_rows == records
        assert len(list(paths.snapshots.glob("*.parquet"))) == 3
    missed = unnoticed(last, lambda: read_parquet(last))
    figure(f"C4: a snapshot opened without its record: {600 - missed} of 600 damages noticed by the format alone")


@pytest.mark.fault
def test_frequencies_and_notes_are_noticed_by_their_loaders(tmp_path: Path) -> None:
    note = tmp_path / "partial.json"
    note.write_text('{"phase": "1.0", "done": 3}')
    for copy in (b"", b"{", note.read_bytes()[:-1], b"\xff" + note.read_bytes()):
        note.write_bytes(copy)
        line = "partial.json is damaged"
        with pytest.raises(Exception, match=line):
            read_json(note)
    archive = tmp_path / "frequencies.npz"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(Exception, match=r"frequencies\.npz is not a readable npz file"):
        read_npz(archive)


def refused_by_name(site: Site, path: Path, phase: str, damage: bytes) -> None:
    """Damages a file and asserts that the phase that reads it refuses it by name; mends it again."""
    good = path.read_bytes()
    path.write_bytes(damage)
    line = refusal(quietly(*site._replace(phase=phase).words(*(("--fresh",) if phase in ("0.1", "3.5") else ()))))
    assert str(path) in line, line
    path.write_bytes(good)


@pytest.mark.fault
@pytest.mark.parametrize(("place", "pattern", "phase"), READ_BY)
def test_a_damaged_published_file_is_refused_by_the_phase_that_reads_it(
    steering: Site, tmp_path: Path, place: str, pattern: str, phase: str
) -> None:
    site = steering.copied(tmp_path / "data")
    path = sorted((site.data / place).glob(pattern))[0]
    data, rng = path.read_bytes(), random.Random(7)
    for damage in (flipped(data, rng), flipped(data, rng), flipped(data, rng), cut(data, rng), data[:-1], b""):
        refused_by_name(site, path, phase, damage)


@pytest.mark.smoke
def test_a_damaged_input_is_refused_by_name(building: Site, tmp_path: Path) -> None:
    site = building.copied(tmp_path / "data")
    for name in ("sae_mbpp.parquet", "metadata.json"):
        path = site.data / "phase0_1" / name
        for damage in (flipped(path.read_bytes(), random.Random(1)), path.read_bytes()[:-1]):
            refused_by_name(site, path, "1.0", damage)


@pytest.mark.fault
def test_segments_damaged_between_two_runs_are_computed_again(
    building: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    put_aside = 0
    for seed in range(5):
        site, rng = building.copied(tmp_path / f"data{seed}"), random.Random(seed)
        child = start(*site.words())
        try:
            wait_until(lambda site=site: len(list(site.root.glob("segments/evaluation/*/*.parquet"))) >= 3, child)
        finally:
            kill_group(child)
        for path in rng.sample(sorted(site.root.glob("segments/*/*/[!.]*.parquet")), 3):  # less half-written ones
            path.write_bytes((flipped if rng.random() < 0.5 else cut)(path.read_bytes(), rng))
        answer = run_words(command(*site.words()))
        assert answer.code == 0, answer
        assert answer.err.count("is damaged: put aside") == 3
        assert_undisturbed(site, built)
        put_aside += 3
    figure(f"C4: {put_aside} segments damaged between two runs: put aside, computed again, all ended byte-identical")


@pytest.mark.fault
def test_published_files_that_are_damaged_are_not_made_labels_of(building: Site, tmp_path: Path) -> None:
    site = building.copied(tmp_path / "data")
    assert run_words(command(*site.words())).code == 0
    for pattern in ("dataset_sae_*.parquet", "timings.parquet", "activations/*/*.npz"):
        path = sorted(site.root.glob(pattern))[0]
        good = path.read_bytes()
        path.write_bytes(flipped(good, random.Random(3)))
        answer = quietly(*site.words("--set", "evaluation_timeout_seconds=3"))
        assert answer.code == 1, answer
        assert str(path) in answer.err.splitlines()[-1]
        path.write_bytes(good)
    assert quietly(*site.words("--set", "evaluation_timeout_seconds=3")).code == 0
