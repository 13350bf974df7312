"""Writes a patching study in the form in which such studies are found: checkpoints, response logs, prompts.

Checkpoints are cumulative, every 50 features and once at the end; a response log holds the trials of 50 features. All
is written when every feature is finished, so that no checkpoint contradicts a later one, and no file tells a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.runs.files import finite, json_text, sha256_file, write_bytes, write_json
from experiment_pathway_token_analysis.src.contrasts import Contrast, Trial, contrast, q_values
from experiment_pathway_token_analysis.src.settings import Producer
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_candidates import Candidate
from experiment_pathway_token_analysis.src.study_problems import Chosen

EVERY = 50
Row = Mapping[str, Any]


class StudyWriter:
    """Writes the files of one finished study below `run.study_root`."""

    def __init__(self, run: Run, candidates: Sequence[Candidate], chosen: Chosen) -> None:
        self.run, self.candidates, self.chosen = run, candidates, chosen

    def write(self, rows_of: Iterable[Sequence[Row]]) -> tuple[list[Path], list[dict[str, Any]]]:
        """Writes everything; `rows_of` holds each candidate's patched rows, in order. Returns files and results."""
        contrasts: list[Contrast] = []
        excluded: list[int] = []
        files: list[Path] = []
        log: list[dict[str, Any]] = []
        for place, rows in enumerate(rows_of):
            trials = [*self._baseline_trials(place), *self._patched_trials(place, rows)]
            contrasts.append(contrast(_by_condition(trials), self.run.settings.study))
            excluded.append(sum(row["test_passed"] is None for row in rows))
            log.extend(trials)
            if (place + 1) % EVERY == 0 or place + 1 == len(self.candidates):
                files.append(self._write_log(place // EVERY, log))
                log = []
        results = self._results(contrasts, excluded)
        files += [self._write_checkpoint(number, results) for number in _checkpoint_sizes(len(results))]
        write_bytes(self.run.paths.prompts, self.prompts_bytes())
        return [*files, self.run.paths.prompts], results

    def prompts_bytes(self) -> bytes:
        """Returns what the file of prompts will hold."""
        return json_text({"schema_version": 1, "prompts": self.chosen.prompts}).encode("utf-8")

    def _baseline_trials(self, place: int) -> Iterator[dict[str, Any]]:
        for name, items in self.chosen.problems.items():
            condition = self.run.settings.study.condition(name, "baseline")
            for trial, item in enumerate(items):
                yield self._trial(place, condition, trial, item.problem.task_id, item.text, item.passed)

    def _patched_trials(self, place: int, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        for row in rows:
            if row["test_passed"] is not None:  # generation failed: no response, no trial
                yield self._trial(
                    place, row["condition"], row["trial"], row["task_id"], row["response"], row["test_passed"]
                )

    def _trial(
        self, place: int, condition: str, trial: int, task_id: int, response: str, passed: bool
    ) -> dict[str, Any]:
        return {
            "feature": self.candidates[place].name,
            "condition": condition,
            "trial": trial,
            "task_id": task_id,
            "response": response,
            "test_passed": passed,
        }

    def _write_log(self, number: int, trials: Sequence[dict[str, Any]]) -> Path:
        path = log_place(self.run, number)
        lines = ",\n".join(json.dumps(trial, ensure_ascii=True) for trial in trials)
        write_bytes(path, f"[\n{lines}\n]\n".encode("ascii"))
        return path

    def _results(self, contrasts: Sequence[Contrast], excluded: Sequence[int]) -> list[dict[str, Any]]:
        qs = q_values([found.p for found in contrasts])
        producer, (a, b) = self.run.settings.producer, self.run.settings.study.classes
        return [
            {
                "feature": candidate.name,
                "layer": candidate.layer,
                "feature_id": candidate.index,
                "cohen_d": candidate.cohen_d,
                "class": candidate.prompt_class,
                f"mean_{a}": candidate.means[a],
                f"mean_{b}": candidate.means[b],
                "is_causal": is_causal(found, q, producer),
                "rate_difference": found.rate_difference,
                f"effect_{a}": found.effects[0],
                f"effect_{b}": found.effects[1],
                "p": found.p,
                "q": q,
                "n_pairs": found.n_pairs,
                "n_excluded": left_out,
            }
            for candidate, found, q, left_out in zip(self.candidates, contrasts, qs, excluded, strict=True)
        ]

    def _write_checkpoint(self, n: int, results: Sequence[dict[str, Any]]) -> Path:
        path = checkpoint_place(self.run, n, len(results))
        layers = [item["layer"] for item in results[:n]]
        problems = {name: len(items) for name, items in self.chosen.problems.items()}
        write_json(
            path,
            finite(
                {
                    "timestamp": None,  # equal inputs give equal bytes
                    "run": f"{self.run.profile.name} seed {self.run.settings.seed}",
                    "layer_range": [min(layers), max(layers)],
                    "features_tested": n,
                    "n_trials_per_condition": problems,
                    "results": results[:n],
                }
            ),
        )
        return path


def log_place(run: Run, number: int) -> Path:
    """Returns where a response log lies; its name is one that step 0 looks for."""
    return run.study_root / run.settings.study.response_logs.replace("*", f"responses_{number:03d}")


def checkpoint_place(run: Run, n: int, of: int) -> Path:
    """Returns where the checkpoint of the first `n` of so many features lies."""
    return run.study_root / run.settings.study.checkpoints.replace("*", "final" if n == of else f"{n:06d}")


def planned_files(run: Run, candidates: Sequence[Candidate]) -> list[Path]:
    """Returns every file of a study of these features, but for the prompts."""
    n = len(candidates)
    logs = [log_place(run, number) for number in range(-(-n // EVERY))]
    return [*logs, *(checkpoint_place(run, size, n) for size in _checkpoint_sizes(n))]


def is_causal(found: Contrast, q: float | None, producer: Producer) -> bool:
    """Returns whether a contrast is one: q at most alpha, and rates that differ by enough."""
    if q is None or found.rate_difference is None:
        return False
    return q <= producer.alpha and abs(found.rate_difference) >= producer.min_rate_difference


def hashes_of(run: Run, files: Sequence[Path]) -> dict[str, str]:
    """Returns the SHA-256 of each file, by its place in the pathway directory or, outside it, in full."""
    return {named(run, path): sha256_file(path) for path in files}


def named(run: Run, path: Path) -> str:
    """Returns a path by its place in the pathway directory or, outside it, in full."""
    root = run.paths.root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _checkpoint_sizes(n: int) -> list[int]:
    return [*range(EVERY, n, EVERY), n] if n else []


def _by_condition(trials: Iterable[Row]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial["condition"], []).append((trial["task_id"], trial["test_passed"]))
    return found
