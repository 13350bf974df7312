"""The one owner of every file name of the pathway analysis; all lie under `{data-dir}/pathway/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PathwayPaths:
    """The places inside the pathway directory."""

    root: Path

    @property
    def study(self) -> Path:
        """What make_patching_study.py writes: `analysis/` and `response_logs/`."""
        return self.root / "study"

    @property
    def causal_features(self) -> Path:
        """Step 1's features."""
        return self.root / "data" / "causal_features.json"

    @property
    def prompts(self) -> Path:
        """The prompts of steps 2 and 3, by the producer or the user."""
        return self.root / "data" / "prompts_sample.json"

    @property
    def results(self) -> Path:
        """Everything that the steps find."""
        return self.root / "results"

    @property
    def audit(self) -> Path:
        """Step 0's report."""
        return self.results / "audit" / "data_validation.json"

    @property
    def prototype(self) -> Path:
        """Step 2's one feature."""
        return self.results / "prototype" / "single_feature_test.json"

    @property
    def pathways(self) -> Path:
        """Step 3's directory: it is laid out as a phase's (`slices/`, `locks/`, `logs/`, `segments/`)."""
        return self.results / "pathways"

    @property
    def validated(self) -> Path:
        """Step 3's edges, targets and chains."""
        return self.pathways / "validated_pathways.json"

    @property
    def tokens(self) -> Path:
        """Step 4's associations."""
        return self.results / "tokens" / "token_associations.json"

    @property
    def integrated(self) -> Path:
        """Step 5's directory: `integrated.json`, tables, summary, plots."""
        return self.results / "integrated"

    def manifest(self, step: int) -> Path:
        """What a step ran on, made, and how it ended."""
        return self.root / "steps" / f"step_{step}.json"
