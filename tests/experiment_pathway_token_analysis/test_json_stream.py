"""Records come out of a file one by one; what ends a file early is told apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_pathway_token_analysis.src import json_stream
from experiment_pathway_token_analysis.src.json_stream import JsonFault, JsonStream

pytestmark = pytest.mark.unit

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def file_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    return path


def read(path: Path, key: str | None = None) -> tuple[list[Any], JsonStream, JsonFault | None]:
    stream, found = JsonStream(path), []
    try:
        for item in stream.items(key):
            found.append(item)
    except JsonFault as fault:
        return found, stream, fault
    return found, stream, None


@pytest.fixture(autouse=True, params=[1, 1 << 20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes are read at a time."""
    monkeypatch.setattr(json_stream, "CHUNK_BYTES", request.param)
    return request.param


@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_stream_yields_what_json_loads(tmp_path: Path, ascii_only: bool) -> None:
    @given(st.lists(values, max_size=6), st.sampled_from([None, 2]))
    def holds(items: list[Any], indent: int | None) -> None:
        text = json.dumps(items, ensure_ascii=ascii_only, indent=indent)
        path = file_of(tmp_path, text.encode("utf-8", "surrogatepass"))
        assert read(path)[0] == items

    holds()


def test_other_keys_of_the_object_become_the_header_before_and_after_the_list(tmp_path: Path) -> None:
    content = {"timestamp": "t", "n": 12345, "results": [{"a": 1}, 2.5, 67], "last": {"x": [1]}}
    found, stream, fault = read(file_of(tmp_path, json.dumps(content).encode()), "results")
    assert fault is None and found == content.pop("results") and stream.header == content


def test_python_s_own_json_is_read_with_nan_surrogates_and_a_byte_order_mark(tmp_path: Path) -> None:
    found, _, fault = read(file_of(tmp_path, b'\xef\xbb\xbf[NaN, -Infinity, "\\ud800", "\xc3\xa9"]'))
    assert fault is None and found[0] != found[0] and found[1:] == [float("-inf"), "\ud800", "é"]


WHOLE = json.dumps([{"response": "é and ü", "trial": n, "flag": True} for n in range(5)], ensure_ascii=False).encode()


def test_a_file_cut_off_anywhere_is_called_cut_off_and_keeps_the_records_before(tmp_path: Path) -> None:
    for length in range(len(WHOLE)):
        found, stream, fault = read(file_of(tmp_path, WHOLE[:length]))
        assert fault is not None and fault.code == "cut_off_json", length
        assert found == json.loads(WHOLE)[: len(found)]
        assert stream.sha256 == hashlib.sha256(WHOLE[:length]).hexdigest()


def test_a_byte_that_is_not_utf8_is_told_by_its_place(tmp_path: Path) -> None:
    place = WHOLE.index(b"and", WHOLE.index(b'"trial": 2'))
    found, stream, fault = read(file_of(tmp_path, WHOLE[:place] + b"\xff" + WHOLE[place + 1 :]))
    assert fault is not None and fault.code == "not_utf8"
    assert fault.detail == f"byte {place} (in record 3) is not UTF-8" and len(found) == 3
    assert stream.sha256 == hashlib.sha256(WHOLE[:place] + b"\xff" + WHOLE[place + 1 :]).hexdigest()


@pytest.mark.parametrize(
    ("content", "key", "code"),
    [
        (b'[{"a": 1} {"a": 2}, {"b": 123456789012345678901234567890}]', None, "malformed_json"),
        (b'[{"a" 1}, {"b": "some more text that follows behind"}]', None, "malformed_json"),
        (b"[1, 2] [3]", None, "malformed_json"),
        (b"[1, 2] \xff", None, "not_utf8"),
        (b"[1, }, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]", None, "malformed_json"),
        (b"[" * 100_000, None, "malformed_json"),
        (b'{"results": [1]}', None, "wrong_shape"),
        (b"[1]", "results", "wrong_shape"),
        (b'{"result": [1]}', "results", "wrong_shape"),
        (b"{}", "results", "wrong_shape"),
        (b'{"results": {"a": 1}}', "results", "wrong_shape"),
        (b"", None, "cut_off_json"),
        (b'{"results": [1]', "results", "cut_off_json"),
    ],
)
def test_every_fault_has_its_own_name(tmp_path: Path, content: bytes, key: str | None, code: str, chunk: int) -> None:
    if chunk == 1 and len(content) > 1000:
        pytest.skip("100,000 reads, each tried anew")
    fault = read(file_of(tmp_path, content), key)[2]
    assert fault is not None and fault.code == code


def test_a_record_that_has_no_end_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "MAX_RECORD_CHARACTERS", 50)
    fault = read(file_of(tmp_path, b'["' + b"x" * 20_000 + b'"]'))[2]
    if json_stream.CHUNK_BYTES < 100:
        assert fault is not None and fault.code == "malformed_json"
    else:
        assert fault is None


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    fault = read(tmp_path / "none.json")[2]
    assert fault is not None and (fault.code, fault.detail[:17]) == ("unreadable_file", "it cannot be read")
