"""Synthetic patching studies and runs for the tests of steps 0 and 1."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from common.config import Config
from common.profiles import Profile, load_profile
from common.runs.files import read_json
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import Settings, load_settings
from experiment_pathway_token_analysis.src.step0_data_audit import run_step
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.synthetic_study import SMALL, Plan, write_study

LLAMA, OURS = "llama-3.1-8b", "organism"


def profile_of(kind: str) -> Profile:
    """The kind's profile, with layers enough for a synthetic study."""
    profile = load_profile(kind)
    return dataclasses.replace(profile, n_layers=max(profile.n_layers, 4))


def run_in(root: Path, kind: str, *given: str, strict: bool = False) -> Run:
    """A run whose pathway directory is `root`, expecting as many files as SMALL has; `given` are settings."""
    counts = (f"study.expected_checkpoints={SMALL.checkpoints}", f"study.expected_response_logs={SMALL.logs}")
    settings: Settings = load_settings(kind, [*counts, *given])
    return Run(Config(), profile_of(kind), settings, PathwayPaths(root), strict=strict)


def study_in(root: Path, kind: str, plan: Plan = SMALL, seed: int = 42) -> dict[str, Any]:
    """Writes a synthetic study where `run_in(root, kind)` looks for it, and returns its truth."""
    run = run_in(root, kind)
    return write_study(run.study_root, run.settings.study, plan, width=run.profile.sae.width, seed=seed)


def audited(run: Run) -> tuple[StepResult, dict[str, Any]]:
    """Runs step 0 and returns its result and its report."""
    return run_step(run), read_json(run.paths.audit)


def codes(report: dict[str, Any]) -> dict[str, int]:
    """Every kind of finding in a report, with its count."""
    results = report["audit_results"]
    return {found["code"]: found["count"] for found in (*results["errors"], *results["warnings"])}
