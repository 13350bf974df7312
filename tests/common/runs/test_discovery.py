from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput, find_output, override_for, run_command, unfit_inputs
from common.runs.files import write_parquet
from common.runs.options import InputOverride, RunOptions
from common.runs.records import StageStore
from common.runs.slices import Span
from tests.common.runs.helpers import generated, publish_output

pytestmark = pytest.mark.unit

TABLE = pa.table({"task_id": [1, 2, 3], "text": ["a", "b", "c"]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path / "data"))


def refusal(config: Config, options: RunOptions | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        find_output(config, options or RunOptions(), "1.0", "2.5")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_output_that_stands_in_the_data_directory_is_found(config: Config) -> None:
    record = publish_output(config, "1.0", TABLE)
    output = find_output(config, RunOptions(), "1.0", "2.5")
    assert output.complete
    assert output.record["record_id"] == record["record_id"]
    assert output.table("table.parquet").equals(TABLE)
    (used,) = output.used
    assert (used.phase, used.rows, used.record_id) == ("1.0", 3, record["record_id"])


def test_a_missing_output_is_refused_with_the_command_that_makes_it(config: Config) -> None:
    said = refusal(config)
    assert "phase1_0/metadata.json is missing" in said
    assert f"run: python3 run.py phase 1.0 --data-dir {config.data_dir}" in said


def test_an_unfinished_output_is_refused_with_how_far_it_came(config: Config) -> None:
    store = StageStore(PhasePaths(config.phase_dir("1.0")).stage("generation", "greedy"))
    store.open({})
    store.write(Span(0, 3), generated(range(4)))
    assert "unfinished" in refusal(config)
    assert "4 positions done so far" in refusal(config)


def test_a_partial_output_is_refused_and_accepted_only_on_request(config: Config) -> None:
    publish_output(config, "1.0", TABLE, expected=16, done=3)
    said = refusal(config)
    assert "3 of 16 problems" in said
    assert "--allow-partial" in said
    output = find_output(config, RunOptions(allow_partial=True), "1.0", "2.5")
    assert not output.complete


def test_the_record_of_another_phase_is_refused(config: Config) -> None:
    publish_output(config, "0", TABLE)
    config.phase_dir("0").rename(config.phase_dir("1.0"))
    assert "is the record of phase 0, not of phase 1.0" in refusal(config)


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 7}', "[]"])
def test_an_unreadable_record_is_refused_by_name_with_the_cure(config: Config, content: str) -> None:
    publish_output(config, "1.0", TABLE)
    PhasePaths(config.phase_dir("1.0")).metadata.write_text(content)
    said = refusal(config)
    assert said.startswith("phase 2.5 reads phase 1.0: ")
    assert "metadata.json" in said
    assert "--fresh" in said


def test_a_damaged_file_is_refused_by_name(config: Config) -> None:
    publish_output(config, "1.0", TABLE)
    path = config.phase_dir("1.0") / "table.parquet"
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    output = find_output(config, RunOptions(), "1.0", "2.5")
    with pytest.raises(PipelineError, match=r"table\.parquet is damaged.*--fresh"):
        output.table("table.parquet")


def test_a_file_that_has_gone_is_refused_by_name(config: Config) -> None:
    publish_output(config, "1.0", TABLE)
    (config.phase_dir("1.0") / "table.parquet").unlink()
    with pytest.raises(PipelineError, match=r"table\.parquet is missing although its record names it"):
        find_output(config, RunOptions(), "1.0", "2.5").table("table.parquet")


def test_a_file_that_the_record_does_not_name_is_never_read(config: Config) -> None:
    publish_output(config, "1.0", TABLE)
    write_parquet(config.phase_dir("1.0") / "other.parquet", TABLE)
    output = find_output(config, RunOptions(), "1.0", "2.5")
    with pytest.raises(UsageError, match=r"names no file other\.parquet"):
        output.table("other.parquet")
    assert output.find("tab", ".parquet") == "table.parquet"
    with pytest.raises(UsageError, match=r"names 0 files other\*\.parquet"):
        output.find("other", ".parquet")


def test_the_newest_output_is_a_matter_of_generations_and_not_of_the_clock(config: Config) -> None:
    publish_output(config, "1.0", TABLE, name="old.parquet")
    publish_output(config, "1.0", TABLE, name="new.parquet")
    root = config.phase_dir("1.0")
    os.utime(root / "old.parquet", (4e9, 4e9))
    os.utime(root / "metadata.json", (1e9, 1e9))
    output = find_output(config, RunOptions(), "1.0", "2.5")
    assert output.names() == ["new.parquet"]
    assert output.record["generation"] == 2


# --- other places


def test_inputs_from_another_data_directory_go_before_the_own(config: Config, tmp_path: Path) -> None:
    publish_output(config, "1.0", TABLE)
    other = Config(data_dir=str(tmp_path / "other"))
    publish_output(other, "1.0", TABLE.slice(1))
    output = find_output(config, RunOptions(inputs_from=tmp_path / "other"), "1.0", "2.5")
    assert output.table("table.parquet").num_rows == 2
    with pytest.raises(UsageError, match=r"--inputs-from .*nowhere: no such directory"):
        find_output(config, RunOptions(inputs_from=tmp_path / "nowhere"), "1.0", "2.5")


def test_a_directory_given_for_a_phase_by_name_is_used_for_that_phase_only(config: Config, tmp_path: Path) -> None:
    other = Config(data_dir=str(tmp_path / "other"))
    publish_output(other, "1.0", TABLE.slice(1))
    publish_output(config, "0", TABLE)
    options = RunOptions(inputs=(InputOverride("1.0", other.phase_dir("1.0")),))
    assert find_output(config, options, "1.0", "2.5").paths.root == other.phase_dir("1.0")
    assert find_output(config, options, "0", "0.1").paths.root == config.phase_dir("0")


def test_a_file_is_matched_to_the_input_whose_columns_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    write_parquet(path, TABLE)
    options = RunOptions(inputs=(InputOverride(None, path),))
    assert override_for(options, "0", ["task_id", "text"]) == path
    assert override_for(options, "0", ["task_id", "code"]) is None
    assert unfit_inputs(options, "0", ["task_id", "text"]) == {}
    assert unfit_inputs(options, "0", ["task_id", "code", "tests"]) == {
        options.inputs[0]: "it lacks the columns code, tests of phase 0's table"
    }


def test_a_file_named_for_a_phase_serves_that_phase_whatever_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    write_parquet(path, TABLE)
    options = RunOptions(inputs=(InputOverride("0", path),))
    assert override_for(options, "0", ["nothing"]) == path
    assert override_for(options, "0.1", ["task_id"]) is None


def test_a_damaged_file_given_by_hand_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(PipelineError, match=r"mine\.parquet is not a readable parquet file"):
        override_for(RunOptions(inputs=(InputOverride(None, path),)), "0", ["task_id"])


def test_the_cure_is_a_command_that_can_be_copied(tmp_path: Path) -> None:
    assert run_command(Config(), "1.0") == "python3 run.py phase 1.0"
    assert run_command(Config(data_dir="my data"), "2.5") == "python3 run.py phase 2.5 --data-dir 'my data'"


def test_records_of_this_form_can_be_read_from_a_notebook(config: Config) -> None:
    publish_output(config, "1.0", TABLE)
    record = json.loads((config.phase_dir("1.0") / "metadata.json").read_text())
    assert PhaseOutput("1.0", PhasePaths(config.phase_dir("1.0")), record).entry("table.parquet")["rows"] == 3


def test_a_forgotten_profile_is_guessed_where_the_bundled_model_has_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "--profile" not in refusal(Config(data_dir="data"))
    record = tmp_path / "data" / "organism" / "phase0" / "metadata.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    hint = "(or did you mean --profile organism? data/organism holds a run)"
    assert refusal(Config(data_dir="data")).endswith(hint)
    assert hint not in refusal(Config(profile="organism", data_dir="elsewhere"))
