from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError
from common.runs.artifacts import PhasePaths
from common.runs.files import sha256_file
from common.runs.metadata import Extent, generation_to_put_aside, next_generation, read_record, write_record
from tests.common.runs.helpers import publish_output

pytestmark = pytest.mark.unit

TABLE = pa.table({"task_id": [1, 2, 3]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path))


def paths_of(config: Config) -> PhasePaths:
    return PhasePaths(config.phase_dir("0"))


def test_a_record_names_what_a_reader_needs_to_trust_or_repeat_the_phase(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "phase", "0", "--input", "my file.jsonl"])
    publish_output(config, "0", TABLE)
    record = json.loads(paths_of(config).metadata.read_text())
    assert record["phase"] == "0"
    assert record["command"] == "run.py phase 0 --input 'my file.jsonl'"
    assert record["outputs"] == [
        {"path": "table.parquet", "sha256": sha256_file(paths_of(config).root / "table.parquet"), "rows": 3}
    ]
    assert record["config"]["seed"] == 42
    assert (record["expected"], record["done"], record["excluded"], record["complete"]) == (3, 3, 0, True)
    assert record["created"].endswith("+00:00")
    assert record["versions"]["python"] == sys.version.split()[0]
    assert {"commit", "dirty", "config_hash", "record_id", "seed", "wall_seconds", "inputs", "slices"} <= set(record)


@pytest.mark.parametrize(
    ("extent", "complete"),
    [
        (Extent(10, 10), True),
        (Extent(10, 10, excluded=2), True),
        (Extent(10, 9), False),
        (Extent(10, 10, inputs_complete=False), False),
    ],
)
def test_complete_means_the_whole_split_from_whole_inputs(extent: Extent, complete: bool) -> None:
    assert extent.complete is complete


def test_generations_count_up_whether_outputs_stand_or_were_put_aside(config: Config) -> None:
    paths = paths_of(config)
    assert next_generation(paths) == 1
    assert [publish_output(config, "0", TABLE)["generation"] for _ in range(3)] == [1, 2, 3]
    paths.metadata.unlink()
    (paths.superseded / "0007").mkdir(parents=True)
    (paths.superseded / "notes").mkdir()
    assert publish_output(config, "0", TABLE)["generation"] == 8


def test_an_output_is_put_aside_under_its_own_generation(config: Config) -> None:
    paths = paths_of(config)
    assert generation_to_put_aside(paths) == 1
    publish_output(config, "0", TABLE)
    publish_output(config, "0", TABLE)
    assert generation_to_put_aside(paths) == 2
    (paths.superseded / "0002").mkdir(parents=True)
    assert generation_to_put_aside(paths) == 3


def test_what_a_damaged_record_names_can_still_be_put_aside(config: Config) -> None:
    publish_output(config, "0", TABLE)
    paths_of(config).metadata.write_text("{")
    assert generation_to_put_aside(paths_of(config)) == 1


def test_two_records_of_the_same_files_have_ids_of_their_own(config: Config) -> None:
    first, second = publish_output(config, "0", TABLE), publish_output(config, "0", TABLE)
    assert first["record_id"] != second["record_id"]
    assert first["config_hash"] == second["config_hash"]


def test_details_that_are_not_finite_are_null(config: Config) -> None:
    write_record(
        paths_of(config),
        phase="0",
        config=config,
        extent=Extent(1, 1),
        inputs=[],
        outputs=[],
        wall_seconds={"scoring": 1.25},
        details={"distance": float("nan")},
    )
    record = read_record(paths_of(config))
    assert record is not None
    assert record["distance"] is None
    assert record["wall_seconds"] == {"scoring": 1.25}


def test_no_record_is_none_and_another_schema_is_refused_with_the_cure(config: Config) -> None:
    paths = paths_of(config)
    assert read_record(paths) is None
    publish_output(config, "0", TABLE)
    record = json.loads(paths.metadata.read_text())
    for other in ({**record, "schema_version": 99}, [1, 2], "text", {}):
        paths.metadata.write_text(json.dumps(other))
        with pytest.raises(PipelineError, match=r"schema version .*, expected 1; run its phase again with --fresh"):
            read_record(paths)


@pytest.mark.parametrize("cut", [0, 1, 50, -2])
def test_a_record_that_was_cut_short_is_refused_by_name(config: Config, cut: int) -> None:
    publish_output(config, "0", TABLE)
    path = paths_of(config).metadata
    path.write_bytes(path.read_bytes()[:cut] if cut else b"")
    with pytest.raises(PipelineError, match=r"metadata\.json is damaged .*--fresh"):
        read_record(paths_of(config))


def test_every_change_of_a_record_is_found(config: Config) -> None:
    """Flipped bits, cuts, and edits that leave valid JSON."""
    publish_output(config, "0", TABLE, details={"share": 1e-05, "text": "é", "nothing": float("nan")})
    path = paths_of(config).metadata
    data, rng = path.read_bytes(), random.Random(5)
    assert read_record(paths_of(config)) is not None
    edited = [data.replace(b'"done"', b'"Done"'), data.replace(b"1e-05", b"1E-05"), data[:-1], data + b"\n"]
    for trial in range(300):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        edited += [bytes(flipped), data[: rng.randrange(len(data))] if trial % 2 else data[: -trial - 1]]
    for copy in edited:
        path.write_bytes(copy)
        with pytest.raises(PipelineError, match="--fresh"):
            read_record(paths_of(config))
    path.write_bytes(data)
    assert read_record(paths_of(config)) is not None
