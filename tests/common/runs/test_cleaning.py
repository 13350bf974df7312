from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.phases import PHASES
from common.runs.artifacts import PhasePaths
from common.runs.cleaning import Deletable, delete, find_deletable, refuse_running, strange_directories
from common.runs.files import temporary_path, write_json
from common.runs.locks import span_lock
from common.runs.records import StageStore
from common.runs.slices import Span
from tests.common.runs.helpers import generated, publish_output

pytestmark = pytest.mark.unit


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path / "data"))


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def published(config: Config, phase: str, name: str = "table.parquet") -> Path:
    publish_output(config, phase, pa.table({"a": [1]}), name=name)
    return config.phase_dir(phase)


def only(found: list[Deletable]) -> Deletable:
    (item,) = found
    return item


def names(item: Deletable) -> set[str]:
    return {path.relative_to(item.root).as_posix() for path in item.files}


def test_a_published_phase_goes_whole(config: Config) -> None:
    root = published(config, "3.8", "odd_name.bin")
    for name in ("logs/phase3_8.log", "activations/a/b.npz", "snapshots/s.parquet", "timings.parquet", "slices/a.json"):
        write(root / name)
    item = only(find_deletable(config))
    assert (item.spec.id, item.state, item.staying) == ("3.8", "complete", [])
    assert item.size == sum(path.stat().st_size for path in item.files)
    delete(item)
    assert not root.exists()
    assert Path(config.data_dir).is_dir()


def test_an_unfinished_phase_is_known_by_its_segments_its_note_or_its_log(config: Config) -> None:
    store = StageStore(PhasePaths(config.phase_dir("1.0")).stage("generation", "greedy"))
    store.open({"a": 1})
    store.write(Span(0, 1), generated([0, 1]))
    write_json(PhasePaths(config.phase_dir("3.5")).partial, {"phase": "3.5"})
    write(config.phase_dir("3.6") / "logs" / "phase3_6.log")
    found = find_deletable(config)
    assert [(item.spec.id, item.state) for item in found] == [(name, "unfinished") for name in ("1.0", "3.5", "3.6")]
    for item in found:
        delete(item)
    assert list(Path(config.data_dir).iterdir()) == []


@pytest.mark.parametrize(
    "content", [{}, {"notes.txt": "x"}, {"metadata.json": '{"phase": "1.0"}'}, {"metadata.json": "{"}, {"logs/a": ""}]
)
def test_a_directory_that_nothing_shows_to_be_this_phases_stays(config: Config, content: dict[str, str]) -> None:
    root = config.phase_dir("2.5")
    root.mkdir(parents=True)
    for name, text in content.items():
        write(root / name, text)
    assert find_deletable(config) == []
    assert strange_directories(config) == [root]


def test_a_record_that_cannot_be_read_beside_the_phases_log_is_no_obstacle(config: Config) -> None:
    root = published(config, "2.5")
    write(root / "metadata.json", "{")
    write(root / "logs" / "phase2_5.log")
    item = only(find_deletable(config))
    assert item.state == "unreadable"
    assert item.staying == [root / "table.parquet"]


def test_files_that_no_phase_wrote_stay_wherever_they_lie(config: Config, tmp_path: Path) -> None:
    root = published(config, "1.0")
    strangers = [root / "__init__.py", root / "mine" / "dataset.parquet", root / "dataset_sae_mine.parquet"]
    besides = [
        tmp_path / "data" / "mbpp.jsonl",
        tmp_path / "data" / "model" / "config.json",
        tmp_path / "phase1_0" / "x",
    ]
    for path in (*strangers, *besides):
        write(path)
    debris = write(root / "dataset_sae_20260101_000000.parquet")
    item = only(find_deletable(config))
    assert sorted(item.staying) == sorted(strangers)
    delete(item)
    assert all(path.is_file() for path in (*strangers, *besides))
    assert not debris.exists()
    assert not (root / "metadata.json").exists()


def test_links_are_neither_followed_nor_removed(config: Config, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "x.npz").parent
    root = published(config, "1.0")
    (root / "activations").symlink_to(outside)
    write(root / "logs" / "phase1_0.log")
    (root / "timings.parquet").symlink_to(outside / "x.npz")
    Path(config.data_dir, "phase2_5").symlink_to(outside)
    item = only(find_deletable(config))
    assert {path.name for path in item.staying} == {"activations", "timings.parquet"}
    assert strange_directories(config) == [config.phase_dir("2.5")]
    delete(item)
    assert (outside / "x.npz").is_file()
    assert (root / "activations").is_symlink()


def test_a_phase_whose_directory_lies_elsewhere_stays(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link-target").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "link-target")
    places = (tmp_path / "mine", tmp_path / "data" / ".." / "mine", tmp_path / "data" / "link" / "phase4_5")
    for place in places:
        elsewhere = Config(data_dir=config.data_dir, phase4_5_output_dir=str(place))
        published(elsewhere, "4.5")
        assert find_deletable(elsewhere) == []
        assert strange_directories(elsewhere) == []
    inside = Config(data_dir=config.data_dir, phase4_5_output_dir=f"{config.data_dir}/other/name")
    published(inside, "4.5")
    assert only(find_deletable(inside)).root == tmp_path / "data" / "other" / "name"


def test_a_data_directory_that_is_a_link_itself_is_the_one_that_is_meant(config: Config, tmp_path: Path) -> None:
    published(config, "1.0")
    (tmp_path / "short").symlink_to(config.data_dir)
    delete(only(find_deletable(Config(data_dir=str(tmp_path / "short")))))
    assert not config.phase_dir("1.0").exists()


def test_only_what_was_put_aside_goes_where_that_is_asked(config: Config) -> None:
    root = published(config, "1.0")
    for name in ("0001/metadata.json", "0002/segments/generation/greedy/000000-000001.0.parquet", "0002/mine.txt"):
        write(root / "superseded" / name)
    whole = only(find_deletable(config))
    item = only(find_deletable(config, superseded_only=True))
    assert names(item) < names(whole)
    assert {name.split("/")[1] for name in names(item)} == {"0001", "0002"}
    assert item.size == item.superseded_size == whole.superseded_size == 2
    delete(item)
    assert (root / "metadata.json").is_file()
    assert [path.name for path in (root / "superseded").rglob("*") if path.is_file()] == ["mine.txt"]


def test_outputs_put_aside_or_made_beside_the_grid_are_judged_by_their_own_records(config: Config) -> None:
    root = published(config, "4.5")
    for place in ("superseded/0001", "screening", "final_evaluation/correct_1_incorrect_2"):
        inner = Config(phase4_5_output_dir=str(root / place))
        published(inner, "4.5", "own.bin")
        write(root / place / "stranger.bin")
    item = only(find_deletable(config))
    assert sorted(path.name for path in item.staying) == ["stranger.bin"] * 3
    delete(item)
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["stranger.bin"] * 3


def test_a_record_cannot_name_files_of_other_directories(config: Config, tmp_path: Path) -> None:
    root, outside = published(config, "1.0"), write(tmp_path / "data" / "mine.parquet")
    record = json.loads((root / "metadata.json").read_text())
    record["outputs"].append({"path": "../mine.parquet", "sha256": "", "rows": 1})
    write(root / "metadata.json", json.dumps(record))
    delete(only(find_deletable(config)))
    assert outside.is_file()


def test_a_phase_that_is_being_worked_on_is_refused_and_stays_whole(config: Config) -> None:
    root = published(config, "1.0")
    item = only(find_deletable(config))
    with span_lock(root / "locks", Span(0, 9)):
        with pytest.raises(UsageError, match="positions 0 to 9 are being worked on by process"):
            refuse_running([item])
        with pytest.raises(UsageError, match="positions 0 to 9 are being worked on by process"):
            delete(item)
    assert (root / "table.parquet").is_file()
    assert (root / "metadata.json").is_file()


@pytest.mark.parametrize("removed", [0, 1, 3, 5])
def test_a_deletion_cut_short_leaves_no_record_and_can_be_finished(
    config: Config, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    root = published(config, "1.0")
    for name in ("logs/phase1_0.log", "activations/a.npz", "timings.parquet", "excluded_tasks.json"):
        write(root / name)
    unlink, count = Path.unlink, [0]

    def killed(self: Path, missing_ok: bool = False) -> None:
        if self.suffix != ".lock":
            if count[0] == removed:
                raise KeyboardInterrupt
            count[0] += 1
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        delete(only(find_deletable(config)))
    monkeypatch.undo()
    assert not (root / "metadata.json").exists()
    delete(only(find_deletable(config)))
    assert not root.exists()


def test_left_over_temporaries_of_a_phase_go_with_it(config: Config) -> None:
    root = published(config, "1.0")
    write(temporary_path(root / "table.parquet"))
    write(temporary_path(root / "segments") / "generation" / "x")
    delete(only(find_deletable(config)))
    assert not root.exists()


def test_every_output_of_the_registry_is_known_without_a_record(config: Config) -> None:
    for spec in PHASES:
        root = config.phase_dir(spec.id)
        write_json(root / "partial.json", {"phase": spec.id})
        for name in spec.files:
            example = name.replace("<timestamp>", "20260101_010203").replace("<T>", "0_3")
            write(root / (example + "file.npz" if example.endswith("/") else example))
    found = find_deletable(config)
    assert [item.spec.id for item in found] == [spec.id for spec in PHASES]
    assert [item.staying for item in found] == [[]] * len(PHASES)


def test_what_may_not_be_deleted_is_one_line(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    published(config, "1.0")

    def refused(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet":
            raise PermissionError(13, "Permission denied")

    item = only(find_deletable(config))
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PipelineError, match="Permission denied; make it writable"):
        delete(item)
