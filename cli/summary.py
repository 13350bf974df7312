"""The table that closes a pipeline run: what was found, with n and intervals, and where to look."""

from __future__ import annotations

from common.config import Config
from common.runs.artifacts import KNOWN_ANSWERS
from common.text_table import text_table
from report.findings import findings
from report.run import Run

PLACES = {
    "0": "difficulty of every problem, with a histogram",
    "1.0": "prompts, solutions, labels, activations, SAE fit",
    "2.5": "top_20_features.json, feature_scores.parquet and plots",
    "3.5": "solutions at every temperature, with a plot",
    "3.8": "evaluation_summary.txt, ROC and threshold curves",
    "4.5": "what each coefficient did, with diffs of every solution",
    "4.8": "steering against its controls, with examples and plots",
    "7.3": "the instruction-tuned model's solutions and activations",
    "7.6": "steering it, and cross_model_comparison.json with a plot",
}


def summary(config: Config) -> str:
    """Returns the closing table of whatever phases are published."""
    run = Run(config)
    rows = [line for finding in findings(run) for line in finding.lines()]
    where = ["", "Where to look", *(f"  {line}" for line in _places(run))]
    return "\n".join(["", text_table(rows, ("what", "found", "of / how sure")), *where])


def _places(run: Run) -> list[str]:
    lines = [f"{run.root(phase)}/  {text}" for phase, text in PLACES.items() if run.record(phase) is not None]
    known = run.data_dir / KNOWN_ANSWERS
    return [*lines, *([f"{known}  the findings against the planted truth"] if known.is_file() else [])]
