"""Tables of what the phases' records say of themselves: state, code, machine, settings, versions, times, workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.runs.status import MISSING, PhaseState
from common.wording import counted
from report.blocks import Cell, Column, Number, Table
from report.settings import Setting
from report.wording import count_cell, listed, numeric

Record = Mapping[str, Any]
Records = Mapping[str, Record]
SHORT = 8  # characters of a commit or digest that are shown


def phase_table(states: Sequence[PhaseState], records: Records) -> Table:
    """Returns one row a phase, published or not."""
    columns = (
        Column("phase"),
        Column("name"),
        Column("state", "complete, partial (a part of its problems), stale (an input has changed since) or not run"),
        numeric("done", "problems done, of those expected"),
        numeric("excluded", "problems given up"),
        Column("created (UTC)"),
        numeric("seconds", "wall time of the process that published it"),
        Column("device", "– for phases that run no model"),
        Column("code", "commit; + marks code that had been changed since"),
    )
    rows = tuple(_phase_row(state, records.get(state.spec.id)) for state in states)
    return Table(f"All {len(states)} phases, as their records say.", columns, rows)


def _phase_row(state: PhaseState, record: Record | None) -> tuple[Cell, ...]:
    head = (state.spec.id, state.spec.name, state_words(state))
    if record is None:
        nothing = Number(None, "–")
        return (*head, nothing, nothing, "–", nothing, "–", "–")
    return (
        *head,
        Number(record["done"], f"{record['done']:,} of {record['expected']:,}"),
        count_cell(record["excluded"]),
        record["created"][:16].replace("T", " "),
        Number(wall_seconds(record), f"{wall_seconds(record):,.1f}"),
        _device(record),
        commit_words(record),
    )


def state_words(state: PhaseState) -> str:
    """Returns a phase's state in words."""
    return "not run" if state.state == MISSING else state.state


def wall_seconds(record: Record) -> float:
    """Returns the wall time of all stages of the process that published."""
    return sum(record["wall_seconds"].values())


def commit_words(record: Record) -> str:
    """Returns the code that made a phase, or why that is not known."""
    if record["commit"] is None:
        return record["commit_reason"]
    return short(record["commit"]) + ("+" if record["dirty"] else "")


def short(digest: str) -> str:
    """Returns the first characters of a commit or digest."""
    return digest.removeprefix("sha256:")[:SHORT]


def _device(record: Record) -> str:
    devices = Counter(worker["device"] for worker in record.get("workers", []))
    if devices:
        return ", ".join(f"{n} × {device}" if n > 1 else device for device, n in devices.items())
    return record["model"]["device_type"] if "model" in record else "–"


def records_table(records: Records) -> Table:
    """Returns what identifies each record: generation, id, code and configuration, whole."""
    columns = (
        Column("phase"),
        numeric("generation", "how often the phase has been published here"),
        Column("record", "its id, by which later phases name it"),
        Column("code", "the whole commit"),
        Column("configuration", "SHA-256 of all settings"),
        Column("slices", "workers that it was put together from"),
    )
    rows = [
        (
            phase,
            count_cell(record["generation"]),
            record["record_id"],
            record["commit"] or record["commit_reason"],
            short(record["config_hash"]),
            counted(len(record["workers"]), "worker") if "workers" in record else "one process",
        )
        for phase, record in records.items()
    ]
    return Table("The records of the published phases (metadata.json).", columns, tuple(rows))


def settings_table(caption: str, settings: Sequence[Setting]) -> Table:
    """Returns one row for each value that a setting has; phases are named where it differs between them."""
    names = Counter(item.name for item in settings)
    differ = max(names.values(), default=1) > 1
    only = (Column("phases", "those that the value holds for; a setting concerns only some"),) if differ else ()
    columns = (Column("setting"), Column("value"), Column("default"), Column("set by"), *only, Column("meaning"))
    rows = [
        (
            *(item.name, item.value, item.default, item.origin),
            *([listed(item.phases) if names[item.name] > 1 else "all that it concerns"] if differ else []),
            item.meaning,
        )
        for item in settings
    ]
    return Table(caption, columns, tuple(rows), searchable=len(rows) > 10)


def versions_table(records: Records) -> Table:
    """Returns the versions of Python and the packages, with the phases where they differ."""
    names = dict.fromkeys(name for record in records.values() for name in record["versions"])
    rows = tuple((name, which(by_version(records, name))) for name in names)
    caption = "Python and the packages that results depend on."
    return Table(caption, (Column("package"), Column("version")), rows)


def by_version(records: Records, name: str) -> dict[str, list[str]]:
    """Returns the phases of each version of a package."""
    found: dict[str, list[str]] = {}
    for phase, record in records.items():
        found.setdefault(record["versions"].get(name) or "not installed", []).append(phase)
    return found


def which(values: Mapping[str, Sequence[str]]) -> str:
    """Returns one value as it is, several with their phases."""
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} (phase {listed(phases)})" for value, phases in values.items())


def stages_table(records: Records) -> Table:
    """Returns the wall time of every stage."""
    rows = [
        (phase, stage, Number(seconds, f"{seconds:,.2f}"))
        for phase, record in records.items()
        for stage, seconds in record["wall_seconds"].items()
    ]
    caption = "Wall time of each stage, of the process that published the phase."
    return Table(caption, (Column("phase"), Column("stage"), numeric("seconds")), tuple(rows))


def workers_table(records: Records) -> Table:
    """Returns the slices of the phases that several workers made."""
    columns = (
        Column("phase"),
        Column("positions"),
        Column("host"),
        Column("device", "– for phases that run no model"),
        Column("ended"),
    )
    rows = [
        (phase, f"{worker['span'][0]} to {worker['span'][1]}", worker["host"], worker["device"], worker["state"])
        for phase, record in records.items()
        for worker in record.get("workers", [])
    ]
    return Table("Slices of phases that several workers made.", columns, tuple(rows))
