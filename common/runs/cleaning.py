"""What `clean_data.py` may delete: the files that phases wrote in their own directories, and nothing else.

A phase's directory counts as one only where a record, a note or segments of this pipeline lie in it. Of it go the files
that its record names and those that every run leaves under known names; any other file, and every symbolic link, stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from common.config import Config
from common.errors import PipelineError
from common.phases import PHASES, PhaseSpec
from common.runs.artifacts import FINAL_EVALUATION, SCREENING, PhasePaths
from common.runs.files import TEMPORARY_PREFIX, read_json, sync_directory, temporary_path, writing
from common.runs.locks import EVERYTHING, forget_locks, refuse_held, span_lock
from common.runs.metadata import read_record

_NAMES = PhasePaths(Path())
_SUPERSEDED = _NAMES.superseded.name
_RECORDS = (_NAMES.metadata.name, _NAMES.partial.name)
_PLACES = {
    place.name
    for place in (_NAMES.segments, _NAMES.snapshots, _NAMES.locks, _NAMES.logs, _NAMES.slices, _NAMES.activations)
}
_FILES = {path.name for path in (_NAMES.excluded, _NAMES.timings, _NAMES.sae_fit)} | set(_RECORDS)
# Places in a phase's directory that are laid out like one themselves: how many parts of a path lead into them.
_NESTED = {_SUPERSEDED: 2, FINAL_EVALUATION: 2, SCREENING: 1}


class Named(Protocol):
    """What a directory's files are listed under: a phase, or an analysis beside the phases."""

    @property
    def id(self) -> str:
        """What the command line calls it."""
        ...

    @property
    def name(self) -> str:
        """What it is, in words."""
        ...


class Deletable(NamedTuple):
    """What of one phase's directory can be deleted, its bytes, those of it that `--fresh` put aside, and what stays."""

    spec: Named
    root: Path
    state: str
    files: list[Path]
    size: int
    superseded_size: int
    staying: list[Path]


def find_deletable(config: Config, *, superseded_only: bool = False) -> list[Deletable]:
    """Returns what can be deleted of each phase under the configuration's data directory."""
    found = [_deletable(spec, root, superseded_only) for spec, root in _directories(config) if _is_ours(spec, root)]
    return [item for item in found if item.files]


def strange_directories(config: Config) -> list[Path]:
    """Returns what has the name of a phase's directory and is left alone: a link, or nothing that shows a run."""
    return [root for spec, root in _directories(config) if os.path.lexists(root) and not _is_ours(spec, root)]


def refuse_running(found: list[Deletable]) -> None:
    """Raises `UsageError` where a run works on one of the phases."""
    for item in found:
        refuse_held(PhasePaths(item.root).locks)


def delete(item: Deletable) -> None:
    """Deletes the files of one phase, its record first, so that a record never stands without its files.

    Directories that are empty then go too. Killed midway, it leaves a directory that is still known as the phase's.
    """
    paths = PhasePaths(item.root)
    with span_lock(paths.locks, EVERYTHING), writing(item.root):
        files = list(item.files)
        if paths.metadata in files:
            gone = temporary_path(paths.metadata)
            paths.metadata.rename(gone)
            sync_directory(item.root)
            files[files.index(paths.metadata)] = gone
        for path in sorted(files, key=_shows_a_run):
            path.unlink(missing_ok=True)
    if paths.metadata in item.files or not paths.metadata.exists():
        forget_locks(paths.locks)
    _remove_empty(item.root)


def _directories(config: Config) -> Iterator[tuple[PhaseSpec, Path]]:
    """Yields the directories of the registry that really lie under the data directory, links in their paths aside."""
    top = Path(config.data_dir).resolve()
    for spec in PHASES:
        root = config.phase_dir(spec.id)
        place = root.parent.resolve() / root.name
        if place != top and place.is_relative_to(top):
            yield spec, root


def _is_ours(spec: PhaseSpec, root: Path) -> bool:
    """Says whether a real directory holds a record, a note, segments or the log of the phase."""
    if root.is_symlink() or not root.is_dir():
        return False
    return any(_shows_a_run(path) and _is_of(spec, path) for path in walked(root) if not path.is_symlink())


def _shows_a_run(path: Path) -> bool:
    """Says whether a file has a name by which a phase's directory may be known; deleting leaves these to the end."""
    is_segment = path.parts[-4:-3] == ("segments",) and (path.name == "fingerprint.json" or path.suffix == ".parquet")
    return is_segment or path.name.endswith(_RECORDS) or path.parts[-2:-1] == ("logs",)


def _is_of(spec: PhaseSpec, path: Path) -> bool:
    if path.name.endswith(_RECORDS):
        try:
            found = read_json(path)
        except PipelineError:
            return False
        return isinstance(found, dict) and found.get("phase") == spec.id
    return path.suffix in (".json", ".parquet") or path.name == f"phase{spec.id.replace('.', '_')}.log"


def _deletable(spec: PhaseSpec, root: Path, superseded_only: bool) -> Deletable:
    known = _Known(spec, root)
    ours: list[Path] = []
    staying: list[Path] = []
    for path in walked(root):
        (ours if not path.is_symlink() and known.holds(path) else staying).append(path)
    superseded = [path for path in ours if path.relative_to(root).parts[0] == _SUPERSEDED]
    files = superseded if superseded_only else ours
    return Deletable(spec, root, _state(root), files, bytes_of(files), bytes_of(superseded), staying)


def bytes_of(files: Iterable[Path]) -> int:
    """Returns the size of files together."""
    return sum(path.lstat().st_size for path in files)


def _state(root: Path) -> str:
    try:
        record = read_record(PhasePaths(root))
    except PipelineError:
        return "unreadable"
    if record is None:
        return "unfinished"
    return "complete" if record["complete"] else f"partial {record['done']}/{record['expected']}"


class _Known:
    """Which files the runs of a phase write: those that a record names, and those with names that every run uses."""

    def __init__(self, spec: PhaseSpec, root: Path) -> None:
        self.root = root
        self._patterns = [_expression(name) for name in spec.files]
        self._recorded: dict[Path, set[str]] = {}

    def holds(self, path: Path) -> bool:
        """Says whether a file is one of them."""
        root, parts = self.root, path.relative_to(self.root).parts
        while parts[0] in _NESTED and len(parts) > _NESTED[parts[0]]:
            depth = _NESTED[parts[0]]
            root, parts = root.joinpath(*parts[:depth]), parts[depth:]
        name = "/".join(parts)
        return (
            parts[0] in _PLACES
            or name in _FILES
            or any(part.startswith(TEMPORARY_PREFIX) for part in parts)
            or any(pattern.match(name) for pattern in self._patterns)
            or name in self._named_in(root)
        )

    def _named_in(self, root: Path) -> set[str]:
        """Returns what the record names, also one that a deletion cut short has left under another name."""
        if root not in self._recorded:
            records = [root / _NAMES.metadata.name, *root.glob(f"{TEMPORARY_PREFIX}*-{_NAMES.metadata.name}")]
            self._recorded[root] = {name for record in records for name in _named_by(record)}
        return self._recorded[root]


def _named_by(record: Path) -> list[str]:
    try:
        return [entry["path"] for entry in read_json(record)["outputs"]]
    except (PipelineError, TypeError, KeyError):
        return []


def _expression(name: str) -> re.Pattern[str]:
    """Returns the registry's name of an output as an expression: for files that no record names yet."""
    text = re.escape(name).replace("<timestamp>", r"\d{8}_\d{6}").replace("<T>", r"\d+_\d+")
    return re.compile(text if name.endswith("/") else f"{text}$")


def walked(root: Path) -> Iterator[Path]:
    """Yields every file and every link under `root`, following no link."""
    for directory, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in sorted([*files, *links]):
            yield Path(directory, name)


def _remove_empty(root: Path) -> None:
    for directory, _, _ in list(os.walk(root, topdown=False)):
        try:
            os.rmdir(directory)
        except OSError:
            continue  # something stays in it
