"""Step 0's reading of the response logs: every trial of every file, once in the table, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment_pathway_token_analysis.src.audit_checkpoints import run_of
from experiment_pathway_token_analysis.src.findings import Findings
from experiment_pathway_token_analysis.src.json_stream import JsonFault, JsonStream
from experiment_pathway_token_analysis.src.schema import Fault, Vocabulary
from experiment_pathway_token_analysis.src.trial_spill import TrialSpill


@dataclass
class Logs:
    """What the response logs hold beside the trials themselves."""

    records: int = 0
    usable: int = 0
    empty: int = 0
    names: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


def read_log(
    stream: JsonStream, name: str, vocabulary: Vocabulary, spill: TrialSpill, found: Logs, findings: Findings
) -> None:
    """Sends one response log's trials to `spill`, unless it is a copy, and what is wrong with it to `findings`."""
    run = _place(found.runs, run_of({}, Path(name).stem))
    number, taken = -1, spill.taken
    try:
        for number, raw in enumerate(stream.items()):
            record = vocabulary.trial(raw)
            if isinstance(record, Fault):
                findings.add(record.code, name, number, record.detail)
                continue
            found.names[raw["condition"]] += 1
            found.usable += 1
            if not record.response.strip():
                found.empty += 1
                findings.add("empty_response", name, number, f"{raw['feature']}, {raw['condition']}")
            own = raw.get("run")
            spill.add(record, run if own is None else _place(found.runs, str(own)))
    except JsonFault as fault:
        findings.add(fault.code, name, None, fault.detail)
    found.records += number + 1
    first = found.hashes.setdefault(stream.sha256, name)
    if first != name:
        spill.drop_since(taken)
        findings.add("duplicate_log", name, None, f"the same bytes as {first}")


def note_counts(
    counts: Mapping[str, list[int]], vocabulary: Vocabulary, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Notes every feature and condition with few trials, missing ones too; returns the spread of each condition."""
    least = vocabulary.study.min_trials
    for feature, of_conditions in counts.items():
        for condition, n in zip(vocabulary.conditions, of_conditions, strict=True):
            if n < least:
                findings.add("low_trials", None, None, f"{feature}, {condition}: {n}, expected {least}")
    columns = zip(vocabulary.conditions, zip(*counts.values(), strict=True), strict=False)
    return {condition: _spread(sorted(column)) for condition, column in columns}


def _spread(column: list[int]) -> dict[str, Any]:
    return {
        "trials": sum(column),
        "features": sum(n > 0 for n in column),
        "fewest": column[0],
        "median": column[len(column) // 2],
        "most": column[-1],
    }


def _place(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)
