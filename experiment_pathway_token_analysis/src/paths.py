"""The one owner of every file name of the pathway analysis; all lie under `{data-dir}/pathway/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.config import Config


def pathway_root(config: Config) -> Path:
    """Returns the pathway directory of a configuration."""
    return Path(config.data_dir) / "pathway"


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
    def features(self) -> Path:
        """Step 0's tested features, one row each."""
        return self.audit.with_name("features.parquet")

    @property
    def trials(self) -> Path:
        """Step 0's trials, each once, sorted by feature."""
        return self.audit.with_name("trials.parquet")

    @property
    def audit_timings(self) -> Path:
        """How long the audit took and how much memory; another file, so that the report's bytes repeat."""
        return self.audit.with_name("timings.json")

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
    def token_effects(self) -> Path:
        """Every token that step 4 tested, also those that it does not keep."""
        return self.results / "tokens" / "token_effects.parquet"

    @property
    def token_timings(self) -> Path:
        """How long step 4 took."""
        return self.results / "tokens" / "timings.json"

    @property
    def integrated(self) -> Path:
        """Step 5's directory: `integrated.json`, tables, summary, plots."""
        return self.results / "integrated"

    @property
    def producer(self) -> Path:
        """What make_patching_study.py has finished so far, and its record; laid out as a phase's."""
        return self.root / "producer"

    @property
    def locks(self) -> Path:
        """The lock of whoever runs steps here."""
        return self.root / "locks"

    @property
    def logs(self) -> Path:
        """What the orchestrator said."""
        return self.root / "logs"

    def manifest(self, step: int) -> Path:
        """What a step ran on, made, and how it ended."""
        return self.root / "steps" / f"step_{step}.json"
