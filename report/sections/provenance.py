"""What ran: model, SAEs, data, settings, code and machine of every published phase, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from common.phases import phase_ids
from common.runs.status import COMPLETE, PARTIAL, STALE, UNREADABLE
from common.wording import counted, duration
from report.blocks import Block, Cell, Code, Details, Facts, Missing, Section, Text
from report.phase_tables import (
    Records,
    by_version,
    commit_words,
    phase_table,
    records_table,
    settings_table,
    short,
    stages_table,
    state_words,
    versions_table,
    wall_seconds,
    which,
    workers_table,
)
from report.run import Run
from report.settings import decisive_settings, reductions, set_otherwise
from report.wording import listed

ID, TITLE = "provenance", "What ran, and under which settings?"
ROLES = {"base": "model", "instruct": "instruction-tuned model"}


def section(run: Run) -> Section | Missing | None:
    """Returns the records of all phases, read together."""
    records = readable_records(run)
    if not records:
        return Missing(ID, TITLE, "No phase has been run.", run.command(phase_ids()[0]))
    blocks: tuple[Block, ...] = (
        *(Text(text, "warning") for text in _warnings(run, records)),
        _facts(run, records),
        phase_table(run.states, records),
        _changed_settings(records),
        *_folded(records),
    )
    return Section(ID, TITLE, _lead(run, records), blocks)


def readable_records(run: Run) -> dict[str, Mapping[str, Any]]:
    """Returns the record of every published phase, in dependency order; damaged ones are left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for state in run.states:
        record = None if state.state == UNREADABLE else run.record(state.spec.id)
        if record is not None:
            found[state.spec.id] = record
    return found


def _lead(run: Run, records: Records) -> str:
    whole = sum(state.state == COMPLETE for state in run.states)
    model = _first(records, "model")
    what = "" if model is None else f", made with {model['name']} in {model['dtype']} on {model['device_type']}"
    seconds = sum(wall_seconds(record) for record in records.values())
    return f"{whole} of {len(run.states)} phases are complete{what}, in {duration(seconds)} of computing."


def _warnings(run: Run, records: Records) -> Iterator[str]:
    """Yields what a reader must know before believing that all of this is one experiment."""
    for state in run.states:
        if state.state in (STALE, PARTIAL, UNREADABLE):
            yield f"Phase {state.spec.id} ({state.spec.name}) is {state_words(state)}: {state.why}."
    dirty = [phase for phase, record in records.items() if record["dirty"]]
    if dirty:
        yield f"The code held changes that no commit has when phases {listed(dirty)} were made."
    yield from _differences(records)
    given = [phase for phase, record in records.items() if record.get("site_given")]
    if given:
        yield f"The site was given by hand, not taken from the SAEs' own metadata, in phases {listed(given)}."
    smaller = [f"{item.name} {item.value} (default {item.default})" for item in reductions(records)]
    if smaller:
        yield f"To be quick, the profile lowers {listed(smaller)}; --full leaves that out."


def _differences(records: Records) -> Iterator[str]:
    """Yields in what the phases differ that should have been made alike."""
    commits, seeds, formats = (_by_value(records, key) for key in ("commit", "seed", "prompt_format"))
    for name, values in {"commits": commits, "seeds": seeds, "prompt formats": formats}.items():
        if len(values) > 1:
            yield f"Phases were made with different {name}: {which(values)}."
    for role, name in ROLES.items():
        digests = _weights(records, role)
        if len(digests) > 1:
            yield f"Phases were made with different weights of the {name}: {which(digests)}."
    packages = dict.fromkeys(name for record in records.values() for name in record["versions"])
    differing = [name for name in packages if len(by_version(records, name)) > 1]
    if differing:
        yield f"Phases were made with different versions of {listed(differing)} (see Package versions)."


def _facts(run: Run, records: Records) -> Facts:
    rows: list[tuple[str, Cell]] = [("profile", which(_by_value(records, "profile")))]
    for role, name in ROLES.items():
        models = [record["model"] for record in records.values() if record.get("model", {}).get("role") == role]
        rows += [(name, _model_words(model)) for model in models[:1]]
    saes = _first(records, "saes")
    if saes:
        rows += [("SAEs", _sae_words(saes)), ("site", _site_words(saes))]
    rows += _data_words(records)
    sizes = records.get("0.1", {}).get("sizes")
    if sizes:
        rows.append(("splits", ", ".join(f"{split} {size:,}" for split, size in sizes.items())))
    formats, sandbox = _by_value(records, "prompt_format"), _first(records, "sandbox")
    if formats:
        rows.append(("prompt format", which(formats)))
    rows.append(("seed", which(_by_value(records, "seed"))))
    if sandbox:
        rows.append(("solutions ran in", _sandbox_words(sandbox)))
    rows.append(("code", ", ".join(dict.fromkeys(commit_words(record) for record in records.values()))))
    return Facts((*rows, ("data directory", str(run.data_dir))))


def _model_words(model: Mapping[str, Any]) -> str:
    revision = f"revision {model['revision']}" if model["revision"] else f"weights {short(model['digest'])}"
    return f"{model['name']} ({revision}), {model['dtype']} on {model['device_type']}"


def _sae_words(saes: Sequence[Mapping[str, Any]]) -> str:
    releases = Counter(sae["release"] for sae in saes)
    revisions = sorted({sae["revision"] for sae in saes if sae["revision"]})
    pinned = f", revision {listed(revisions)}" if revisions else ""
    return f"{listed(releases)}{pinned}; {counted(len(saes), 'layer')}: {_spans([sae['layer'] for sae in saes])}"


def _site_words(saes: Sequence[Mapping[str, Any]]) -> str:
    sites = sorted({sae["site"] for sae in saes})
    return f"{listed(sites)} ({saes[0]['hook_name']}{', …' if len(saes) > 1 else ''})"


def _data_words(records: Records) -> Iterator[tuple[str, str]]:
    for name, phase, key, noun in (("problems", "0", "dataset", "problem"), ("general text", "2.2", "corpus", "text")):
        source = records.get(phase, {}).get(key)
        if source is not None:
            pinned = f"revision {source['revision']}" if source["revision"] else f"SHA-256 {short(source['sha256'])}"
            yield name, f"{_file_name(source['name'])} ({pinned}), {counted(source['n'], noun)}"


def _sandbox_words(sandbox: Mapping[str, Any]) -> str:
    still_open = f"; still open: {listed(sandbox['open'])}" if sandbox["open"] else ""
    return f"{sandbox['isolation']}{still_open}"


def _changed_settings(records: Records) -> Block:
    changed = set_otherwise(decisive_settings(records))
    if not changed:
        return Text("Every setting that can change a result is at its default.")
    return settings_table("Settings that can change a result and are not at their defaults.", changed)


def _folded(records: Records) -> Iterator[Details]:
    everything = decisive_settings(records)
    caption = "All settings that can change a result, of the phases that have been made."
    yield Details("All settings", (settings_table(caption, everything),))
    yield Details("Records", (records_table(records),))
    yield Details("Package versions", (versions_table(records),))
    yield Details("Time by stage", (stages_table(records),))
    if any("workers" in record for record in records.values()):
        yield Details("Slices, and the workers that made them", (workers_table(records),))
    commands: dict[str, list[str]] = {}
    for phase, record in records.items():
        commands.setdefault(record["command"], []).append(phase)
    lines = [f"{command}\n  phase {listed(phases)}" for command, phases in commands.items()]
    yield Details("Command lines", (Code("\n".join(lines)),))


def _weights(records: Records, role: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for phase, record in records.items():
        if record.get("model", {}).get("role") == role:
            found.setdefault(short(record["model"]["digest"]), []).append(phase)
    return found


def _by_value(records: Records, key: str) -> dict[str, list[str]]:
    """Returns the phases of each value that `key` has in any record."""
    found: dict[str, list[str]] = {}
    for phase, record in records.items():
        if record.get(key) is not None:
            value = short(record[key]) if key == "commit" else str(record[key])
            found.setdefault(value, []).append(phase)
    return found


def _first(records: Records, key: str) -> Any:
    return next((record[key] for record in records.values() if record.get(key)), None)


def _file_name(name: str) -> str:
    """Returns a hub's name as it is, and of a local file its last part: the rest says where it lay, not what it is."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _spans(numbers: Sequence[int]) -> str:
    """Returns whole numbers as spans: 0 to 3, 8."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in spans)
