from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.errors import PipelineError, UsageError
from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from common.runs.metadata import Extent
from common.runs.records import StageStore
from common.runs.slices import Span
from report.run import Run
from tests.common.runs.helpers import evaluated
from tests.report.helpers import publish

pytestmark = pytest.mark.unit

TABLE = pa.table({"task_id": [1, 2, 3]})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=str(tmp_path / "data"))


def test_a_published_phase_gives_its_record_and_its_files(config: Config) -> None:
    publish(config, "2.5", {"a.json": {"x": 1}, "plots/b.svg": b"<svg/>", "c.txt": "é".encode()})
    run = Run(config)
    record = run.record("2.5")
    assert record is not None and record["phase"] == "2.5"
    assert run.json("2.5", "a.json") == {"x": 1}
    assert run.svg("2.5", "plots/b.svg") == "<svg/>"
    assert run.text("2.5", "c.txt") == "é"
    assert run.has("2.5", "a.json") and not run.has("2.5", "d.json") and not run.has("1.0", "a.json")
    assert run.names("2.5", prefix="plots/", suffix=".svg") == ["plots/b.svg"]
    assert run.state("2.5").state == "complete"
    assert run.command("2.5") == f"python3 run.py phase 2.5 --data-dir {config.data_dir}"


def test_a_table_is_read_and_checked_once(config: Config) -> None:
    publish(config, "2.5", {"t.parquet": TABLE})
    run = Run(config)
    assert run.table("2.5", "t.parquet").equals(TABLE)
    (config.phase_dir("2.5") / "t.parquet").unlink()
    assert run.table("2.5", "t.parquet").equals(TABLE)


def test_a_phase_that_was_not_run_is_nothing_to_read_and_names_its_command(config: Config) -> None:
    run = Run(config)
    assert run.is_empty
    assert run.record("2.5") is None and run.names("2.5") == []
    with pytest.raises(UsageError, match=r"phase 2\.5 has no published output in .*; run: python3 run\.py phase 2\.5"):
        run.json("2.5", "a.json")
    with pytest.raises(UsageError, match=r"phase '9\.9' is unknown"):
        run.record("9.9")


@pytest.mark.parametrize("name", ["a.json", "b.svg", "t.parquet"])
def test_a_damaged_file_is_refused_in_one_line_with_the_cure(config: Config, name: str) -> None:
    publish(config, "2.5", {name: b"{}"})
    (config.phase_dir("2.5") / name).write_bytes(b"{ }")
    read = {"a.json": Run(config).json, "b.svg": Run(config).svg, "t.parquet": Run(config).table}[name]
    with pytest.raises(PipelineError, match=rf"{name} is damaged.*run the phase .* --fresh") as caught:
        read("2.5", name)
    assert "\n" not in str(caught.value)


def test_a_file_that_no_record_names_is_not_read(config: Config) -> None:
    publish(config, "2.5", {"a.json": {}})
    write_json(config.phase_dir("2.5") / "other.json", {})
    with pytest.raises(UsageError, match="names no file other.json"):
        Run(config).json("2.5", "other.json")


def test_text_that_is_none_is_refused_by_name(config: Config) -> None:
    publish(config, "2.5", {"c.txt": b"\xff\xfe"})
    with pytest.raises(PipelineError, match=r"c\.txt is not text"):
        Run(config).text("2.5", "c.txt")


def test_a_damaged_record_is_refused_and_the_run_is_not_empty(config: Config) -> None:
    publish(config, "2.5", {})
    metadata = PhasePaths(config.phase_dir("2.5")).metadata
    metadata.write_text(metadata.read_text().replace('"done": 3', '"done": 4'))
    run = Run(config)
    assert not run.is_empty
    with pytest.raises(PipelineError, match="is damaged"):
        run.record("2.5")
    assert run.state("2.5").state == "unreadable"


def test_the_record_of_another_phase_is_refused(config: Config) -> None:
    publish(config, "2.5", {})
    config.phase_dir("2.5").rename(config.phase_dir("2.10"))
    with pytest.raises(PipelineError, match=r"is the record of phase 2\.5, not of phase 2\.10; run: "):
        Run(config).record("2.10")


def test_what_a_section_lacks_is_the_first_of_its_phases_that_is_not_published(config: Config) -> None:
    publish(config, "2.5", {})
    run = Run(config)
    assert run.missing("detection", "Detection", "2.5") is None
    missing = run.missing("detection", "Detection", "2.5", "3.8", "4.5")
    assert missing is not None
    assert (missing.id, missing.title) == ("detection", "Detection")
    assert missing.why == "Phase 3.8 (AUROC and F1) has not been run."
    assert missing.command == run.command("3.8")


def test_what_an_unfinished_phase_has_done_is_said(config: Config) -> None:
    store = StageStore(PhasePaths(config.phase_dir("1.0")).stage("evaluation", "greedy"))
    store.open({})
    store.write(Span(0, 3), evaluated(range(4), [True] * 4))
    missing = Run(config).missing("solutions", "Solutions", "1.0")
    assert missing is not None
    assert missing.why == "Phase 1.0 (dataset building) is unfinished: 4 problems so far."


def test_partial_phases_are_named_with_what_they_cover(config: Config) -> None:
    publish(config, "0", {})
    publish(config, "1.0", {}, Extent(10, 4))
    publish(config, "2.5", {}, Extent(3, 3, inputs_complete=False))
    run = Run(config)
    assert run.partial_note("0", "4.5") is None
    assert run.partial_note("0", "1.0", "2.5") == (
        "Partial: phase 1.0 covers 4 of 10 problems; phase 2.5 was made from a partial input."
    )
