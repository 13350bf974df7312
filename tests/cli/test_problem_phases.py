from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.cli.helpers import Here, refusal, run, tree
from tests.common_simplified.fixtures import mbpp_files, mbpp_rows, write_jsonl, write_mbpp_parquet

pytestmark = pytest.mark.smoke


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def record(data: Path, phase: str) -> dict[str, Any]:
    return json.loads((data / phase / "metadata.json").read_text())


def test_problems_are_measured_and_dealt_to_three_splits(problems: Path, data: Path) -> None:
    first = run("phase", "0", "--input", problems, "--data-dir", data)
    assert first.code == 0
    assert "26 problems; cyclomatic complexity: 26 of 1" in first.err
    second = run("phase", "0.1", "--data-dir", data)
    assert second.code == 0
    mapping = record(data, "phase0")["mapping"]
    assert pq.read_table(data / "phase0" / mapping)["task_id"].to_pylist() == list(range(1, 27))
    sizes = {}
    members: list[int] = []
    for split in ("sae", "hyperparams", "validation"):
        ids = pq.read_table(data / "phase0_1" / f"{split}_mbpp.parquet")["task_id"].to_pylist()
        assert ids == sorted(ids)
        sizes[split] = len(ids)
        members += ids
    assert sizes == {"sae": 16, "hyperparams": 2, "validation": 8} == record(data, "phase0_1")["sizes"]
    assert sorted(members) == list(range(1, 27))
    assert record(data, "phase0")["inputs"][0]["path"] == str(problems)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(problems: Path, data: Path, here: Here) -> None:
    answer = here("phase", "0", "--input", problems, "--data-dir", data, "--dry-run")
    assert answer.code == 0
    assert "26 problems" in answer.err
    assert "would run in" in answer.err
    assert not data.exists()


def test_the_hubs_parquet_form_gives_the_same_problems(problems: Path, data: Path, tmp_path: Path, here: Here) -> None:
    parts = write_mbpp_parquet(tmp_path / "hub", mbpp_rows(26))
    assert all((parts / name).is_file() for name in mbpp_files())
    for source, target in ((problems, data), (parts, tmp_path / "other")):
        assert here("phase", "0", "--input", source, "--data-dir", target).code == 0
    one, other = record(data, "phase0"), record(tmp_path / "other", "phase0")
    assert one["dataset"]["content_sha256"] == other["dataset"]["content_sha256"]
    tables = [
        pq.read_table(root / "phase0" / entry["mapping"]) for root, entry in ((data, one), (tmp_path / "other", other))
    ]
    assert tables[0].equals(tables[1])


def test_running_both_again_changes_no_data_and_leaves_them_current(problems: Path, data: Path, here: Here) -> None:
    digests = []
    for _ in range(2):
        assert here("phase", "0", "--input", problems, "--data-dir", data).code == 0
        assert here("phase", "0.1", "--data-dir", data).code == 0
        digests.append([{item["sha256"] for item in record(data, "phase0_1")["outputs"][:3]}])
    assert digests[0] == digests[1]
    assert record(data, "phase0_1")["generation"] == 2
    status = here("status", "--data-dir", data).out.splitlines()
    assert [line.split()[3] for line in status[1:3]] == ["complete", "complete"]


def test_other_problems_make_the_splits_stale_and_pipeline_mends_that(data: Path, tmp_path: Path, here: Here) -> None:
    for number in (26, 30):
        path = write_jsonl(tmp_path / "problems.jsonl", mbpp_rows(number))
        assert here("phase", "0", "--input", path, "--data-dir", data).code == 0
        if number == 26:
            assert here("phase", "0.1", "--data-dir", data).code == 0
    line = here("status", "--data-dir", data).out.splitlines()[2]
    assert "stale" in line
    assert "phase 0 has changed since" in line
    answer = here("pipeline", "--from", "0.1", "--to", "0.1", "--data-dir", data)
    assert answer.code == 0
    assert record(data, "phase0_1")["sizes"] == {"sae": 15, "hyperparams": 3, "validation": 12}
    again = here("pipeline", "--to", "0.1", "--data-dir", data)
    assert again.err.count("complete and current") == 2


def test_fresh_keeps_the_former_splits(problems: Path, data: Path, here: Here) -> None:
    assert here("phase", "0", "--input", problems, "--data-dir", data).code == 0
    assert here("phase", "0.1", "--data-dir", data).code == 0
    before = tree(data / "phase0_1")
    assert here("phase", "0.1", "--data-dir", data, "--fresh", "--set", "seed=7").code == 0
    aside = tree(data / "phase0_1" / "superseded" / "0001")
    assert aside == before
    assert record(data, "phase0_1")["seed"] == 7


# --- bad problems


def changed(rows: list[dict[str, Any]], row: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**item, **changes} if number == row else item for number, item in enumerate(rows)]


def without(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (changed(mbpp_rows(12), 3, task_id=2), "task_id 2 also stands at line 2"),
        (changed(mbpp_rows(12), 3, task_id="four"), "task_id is not a whole number"),
        (changed(mbpp_rows(12), 3, text="  "), "text is empty"),
        (changed(mbpp_rows(12), 3, test_list=[]), "test_list is empty"),
        (changed(mbpp_rows(12), 3, code="def f(:"), "code does not parse"),
        (without(mbpp_rows(12), "test_list"), "has no column test_list (found: task_id, text, code"),
        ([], "holds no problems"),
    ],
)
def test_bad_problems_are_refused_in_one_line(
    rows: list[dict[str, Any]], said: str, data: Path, tmp_path: Path, here: Here
) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", rows)
    line = refusal(here("phase", "0", "--input", path, "--data-dir", data))
    assert said in line
    assert "bad.jsonl" in line
    assert not data.exists()


def test_every_offending_row_is_named_at_once(data: Path, tmp_path: Path, here: Here) -> None:
    rows = changed(changed(mbpp_rows(12), 3, task_id=2), 7, text="")
    line = refusal(here("phase", "0", "--input", write_jsonl(tmp_path / "bad.jsonl", rows), "--data-dir", data))
    assert "2 of 12 rows cannot be used" in line
    assert "line 4" in line
    assert "line 8" in line


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.jsonl", b"{", "line 1 is not valid JSON"),
        ("bad.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("bad.parquet", b"PAR1 nothing PAR1", "is not a readable parquet file"),
        ("bad.csv", b"task_id\n", "is neither .jsonl nor .parquet"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(
    name: str, content: bytes, said: str, data: Path, tmp_path: Path, here: Here
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refusal(here("phase", "0", "--input", tmp_path / name, "--data-dir", data))
    assert not data.exists()


def test_too_few_problems_to_split_are_refused(data: Path, tmp_path: Path, here: Here) -> None:
    path = write_jsonl(tmp_path / "few.jsonl", mbpp_rows(9))
    assert here("phase", "0", "--input", path, "--data-dir", data).code == 0
    assert "9 problems cannot be split" in refusal(here("phase", "0.1", "--data-dir", data))
    assert not (data / "phase0_1").exists()


# --- damage and places that cannot be used


def test_a_damaged_input_is_refused_by_name_and_nothing_is_changed(problems: Path, data: Path, here: Here) -> None:
    assert here("phase", "0", "--input", problems, "--data-dir", data).code == 0
    assert here("phase", "0.1", "--data-dir", data).code == 0
    before = tree(data / "phase0_1")
    path = data / "phase0" / record(data, "phase0")["mapping"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    line = refusal(here("phase", "0.1", "--data-dir", data))
    assert f"{path} is damaged: its SHA-256 is not the recorded" in line
    assert tree(data / "phase0_1") == before


def test_a_damaged_record_is_refused_by_name(problems: Path, data: Path, here: Here) -> None:
    assert here("phase", "0", "--input", problems, "--data-dir", data).code == 0
    (data / "phase0" / "metadata.json").write_text('{"phase": "0"')
    assert "metadata.json is damaged" in refusal(here("phase", "0.1", "--data-dir", data))
    assert "metadata.json is damaged" in refusal(here("phase", "0", "--input", problems, "--data-dir", data))
    assert here("status", "--data-dir", data).code == 0
    assert here("phase", "0", "--input", problems, "--data-dir", data, "--fresh").code == 0


def test_a_file_that_is_not_phase_0s_table_is_refused(problems: Path, data: Path, tmp_path: Path, here: Here) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"task_id": [1]}), tmp_path / "other.parquet")
    line = refusal(here("phase", "0.1", "--input", tmp_path / "other.parquet", "--data-dir", data))
    assert "other.parquet serves no input of phase 0.1: it lacks the columns text, code" in line
    assert not data.exists()


def test_a_file_in_the_place_of_the_data_directory_is_one_line(problems: Path, data: Path) -> None:
    data.write_text("precious")
    line = refusal(run("phase", "0", "--input", problems, "--data-dir", data), code=1)
    assert "a file stands where a directory is needed: choose another place with --data-dir" in line
    assert data.read_text() == "precious"
    assert run("status", "--data-dir", data).code == 0


def mount(path: Path, options: str) -> None:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small disk can be mounted by root only")


def test_a_read_only_data_directory_is_one_line(problems: Path, data: Path) -> None:
    mount(data, "size=64k,ro")
    try:
        line = refusal(run("phase", "0", "--input", problems, "--data-dir", data), code=1)
        assert "the file system is read-only: choose another place with --data-dir" in line
        assert run("status", "--data-dir", data).code == 0
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_a_full_disk_is_one_line_leaves_the_former_output_and_can_be_mended(problems: Path, data: Path) -> None:
    mount(data, "size=400k")
    arguments = ("phase", "0", "--input", problems, "--data-dir", data)
    try:
        assert run(*arguments).code == 0
        before = tree(data / "phase0")
        filler = data / "filler"
        with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as handle:
            while True:
                handle.write(b"x" * 4096)
        answer = run(*arguments)
        assert answer.code == 1
        assert "Traceback" not in answer.err
        lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert "No space left on device; free some space and run the same command again" in lines[0]
        assert before.items() <= tree(data / "phase0").items()
        filler.unlink()
        assert run(*arguments).code == 0
        assert run("phase", "0.1", "--data-dir", data).code == 0
    finally:
        subprocess.run(["umount", str(data)], check=True)
