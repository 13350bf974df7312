"""What the audit finds: errors and warnings by kind, every one counted, a few told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.logging import get_logger

ERROR, WARNING = "error", "warning"
_log = get_logger(__name__)


class Kind(NamedTuple):
    """A kind of finding: how grave it is, what it is, and what to do about it."""

    severity: str
    title: str
    cure: str


_COPY = "copy the file again from where it was made, or move it out of the study"
_MEND = "mend or remove the record"
KINDS: dict[str, Kind] = {
    "no_study": Kind(ERROR, "there is no study", "run make_patching_study.py or set study.directory"),
    "file_count": Kind(ERROR, "other files than expected", "complete the study or set study.expected_checkpoints and "
                       "study.expected_response_logs to what it has"),
    "unreadable_file": Kind(ERROR, "a file cannot be read", "check its permissions and the disk"),
    "not_utf8": Kind(ERROR, "a file is not UTF-8", _COPY),
    "cut_off_json": Kind(ERROR, "a file is cut off", _COPY),
    "malformed_json": Kind(ERROR, "a file is not JSON", _COPY),
    "wrong_shape": Kind(ERROR, "a file is not laid out as expected", "see the schema in docs/pathway.md"),
    "missing_field": Kind(ERROR, "a required field is missing", _MEND),
    "wrong_type": Kind(ERROR, "a field is of the wrong type", _MEND),
    "bad_feature": Kind(ERROR, "a feature's name has another form", _MEND),
    "feature_mismatch": Kind(ERROR, "a feature's name, layer and id disagree", _MEND),
    "layer_outside_model": Kind(ERROR, "a layer lies outside the model", "choose the profile of the study's model"),
    "id_outside_dictionary": Kind(ERROR, "an id lies outside the dictionary", "choose the profile of the study's SAEs"),
    "unknown_condition": Kind(ERROR, "a condition is unknown", "name it as an alias in study.conditions"),
    "empty_response": Kind(WARNING, "a response is empty", "legitimate where the model stops at once"),
    "duplicate_checkpoint": Kind(WARNING, "a checkpoint is another one's copy", "remove the copy"),
    "duplicate_log": Kind(WARNING, "a response log is another one's copy", "remove the copy"),
    "conflicting_records": Kind(WARNING, "records of one feature and run disagree", "the newest one was taken"),
    "conflicting_trials": Kind(WARNING, "two responses claim to be one trial", "the last one was taken"),
    "runs_disagree": Kind(WARNING, "runs disagree on whether a feature is causal", "the newest run was taken"),
    "low_trials": Kind(WARNING, "few trials of a feature and condition", "run more, or read its results with care"),
    "low_join_rate": Kind(WARNING, "few causal features have trials", "look for response logs that are missing"),
    "orphan_trials": Kind(WARNING, "features have trials but are in no checkpoint", "look for missing checkpoints"),
    "no_causal_features": Kind(WARNING, "no feature is causal", "a valid outcome; later steps have nothing to do"),
    "ids_below_d_model": Kind(WARNING, "nearly all ids lie below the width of the residual stream",
                              "check whether dimensions of the stream were taken for SAE features"),
    "negative_means": Kind(WARNING, "a mean activation is negative, which no ReLU-type SAE yields",
                           "check whether dimensions of the stream were taken for SAE features"),
    "non_finite_cohen_d": Kind(WARNING, "Cohen's d is not finite", "such a feature cannot be ranked and is left out"),
}  # fmt: skip
# An error under `--strict`, where other warnings stay warnings.
STRICT_ERRORS = ("empty_response",)


@dataclass
class _Group:
    count: int = 0
    files: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)


class Findings:
    """Counts findings by kind, tells the first `shown` of each on the console, and keeps those as examples."""

    def __init__(self, shown: int, strict: bool) -> None:
        self._shown, self._strict = shown, strict
        self._groups: dict[str, _Group] = {}

    def add(self, code: str, file: str | None, record: int | None, detail: str) -> None:
        """Notes one finding; `record` counts from 0 within `file`."""
        kind, group = KINDS[code], self._groups.setdefault(code, _Group())
        group.count += 1
        if file is not None:
            group.files[file] += 1
        if len(group.examples) >= self._shown:
            return
        group.examples.append({"file": file, "record": record, "detail": detail})
        where = "" if file is None else f"{file}: " if record is None else f"{file}, record {record}: "
        told = (self.severity(code), code, where, kind.title, detail, kind.cure)
        _log.warning("%s [%s] %s%s: %s; %s", *told, extra={"kind": code})

    def severity(self, code: str) -> str:
        """Returns "error" or "warning"."""
        return ERROR if self._strict and code in STRICT_ERRORS else KINDS[code].severity

    def count(self, code: str) -> int:
        """Returns how often a kind was found."""
        return self._groups[code].count if code in self._groups else 0

    def report(self, severity: str) -> list[dict[str, Any]]:
        """Returns every kind of one severity that was found, with its whole count, by files, and examples."""
        return [
            {
                "code": code,
                "severity": severity,
                "title": KINDS[code].title,
                "cure": KINDS[code].cure,
                "count": group.count,
                "files": dict(sorted(group.files.items())),
                "examples": group.examples,
            }
            for code, group in sorted(self._groups.items())
            if self.severity(code) == severity
        ]

    def tell_rest(self) -> None:
        """Says on the console how many of each kind were not told there."""
        for code, group in sorted(self._groups.items()):
            if group.count > len(group.examples):
                more = group.count - len(group.examples)
                told = (self.severity(code), code, KINDS[code].title, more)
                _log.warning("%s [%s] %s: %d more, in the report", *told, extra={"kind": f"rest of {code}"})

    def summary(self) -> str:
        """Returns kinds and counts in one line, errors first."""
        found = sorted(self._groups, key=lambda code: (self.severity(code) != ERROR, code))
        return ", ".join(f"{self._groups[code].count} {code}" for code in found) or "nothing to object to"
