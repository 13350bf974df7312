"""Loads general text: a corpus of the hub, or a local file with a `text` column."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import UsageError
from common.hub import resolve_repo
from common.profiles import DatasetSource, resolve_local
from common.runs.files import read_parquet, sha256_file


class Corpus(NamedTuple):
    """Texts in the corpus's own order, and what they were read from.

    `identity` holds `name`, `revision`, `sha256` (of the file, or of all files' digests), `content_sha256` (of the
    texts that are read), `n` (texts that are read) and `n_corpus`.
    """

    texts: list[str]
    identity: dict[str, Any]


def load_corpus(source: DatasetSource | Path, limit: int) -> Corpus:
    """Returns the first `limit` texts of a corpus (`.jsonl` or `.parquet` with a `text` column, or a hub repository).

    Raises `UsageError` where it is missing, damaged, has no such column, or holds no text.
    """
    name, revision, files = _files_of(source)
    texts: list[str] = []
    for path in files:
        texts.extend(_read(path))
    if not texts:
        raise UsageError(f"corpus {name} holds no text; give another one with --input")
    content = hashlib.sha256("\0".join(texts[:limit]).encode("utf-8", "surrogatepass")).hexdigest()
    digests = [sha256_file(path) for path in files]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    counts = {"n": len(texts[:limit]), "n_corpus": len(texts)}
    return Corpus(
        texts[:limit], {"name": name, "revision": revision, "sha256": whole, "content_sha256": content, **counts}
    )


def _files_of(source: DatasetSource | Path) -> tuple[str, str | None, list[Path]]:
    if isinstance(source, Path):
        return str(source), None, [source]
    if source.local:
        path = resolve_local(source.name)
        return str(path), None, [path]
    snapshot = resolve_repo(
        source.name, source.revision, repo_type="dataset", patterns=source.files or None, required=source.files
    )
    return source.name, snapshot.revision, [snapshot.path / name for name in source.files]


def _read(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"corpus {path} does not exist; give one with --input")
    if path.suffix == ".parquet":
        table = read_parquet(path)
        if "text" not in table.column_names:
            raise UsageError(f"corpus {path} has no column text; it holds {', '.join(table.column_names)}")
        return [text for text in table["text"].to_pylist() if text]
    return _read_lines(path)


def _read_lines(path: Path) -> list[str]:
    texts = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UsageError(f"corpus {path}, line {number}: no text field with a string; correct the line")
            texts.append(row["text"])
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"corpus {path} is not JSON lines in UTF-8: {error}") from None
    return [text for text in texts if text]
