"""The state of every phase, from records and file names alone."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from common.config import Config, show
from common.errors import PipelineError
from common.phases import PHASES, PhaseSpec
from common.runs.artifacts import PhasePaths
from common.runs.files import canonical_json, read_json, sha256_file
from common.runs.metadata import read_record
from common.runs.records import positions_done

MISSING, PARTIAL, COMPLETE, STALE, UNREADABLE = "missing", "partial", "complete", "stale", "unreadable"
# General settings that phases without a model use, and phases whose settings another one uses too.
OF_ANALYSIS = ("profile", "seed", "general_text_max_frequency")
BORROWED = {"4.8": ("3.8",), "7.6": ("3.8", "4.8")}
HASHED_BYTES = 64 * 1024**2


class PhaseState(NamedTuple):
    """One phase's state with its reason; `done` of `expected` problems where that is known.

    `has_other_settings` says that a complete phase was made under settings that may change what it makes.
    """

    spec: PhaseSpec
    state: str
    why: str
    done: int | None = None
    expected: int | None = None
    has_other_settings: bool = False

    def line(self) -> str:
        """Returns the state in one line."""
        count = f" {self.done}/{self.expected}" if self.state == PARTIAL and self.expected else ""
        return f"{self.spec.id:<5} {self.spec.name:<28} {self.state + count:<18} {self.why}".rstrip()


def all_states(config: Config) -> list[PhaseState]:
    """Returns the state of every phase, in dependency order; what reads something stale is stale itself."""
    states: dict[str, PhaseState] = {}
    for spec in PHASES:
        try:
            states[spec.id] = _state(config, spec, states)
        except PipelineError as error:
            states[spec.id] = PhaseState(spec, UNREADABLE, str(error))
    return list(states.values())


def _state(config: Config, spec: PhaseSpec, before: dict[str, PhaseState]) -> PhaseState:
    paths = PhasePaths(config.phase_dir(spec.id))
    record = read_record(paths)
    if record is None:
        return _unpublished(paths, spec)
    stale = _stale_reason(config, spec, record, before)
    done, expected = record["done"], record["expected"]
    if stale:
        return PhaseState(spec, STALE, stale, done, expected)
    if not record["complete"]:
        why = "made from a partial input" if done == expected else "the rest has not been run"
        return PhaseState(spec, PARTIAL, why, done, expected)
    why = f"generation {record['generation']}, {record['created']}"
    if changed := changed_settings(spec, record, config):
        why += f"; made under other settings: {', '.join(changed)}"
    return PhaseState(spec, COMPLETE, why, done, expected, bool(changed))


def changed_settings(spec: PhaseSpec, record: dict[str, Any], config: Config) -> list[str]:
    """Returns the settings that may change what the phase makes and are others than its record's, as `name old → new`.

    Whether they do change it only the phase itself can say.
    """
    then, now = record["config"], read_back(config)
    names = [item.name for item in fields(Config) if item.metadata["decides"] and concerns(item.name, spec)]
    left_open = {"batch_size"} if not config.batch_size else set()
    different = [name for name in names if name in then and name not in left_open and then[name] != now[name]]
    return [f"{name} {_shown(then[name])} → {_shown(now[name])}" for name in different]


def _shown(value: Any) -> str:
    return show(tuple(value) if isinstance(value, list) else value)


def concerns(name: str, spec: PhaseSpec) -> bool:
    """Says whether setting `name` is one that the phase's results may hang on."""
    match = re.match(r"phase(\d+(?:_\d+)?)_", name)
    if match is not None:
        return match[1].replace("_", ".") in (spec.id, *BORROWED.get(spec.id, ()))
    return spec.needs == "model" or name in OF_ANALYSIS


def read_back(config: Config) -> dict[str, Any]:
    """Returns a configuration as it comes back from a record (tuples as lists)."""
    return json.loads(canonical_json(asdict(config)))


def _unpublished(paths: PhasePaths, spec: PhaseSpec) -> PhaseState:
    stages = [path for stage in ("evaluation", "vectors") for path in paths.segments.glob(f"{stage}/*")]
    done = max((positions_done(path) for path in stages), default=0)
    if paths.partial.is_file():
        note = read_json(paths.partial)
        done = sum(positions_done(path) for path in stages) // note["arms"]
        return PhaseState(spec, PARTIAL, f"unfinished; to go on: {note['to_go_on']}", done, note["expected"])
    if done:
        return PhaseState(spec, PARTIAL, "unfinished", done)
    return PhaseState(spec, MISSING, "")


def _stale_reason(config: Config, spec: PhaseSpec, record: dict[str, Any], before: dict[str, PhaseState]) -> str | None:
    read = {item["phase"] for item in record["inputs"]}
    for source in spec.optional_reads:
        if source not in read and before[source].state == COMPLETE:
            return f"phase {source} has been run since"
    for item in record["inputs"]:
        source = item["phase"]
        if source is None and _differs(Path(item["path"]), item["sha256"]):
            return f"{item['path']} has changed since"
        if source not in before or _is_elsewhere(Path(item["path"]), config.phase_dir(source)):
            continue
        state = before[source]
        if state.state == STALE:
            return f"phase {source} is stale"
        current = read_record(PhasePaths(config.phase_dir(source)))
        if current is None:
            continue  # removed since: what was computed stays valid
        if item["sha256"] not in {entry["sha256"] for entry in current["outputs"]}:
            return f"phase {source} has changed since"
    return None


def _differs(path: Path, sha256: str) -> bool:
    """Says whether a file given by hand is there with other bytes (a hub's data set has no path here)."""
    return path.is_file() and path.stat().st_size <= HASHED_BYTES and sha256_file(path) != sha256


def _is_elsewhere(path: Path, directory: Path) -> bool:
    """Says whether an input was read from another directory (`--inputs-from`), and not from one moved since."""
    return path.exists() and not path.resolve().is_relative_to(directory.resolve())
