"""Step 0's reading of the checkpoints: every result of every file, one record a feature at the end.

Checkpoints are cumulative: each file repeats what those before it held. A record is therefore one of (run, layer, id),
and the newest complete one counts. Where runs tested the same feature, the newest run counts.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from experiment_pathway_token_analysis.src.findings import Findings
from experiment_pathway_token_analysis.src.json_stream import JsonFault, JsonStream
from experiment_pathway_token_analysis.src.schema import Fault, FeatureRecord, Vocabulary
from experiment_pathway_token_analysis.src.trial_table import MAX_LISTED

_TIMES = ("%Y%m%d_%H%M%S", "%Y-%m-%d_%H-%M-%S", "%Y%m%d%H%M%S")
_SEQUENCE = re.compile(r"[_-](?:\d{8}[_-]\d{6}|\d{8}T\d{6}Z?|\d{3,})$")
FEATURES = pa.schema(
    [
        ("feature", pa.string()),
        ("layer", pa.int32()),
        ("feature_id", pa.int32()),
        ("cohen_d", pa.float64()),
        ("is_causal", pa.bool_()),
        ("mean_a", pa.float64()),
        ("mean_b", pa.float64()),
        ("class", pa.string()),
        ("run", pa.string()),
        ("generation", pa.int8()),
    ]
)


class Stamp(NamedTuple):
    """When a file was written, so that a later one is greater; the name decides between equal times."""

    seconds: float
    features_tested: int
    file: str


class Held(NamedTuple):
    """A record with the file it came from."""

    record: FeatureRecord
    stamp: Stamp
    run: str


@dataclass
class Checkpoints:
    """Everything that the checkpoints hold: the newest record of each run and feature, and what was counted."""

    held: dict[tuple[str, int, int], Held] = field(default_factory=dict)
    records: int = 0
    repeated: int = 0
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    n_conflicts: int = 0
    hashes: dict[str, str] = field(default_factory=dict)

    def features(self, findings: Findings) -> list[Held]:
        """Returns one record a feature, by layer and id: the newest run's; notes where runs disagree."""
        newest: dict[tuple[int, int], Held] = {}
        for (_, layer, feature_id), held in self.held.items():
            other = newest.get((layer, feature_id))
            if other is not None and other.record.is_causal != held.record.is_causal:
                findings.add("runs_disagree", None, None, f"{held.record.feature}: runs {other.run} and {held.run}")
            if other is None or held.stamp > other.stamp:
                newest[layer, feature_id] = held
        return [newest[place] for place in sorted(newest)]


def read_checkpoint(
    stream: JsonStream, name: str, vocabulary: Vocabulary, found: Checkpoints, findings: Findings
) -> None:
    """Adds one checkpoint file's results to `found`, and what is wrong with it to `findings`."""
    records: list[FeatureRecord] = []
    try:
        for number, raw in enumerate(stream.items("results")):
            found.records += 1
            record = vocabulary.result(raw)
            if isinstance(record, Fault):
                findings.add(record.code, name, number, record.detail)
            else:
                records.append(record)
    except JsonFault as fault:
        findings.add(fault.code, name, None, fault.detail)
    if _is_copy(stream.sha256, name, found.hashes):
        findings.add("duplicate_checkpoint", name, None, f"the same bytes as {found.hashes[stream.sha256]}")
    stamp = Stamp(_seconds(stream.header.get("timestamp")), _tested(stream.header, records), name)
    run = run_of(stream.header, Path(name).stem)
    for record in records:
        _hold(found, Held(record, stamp, run), findings)


def features_table(features: list[Held]) -> pa.Table:
    """Returns the features as the table that step 1 reads (FEATURES)."""
    records = [held.record for held in features]
    columns: dict[str, list[Any]] = {
        name: [getattr(record, "prompt_class" if name == "class" else name) for record in records]
        for name in FEATURES.names
        if name != "run"
    }
    columns["run"] = [held.run for held in features]
    return pa.table({name: columns[name] for name in FEATURES.names}, schema=FEATURES)


def note_impossible(
    features: list[Held], vocabulary: Vocabulary, d_model: int, findings: Findings
) -> dict[str, float | int | None]:
    """Notes what no SAE's feature can be, and returns the shares: ids below d_model, negative means, generations.

    Ids below d_model are suspicious only together: where nearly all of at least 20 are, and the dictionary is wider.
    """
    negative = told = 0
    for held in features:
        means = [value for value in (held.record.mean_a, held.record.mean_b) if value is not None]
        told += bool(means)
        if any(value < 0 for value in means):
            negative += 1
            findings.add("negative_means", held.stamp.file, None, f"{held.record.feature}: {min(means):.4g}")
        if held.record.cohen_d is None:
            findings.add("non_finite_cohen_d", held.stamp.file, None, held.record.feature)
    below = sum(held.record.feature_id < d_model for held in features)
    if len(features) >= 20 and below > 0.9 * len(features) and vocabulary.width > d_model:
        share = (
            f"{below} of {len(features)} ids are below {d_model}; {d_model / vocabulary.width:.0%} would be by chance"
        )
        findings.add("ids_below_d_model", None, None, share)
    generations = Counter(held.record.generation for held in features)
    return {
        "features": len(features),
        "ids_below_d_model": below,
        "ids_below_d_model_share": below / len(features) if features else None,
        "ids_below_d_model_expected": min(1.0, d_model / vocabulary.width),
        "largest_id": max((held.record.feature_id for held in features), default=None),
        "features_with_means": told,
        "features_with_negative_means": negative,
        "features_of_generation_1": generations[1],
        "features_of_generation_2": generations[2],
    }


def run_of(header: dict[str, Any], stem: str) -> str:
    """Returns which run wrote a file: what it says itself, or its name without time, sequence and `_final`."""
    if "run" in header:
        return str(header["run"])
    stated = [f"{key} {header[key]}" for key in ("gpu_id", "process_id") if header.get(key) is not None]
    if stated:
        layers = header.get("layer_range")
        return ", ".join([*stated, *([f"layers {layers}"] if layers is not None else [])])
    stem = re.sub(r"[_-](?:final|partial|checkpoint)$", "", stem)
    return _SEQUENCE.sub("", stem) or stem


def _is_copy(digest: str, name: str, seen: dict[str, str]) -> bool:
    return seen.setdefault(digest, name) != name


def _hold(found: Checkpoints, new: Held, findings: Findings) -> None:
    key = (new.run, new.record.layer, new.record.feature_id)
    old = found.held.get(key)
    if old is None:
        found.held[key] = new
        return
    found.repeated += 1
    if old.record != new.record:
        found.n_conflicts += 1
        files = sorted((old.stamp.file, new.stamp.file))
        findings.add("conflicting_records", new.stamp.file, None, f"{new.record.feature} in run {new.run}, {files[0]}")
        if len(found.conflicts) < MAX_LISTED:
            found.conflicts.append({"feature": new.record.feature, "run": new.run, "files": files})
    if new.stamp > old.stamp:
        found.held[key] = new


def _tested(header: dict[str, Any], records: list[FeatureRecord]) -> int:
    tested = header.get("features_tested")
    return tested if isinstance(tested, int) else len(records)


def _seconds(stamp: Any) -> float:
    """A checkpoint's time in seconds; 0 where it tells none that can be read."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp)
    if not isinstance(stamp, str):
        return 0.0
    for read in (datetime.fromisoformat, *(lambda text, form=form: datetime.strptime(text, form) for form in _TIMES)):
        try:
            when = read(stamp)
        except ValueError:
            continue
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return 0.0
