"""Step 0: reads every record of the patching study, says what is wrong with it, and writes each record once.

Memory does not grow with the number of trials' bytes: files are streamed, trials go through temporary files to one
sorted table (trial_spill, trial_table). Report, tables and index lie in `results/audit/`; their bytes depend on the
study only. Exit code 0 passed, 1 warnings under `--strict`, 2 failed; the report has the same keys on every path.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.logging import get_logger
from common.progress import Progress
from common.runs.files import temporary_path, write_json, write_parquet
from experiment_pathway_token_analysis.src.audit_checkpoints import (
    Checkpoints,
    Held,
    features_table,
    note_impossible,
    read_checkpoint,
)
from experiment_pathway_token_analysis.src.audit_logs import Logs, note_counts, read_log
from experiment_pathway_token_analysis.src.findings import ERROR, WARNING, Findings
from experiment_pathway_token_analysis.src.json_stream import JsonStream
from experiment_pathway_token_analysis.src.schema import Vocabulary
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.src.trial_spill import TrialSpill
from experiment_pathway_token_analysis.src.trial_table import TrialWriter, WrittenTrials

PASSED, STRICT, FAILED = 0, 1, 2
_log = get_logger(__name__)


def run_step(run: Run) -> StepResult:
    """Audits the study and writes report, features and trials; never raises for what is wrong with the study."""
    return Audit(run).run()


@dataclass(frozen=True)
class StudyFiles:
    """The study's files, by name."""

    root: Path
    checkpoints: list[Path]
    logs: list[Path]

    @property
    def all(self) -> list[Path]:
        """Every file, checkpoints first."""
        return [*self.checkpoints, *self.logs]


def study_files(run: Run) -> StudyFiles:
    """Returns the checkpoints and response logs that the settings' patterns find."""
    root, study = run.study_root, run.settings.study
    found = [sorted(path for path in root.glob(pattern) if path.is_file()) for pattern in (
        study.checkpoints,
        study.response_logs,
    )]  # fmt: skip
    return StudyFiles(root, *found)


class Audit:
    """One reading of the whole study."""

    def __init__(self, run: Run) -> None:
        self._run, self._study = run, run.settings.study
        self._files = study_files(run)
        self._vocabulary = Vocabulary(self._study, run.profile.sae.width, run.profile.n_layers)
        self._findings = Findings(self._study.console_warnings, run.strict)
        self._checkpoints, self._logs = Checkpoints(), Logs()
        self._sha256: dict[str, str] = {}
        self._bytes = 0
        self._started = time.monotonic()

    def run(self) -> StepResult:
        """Reads everything, writes report and tables, and returns how it ended."""
        self._note_files()
        spilling = temporary_path(self._run.paths.audit.with_name("spill"))
        megabytes = sum(path.stat().st_size for path in self._files.all) // 1_000_000
        with TrialSpill(spilling) as spill, Progress("data audit", megabytes, unit="megabyte") as progress:
            self._read(spill, progress)
            features = self._checkpoints.features(self._findings)
            _log.info("sorting %d trials by feature", self._logs.usable)
            writer = TrialWriter(self._run.paths.trials, self._vocabulary.conditions, self._logs.runs)
            trials = writer.write(spill.sorted_parts())
        write_parquet(self._run.paths.features, features_table(features))
        report = self._report(features, trials)
        write_json(self._run.paths.audit, report)
        timings = self._timings()
        write_json(self._run.paths.audit_timings, timings)
        return self._result(report, timings)

    def _note_files(self) -> None:
        study, files = self._study, self._files
        if not files.all:
            patterns = f"{study.checkpoints} and {study.response_logs}"
            self._findings.add("no_study", None, None, f"{files.root} has neither {patterns}")
            return
        for what, expected, found in (
            ("checkpoints", study.expected_checkpoints, len(files.checkpoints)),
            ("response logs", study.expected_response_logs, len(files.logs)),
        ):
            if found != expected and (expected is not None or not found):
                wanted = "at least one" if expected is None else str(expected)
                self._findings.add("file_count", None, None, f"{found} {what}, expected {wanted}")

    def _read(self, spill: TrialSpill, progress: Progress) -> None:
        def count(n_bytes: int) -> None:
            before, self._bytes = self._bytes // 1_000_000, self._bytes + n_bytes
            progress.advance(self._bytes // 1_000_000 - before)

        for path in self._files.checkpoints:
            stream, name = JsonStream(path, count), self._named(path)
            read_checkpoint(stream, name, self._vocabulary, self._checkpoints, self._findings)
            self._sha256[name] = stream.sha256
        for path in self._files.logs:
            stream, name = JsonStream(path, count), self._named(path)
            read_log(stream, name, self._vocabulary, spill, self._logs, self._findings)
            self._sha256[name] = stream.sha256

    def _named(self, path: Path) -> str:
        return path.relative_to(self._files.root).as_posix()

    def _report(self, features: list[Held], trials: WrittenTrials) -> dict[str, Any]:
        """Builds the report; what the joined data show is noted here, so errors and warnings come last."""
        run, vocabulary = self._run, self._vocabulary
        causal = [held.record for held in features if held.record.is_causal]
        by_layer = Counter(record.layer for record in causal)
        checks = {
            "files": {
                "checkpoints": len(self._files.checkpoints),
                "expected_checkpoints": self._study.expected_checkpoints,
                "response_logs": len(self._files.logs),
                "expected_response_logs": self._study.expected_response_logs,
            },
            "checkpoint_records": self._checkpoints.records,
            "checkpoint_records_repeated": self._checkpoints.repeated,
            "checkpoint_conflicts": self._checkpoints.n_conflicts,
            "checkpoint_conflicts_listed": self._checkpoints.conflicts,
            "runs": sorted({held.run for held in self._checkpoints.held.values()}),
            **note_impossible(features, vocabulary, run.profile.d_model, self._findings),
            **self._trial_checks(trials),
            **self._join(features, causal, trials),
        }
        joinable = sum(record.feature in trials.counts for record in causal)
        errors, warnings = self._findings.report(ERROR), self._findings.report(WARNING)
        validated = not errors and not (run.strict and warnings)
        return {
            "schema_version": 1,
            "kind": self._study.kind,
            "profile": run.profile.name,
            "strict": run.strict,
            "causal_by_layer": {str(layer): by_layer[layer] for layer in sorted(by_layer)},
            "total_causal_features": len(causal),
            "total_response_features": len(trials.counts),
            "joinable_features": joinable,
            "join_rate_percent": _percent(joinable, len(causal)),
            "total_trials": trials.rows,
            "checks": checks,
            "inputs": self._sha256,
            "audit_results": {"errors": errors, "warnings": warnings, "validated": validated},
            "validated": validated,
            "exit_code": FAILED if errors else STRICT if not validated else PASSED,
        }

    def _trial_checks(self, trials: WrittenTrials) -> dict[str, Any]:
        for one in trials.conflicts_listed:
            told = f"{one['feature']}, {one['condition']}, trial {one['trial']} of run {one['run']}"
            self._findings.add("conflicting_trials", None, None, told)
        for _ in range(trials.conflicts - len(trials.conflicts_listed)):
            self._findings.add("conflicting_trials", None, None, "not listed")
        aliases = {name: n for name, n in sorted(self._logs.names.items()) if name not in self._study.conditions}
        outcomes = {
            condition: {"negative": no, "positive": yes, "not_parsed": unknown}
            for condition, (no, yes, unknown) in trials.outcomes.items()
        }
        return {
            "trial_records": self._logs.records,
            "trial_records_usable": self._logs.usable,
            "trial_records_repeated": trials.duplicates,
            "trial_conflicts": trials.conflicts,
            "trial_conflicts_listed": trials.conflicts_listed,
            "empty_responses": self._logs.empty,
            "aliases": aliases,
            "trial_runs": sorted(self._logs.runs),
            "trials_per_condition": note_counts(trials.counts, self._vocabulary, self._findings),
            "outcomes_per_condition": outcomes,
        }

    def _join(self, features: list[Held], causal: list[Any], trials: WrittenTrials) -> dict[str, Any]:
        """Compares features with trials both ways, and notes where one side lacks the other."""
        without = [record.feature for record in causal if record.feature not in trials.counts]
        tested = {held.record.feature for held in features}
        orphans = [feature for feature in trials.counts if feature not in tested]
        rate = _percent(len(causal) - len(without), len(causal))
        if rate is None:
            self._findings.add("no_causal_features", None, None, f"none of {len(features)} tested")
        elif rate < self._study.min_join_percent:
            told = f"{rate:.1f} % of {len(causal)}, expected {self._study.min_join_percent:g} %"
            self._findings.add("low_join_rate", None, None, told)
        for feature in orphans:
            self._findings.add("orphan_trials", None, None, feature)
        return {
            "causal_features_without_trials": len(without),
            "features_with_trials_in_no_checkpoint": len(orphans),
            "trial_features_join_rate_percent": _percent(len(trials.counts) - len(orphans), len(trials.counts)),
        }

    def _timings(self) -> dict[str, float]:
        seconds = max(time.monotonic() - self._started, 1e-9)
        return {
            "seconds": round(seconds, 3),
            "megabytes": round(self._bytes / 1e6, 3),
            "trials_per_second": round(self._logs.records / seconds, 1),
            "megabytes_per_second": round(self._bytes / 1e6 / seconds, 1),
            "peak_memory_gb": round(peak_memory_gb(), 3),
        }

    def _result(self, report: dict[str, Any], timings: dict[str, float]) -> StepResult:
        self._findings.tell_rest()
        speed = f"{timings['trials_per_second']:,.0f} trials and {timings['megabytes_per_second']:.0f} MB a second"
        _log.info("read in %.1f s, %s, peak memory %.2f GB", timings["seconds"], speed, timings["peak_memory_gb"])
        rate = report["join_rate_percent"]
        joined = (
            "no causal feature" if rate is None else f"{rate:.1f} % of {report['total_causal_features']} causal joined"
        )
        message = f"{report['total_trials']:,} trials, {joined}; {self._findings.summary()}"
        paths = self._run.paths
        outputs = [paths.audit, paths.features, paths.trials]
        return StepResult(report["validated"], message, self._files.all, outputs, report["exit_code"])


def peak_memory_gb() -> float:
    """Returns the largest resident memory that this process has had, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
