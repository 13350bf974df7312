"""Files that are either the old one or the new one, never a part.

Every write goes to a temporary name in the target's own directory, is flushed to disk, and is renamed into place; the
directory is flushed after it. What the operating system refuses (full disk, missing permission) becomes one
`PipelineError`. Parquet is written with page checksums, since a flipped bit otherwise goes unnoticed in most files.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import shutil
import socket
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import PipelineError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TEMPORARY_PREFIX = ".writing-"
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_CURES = {
    errno.ENOSPC: "free some space and run the same command again; what was finished is kept",
    errno.EDQUOT: "your quota is used up: free some space and run the same command again; what was finished is kept",
    errno.EACCES: "make it writable or choose another place with --data-dir",
    errno.EPERM: "make it writable or choose another place with --data-dir",
    errno.EROFS: "the file system is read-only: choose another place with --data-dir",
    errno.ENOTDIR: "a file stands where a directory is needed: choose another place with --data-dir",
    errno.EEXIST: "a file stands where a directory is needed: choose another place with --data-dir",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an operating-system error while writing `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "check the disk and run the same command again")
        raise PipelineError(f"cannot write {path}: {error.strerror or error}; {cure}") from error


def ensure_directory(path: Path) -> Path:
    """Creates `path` and its parents where they are missing and returns it."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> str:
    """Writes `data` to `path` atomically and returns its SHA-256 (hex).

    With `durable=False` nothing is flushed to disk: for trees of many small files that are flushed by one `sync_all`.
    """
    temporary = temporary_path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as handle:
                handle.write(data)
                handle.flush()
                if durable:
                    os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_directory(path.parent)
    return hashlib.sha256(data).hexdigest()


def temporary_path(path: Path) -> Path:
    """Returns the name under which this process writes, or takes apart, what `path` names."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{_HOST}-{path.name}")


def sync_directory(path: Path) -> None:
    """Flushes a directory's entries to disk, so that renames in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all() -> None:
    """Flushes everything written so far to disk, once, after many non-durable writes."""
    os.sync()


def sweep_temporaries(directory: Path) -> int:
    """Removes temporary files (and directories) that killed processes left under `directory`; returns how many.

    What a living process of this host or any process of another host is writing is left alone.
    """
    removed = 0
    with writing(directory):
        for path in list(directory.rglob(f"{TEMPORARY_PREFIX}*")):
            owner, _, rest = path.name.removeprefix(TEMPORARY_PREFIX).partition("-")
            if not rest.startswith(f"{_HOST}-") or (owner.isdigit() and _is_another_living(int(owner))):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            removed += 1
    return removed


def _is_another_living(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Returns JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> str:
    """Writes `value` as readable JSON without NaN (non-finite floats become null); returns the file's SHA-256."""
    return write_bytes(path, json_text(value).encode("utf-8"))


def json_text(value: Any) -> str:
    """Returns `value` as readable JSON without NaN, the way it stands in a file."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Writes one JSON object a line without NaN (non-finite floats become null); returns the file's SHA-256."""
    lines = (json.dumps(finite(row), ensure_ascii=False, allow_nan=False, default=str) + "\n" for row in rows)
    # A lone surrogate, which JSON can carry, is written as its escape.
    return write_bytes(path, b"".join(line.encode("utf-8", "backslashreplace") for line in lines))


def read_json(path: Path, *, sha256: str | None = None) -> Any:
    """Reads a JSON file, against `sha256` where given; a missing or damaged one is a `PipelineError` that names it."""
    if sha256 is not None:
        verified_bytes(path, sha256)
    return read_json_bytes(path)[1]


def read_json_bytes(path: Path) -> tuple[bytes, Any]:
    """Reads a JSON file and returns its bytes beside its value; a missing or damaged one is a `PipelineError`."""
    try:
        data = path.read_bytes()
        return data, json.loads(data.decode("utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; run the phase that makes it again") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path} is damaged ({error}); run the phase that makes it again with --fresh") from None


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns `table` as parquet (zstd, page checksums); equal tables give equal bytes."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def write_parquet(path: Path, table: pa.Table) -> str:
    """Writes `table` as parquet atomically; returns the file's SHA-256."""
    return write_bytes(path, parquet_bytes(table))


def read_parquet(path: Path, *, sha256: str | None = None) -> pa.Table:
    """Reads a parquet file with its page checksums verified, and against `sha256` where given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = verified_bytes(path, sha256)
    try:
        # In this thread only: a reading thread of Arrow's that outlives the interpreter aborts the process at its exit.
        source = pa.BufferReader(data)
        return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False).read(use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path} is not a readable parquet file ({_first_line(error)}); {_AGAIN}") from None


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """Returns arrays as an uncompressed npz archive; equal arrays give equal bytes."""
    import numpy as np

    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()


def read_npz(path: Path, *, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Reads every array of an npz archive, without pickle; a damaged one is a `PipelineError` that names it."""
    import numpy as np

    data = verified_bytes(path, sha256)
    try:
        if not data.startswith(b"PK"):
            raise ValueError("not a zip archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        raise PipelineError(f"{path} is not a readable npz file ({_first_line(error)}); {_AGAIN}") from None


def verified_bytes(path: Path, sha256: str | None) -> bytes:
    """Reads a file; refuses it where its SHA-256 is not the one that its record names."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing although its record names it; {_AGAIN}") from None
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror or error}") from None
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise PipelineError(f"{path} is damaged: its SHA-256 is not the recorded {sha256[:12]}…; {_AGAIN}")
    return data


_AGAIN = "run the phase that makes it again with --fresh"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def finite(value: Any) -> Any:
    """Returns `value` as JSON knows it: keys as text, arrays and tuples as lists, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
