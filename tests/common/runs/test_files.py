from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from common.errors import PipelineError
from common.runs import files
from tests.common.runs.helpers import REPOSITORY, end, start_python, wait_for_line

pytestmark = pytest.mark.unit


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"task_id": list(range(60)), "text": [f"problem {number} " * 3 for number in range(60)]})


def temporaries(directory: Path) -> list[Path]:
    return list(directory.rglob(f"{files.TEMPORARY_PREFIX}*"))


# --- atomic writes


def test_a_written_file_has_the_bytes_and_the_digest_that_was_returned(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    digest = files.write_bytes(path, b"abc")
    assert path.read_bytes() == b"abc"
    assert digest == hashlib.sha256(b"abc").hexdigest() == files.sha256_file(path)
    assert temporaries(tmp_path) == []


def test_json_lines_hold_one_object_each_without_nan_and_with_every_character(tmp_path: Path) -> None:
    rows = [{"a": float("nan"), "b": [1.5, float("inf")]}, {"text": "é\u2028\n\ud800"}]
    digest = files.write_json_lines(tmp_path / "rows.jsonl", rows)
    assert digest == files.sha256_file(tmp_path / "rows.jsonl")
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_bytes().removesuffix(b"\n").split(b"\n")]
    assert found == [{"a": None, "b": [1.5, None]}, {"text": "é\u2028\n\ud800"}]


def test_a_process_killed_while_it_writes_leaves_the_old_file_or_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    program = (
        "import sys; from pathlib import Path; from common.runs.files import write_bytes\n"
        "path = Path(sys.argv[1]); write_bytes(path, b'0' * 400_000); print('started')\n"
        "number = 0\n"
        "while True:\n    number += 1; write_bytes(path, str(number % 10).encode() * 400_000)"
    )
    rng = random.Random(7)
    for _ in range(8):
        child = start_python(program, str(path))
        wait_for_line(child, "started")
        time.sleep(rng.uniform(0, 0.03))
        end(child)
        content = path.read_bytes()
        assert len(content) == 400_000
        assert len(set(content)) == 1
    files.sweep_temporaries(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["file.bin"]


def test_what_fails_before_the_rename_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    files.write_bytes(path, b"old")

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PipelineError, match="No space left on device; free some space and run the same command"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert temporaries(tmp_path) == []


# --- refusals of the operating system


def mounted_tmpfs(path: Path, options: str) -> bool:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    return done.returncode == 0


def test_a_full_disk_is_one_line_and_the_earlier_file_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted_tmpfs(disk, "size=64k"):
        pytest.skip("a tmpfs can be mounted by root only")
    try:
        files.write_bytes(disk / "file.bin", b"old" * 1000)
        with pytest.raises(PipelineError, match=r"cannot write .*file\.bin: No space left on device; free some space"):
            files.write_bytes(disk / "file.bin", b"new" * 100_000)
        assert (disk / "file.bin").read_bytes() == b"old" * 1000
        assert temporaries(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_disk_is_one_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted_tmpfs(disk, "size=64k,ro"):
        pytest.skip("a tmpfs can be mounted by root only")
    try:
        with pytest.raises(PipelineError, match="Read-only file system; the file system is read-only: choose another"):
            files.write_json(disk / "deep" / "file.json", {})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_beyond_the_size_limit_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    files.write_bytes(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(PipelineError, match="File too large"):
            files.write_bytes(path, b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert temporaries(tmp_path) == []


def test_a_directory_without_permission_is_one_line(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from common.runs.files import write_bytes\n"
        "from common.errors import PipelineError\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"
        "try: write_bytes(Path(sys.argv[1]) / 'file.bin', b'x')\n"
        "except PipelineError as error: print('refused', error)"
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        if os.geteuid() == 0 and parent.owner() == "root" and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    child = start_python(program, str(closed))
    assert "Permission denied; make it writable or choose another place" in wait_for_line(child, "refused")
    end(child)


def test_a_file_in_the_place_of_a_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(PipelineError, match="a file stands where a directory is needed"):
        files.ensure_directory(tmp_path / "data")
    with pytest.raises(PipelineError, match="a file stands where a directory is needed"):
        files.write_bytes(tmp_path / "data" / "phase0" / "x", b"")


# --- sweeping


def test_temporaries_of_dead_processes_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from common.runs.files import temporary_path\n"
        "temporary_path(Path(sys.argv[1])).write_text('half'); print('written'); time.sleep(600)"
    )
    dead, living = start_python(program, str(tmp_path / "a")), start_python(program, str(tmp_path / "b"))
    try:
        for child in (dead, living):
            wait_for_line(child, "written")
        end(dead)
        (tmp_path / "kept").write_text("x")
        assert files.sweep_temporaries(tmp_path) == 1
        assert [path.name.split("-")[1] for path in temporaries(tmp_path)] == [str(living.pid)]
    finally:
        end(living)
    assert files.sweep_temporaries(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_another_host_is_writing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HOST", "0therh0s")
    theirs = files.temporary_path(tmp_path / "file.bin")
    monkeypatch.undo()
    theirs.write_text("half")
    assert files.sweep_temporaries(tmp_path) == 0
    assert theirs.exists()


def test_a_half_removed_directory_is_swept(tmp_path: Path) -> None:
    gone = files.temporary_path(tmp_path / "segments")
    (gone / "deep").mkdir(parents=True)
    (gone / "deep" / "file").write_text("x")
    assert files.sweep_temporaries(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


# --- JSON


def test_json_has_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    nan, infinity = float("nan"), float("inf")
    value = {"a": nan, "b": [1.5, -infinity, {"c": infinity}], "d": np.array([1.0, nan]), 3: np.float32("nan")}
    digest = files.write_json(path, value)
    expected = {"a": None, "b": [1.5, None, {"c": None}], "d": [1.0, None], "3": None}
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == expected
    assert files.read_json(path) == expected
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_canonical_json_depends_on_the_value_and_not_on_the_order_of_keys() -> None:
    assert files.canonical_json({"b": 1, "a": [True, None, "ü"]}) == '{"a":[true,null,"ü"],"b":1}'
    assert files.canonical_json({"a": 1, "b": 2}) == files.canonical_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.canonical_json({"a": float("nan")})


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_damaged_json_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"file\.json is damaged"):
        files.read_json(path)


def test_missing_and_unreadable_json_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"file\.json is missing"):
        files.read_json(tmp_path / "file.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(PipelineError, match=r"folder\.json cannot be read: Is a directory"):
        files.read_json(tmp_path / "folder.json")


# --- damage


def damaged(data: bytes, trials: int) -> list[bytes]:
    """Copies of `data`, half with one bit turned over and half cut short."""
    rng = random.Random(20)
    copies = []
    for trial in range(trials):
        if trial % 2:
            copies.append(data[: rng.randrange(len(data))])
        else:
            copy = bytearray(data)
            copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            copies.append(bytes(copy))
    return copies


def test_every_bit_flip_and_every_truncation_of_a_recorded_parquet_file_is_found(
    tmp_path: Path, table: pa.Table
) -> None:
    path = tmp_path / "file.parquet"
    digest = files.write_parquet(path, table)
    assert files.read_parquet(path, sha256=digest).equals(table)
    for copy in damaged(path.read_bytes(), 600):
        path.write_bytes(copy)
        with pytest.raises(PipelineError, match=r"file\.parquet is damaged: its SHA-256 is not the recorded"):
            files.read_parquet(path, sha256=digest)


def test_damaged_parquet_without_a_recorded_digest_is_refused_or_readable_but_never_a_traceback(
    tmp_path: Path, table: pa.Table
) -> None:
    path = tmp_path / "file.parquet"
    files.write_parquet(path, table)
    refused = 0
    for copy in damaged(path.read_bytes(), 400):
        path.write_bytes(copy)
        try:
            files.read_parquet(path)
        except PipelineError as error:
            refused += 1
            assert str(error).startswith(f"{path} is not a readable parquet file")
    assert refused > 300


def test_a_bit_flip_in_a_page_is_found_by_its_checksum_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    values = np.random.default_rng(0).integers(0, 2**62, 500)
    files.write_parquet(path, pa.table({"value": values}))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(PipelineError, match="is not a readable parquet file"):
        files.read_parquet(path)


def test_every_bit_flip_and_every_truncation_of_a_recorded_npz_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    digest = files.write_bytes(path, files.npz_bytes(arr_0=np.arange(40, dtype=np.float32)))
    for copy in damaged(path.read_bytes(), 600):
        path.write_bytes(copy)
        with pytest.raises(PipelineError, match=r"file\.npz is damaged"):
            files.read_npz(path, sha256=digest)


def test_damaged_npz_without_a_recorded_digest_is_never_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    data = files.npz_bytes(arr_0=np.arange(16, dtype=np.float32))
    for copy in damaged(data, 1500):
        path.write_bytes(copy)
        try:
            files.read_npz(path)
        except PipelineError as error:
            assert str(error).startswith(f"{path} is not a readable npz file")


def test_an_npz_file_with_a_pickle_or_a_bare_npy_in_it_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pickle.npz", arr_0=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PipelineError, match=r"pickle\.npz is not a readable npz file \(Object arrays cannot be loaded"):
        files.read_npz(tmp_path / "pickle.npz")
    bare = io.BytesIO()
    np.save(bare, np.zeros(3))
    (tmp_path / "bare.npz").write_bytes(bare.getvalue())
    with pytest.raises(PipelineError, match=r"bare\.npz is not a readable npz file"):
        files.read_npz(tmp_path / "bare.npz")


def test_equal_tables_and_equal_arrays_give_equal_bytes_in_another_process(table: pa.Table) -> None:
    program = (
        "import hashlib, numpy as np, pyarrow as pa; from common.runs.files import npz_bytes, parquet_bytes\n"
        "table = pa.table({'task_id': list(range(60)), 'text': [f'problem {n} ' * 3 for n in range(60)]})\n"
        "parts = parquet_bytes(table) + npz_bytes(arr_0=np.arange(8, dtype=np.float32))\n"
        "print('digest', hashlib.sha256(parts).hexdigest())"
    )
    child = start_python(program)
    said = wait_for_line(child, "digest")
    end(child)
    here = files.parquet_bytes(table) + files.npz_bytes(arr_0=np.arange(8, dtype=np.float32))
    assert said == f"digest {hashlib.sha256(here).hexdigest()}"


def test_arrays_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    arrays = {"arr_0": np.float32([[1.5, -2.0]]), "count": np.int64([3])}
    files.write_bytes(path, files.npz_bytes(**arrays))
    back = files.read_npz(path)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_reading_parquet_leaves_no_thread_of_arrows_that_could_abort_the_exit(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "file.parquet"
    files.write_parquet(path, table)
    program = (
        "import os, sys; from pathlib import Path; from common.runs.files import read_parquet\n"
        "import pyarrow.parquet\n"
        "before = len(os.listdir('/proc/self/task')); read_parquet(Path(sys.argv[1]))\n"
        "print('threads', len(os.listdir('/proc/self/task')) - before)"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("threads are counted in /proc")
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout == "threads 0\n"
