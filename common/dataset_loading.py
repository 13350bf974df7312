"""Loads MBPP (Austin et al. 2021, arXiv 2108.07732): the hub's 974 problems, or a local file in MBPP's form.

Every row is checked before any is used, and every offending row is reported at once. Texts are kept as they are, with
MBPP's tabs and carriage returns.
"""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UsageError, suggest
from common.hub import resolve_repo
from common.problems import Problem
from common.profiles import DatasetSource, resolve_local

REQUIRED_COLUMNS = ("task_id", "text", "code", "test_list")
LISTED_ROWS = 20


class LoadedDataset(NamedTuple):
    """Problems in the order of their ids, and what they were read from.

    `identity` holds `name` (repository or path), `revision` (commit or None), `sha256` (of the file, or of all parts'
    digests), `files` (digest of each), `content_sha256` (of the problems, whatever the file's form) and `n`.
    """

    problems: list[Problem]
    identity: dict[str, Any]


class _Row(NamedTuple):
    where: str
    values: Mapping[str, Any]


def load_mbpp(source: DatasetSource | Path | str) -> LoadedDataset:
    """Loads problems from the hub (every part that `source` names), a `.jsonl` or `.parquet` file, or a directory.

    Raises UsageError where a file is missing or damaged, where columns are missing, and, naming each row, where a
    task_id is not a unique whole number, `text` or `test_list` is empty, or code or a test does not parse.
    """
    name, revision, files = _files_of(source)
    rows = [row for path in files for row in _read_rows(path)]
    if not rows:
        raise UsageError(f"data set {name} holds no problems; check the path")
    problems = sorted(_checked(rows, name), key=lambda problem: problem.task_id)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    together = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode()).hexdigest()
    identity = {
        "name": name,
        "revision": revision,
        "sha256": together if len(digests) > 1 else next(iter(digests.values())),
        "files": digests,
        "content_sha256": _content_digest(problems),
        "n": len(problems),
    }
    return LoadedDataset(problems, identity)


def _files_of(source: DatasetSource | Path | str) -> tuple[str, str | None, list[Path]]:
    if isinstance(source, DatasetSource) and not source.local:
        patterns = source.files or ("full/*.parquet",)
        snapshot = resolve_repo(
            source.name, source.revision, repo_type="dataset", patterns=patterns, required=source.files
        )
        return source.name, snapshot.revision, _existing(snapshot.path, list(source.files))
    path = resolve_local(source.name) if isinstance(source, DatasetSource) else Path(source).expanduser()
    if path.is_dir():
        named = list(source.files) if isinstance(source, DatasetSource) else []
        return str(path), None, _existing(path, named)
    if not path.is_file():
        raise UsageError(f"data set {path} does not exist; check the path")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"data set {path} is neither .jsonl nor .parquet; convert it to MBPP's form")
    return str(path), None, [path]


def _existing(root: Path, named: list[str]) -> list[Path]:
    if named:
        lacking = [item for item in named if not (root / item).is_file()]
        if lacking:
            raise UsageError(f"data set {root} is incomplete: no {', '.join(lacking)}; fetch it again")
        return [root / item for item in named]
    for pattern in ("full/*.parquet", "*.parquet", "*.jsonl"):
        found = sorted(root.glob(pattern))
        if found:
            return found
    raise UsageError(f"directory {root} holds no .parquet and no .jsonl file; check the path")


def _read_rows(path: Path) -> Iterator[_Row]:
    return _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path)


def _read_jsonl(path: Path) -> Iterator[_Row]:
    # Lines end at \n only: str.splitlines would also cut at characters that JSON allows within a string.
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} line {number} is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise UsageError(f"{path} line {number} is not a JSON object but {type(values).__name__}")
        _require_columns(list(values), f"{path} line {number}")
        yield _Row(f"line {number}", values)


def _read_parquet(path: Path) -> Iterator[_Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, use_threads=False)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a readable parquet file ({type(error).__name__}); fetch it again") from None
    _require_columns(table.column_names, str(path))
    for number, values in enumerate(rows):
        yield _Row(f"{path.name} row {number}", values)


def _require_columns(found: list[str], where: str) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in found]
    if missing:
        near = suggest(missing[0], [name for name in found if name not in REQUIRED_COLUMNS])
        raise UsageError(f"{where} has no column {', '.join(missing)} (found: {', '.join(found) or 'none'}){near}")


def _checked(rows: list[_Row], name: str) -> list[Problem]:
    seen: dict[int, str] = {}
    problems, complaints = [], []
    for row in rows:
        faults = list(_faults(row.values))
        task_id = row.values["task_id"]
        if _is_whole(task_id) and task_id in seen:
            faults.append(f"task_id {task_id} also stands at {seen[task_id]}")
        if faults:
            complaints.append(f"{row.where} (task_id {task_id!r}): {', '.join(faults)}")
        else:
            problems.append(_problem(row.values))
        if _is_whole(task_id):
            seen.setdefault(task_id, row.where)
    if complaints:
        listed = "; ".join(complaints[:LISTED_ROWS])
        more = f"; and {len(complaints) - LISTED_ROWS} more rows" if len(complaints) > LISTED_ROWS else ""
        raise UsageError(f"{name}: {len(complaints)} of {len(rows)} rows cannot be used; correct {listed}{more}")
    return problems


def _faults(values: Mapping[str, Any]) -> Iterator[str]:
    if not _is_whole(values["task_id"]):
        yield "task_id is not a whole number"
    elif not 0 <= values["task_id"] < 2**63:
        yield "task_id is negative or too large"
    for column in ("text", "code"):
        if not _is_text(values[column]):
            yield f"{column} is not text"
        elif not values[column].strip():
            yield f"{column} is empty"
    if _is_text(values["code"]) and (fault := _syntax_fault(values["code"])):
        yield f"code does not parse ({fault})"
    if not _is_text(values.get("test_setup_code") or ""):
        yield "test_setup_code is not text"
    elif fault := _syntax_fault(values.get("test_setup_code") or ""):
        yield f"test_setup_code does not parse ({fault})"
    yield from _test_faults(values["test_list"])


def _test_faults(tests: Any) -> Iterator[str]:
    if not isinstance(tests, list) or not all(_is_text(test) for test in tests):
        yield "test_list is not a list of text"
    elif not tests:
        yield "test_list is empty"
    else:
        for number, test in enumerate(tests):
            if not test.strip():
                yield f"test {number} is empty"
            elif fault := _syntax_fault(test):
                yield f"test {number} does not parse ({fault})"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    # A lone surrogate, which JSON can carry, could not be written to any file later.
    return isinstance(value, str) and not any(0xD800 <= ord(char) <= 0xDFFF for char in value)


def _syntax_fault(code: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except (SyntaxError, ValueError) as error:
            return str(error)
        except (RecursionError, MemoryError):
            return "nested too deeply"
    return None


def _problem(values: Mapping[str, Any]) -> Problem:
    return Problem(
        task_id=values["task_id"],
        text=values["text"],
        code=values["code"],
        test_list=tuple(values["test_list"]),
        test_setup_code=values.get("test_setup_code") or "",
        cyclomatic_complexity=values.get("cyclomatic_complexity"),
    )


def _content_digest(problems: list[Problem]) -> str:
    rows = [[item.task_id, item.text, item.code, list(item.test_list), item.test_setup_code] for item in problems]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()
