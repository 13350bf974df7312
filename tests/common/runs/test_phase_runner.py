from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import UsageError
from common.runs.files import read_json, sha256_file, write_parquet
from common.runs.locks import EVERYTHING, span_lock
from common.runs.metadata import Extent, OutputFile
from common.runs.options import InputOverride, RunOptions
from common.runs.phase_runner import PhaseRunner
from tests.common.runs.helpers import publish_output

pytestmark = pytest.mark.unit

COLUMNS = ("task_id", "text")
TABLE = pa.table({"task_id": [1, 2], "text": ["a", "b"]})


class Copier(PhaseRunner):
    """A phase 0.1 that copies the table of phase 0."""

    phase = "0.1"
    name = "copy.parquet"

    def prepare(self) -> None:
        self.table = self.find_table("0", lambda output: "table.parquet", COLUMNS)

    def execute(self) -> None:
        if self.options.fresh:
            self.set_aside()
        digest = write_parquet(self.paths.root / self.name, self.table)
        n = self.table.num_rows
        extent = Extent(n, n, inputs_complete=self.inputs_complete)
        self.publish(extent, [OutputFile(self.name, digest, n)], {"note": "copied"})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(data_dir=str(tmp_path / "data"))
    publish_output(made, "0", TABLE)
    return made


def runner(config: Config, **options: object) -> Copier:
    return Copier(config, RunOptions(**options))  # type: ignore[arg-type]


def test_what_was_read_stands_in_the_record_with_its_own_record(config: Config) -> None:
    runner(config).run()
    source = read_json(config.phase_dir("0") / "metadata.json")
    (given,) = read_json(config.phase_dir("0.1") / "metadata.json")["inputs"]
    path = config.phase_dir("0") / "table.parquet"
    assert given == {
        "phase": "0",
        "path": str(path),
        "sha256": sha256_file(path),
        "rows": 2,
        "record_id": source["record_id"],
    }


def test_what_is_made_from_a_partial_input_is_partial_itself(config: Config) -> None:
    publish_output(config, "0", TABLE, expected=5, done=2)
    with pytest.raises(UsageError, match="2 of 5 problems"):
        runner(config).run()
    runner(config, allow_partial=True).run()
    record = read_json(config.phase_dir("0.1") / "metadata.json")
    assert (record["complete"], record["inputs_complete"]) == (False, False)


def test_a_dry_run_writes_nothing(config: Config) -> None:
    runner(config, dry_run=True).run()
    assert not config.phase_dir("0.1").exists()


def test_files_that_only_the_former_record_named_are_removed(config: Config) -> None:
    runner(config).run()
    second = runner(config)
    second.name = "renamed.parquet"
    second.run()
    assert not (config.phase_dir("0.1") / "copy.parquet").exists()
    assert (config.phase_dir("0.1") / "renamed.parquet").exists()


def test_fresh_puts_the_former_output_aside_whole_and_keeps_it(config: Config) -> None:
    runner(config).run()
    before = read_json(config.phase_dir("0.1") / "metadata.json")
    (config.phase_dir("0.1") / "notes.txt").write_text("mine")
    runner(config, fresh=True).run()
    aside = config.phase_dir("0.1") / "superseded" / "0001"
    assert read_json(aside / "metadata.json") == before
    assert (aside / "notes.txt").read_text() == "mine"
    assert read_json(config.phase_dir("0.1") / "metadata.json")["generation"] == 2
    runner(config, fresh=True).run()
    assert read_json(config.phase_dir("0.1") / "superseded" / "0002" / "metadata.json")["generation"] == 2


def test_a_damaged_record_is_refused_before_anything_is_computed_and_fresh_helps(config: Config) -> None:
    runner(config).run()
    record = config.phase_dir("0.1") / "metadata.json"
    copy = config.phase_dir("0.1") / "copy.parquet"
    record.write_text("{")
    before = copy.stat().st_mtime_ns
    with pytest.raises(UsageError, match=r"metadata\.json is damaged.*--fresh"):
        runner(config).run()
    assert copy.stat().st_mtime_ns == before
    runner(config, fresh=True).run()
    assert read_json(record)["complete"]


def test_a_second_process_in_the_same_directory_is_refused(config: Config) -> None:
    first = runner(config)
    with span_lock(first.paths.locks, EVERYTHING), pytest.raises(UsageError, match="being worked on by process"):
        runner(config).run()
    runner(config).run()


# --- files given by hand


def given(tmp_path: Path, table: pa.Table, name: str = "mine.parquet") -> Path:
    write_parquet(tmp_path / name, table)
    return tmp_path / name


@pytest.mark.parametrize("phase", [None, "0"])
def test_a_file_given_by_hand_is_used_instead_and_recorded(config: Config, tmp_path: Path, phase: str | None) -> None:
    path = given(tmp_path, TABLE.slice(1))
    runner(config, inputs=(InputOverride(phase, path),)).run()
    record = read_json(config.phase_dir("0.1") / "metadata.json")
    assert record["done"] == 1
    (entry,) = record["inputs"]
    assert (entry["phase"], entry["path"], entry["sha256"]) == (None, str(path), sha256_file(path))


@pytest.mark.parametrize("published", [True, False])
def test_a_file_that_lacks_columns_is_refused_and_never_silently_replaced(
    config: Config, tmp_path: Path, published: bool
) -> None:
    path = given(tmp_path, TABLE.select(["task_id"]))
    if not published:
        (config.phase_dir("0") / "metadata.json").unlink()
    with pytest.raises(UsageError, match=r"mine\.parquet serves no input of phase 0\.1: it lacks the columns text"):
        runner(config, inputs=(InputOverride(None, path),)).run()
    with pytest.raises(UsageError, match=r"mine\.parquet lacks the columns text; it holds task_id"):
        runner(config, inputs=(InputOverride("0", path),)).run()
    assert not config.phase_dir("0.1").exists()


def test_a_file_that_no_input_can_come_from_is_refused(config: Config, tmp_path: Path) -> None:
    text = tmp_path / "mine.jsonl"
    text.write_text("{}")
    with pytest.raises(UsageError, match=r"mine\.jsonl serves no input of phase 0\.1: it is not a parquet file"):
        runner(config, inputs=(InputOverride(None, text),)).run()
    with pytest.raises(UsageError, match=r"serves no input of phase 0\.1: it reads phase 0;"):
        runner(config, inputs=(InputOverride("2.5", text),)).run()


def test_a_damaged_file_given_by_hand_is_a_matter_of_arguments(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"mine\.parquet is not a readable parquet file") as caught:
        runner(config, inputs=(InputOverride(None, path),)).run()
    assert caught.value.exit_code == 2


def test_a_directory_given_for_an_input_is_read_and_recorded(config: Config, tmp_path: Path) -> None:
    other = Config(data_dir=str(tmp_path / "other"))
    publish_output(other, "0", TABLE.slice(1))
    runner(config, inputs=(InputOverride("0", other.phase_dir("0")),)).run()
    assert read_json(config.phase_dir("0.1") / "metadata.json")["done"] == 1


def test_the_log_of_a_phase_stands_in_its_directory(config: Config) -> None:
    import logging

    logging.getLogger("pva_sae").setLevel(logging.INFO)
    runner(config, fresh=True).run()
    runner(config, fresh=True).run()
    assert "earlier output put aside" in (config.phase_dir("0.1") / "logs" / "phase0_1.log").read_text()
