"""The glossary against the schemas and names in the code: nothing undescribed, nothing described that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest

from common.config import Config
from common.glossary import tables
from common.glossary.files import EXCLUDED, FILES, KNOWN_ANSWERS, UNFINISHED, record_of
from common.glossary.page import anchor, as_table, outputs_page
from common.glossary.pathway import CSV
from common.glossary.pathway_results import PATHWAY_FILES
from common.glossary.records import ADDED, EVERY, WORKER
from common.glossary.words import Field, File, Shape, keys, merged, shape, table
from common.phases import PATHWAY, PHASES
from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.files import read_json
from common.runs.metadata import Extent, write_record
from common.runs.publishing import INDEX_SCHEMA, write_exclusions
from common.runs.slice_records import SliceRecord
from common.runs.slices import Span
from common.runs.tables import EVALUATION_SCHEMA, PROBLEM_SCHEMA, RECORD_COLUMNS, STEERED_SCHEMA, TIMING_COLUMNS
from common_simplified.steering_files import RESULTS_SCHEMA, TIMING_SCHEMA
from experiment_pathway_token_analysis.src.audit_checkpoints import FEATURES
from experiment_pathway_token_analysis.src.result_tables import COLUMNS
from experiment_pathway_token_analysis.src.token_results import EFFECTS
from experiment_pathway_token_analysis.src.trial_table import SCHEMA as TRIALS
from tests.common.glossary.checking import Seen, fields_of, stored

pytestmark = pytest.mark.unit


def held(name: str) -> Shape:
    """Returns the columns of a table of the pathway analysis."""
    (found,) = [file.holds for file in PATHWAY_FILES if file.name == name]
    assert isinstance(found, Shape)
    return found


STAGES = pa.unify_schemas([STEERED_SCHEMA, EVALUATION_SCHEMA])
DATASET = pa.schema([*PROBLEM_SCHEMA, *(STAGES.field(name) for name in RECORD_COLUMNS)])
SCHEMAS = {
    "problems": (PROBLEM_SCHEMA, tables.PROBLEMS),
    "data set": (DATASET, tables.DATASET),
    "timings": (pa.schema([STAGES.field(name) for name in TIMING_COLUMNS]), tables.TIMINGS),
    "steered solutions": (RESULTS_SCHEMA, tables.STEERED),
    "steered timings": (TIMING_SCHEMA, tables.STEERING_TIMINGS),
    "activations": (INDEX_SCHEMA, tables.ACTIVATION_INDEX),
    "audited features": (FEATURES, held("results/audit/features.parquet")),
    "audited trials": (TRIALS, held("results/audit/trials.parquet")),
    "token effects": (EFFECTS, held("results/tokens/token_effects.parquet")),
}


def every_file() -> Iterator[File]:
    """Yields every file that the glossary describes, the records of all phases too."""
    for phase, files in FILES.items():
        yield from (*files, File("metadata.json", "the record", record_of(phase)))
    yield from (*PATHWAY_FILES, KNOWN_ANSWERS, UNFINISHED)


def optional() -> set[str]:
    """Returns the names that stand in some files only."""
    found = (name for file in every_file() for name, field in fields_of(file.holds) if not field.always)
    return {name.rpartition(".")[2] for name in found}


# --- against the code


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_has_exactly_the_described_columns_in_its_order(name: str) -> None:
    schema, described = SCHEMAS[name]
    found = {column.name: stored(column.type) for column in schema}
    assert list(found.items()) == [(column, field.kind) for column, field in described.fields.items()]


def test_every_csv_of_the_pathway_analysis_has_exactly_the_described_columns() -> None:
    assert {name: tuple(shape.fields) for name, shape in CSV.items()} == COLUMNS


def test_every_phase_of_the_registry_is_described_with_all_that_it_says_it_writes() -> None:
    assert list(FILES) == list(ADDED) == [spec.id for spec in PHASES]
    for spec in PHASES:
        for name in spec.files:
            found = [file for file in FILES[spec.id] if file.name.startswith(name) or file.pattern().fullmatch(name)]
            assert found, f"phase {spec.id}: {name}"
    assert any(file.name.endswith(f"/{PATHWAY.writes[0]}") for file in PATHWAY_FILES)


def test_a_file_name_means_one_file_of_its_phase() -> None:
    for phase, files in FILES.items():
        examples = [re.sub(r"<\w+>", "x", file.name) for file in files]
        for example in examples:
            assert sum(file.pattern().fullmatch(example) is not None for file in files) == 1, (phase, example)


def test_keys_that_stand_in_some_files_only_are_written_somewhere() -> None:
    rooms = ("common", "common_simplified", "organism", "experiment_pathway_token_analysis", "phase*")
    paths = [path for room in rooms for folder in REPOSITORY.glob(room) for path in folder.rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in paths if "glossary" not in path.parts)
    assert len(optional()) > 30
    assert [name for name in optional() if not re.search(rf"\b{name}\b", code)] == []


def test_the_record_describes_the_settings_as_the_configuration_has_them(tmp_path: Path) -> None:
    record = write_record(
        *(PhasePaths(tmp_path),),
        phase="0",
        config=Config(),
        extent=Extent(1, 1),
        inputs=[],
        outputs=[],
        wall_seconds={"a": 1.0},
        details={"workers": [worker().provenance()]},
    )
    seen = Seen()
    seen.value("record", record, EVERY)
    assert seen.problems == []
    assert set(record["config"]) == {field.name for field in fields(Config)}


def worker() -> SliceRecord:
    """Returns the record of a worker's slice."""
    return SliceRecord("1.0", Span(0, 9), "done", 10, 10, 1.0, "host", 1, "cpu", 3, None, 1, "0" * 16)


def test_what_was_given_up_and_who_worked_is_described_as_it_is_written(tmp_path: Path) -> None:
    rows = [
        {"task_id": 1, "temperature": 0.3, "sample": 2, "excluded_reason": "why", "tries": 4},
        {"task_id": 1, "condition": "zero", "excluded_reason": "why", "tries": 1},
    ]
    write_exclusions(PhasePaths(tmp_path), rows, 10)
    seen = Seen()
    assert isinstance(EXCLUDED.holds, Shape)
    seen.value("excluded", read_json(tmp_path / EXCLUDED.name), EXCLUDED.holds)
    seen.value("worker", worker().provenance(), WORKER)
    assert seen.problems == []
    assert all(id(field) in seen.fields for field in (*EXCLUDED.holds.fields.values(), *WORKER.fields.values()))


# --- the words themselves


def test_every_field_says_something_and_no_two_files_of_a_phase_say_it_twice() -> None:
    for file in every_file():
        assert file.what.strip() and not file.what.endswith(".")
        for name, field in fields_of(file.holds):
            assert field.meaning.strip() and not field.meaning.endswith("."), (file.name, name)


@pytest.mark.parametrize("line", ["int", "int:", "integer: x", "int, : x", "maybe int: x", "list of text: x"])
def test_a_line_that_is_no_description_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        keys({"n": line})


def test_a_line_is_read_as_type_null_unit_and_meaning() -> None:
    found = keys({"a": "float or null, s: wall seconds: all of them", "b?": "int: count"}).fields
    assert found["a"] == Field("float", "wall seconds: all of them", "s", null=True)
    assert found["b"] == Field("int", "count", always=False)
    assert table({"a": "list of text: lines"}).fields["a"].kind == "list of text"


def test_merged_objects_have_all_keys_and_name_those_parts_that_have_a_name() -> None:
    named = shape("named", "About.", {"a": "int: one"})
    both = merged(named, keys({"b": "int: two"}))
    assert list(both.fields) == ["a", "b"] and [name for name, _ in both.own()] == ["b"] and both.parts == (named,)


# --- the page


def test_the_page_of_the_documentation_is_the_one_that_the_glossary_makes() -> None:
    assert (REPOSITORY / "docs" / "outputs.md").read_text(encoding="utf-8") == outputs_page()


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert as_table(["a"], [["|x|"]]) == "| a |\n| --- |\n| \\|x\\| |\n"


@pytest.mark.parametrize(
    ("heading", "expected"),
    [("Objects that recur", "objects-that-recur"), ("`phase1_0/sae_fit.json`", "phase1_0sae_fitjson"), ("SAE", "sae")],
)
def test_headings_have_the_anchors_that_github_gives_them(heading: str, expected: str) -> None:
    assert anchor(heading) == expected


# --- the checker itself


THING = keys({"n": "int: count", "share": "float or null: share", "more?": "text: words"})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"n": 1, "share": 0.5, "extra": 2}, "x.extra has no meaning"),
        ({"n": 1}, "x.share is described and not there"),
        ({"n": 1.5, "share": None}, "x.n: 1.5 is not int"),
        ({"n": True, "share": None}, "x.n: True is not int"),
        ({"n": None, "share": None}, "x.n: None is not int"),
        ({"n": 1, "share": "much"}, "x.share: 'much' is not float"),
        ([], "x: [] is no dict"),
    ],
)
def test_the_checker_names_what_differs(value: object, said: str) -> None:
    seen = Seen()
    seen.value("x", value, THING)
    assert seen.problems == [said]


def test_the_checker_notes_what_it_has_seen() -> None:
    seen = Seen()
    seen.value("x", {"n": 1, "share": None}, THING)
    assert seen.problems == []
    assert [id(THING.fields[name]) in seen.fields for name in ("n", "share", "more")] == [True, True, False]
