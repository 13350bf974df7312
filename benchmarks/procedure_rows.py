"""The whole work of phase 3.6 on the tiny model against the reference procedure (P1), a problem.

Ours: the phase as `run.py` runs it (reading its inputs, loading the model, generating, capturing, extracting, testing,
storing, publishing), then every feature of every captured layer from what it published. The reference does the same
for a few problems, one at a time, with its model and SAEs loaded beforehand; its limit of 2,000 tokens is bounded by
the tiny model's window. Both are timed in turn in a process that has imported everything; what a fresh process takes
for ours is in the details.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import phases
from benchmarks.apart import answer, measured_apart
from benchmarks.reference.one_at_a_time import Solved, bounded_limit, solve
from benchmarks.timing import Row, paired, seconds
from common.config import Config
from common.problems import Problem
from common.profiles import REPOSITORY, load_profile
from common.prompt_utils import PromptBuilder
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.metadata import read_record
from common.runs.options import RunOptions
from common.runs.tables import problems_of
from common.statistics.selection import firing_counts
from common_simplified.feature_scores import layer_scores, task_vectors
from common_simplified.model_loader import load_model_and_tokenizer
from common_simplified.sae_loader import load_sae
from common_simplified.sites import parse_hook_name

GOAL = 20.0
REFERENCE_PROBLEMS = 3
MODULE = "benchmarks.procedure_rows"


class Found(NamedTuple):
    """What phase 3.6 and the reading of features come to; `firing` holds counts (2, features) by layer."""

    codes: dict[int, str]
    labels: dict[int, bool]
    firing: dict[int, np.ndarray]


def procedure_rows(repeats: int) -> list[Row]:
    """Returns row P1: seconds a problem of the reference procedure over those of phase 3.6."""
    with tempfile.TemporaryDirectory() as directory:
        return [row_of(measured_apart(MODULE, directory, str(repeats)))]


def row_of(found: dict[str, Any]) -> Row:
    """Returns the row of what was measured."""
    timed = paired(found["pairs"])
    fresh = timed.first / found["fresh_process_seconds_a_problem"]
    details = {
        **{"reference_seconds_a_problem": timed.first, "our_seconds_a_problem": timed.second, "fresh_process": fresh},
        **{name: value for name, value in found.items() if name != "pairs"},
    }
    what = f"the tiny model: the reference procedure / phase 3.6 and its features, {found['problems']} problems"
    reached = timed.ratio >= GOAL and found["same_programs"] == found["reference_problems"]
    return Row("P1", what, timed.ratio, "×", f"≥ {GOAL:g}×", reached, details, timed.ratios)


def measure(directory: Path, repeats: int, few: int = REFERENCE_PROBLEMS, limit: int | None = None) -> dict[str, Any]:
    """Times both in turn below `directory`; `limit` overrules the reference's token limit."""
    phases.prepare(directory, "3.5", "phase3_5_temperatures=0.0")
    config = phases.configuration(directory, "3.6", "phase3_5_temperatures=0.0")
    found = run_ours(config)
    problems = split_problems(config)
    reference = Reference(config, few_of(problems, few), directory, limit)
    pairs = []
    for _ in range(repeats):
        theirs = seconds(reference.run) / few
        pairs.append((theirs, seconds(lambda: run_ours(config)) / len(problems)))
    solved = reference.solved
    return {
        **{"pairs": pairs, "problems": len(problems), "reference_problems": few, "reference_limit": reference.limit},
        "reference_tokens": statistics.mean(item.n_tokens for item in solved.values()),
        "same_programs": sum(found.codes[task] == item.code for task, item in solved.items()),
        "same_labels": sum(found.labels[task] == item.passed for task, item in solved.items()),
        "features_that_fire": sum(len(features) for item in solved.values() for features in item.firing.values()),
        "fresh_process_seconds_a_problem": seconds(lambda: fresh_process(directory)) / len(problems),
    }


def run_ours(config: Config) -> Found:
    """Runs phase 3.6 afresh, and counts which features fire on which class in every captured layer."""
    from phase3_6.hyperparameter_runner import HyperparameterDataRunner

    runner = HyperparameterDataRunner(config, RunOptions(fresh=True))
    runner.run()
    output = published(config, "3.6")
    (name,) = output.record["datasets"].values()
    table = output.table(name)
    tasks, labels = table["task_id"].to_pylist(), table["test_passed"].to_pylist()
    profile = load_profile(config.profile)
    firing = {}
    for layer in output.record["layers"]:
        fires = layer_scores(profile, layer, task_vectors(output, tasks, layer, profile.d_model)) > 0
        counts = firing_counts(fires, np.array(labels, dtype=bool))
        firing[layer] = np.stack([counts.correct, counts.incorrect])
    codes = dict(zip(tasks, table["generated_code"].to_pylist(), strict=True))
    return Found(codes, dict(zip(tasks, labels, strict=True)), firing)


def split_problems(config: Config) -> list[Problem]:
    """Returns the problems of phase 3.6's split."""
    from common.runs.artifacts import split_file

    return problems_of(published(config, "0.1").table(split_file("hyperparams")))


def published(config: Config, phase: str) -> PhaseOutput:
    """Returns what a phase has published."""
    paths = PhasePaths(config.phase_dir(phase))
    record = read_record(paths)
    assert record is not None, f"{paths.metadata} is missing"
    return PhaseOutput(phase, paths, record)


def few_of(problems: Sequence[Problem], few: int) -> list[Problem]:
    """Returns `few` problems, spread evenly."""
    return [problems[(2 * place + 1) * len(problems) // (2 * few)] for place in range(few)]


class Reference:
    """The reference procedure on a few problems; the model and the SAEs are loaded once, outside the timed part."""

    def __init__(self, config: Config, problems: Sequence[Problem], directory: Path, limit: int | None) -> None:
        profile, record = load_profile(config.profile), published(config, "3.6").record
        self.problems = problems
        self.loaded = load_model_and_tokenizer(config.model_name, config.device if config.device != "auto" else None)
        self.points = {int(layer): parse_hook_name(name) for layer, name in record["points"].items()}
        self.saes = {layer: load_sae(profile, layer) for layer in self.points}
        prompts = [PromptBuilder().build(problem) for problem in problems]
        self.limit = bounded_limit(self.loaded, prompts) if limit is None else limit
        self.out = directory / "reference"
        self.out.mkdir()
        self.solved: dict[int, Solved] = {}

    def run(self) -> None:
        """Solves every problem."""
        for problem in self.problems:
            solved = solve(self.loaded, problem, self.saes, self.points, self.limit, self.out)
            self.solved[problem.task_id] = solved


def fresh_process(directory: Path) -> None:
    """Runs phase 3.6 afresh as its command line does, imports included."""
    words = ["phase", "3.6", "--profile", "organism", "--data-dir", str(directory), "--fresh"]
    more = phases.settings(*phases.LESS_WORK, "phase3_5_temperatures=0.0")
    subprocess.run([sys.executable, "run.py", *words, *more], cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    sys.exit(answer(lambda: measure(Path(sys.argv[1]), int(sys.argv[2]))))
