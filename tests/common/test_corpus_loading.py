"""General text from local files, and its faults."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.corpus_loading import load_corpus
from common.errors import UsageError

pytestmark = pytest.mark.unit


def lines(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_the_first_texts_are_read_and_empty_ones_left_out(tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", [{"text": "one"}, {"text": ""}, {"text": "two"}, {"text": "three"}])
    corpus = load_corpus(path, 2)
    assert corpus.texts == ["one", "two"]
    assert corpus.identity["n"] == 2 and corpus.identity["n_corpus"] == 3
    assert corpus.identity["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_parquet_and_json_lines_give_the_same_content(tmp_path: Path) -> None:
    texts = ["a b", "ü\n", "c"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "c.parquet")
    path = lines(tmp_path / "c.jsonl", [{"text": text} for text in texts])
    first, second = load_corpus(tmp_path / "c.parquet", 9), load_corpus(path, 9)
    assert first.texts == second.texts == texts
    assert first.identity["content_sha256"] == second.identity["content_sha256"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"txt": "b"}\n', "line 2: no text field"),
        ('{"text": "a"}\n{"text": \n', "not JSON lines"),
        ('{"text": 3}\n', "line 1: no text field"),
        ("", "holds no text"),
    ],
)
def test_a_faulty_file_is_one_line_that_names_it(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        load_corpus(path, 9)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_corpus(tmp_path / "absent.jsonl", 9)
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "c.parquet")
    with pytest.raises(UsageError, match="no column text; it holds body"):
        load_corpus(tmp_path / "c.parquet", 9)
