"""Every table of every complete phase as CSV, in a directory of its own (form: `common.csv_text`).

Tables are streamed, a few thousand rows at a time, after their bytes have been held against the record. Everything is
written beside first and then moved into place, the manifest `export.json` last: a run that fails or is stopped leaves
an earlier export as it was. A table of 426,000 features takes about 5 s.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from common.config import Config
from common.csv_text import Lines
from common.errors import PipelineError, UsageError
from common.result_frames import feature_table
from common.results import PhaseResults, phase_root, published_phases, reading, refuse_no_directory
from common.runs.artifacts import TOP_FEATURES
from common.runs.files import (
    ensure_directory,
    read_json,
    sha256_file,
    sweep_temporaries,
    sync_all,
    temporary_path,
    write_bytes,
    write_json,
    writing,
)
from common.runs.status import STALE, all_states

MANIFEST, README, COLUMNS = "export.json", "README.txt", "columns.csv"
WHAT = "CSV export of a run"
ROWS_AT_ONCE = 2048


class Exported(NamedTuple):
    """One written table: whose it is, what it was made from, and what stands in it."""

    phase: str
    source: str
    path: str
    rows: int
    sha256: str
    formulas: int
    columns: list[tuple[str, str, str]]


class Export(NamedTuple):
    """What an export wrote, and whether it replaced an earlier one.

    `left_out` says why a phase is not there, `stale` why one that is there may have to be run again.
    """

    out: Path
    files: list[Exported]
    left_out: dict[str, str]
    stale: dict[str, str]
    replaced: bool

    def remarks(self) -> Iterator[str]:
        """Yields a line a phase that is left out or stale."""
        yield from (f"left out: phase {phase} ({why})" for phase, why in self.left_out.items())
        yield from (f"stale: phase {phase} ({why})" for phase, why in self.stale.items())


class Run(NamedTuple):
    """What is exported: the data directory and its complete phases."""

    data_dir: Path
    complete: list[PhaseResults]


class Source(NamedTuple):
    """A table that is to be written: the file that it stands in, its schema and its rows."""

    path: str
    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


def export_csv(config: Config, out: Path, *, overwrite: bool = False, for_spreadsheets: bool = False) -> Export:
    """Writes every table of every complete phase of a configuration to `out`, and returns what was written.

    Raises `UsageError` where nothing is complete, or where `out` holds something else or, without `overwrite`, the
    export of another run.
    """
    run, left_out = _phases(config)
    earlier = _earlier(out, run.data_dir, overwrite=overwrite)
    ensure_directory(out)
    sweep_temporaries(out)
    with _aside(out) as aside:
        tables = (_phase_tables(phase, aside, for_spreadsheets=for_spreadsheets) for phase in run.complete)
        files = [one for of_phase in tables for one in of_phase]
        export = Export(out, files, left_out, _stale(config, run), earlier is not None)
        _write_companions(aside, export, run, for_spreadsheets=for_spreadsheets)
        sync_all()
        _move(aside, out, [one["path"] for one in (earlier or {}).get("files", [])])
    return export


def _phases(config: Config) -> tuple[Run, dict[str, str]]:
    data_dir = Path(config.data_dir)
    refuse_no_directory(data_dir)
    published = published_phases(config)
    left_out = {
        one.phase: f"partial, {one.metadata['done']} of {one.metadata['expected']}"
        for one in published
        if not one.complete
    }
    complete = [one for one in published if one.phase not in left_out]
    if not complete:
        why = ", ".join(f"{phase} ({words})" for phase, words in left_out.items()) or "it holds no output of any phase"
        raise UsageError(f"nothing to export from {data_dir}: no phase is complete there: {why}")
    return Run(data_dir, complete), left_out


def _stale(config: Config, run: Run) -> dict[str, str]:
    exported = {one.phase for one in run.complete}
    with reading(run.data_dir):
        states = [state for state in all_states(config) if state.state == STALE]
    return {state.spec.id: state.why for state in states if state.spec.id in exported}


def _earlier(out: Path, data_dir: Path, *, overwrite: bool) -> dict[str, Any] | None:
    """The manifest of the export that stands in `out`; None where there is nothing."""
    with reading(out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is a file; give a directory")
        standing = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
        if not standing:
            return None
        manifest = read_json(out / MANIFEST) if (out / MANIFEST).is_file() else None
        if not isinstance(manifest, dict) or manifest.get("what") != WHAT:
            raise UsageError(f"--out {out} holds files that no export made; give a new or an empty directory")
        if manifest["data_dir"] != str(data_dir.resolve()) and not overwrite:
            raise UsageError(
                f"--out {out} holds the export of another run ({manifest['data_dir']}); give another directory, or "
                "replace it with --overwrite"
            )
    return manifest


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A directory in `out` for what is being written, gone at the end."""
    place = temporary_path(out / "export")
    ensure_directory(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _phase_tables(phase: PhaseResults, aside: Path, *, for_spreadsheets: bool) -> Iterator[Exported]:
    for source in _sources(phase):
        path = f"{_folder(phase)}/{source.path.rpartition('.')[0]}.csv"
        lines = Lines(source.schema, for_spreadsheets=for_spreadsheets)
        digest = _write_table(aside / path, source, lines)
        kinds = zip(source.schema, lines.forms, strict=True)
        columns = [(field.name, str(field.type), form.name) for field, form in kinds]
        yield Exported(phase.phase, source.path, path, lines.rows, digest, lines.formulas, columns)


def _folder(phase: PhaseResults) -> str:
    """The phase's directory in the export: the usual name, wherever the output lies."""
    return phase_root(Config(), phase.phase).name


def _sources(phase: PhaseResults) -> Iterator[Source]:
    for name in (name for name in phase.files if name.endswith(".parquet")):
        path = phase.root / name
        _check(path, phase.output.entry(name)["sha256"])
        with _readable(path):
            file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        yield Source(name, file.schema_arrow, file.iter_batches(ROWS_AT_ONCE, use_threads=False))
    if TOP_FEATURES in phase.files:
        table = feature_table(phase.output.json(TOP_FEATURES))
        yield Source(TOP_FEATURES, table.schema, table.to_batches())


def _check(path: Path, sha256: str) -> None:
    """Holds a file against its record without having it in memory."""
    with reading(path):
        if not path.is_file():
            raise PipelineError(f"{path} is missing although its record names it; {_AGAIN}")
        if sha256_file(path) != sha256:
            raise PipelineError(f"{path} is damaged: its SHA-256 is not the recorded {sha256[:12]}…; {_AGAIN}")


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise PipelineError(f"{path} is not a readable parquet file ({first}); {_AGAIN}") from None


def _write_table(path: Path, source: Source, lines: Lines) -> str:
    """Writes one table and returns its SHA-256."""
    digest = hashlib.sha256()
    ensure_directory(path.parent)
    with writing(path), _readable(source.path), open(path, "xb") as handle:
        for block in lines.blocks(source.batches):
            handle.write(block)
            digest.update(block)
    return digest.hexdigest()


def _write_companions(aside: Path, export: Export, run: Run, *, for_spreadsheets: bool) -> None:
    """Writes what explains the tables, and the manifest."""
    rows = [
        {"file": one.path, "column": name, "type": kind, "form": form}
        for one in export.files
        for name, kind, form in one.columns
    ]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in ("file", "column", "type", "form")]))
    write_bytes(aside / COLUMNS, b"".join(Lines(table.schema).blocks(table.to_batches())))
    write_bytes(aside / README, _readme(export, run, for_spreadsheets=for_spreadsheets).encode("utf-8"))
    manifest = {
        "what": WHAT,
        "data_dir": str(run.data_dir.resolve()),
        "for_spreadsheets": for_spreadsheets,
        "phases": {one.phase: one.metadata["record_id"] for one in run.complete},
        "left_out": export.left_out,
        "stale": export.stale,
        "files": [{**one._asdict(), "columns": len(one.columns)} for one in export.files],
    }
    write_json(aside / MANIFEST, manifest)


def _readme(export: Export, run: Run, *, for_spreadsheets: bool) -> str:
    formulas = sum(one.formulas for one in export.files)
    danger = DANGER.format(count=f"{formulas:,}", what=ESCAPED if for_spreadsheets else AS_THEY_ARE)
    phases = "\n".join([*map(_phase_line, run.complete), *(f"  {line}" for line in export.remarks())])
    return README_TEXT.format(
        data_dir=run.data_dir, phases=phases, danger=textwrap.fill(danger, README_WIDTH, break_on_hyphens=False)
    )


def _phase_line(phase: PhaseResults) -> str:
    record = phase.metadata
    model = (record.get("model") or {}).get("name")
    made = f"made {record['created']}, code {(record['commit'] or 'unknown')[:12]}" if "created" in record else None
    words = [word for word in (made, f"model {model}" if model else None) if word]
    return f"  {_folder(phase)}: {', '.join(words)}"


def _move(aside: Path, out: Path, earlier: Iterable[str]) -> None:
    """Moves everything into place, the manifest last, and removes what only an earlier export had."""
    written = sorted(path.relative_to(aside) for path in aside.rglob("*") if path.is_file())
    for name in sorted(written, key=lambda name: name.name == MANIFEST):
        ensure_directory((out / name).parent)
        with writing(out / name):
            os.replace(aside / name, out / name)
    for name in {*map(Path, earlier)} - {*written}:
        if not name.is_absolute() and ".." not in name.parts:
            with writing(out / name):
                (out / name).unlink(missing_ok=True)


_AGAIN = "run the phase that makes it again with --fresh"
README_WIDTH = 108
DANGER = (
    "A spreadsheet takes text that begins with = + - @, a tab or a carriage return for a formula, and much of the text "
    "here was written by a model. Texts that begin so: {count}. {what}"
)
AS_THEY_ARE = (
    "They stand here as they are, since a changed program is another program: import such columns as text, or export "
    "with --for-spreadsheets."
)
ESCAPED = (
    "This export was made with --for-spreadsheets: such text, and text that begins with an apostrophe, has an "
    "apostrophe in front; with one taken off it is the value."
)
README_TEXT = """Tables of the run in {data_dir}, one CSV file each.

Phases (nothing but complete ones is here):
{phases}

Form: RFC 4180, UTF-8 without a byte order mark, records end in CR LF, the first line names the columns.
  text           always in quotes, a quote in it doubled; it may hold line breaks
  missing value  nothing at all between the commas; an empty text is ""
  boolean        true, false
  whole number   plain digits; number: the shortest digits that read back the same, nan, inf
  list           JSON in quotes
columns.csv gives every column's type and form, export.json every file's rows and SHA-256.
pyarrow reads all of it back:

  from pyarrow import csv
  parsing = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
  missing = csv.ConvertOptions(null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False)
  csv.read_csv("FILE.csv", parse_options=parsing, convert_options=missing)

pandas.read_csv("FILE.csv", keep_default_na=False, na_values=[""]) does too, but takes an empty text for a
missing one.

{danger}
"""
