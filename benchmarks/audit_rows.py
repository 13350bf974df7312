"""The audit of a patching study of the expected size (P12): 358 checkpoints, 199 logs, 1.8 million trials.

The study is made by the project's own generator in a temporary directory (0.8 GB) and read in a fresh process, whose
peak memory is the audit's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import Row
from cli.console import say
from common.config import Config
from common.errors import PipelineError
from common.profiles import REPOSITORY, load_profile
from common.runs.files import read_json
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import load_settings
from experiment_pathway_token_analysis.src.step0_data_audit import run_step
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.synthetic_study import FULL, write_study

PROFILE = "llama-3.1-8b"
MEMORY_GOAL_GB = 1.0
SECONDS_GOAL = 120.0


def audit_rows() -> list[Row]:
    """Returns row P12 twice: the audit's peak memory, and its seconds."""
    with tempfile.TemporaryDirectory() as directory:
        run = _run(Path(directory))
        write_study(run.study_root, run.settings.study, FULL, width=run.profile.sae.width)
        command = [sys.executable, "-m", "benchmarks.audit_rows", directory]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise PipelineError("the synthetic study could not be audited; mend what the lines above name")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return rows_of(found)


def rows_of(found: dict[str, Any]) -> list[Row]:
    """Returns the rows of what one audit took."""
    memory, took = found["peak_memory_gb"], found["seconds"]
    what = f"audit of {FULL.checkpoints} checkpoints, {FULL.logs} logs, {found['trials']:,} trials"
    return [
        Row("P12", f"{what}: peak memory", memory, "GB", f"< {MEMORY_GOAL_GB:g} GB", memory < MEMORY_GOAL_GB, found),
        Row("P12", what, took, "s", f"≤ {SECONDS_GOAL:g} s", took <= SECONDS_GOAL, found),
    ]


def measure(directory: Path) -> dict[str, Any]:
    """Audits the study below `directory` in this process, and returns its timings and how many trials it found."""
    run = _run(directory)
    result = run_step(run)
    if not result.passed:
        raise PipelineError(f"the synthetic study did not pass its audit: {result.message}")
    return {**read_json(run.paths.audit_timings), "trials": read_json(run.paths.audit)["total_trials"]}


def _run(directory: Path) -> Run:
    return Run(Config(), load_profile(PROFILE), load_settings(PROFILE), PathwayPaths(directory))


def _main(directory: str) -> int:
    try:
        say(json.dumps(measure(Path(directory))))
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
