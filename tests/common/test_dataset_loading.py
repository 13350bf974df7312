from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.dataset_loading import load_mbpp
from common.errors import UsageError
from common.profiles import REPOSITORY, DatasetSource, load_profile, profile_names
from tests.common_simplified import fixtures

pytestmark = pytest.mark.unit

MBPP = REPOSITORY.parent / "shared" / "data" / "mbpp.jsonl"
needs_mbpp = pytest.mark.skipif(not MBPP.is_file(), reason="needs ../shared/data/mbpp.jsonl")


def altered(index: int, **changes: Any) -> list[dict[str, Any]]:
    rows = fixtures.mbpp_rows()
    rows[index] |= changes
    return rows


def test_jsonl_and_the_hubs_four_parquet_parts_give_the_same_problems(tmp_path: Path) -> None:
    rows = fixtures.mbpp_rows(10)
    from_lines = load_mbpp(fixtures.write_jsonl(tmp_path / "mbpp.jsonl", rows[::-1]))
    from_parts = load_mbpp(fixtures.write_mbpp_parquet(tmp_path / "hub", rows))
    assert from_lines.problems == from_parts.problems
    assert [problem.task_id for problem in from_lines.problems] == list(range(1, 11))
    assert from_lines.identity["content_sha256"] == from_parts.identity["content_sha256"]
    assert from_parts.identity["n"] == 10
    assert sorted(from_parts.identity["files"]) == sorted(Path(name).name for name in fixtures.mbpp_files())


def test_text_is_kept_with_its_tabs_and_carriage_returns(tmp_path: Path) -> None:
    line_separator = "a\u2028b"
    rows = altered(0, text=line_separator)
    for path in (fixtures.write_jsonl(tmp_path / "x.jsonl", rows), fixtures.write_mbpp_parquet(tmp_path / "hub", rows)):
        problem = load_mbpp(path).problems[0]
        assert problem.code == "def add_1(x):\r\n\treturn x + 1"
        assert problem.text == line_separator
        assert problem.test_list == ("assert add_1(0) == 1", "assert add_1(1) == 2", "assert add_1(2) == 3")
        assert type(problem.task_id) is int


def test_the_identity_carries_the_files_own_sha256(tmp_path: Path) -> None:
    path = fixtures.write_jsonl(tmp_path / "mbpp.jsonl", fixtures.mbpp_rows(2))
    identity = load_mbpp(path).identity
    assert identity["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (identity["name"], identity["revision"]) == (str(path), None)


def test_a_pinned_repository_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fixtures.write_mbpp_parquet(tmp_path / "hub")
    cache = fixtures.use_hub_cache(monkeypatch, tmp_path / "cache")
    fixtures.add_to_hub_cache(cache, "google-research-datasets/mbpp", root, repo_type="dataset")
    source = replace(load_profile("gemma-2-2b").dataset, revision=fixtures.SHA)
    loaded = load_mbpp(source)
    assert loaded.problems == load_mbpp(root).problems
    assert (loaded.identity["name"], loaded.identity["revision"]) == ("google-research-datasets/mbpp", fixtures.SHA)
    (next(cache.rglob("full/test-*"))).unlink()
    with pytest.raises(UsageError, match=r"no full/test-00000-of-00001\.parquet"):
        load_mbpp(source)


def test_every_profile_reads_the_four_parts_of_mbpp() -> None:
    for name in profile_names():
        source = load_profile(name).dataset
        if not source.local:
            assert sorted(source.files) == sorted(fixtures.mbpp_files()), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_id": 3}, r"line 3 \(task_id 3\): task_id 3 also stands at line 1"),
        ({"task_id": -1}, "task_id is negative or too large"),
        ({"task_id": 2**63}, "task_id is negative or too large"),
        ({"task_id": "7"}, r"\(task_id '7'\): task_id is not a whole number"),
        ({"task_id": 7.0}, "task_id is not a whole number"),
        ({"task_id": True}, "task_id is not a whole number"),
        ({"text": "  "}, "text is empty"),
        ({"text": None}, "text is not text"),
        ({"text": "\ud800"}, "text is not text"),
        ({"test_list": []}, "test_list is empty"),
        ({"test_list": "assert f()"}, "test_list is not a list of text"),
        ({"test_list": ["assert f(", "assert f()"]}, r"test 0 does not parse \('\(' was never closed"),
        ({"test_list": ["assert f()", ""]}, "test 1 is empty"),
        ({"code": "def f(:\n  pass"}, "code does not parse"),
        ({"code": "x = 1\x00"}, "code does not parse"),
        ({"code": "(" * 5000 + ")" * 5000}, "code does not parse"),
        ({"test_setup_code": "import"}, "test_setup_code does not parse"),
    ],
)
def test_an_offending_row_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = fixtures.write_jsonl(tmp_path / "mbpp.jsonl", altered(0, **changes))
    with pytest.raises(UsageError, match=message) as raised:
        load_mbpp(path)
    assert str(raised.value).startswith(f"{path}: 1 of 8 rows cannot be used")


def test_every_offending_row_is_reported_at_once_and_the_list_is_capped(tmp_path: Path) -> None:
    rows = fixtures.mbpp_rows(30)
    for row in rows[2:27]:
        row["text"] = ""
    rows[28]["code"] = "def"
    path = fixtures.write_jsonl(tmp_path / "mbpp.jsonl", rows)
    with pytest.raises(UsageError) as raised:
        load_mbpp(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: 26 of 30 rows cannot be used")
    assert message.count("text is empty") == 20
    assert message.endswith("; and 6 more rows")
    assert "\n" not in message


def test_two_faults_of_one_row_stand_together(tmp_path: Path) -> None:
    path = fixtures.write_jsonl(tmp_path / "mbpp.jsonl", altered(4, text="", test_list=[]))
    with pytest.raises(UsageError, match=r"line 5 \(task_id 5\): text is empty, test_list is empty"):
        load_mbpp(path)


def test_wrong_columns_are_named_with_what_was_found(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"task_id": 1, "textt": "a", "code": "x = 1", "test_list": ["assert 1"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = r"no column text \(found: task_id, textt, code, test_list\); did you mean 'textt'"
    with pytest.raises(UsageError, match=rf"a\.parquet has {expected}"):
        load_mbpp(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=rf"b\.jsonl line 1 has {expected}"):
        load_mbpp(fixtures.write_jsonl(tmp_path / "b.jsonl", rows))


def test_invalid_json_is_named_with_its_line(tmp_path: Path) -> None:
    path = fixtures.write_jsonl(tmp_path / "mbpp.jsonl", fixtures.mbpp_rows(2))
    path.write_text(path.read_text() + '\n{"task_id": 3,\n')
    with pytest.raises(UsageError, match=r"mbpp\.jsonl line 4 is not valid JSON"):
        load_mbpp(path)
    path.write_bytes(b'{"task_id": "\xff"}\n')
    with pytest.raises(UsageError, match=r"mbpp\.jsonl line 1 is not valid JSON"):
        load_mbpp(path)
    path.write_text("[1]\n")
    with pytest.raises(UsageError, match="line 1 is not a JSON object but list"):
        load_mbpp(path)


def test_a_byte_order_mark_and_blank_lines_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "mbpp.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(fixtures.mbpp_rows(1)[0]).encode() + b"\r\n\r\n")
    assert load_mbpp(path).identity["n"] == 1


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_a_damaged_parquet_file_is_one_line(tmp_path: Path, keep: float) -> None:
    root = fixtures.write_mbpp_parquet(tmp_path / "hub")
    path = root / fixtures.mbpp_files()[1]
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(UsageError, match=r"test-00000-of-00001\.parquet is not a readable parquet file") as raised:
        load_mbpp(root)
    assert "\n" not in str(raised.value)


def test_what_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_mbpp(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match=r"holds no \.parquet and no \.jsonl file"):
        load_mbpp(tmp_path)
    (tmp_path / "mbpp.csv").write_text("a,b\n")
    with pytest.raises(UsageError, match=r"neither \.jsonl nor \.parquet"):
        load_mbpp(tmp_path / "mbpp.csv")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="holds no problems"):
        load_mbpp(tmp_path / "empty.jsonl")
    root = fixtures.write_mbpp_parquet(tmp_path / "hub")
    (root / fixtures.mbpp_files()[3]).unlink()
    with pytest.raises(UsageError, match=r"is incomplete: no full/prompt-00000"):
        load_mbpp(DatasetSource(str(root), files=fixtures.mbpp_files(), local=True))


@needs_mbpp
def test_all_of_mbpp_loads_with_the_published_counts() -> None:
    loaded = load_mbpp(MBPP)
    assert len(loaded.problems) == loaded.identity["n"] == 974
    assert [problem.task_id for problem in loaded.problems] == list(range(1, 975))
    assert loaded.identity["sha256"] == "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"
    assert all(len(problem.test_list) == 3 for problem in loaded.problems)
    rows = {row["task_id"]: row for row in map(json.loads, MBPP.read_text(encoding="utf-8").splitlines())}
    for problem in loaded.problems:
        row = rows[problem.task_id]
        assert (problem.text, problem.code, problem.test_setup_code) == (
            row["text"],
            row["code"],
            row["test_setup_code"],
        )


@needs_mbpp
def test_all_of_mbpp_in_the_hubs_parts_equals_the_json_lines(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()]
    assert load_mbpp(fixtures.write_mbpp_parquet(tmp_path, rows)).problems == load_mbpp(MBPP).problems
