from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.helpers import Here, refusal, stopped, tree
from tests.common.made_runs import MadeRun, copied, whole_run

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return whole_run(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def mine(made: MadeRun, tmp_path: Path) -> MadeRun:
    return copied(made, tmp_path / "data")


def words(run: MadeRun, *more: object) -> tuple[object, ...]:
    return ("export", "--csv", "--profile", "organism", "--data-dir", run.data, *more)


def test_tables_go_beside_the_phases_and_are_listed(mine: MadeRun, here: Here) -> None:
    answer = here(*words(mine))
    assert answer.code == 0, answer
    said = answer.out.splitlines()
    assert said[0].split() == ["phase", "file", "rows"]
    assert ["3.6", "phase3_6/dataset_temp_0_0.csv", "4"] in [line.split() for line in said]
    assert said[-1] == f"written: {mine.data}/csv/ (README.txt says how values are written)"
    assert here(*words(mine)).out.splitlines()[-1].startswith("replaced: ")


def test_status_and_cleaning_see_the_same_run_after_an_export(mine: MadeRun, here: Here) -> None:
    before = here("status", "--profile", "organism", "--data-dir", mine.data).out
    here(*words(mine))
    assert here("status", "--profile", "organism", "--data-dir", mine.data).out == before


def test_texts_like_formulas_are_warned_of_with_the_cure(mine: MadeRun, here: Here, tmp_path: Path) -> None:
    mine.publish("2.2", {"texts.parquet": pa.table({"text": ["=1+1", "@x", "-"]})})
    said = here(*words(mine, "--out", tmp_path / "out")).out
    assert "3 texts begin like a formula: import them as text, or export with --for-spreadsheets" in said
    said = here(*words(mine, "--out", tmp_path / "out", "--for-spreadsheets")).out
    assert "3 texts that a spreadsheet would take for formulas have a ' in front" in said


def test_another_runs_export_is_replaced_only_where_that_is_said(mine: MadeRun, here: Here, tmp_path: Path) -> None:
    other = copied(mine, tmp_path / "other")
    out = tmp_path / "out"
    assert here(*words(mine, "--out", out)).code == 0
    before = tree(out)
    assert "holds the export of another run" in refusal(here(*words(other, "--out", out)))
    assert tree(out) == before
    assert here(*words(other, "--out", out, "--overwrite")).out.splitlines()[-1].startswith("replaced: ")


def test_a_damaged_table_ends_it_in_one_line(mine: MadeRun, here: Here) -> None:
    path = mine.root("3.8") / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    said = stopped(here(*words(mine)), 1)
    assert "scores.parquet is damaged: its SHA-256 is not the recorded" in said
    assert not list((mine.data / "csv").iterdir())


def test_what_cannot_be_exported_is_refused_in_one_line(mine: MadeRun, here: Here, tmp_path: Path) -> None:
    assert "the following arguments are required: --csv" in refusal(here("export", "--data-dir", mine.data))
    said = refusal(here("export", "--csv", "--data-dir", tmp_path / "dat"))
    assert said.endswith("dat does not exist; did you mean 'data'?")
    (tmp_path / "empty").mkdir()
    said = refusal(here("export", "--csv", "--data-dir", tmp_path / "empty"))
    assert "nothing to export from" in said and "no phase is complete there" in said
    (tmp_path / "file").write_text("")
    assert "is a file; give a directory" in refusal(here(*words(mine, "--out", tmp_path / "file")))
    said = refusal(here(*words(mine, "--out", tmp_path / "file" / "deep" / "out")))
    assert said.endswith(f"{tmp_path / 'file'} cannot be written to; choose another place")
