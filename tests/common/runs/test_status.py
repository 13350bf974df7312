from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config, show
from common.phases import get_phase, phase_ids
from common.runs.artifacts import PhasePaths
from common.runs.discovery import find_output
from common.runs.files import sha256_file, write_json, write_parquet
from common.runs.metadata import InputFile
from common.runs.options import RunOptions
from common.runs.records import StageStore
from common.runs.slices import Span
from common.runs.status import all_states, changed_settings, read_back
from tests.common.runs.helpers import evaluated, publish_output

pytestmark = pytest.mark.unit

TABLE = pa.table({"task_id": [1, 2, 3]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path / "data"))


CHAIN = ("0", "0.1", "1.0", "2.5")


def states(config: Config) -> dict[str, str]:
    return {state.spec.id: state.state for state in all_states(config) if state.spec.id in CHAIN}


def line(config: Config, phase: str) -> str:
    return next(state.line() for state in all_states(config) if state.spec.id == phase)


def publish_chain(config: Config) -> None:
    """Publishes 0, 0.1, 1.0 and 2.5, each from the one before."""
    before = None
    for number, phase in enumerate(CHAIN):
        inputs = []
        if before is not None:
            output = find_output(config, RunOptions(), before, phase)
            output.table("table.parquet")
            inputs = output.used
        publish_output(config, phase, pa.table({"task_id": [number, number + 1]}), inputs=inputs)
        before = phase


def test_an_empty_data_directory_has_every_phase_missing(config: Config) -> None:
    assert {state.state for state in all_states(config)} == {"missing"}
    assert [state.spec.id for state in all_states(config)] == phase_ids()


def test_a_whole_chain_is_complete_and_current(config: Config) -> None:
    publish_chain(config)
    assert set(states(config).values()) == {"complete"}
    assert "generation 1" in line(config, "2.5")


def test_a_partial_record_shows_how_far_it_came(config: Config) -> None:
    publish_output(config, "1.0", TABLE, expected=16, done=3)
    assert "partial 3/16" in line(config, "1.0")
    assert "the rest has not been run" in line(config, "1.0")


def test_what_was_made_from_a_partial_input_is_partial_itself(config: Config) -> None:
    publish_output(config, "2.5", TABLE, inputs_complete=False)
    assert "partial 3/3" in line(config, "2.5")
    assert "made from a partial input" in line(config, "2.5")


def test_an_interrupted_run_shows_how_to_go_on(config: Config) -> None:
    paths = PhasePaths(config.phase_dir("1.0"))
    store = StageStore(paths.stage("evaluation", "greedy"))
    store.open({})
    store.write(Span(0, 3), evaluated(range(4), [True] * 4))
    assert "partial" in line(config, "1.0")
    assert "unfinished" in line(config, "1.0")
    write_json(paths.partial, {"expected": 16, "done": 4, "arms": 1, "to_go_on": "python3 run.py phase 1.0"})
    assert "partial 4/16" in line(config, "1.0")
    assert "to go on: python3 run.py phase 1.0" in line(config, "1.0")


def test_a_changed_input_makes_everything_after_it_stale(config: Config) -> None:
    publish_chain(config)
    publish_output(config, "0.1", pa.table({"task_id": [7]}))
    assert states(config) == {"0": "complete", "0.1": "complete", "1.0": "stale", "2.5": "stale"}
    assert "phase 0.1 has changed since" in line(config, "1.0")
    assert "phase 1.0 is stale" in line(config, "2.5")


def test_running_a_phase_again_with_the_same_result_leaves_the_others_current(config: Config) -> None:
    publish_chain(config)
    publish_output(config, "0", pa.table({"task_id": [0, 1]}))
    assert set(states(config).values()) == {"complete"}


def test_an_input_read_from_elsewhere_is_not_compared_with_the_own_directory(config: Config, tmp_path: Path) -> None:
    other = Config(data_dir=str(tmp_path / "other"))
    publish_output(other, "1.0", TABLE)
    publish_output(config, "1.0", pa.table({"task_id": [9]}))
    output = find_output(config, RunOptions(inputs_from=tmp_path / "other"), "1.0", "2.5")
    output.table("table.parquet")
    publish_output(config, "2.5", TABLE, inputs=output.used)
    assert states(config)["2.5"] == "complete"


def test_a_file_given_by_hand_that_changed_makes_the_phase_stale(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "problems.parquet"
    write_parquet(path, TABLE)
    given = [
        InputFile(None, str(path), sha256_file(path), 3, None),
        InputFile(None, "google-research-datasets/mbpp", "0" * 64, 974, "commit"),
    ]
    publish_output(config, "0", TABLE, inputs=given)
    assert states(config)["0"] == "complete"
    write_parquet(path, TABLE.slice(1))
    assert states(config)["0"] == "stale"
    assert "problems.parquet has changed since" in line(config, "0")


def test_a_data_directory_that_was_moved_is_still_current_and_still_followed(config: Config, tmp_path: Path) -> None:
    publish_chain(config)
    moved = Config(data_dir=str(tmp_path / "moved"))
    Path(config.data_dir).rename(moved.data_dir)
    assert set(states(moved).values()) == {"complete"}
    publish_output(moved, "0.1", pa.table({"task_id": [7]}))
    assert states(moved)["1.0"] == "stale"


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 99}'])
def test_an_unreadable_record_is_one_line_and_the_other_phases_are_still_shown(config: Config, content: str) -> None:
    publish_chain(config)
    PhasePaths(config.phase_dir("0.1")).metadata.write_text(content)
    assert states(config)["0.1"] == "unreadable"
    assert states(config)["0"] == "complete"
    assert "metadata.json" in line(config, "0.1")
    assert all("\n" not in state.line() for state in all_states(config))


def test_the_state_does_not_depend_on_the_clock(config: Config) -> None:
    import os

    publish_chain(config)
    for moment, phase in ((3e9, "0"), (1e9, "0.1"), (4e9, "1.0"), (2e9, "2.5")):
        os.utime(PhasePaths(config.phase_dir(phase)).metadata, (moment, moment))
    assert set(states(config).values()) == {"complete"}


@pytest.mark.parametrize(
    ("setting", "value", "noticed"),
    [
        ("seed", 7, ["0", "0.1", "1.0", "2.5"]),
        ("max_new_tokens", 100, ["1.0"]),
        ("evaluation_timeout_seconds", 3.0, ["1.0"]),
        ("phase2_5_top_k", 5, ["2.5"]),
        ("phase0_1_ratios", (4, 2, 4), ["0.1"]),
        ("phase3_8_bootstrap_draws", 500, []),
        ("device", "cpu", []),
        ("evaluation_workers", 2, []),
        ("ram_ceiling_gb", 50.0, []),
    ],
)
def test_a_complete_phase_says_which_settings_are_others_now(
    config: Config, setting: str, value: object, noticed: list[str]
) -> None:
    publish_chain(config)
    changed = replace(config, **{setting: value})
    found = [state for state in all_states(changed) if state.has_other_settings]
    assert [state.spec.id for state in found] == noticed
    assert {state.state for state in found} <= {"complete"}
    before = getattr(config, setting)
    assert all(f"made under other settings: {setting} {show(before)} → {show(value)}" in state.why for state in found)


def test_a_batch_size_that_is_left_open_is_no_other_setting() -> None:
    record = {"config": {**read_back(Config()), "batch_size": 128}}
    assert changed_settings(get_phase("1.0"), record, Config()) == []
    assert changed_settings(get_phase("1.0"), record, replace(Config(), batch_size=64)) == ["batch_size 128 → 64"]
