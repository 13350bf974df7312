from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import csv_export
from common.config import Config
from common.csv_export import export_csv
from common.errors import PipelineError, UsageError
from tests.cli.helpers import tree
from tests.common.made_runs import STAMP, MadeRun, copied, pathway, whole_run
from tests.common.test_csv_text import read_back

pytestmark = pytest.mark.unit

DATASET = f"phase1_0/dataset_sae_{STAMP}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeRun:
    return whole_run(tmp_path_factory.mktemp("made") / "data")


@pytest.fixture
def run(made: MadeRun, tmp_path: Path) -> MadeRun:
    return copied(made, tmp_path / "data")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def one_line(call: Callable[[], object], kind: type[PipelineError] = UsageError) -> str:
    with pytest.raises(PipelineError) as caught:
        call()
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


def test_every_table_is_read_back_as_it_was(run: MadeRun, out: Path) -> None:
    found = export_csv(run.config, out)
    compared = 0
    for one in found.files:
        data = (out / one.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one.sha256
        if one.source.endswith(".parquet"):
            table = pq.read_table(run.root(one.phase) / one.source)
            assert read_back(data, table.schema).equals(table), one.path
            assert one.rows == table.num_rows
            compared += 1
    recorded = [
        entry["path"]
        for phase in run.data.glob("phase*")
        for entry in json.loads((phase / "metadata.json").read_text())["outputs"]
    ]
    assert compared == sum(name.endswith(".parquet") for name in recorded) > 10


def test_ranked_features_are_a_table_too(run: MadeRun, out: Path) -> None:
    export_csv(run.config, out)
    lines = (out / "phase2_5" / "top_20_features.csv").read_bytes().decode().split("\r\n")
    assert lines[0].startswith('"direction","rank","layer","feature_idx","separation_score",')
    found = ",0.95,0.05,0.001,"
    assert lines[1:] == [
        f'"correct",1,2,5,0.9{found}',
        f'"correct",2,1,3,0.8{found}',
        f'"incorrect",1,1,4,0.9{found}',
        "",
    ]


def test_what_explains_the_tables_lies_beside_them(run: MadeRun, out: Path) -> None:
    found = export_csv(run.config, out)
    said = (out / "README.txt").read_text()
    assert f"Tables of the run in {run.data}" in said and "Texts that begin so: 0." in said
    assert "  phase1_0: made 20" in said and "model tiny" in said
    columns = (out / "columns.csv").read_bytes().decode()
    assert f'"{DATASET}.csv","test_passed","bool","boolean"\r\n' in columns
    assert f'"{DATASET}.csv","test_list","list<element: string>","JSON"\r\n' in columns
    manifest = json.loads((out / "export.json").read_text())
    assert [one["path"] for one in manifest["files"]] == [one.path for one in found.files]
    assert manifest["phases"]["3.6"] == json.loads((run.root("3.6") / "metadata.json").read_text())["record_id"]


def test_the_recipe_in_the_readme_reads_a_table(run: MadeRun, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_csv(run.config, out)
    said = (out / "README.txt").read_text()
    start = said.index("  from pyarrow import csv")
    recipe = said[start : said.index("\n\n", start)].replace("FILE.csv", f"{DATASET}.csv")
    monkeypatch.chdir(out)
    names: dict = {}
    exec("\n".join(line[2:] for line in recipe.splitlines()).replace("csv.read_csv", "table = csv.read_csv"), names)
    assert names["table"].column("task_id").to_pylist() == [1, 2, 3, 4]
    assert names["table"].column("error_message").null_count == 4


def test_stale_and_partial_phases_are_named(run: MadeRun, out: Path) -> None:
    run.solutions("3.6", {0.0: {5: [True]}}, done=1, expected=4)
    found = export_csv(run.config, out)
    assert found.left_out == {"3.6": "partial, 1 of 4"} and "phase 2.10 has been run since" in found.stale["3.5"]
    assert not (out / "phase3_6").exists() and (out / "phase3_5").is_dir()
    said = (out / "README.txt").read_text()
    assert "left out: phase 3.6 (partial, 1 of 4)" in said and "stale: phase 3.5 (" in said


def test_texts_like_formulas_are_counted_and_escaped_only_where_asked(run: MadeRun, out: Path) -> None:
    table = pa.table({"text": ["=cmd|' /C calc'!A0", "fine", None]})
    run.publish("2.2", {"texts.parquet": table})
    found = export_csv(run.config, out)
    assert sum(one.formulas for one in found.files) == 1
    assert "Texts that begin so: 1. They stand here as they are" in " ".join((out / "README.txt").read_text().split())
    assert (out / "phase2_2" / "texts.csv").read_bytes().decode().startswith('"text"\r\n"=cmd|')
    export_csv(run.config, out, for_spreadsheets=True)
    assert (out / "phase2_2" / "texts.csv").read_bytes().decode().startswith('"text"\r\n"\'=cmd|')
    assert "with one taken off it is the value" in " ".join((out / "README.txt").read_text().split())


def test_tables_of_the_pathway_analysis_are_there_once_it_is_through(run: MadeRun, out: Path) -> None:
    pathway(run.data, 3)
    assert export_csv(run.config, out).left_out["pathway"] == "partial, 3 of 6"
    pathway(run.data, 6)
    export_csv(run.config, out)
    assert (out / "pathway" / "results" / "audit" / "tokens.csv").read_bytes().decode() == '"token"\r\n"NA"\r\n'


def test_a_phase_whose_output_lies_elsewhere_is_found_by_its_setting(run: MadeRun, out: Path, tmp_path: Path) -> None:
    run.root("3.6").rename(tmp_path / "elsewhere")
    config = Config(data_dir=str(run.data), phase3_6_output_dir=str(tmp_path / "elsewhere"))
    assert "phase3_6/dataset_temp_0_0.csv" in [one.path for one in export_csv(config, out).files]


# --- where it is written


def test_an_export_of_the_same_run_is_replaced_and_what_it_no_longer_has_removed(run: MadeRun, out: Path) -> None:
    assert not export_csv(run.config, out).replaced
    (out / "notes.txt").write_text("mine")
    run.solutions("1.0", {0.0: {1: [True], 2: [False]}})
    shutil.rmtree(run.root("7.3"))
    assert export_csv(run.config, out).replaced
    assert (out / f"{DATASET}.csv").read_bytes().count(b"Problem") == 4
    assert not list((out / "phase7_3").rglob("*.csv")) and (out / "notes.txt").read_text() == "mine"


def test_the_export_of_another_run_is_not_overwritten_unasked(run: MadeRun, out: Path, tmp_path: Path) -> None:
    other = MadeRun(tmp_path / "other")
    other.publish("2.2", {"texts.parquet": pa.table({"n": [1]})})
    export_csv(run.config, out)
    before = tree(out)
    said = one_line(lambda: export_csv(other.config, out))
    assert f"holds the export of another run ({run.data})" in said and said.endswith("replace it with --overwrite")
    assert tree(out) == before
    assert export_csv(other.config, out, overwrite=True).replaced
    assert sorted(tree(out)) == ["README.txt", "columns.csv", "export.json", "phase2_2/texts.csv"]


def test_a_place_that_holds_something_else_is_refused_even_so(run: MadeRun, out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        said = one_line(lambda overwrite=overwrite: export_csv(run.config, out, overwrite=overwrite))
        assert "holds files that no export made; give a new or an empty directory" in said
    assert tree(out).keys() == {"thesis.txt"}
    assert "is a file; give a directory" in one_line(lambda: export_csv(run.config, out / "thesis.txt"))
    assert "holds files that no export made" in one_line(lambda: export_csv(run.config, run.data))


def test_an_export_with_a_manifest_that_leads_out_of_it_removes_nothing_outside(
    run: MadeRun, out: Path, tmp_path: Path
) -> None:
    export_csv(run.config, out)
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    manifest = json.loads((out / "export.json").read_text())
    manifest["files"] += [{"path": "../victim.txt"}, {"path": str(victim)}]
    (out / "export.json").write_text(json.dumps(manifest))
    export_csv(run.config, out)
    assert victim.read_text() == "mine"


def test_nothing_complete_is_refused(tmp_path: Path, out: Path) -> None:
    assert "does not exist" in one_line(lambda: export_csv(Config(data_dir=str(tmp_path / "none")), out))
    (tmp_path / "empty").mkdir()
    said = one_line(lambda: export_csv(Config(data_dir=str(tmp_path / "empty")), out))
    assert said.endswith("no phase is complete there: it holds no output of any phase")
    partial = MadeRun(tmp_path / "partial")
    partial.solutions("3.6", {0.0: {5: [True]}}, done=1, expected=4)
    assert one_line(lambda: export_csv(partial.config, out)).endswith("complete there: 3.6 (partial, 1 of 4)")
    assert not out.exists()


# --- what goes wrong


@pytest.mark.parametrize("standing", [False, True])
@pytest.mark.parametrize("damage", ["cut off", "taken away", "edited record"])
def test_damage_ends_it_in_one_line_and_leaves_what_stood(run: MadeRun, out: Path, standing: bool, damage: str) -> None:
    if standing:
        export_csv(run.config, out)
    before = tree(out)
    path = run.root("4.8") / "steering_results.parquet"
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "taken away":
        path.unlink()
    else:
        path = run.root("4.8") / "metadata.json"
        path.write_text(path.read_text().replace('"done": 4', '"done": 3'))
    said = one_line(lambda: export_csv(run.config, out), PipelineError)
    assert path.name in said and "--fresh" in said
    assert tree(out) == before
    assert not out.exists() or not [one for one in out.iterdir() if one.name.startswith(".")]


def test_an_interruption_leaves_what_stood(run: MadeRun, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_csv(run.config, out)
    before = tree(out)

    def stopped(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(csv_export, "_write_companions", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_csv(run.config, out)
    assert tree(out) == before and not list(out.glob(".*"))


def test_what_a_killed_export_left_is_swept(run: MadeRun, out: Path) -> None:
    gone = csv_export.temporary_path(out / "export")
    left = gone.with_name(gone.name.replace(str(os.getpid()), "999999999"))
    left.mkdir(parents=True)
    (left / "half.csv").write_text("half")
    export_csv(run.config, out)
    assert not left.exists()


def test_a_large_table_is_never_held_whole(run: MadeRun, out: Path) -> None:
    import tracemalloc

    rows = 200_000
    table = pa.table(
        {"layer": pa.array([1] * rows), "text": pa.array([f"feature {n} " + "x" * 80 for n in range(rows)])}
    )
    run.publish("2.2", {"scores.parquet": table})
    del table
    export_csv(run.config, out)  # imports done
    shutil.rmtree(out)
    tracemalloc.start()
    try:
        export_csv(run.config, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = (out / "phase2_2" / "scores.csv").stat().st_size
    assert size > 20_000_000 and peak < size / 4, f"{peak:,} bytes of Python for a file of {size:,}"
