"""`metadata.json`: a phase's record, written last.

Its presence means that the files it names are whole; its `complete` says whether they cover the split. It holds what a
reader needs to trust or to repeat the phase: code, command, configuration, model, SAEs, inputs and outputs with hashes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, NamedTuple

from common.config import Config
from common.errors import PipelineError
from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.files import canonical_json, finite, json_text, read_json_bytes, sha256_file, write_json

SCHEMA_VERSION = 1
PACKAGES = ("torch", "transformers", "sae-lens", "numpy", "scipy", "pandas", "pyarrow", "radon", "tokenizers")


class OutputFile(NamedTuple):
    """A file that a phase wrote: path relative to the phase directory, SHA-256, and its rows where it is a table."""

    path: str
    sha256: str
    rows: int | None = None


class InputFile(NamedTuple):
    """A file that a phase read, with the phase and the record it came from (None for a file given by hand)."""

    phase: str | None
    path: str
    sha256: str
    rows: int | None
    record_id: str | None


class Extent(NamedTuple):
    """How much of the split a record covers."""

    expected: int
    done: int
    excluded: int = 0
    slices: tuple[tuple[int, int], ...] = ()
    inputs_complete: bool = True

    @property
    def complete(self) -> bool:
        """Whether every problem of the split is there and the inputs were whole themselves."""
        return self.done == self.expected and self.inputs_complete


def read_record(paths: PhasePaths) -> dict[str, Any] | None:
    """Returns the phase's record, or None where the phase has none.

    Raises `PipelineError` where it is not, byte for byte, the one that was written.
    """
    if not paths.metadata.is_file():
        return None
    data, record = read_json_bytes(paths.metadata)
    if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
        found = record.get("schema_version") if isinstance(record, dict) else type(record).__name__
        raise PipelineError(
            f"{paths.metadata} has schema version {found}, expected {SCHEMA_VERSION}; run its phase again with --fresh"
        )
    if data != json_text(sealed(dict(record))).encode("utf-8"):
        raise PipelineError(
            f"{paths.metadata} is damaged: its content is not the one that was recorded; run its phase again with "
            "--fresh"
        )
    return record


def write_record(
    paths: PhasePaths,
    *,
    phase: str,
    config: Config,
    extent: Extent,
    inputs: Iterable[InputFile],
    outputs: Iterable[OutputFile],
    wall_seconds: Mapping[str, float],
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes the phase's record and returns it; `details` holds what the phase itself adds."""
    resolved = asdict(config)
    record: dict[str, Any] = {
        "phase": phase,
        "schema_version": SCHEMA_VERSION,
        "generation": next_generation(paths),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": extent.complete,
        "expected": extent.expected,
        "done": extent.done,
        "excluded": extent.excluded,
        "inputs_complete": extent.inputs_complete,
        "slices": [list(span) for span in extent.slices],
        **code_version(),
        "command": shlex.join(sys.argv),
        "profile": config.profile,
        "seed": config.seed,
        "config": resolved,
        "config_hash": hashlib.sha256(canonical_json(resolved).encode()).hexdigest(),
        "inputs": [item._asdict() for item in inputs],
        "outputs": [item._asdict() for item in outputs],
        "versions": package_versions(),
        "wall_seconds": dict(wall_seconds),
        **details,
    }
    write_json(paths.metadata, sealed(record))
    return record


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Gives a record its id, the digest of everything else in it, and returns it."""
    content = {key: _plain(value) for key, value in finite(record).items() if key != "record_id"}
    record["record_id"] = hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]
    return record


def next_generation(paths: PhasePaths) -> int:
    """Returns the number of the phase's next output: one more than any that stands here or was put aside."""
    record = read_record(paths)
    standing = 0 if record is None else int(record["generation"])
    return max([standing, *_put_aside_generations(paths)]) + 1


def generation_to_put_aside(paths: PhasePaths) -> int:
    """Returns the number under which what stands in the directory is put aside, readable or not."""
    following = max(_put_aside_generations(paths), default=0) + 1
    try:
        record = read_record(paths)
    except PipelineError:
        return following
    return following if record is None else max(int(record["generation"]), following)


def _put_aside_generations(paths: PhasePaths) -> list[int]:
    return [int(path.name) for path in paths.superseded.glob("[0-9]*") if path.is_dir() and path.name.isdigit()]


def output_file(paths: PhasePaths, name: str, rows: int | None = None) -> OutputFile:
    """Describes a file that lies in the phase's directory."""
    return OutputFile(name, sha256_file(paths.root / name), rows)


def code_version() -> dict[str, Any]:
    """Returns the commit of this checkout and whether it was changed since; nulls with a reason outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {"commit": None, "dirty": None, "commit_reason": "not a git checkout"}


def package_versions() -> dict[str, str | None]:
    """Returns the versions of Python and of the packages that results depend on."""
    from importlib import metadata as installed  # slow to import, and only for records

    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = installed.version(name)
        except installed.PackageNotFoundError:
            versions[name] = None
    return versions


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return repr(value) if isinstance(value, float) else value
