"""The one owner of every file name.

A phase directory holds `metadata.json` (its record, written last), the files of its contract, and, while it is being
made, `segments/` (durable records), `slices/` (one record a worker), `snapshots/` (readable copies so far),
`partial.json` (an interrupted run), `locks/`, `logs/` and `superseded/` (outputs put aside by `--fresh`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SPLITS = ("sae", "hyperparams", "validation")
TIMESTAMP_FORMAT = "%Y%m%d_%H%M%S"


def timestamp(moment: datetime | None = None) -> str:
    """Returns a moment (now by default, UTC) as `YYYYmmdd_HHMMSS`; for people only, no decision rests on it."""
    return (moment or datetime.now(UTC)).strftime(TIMESTAMP_FORMAT)


@dataclass(frozen=True)
class PhasePaths:
    """The places inside one phase's directory."""

    root: Path

    @property
    def metadata(self) -> Path:
        """The record; its presence means that the files it names are whole."""
        return self.root / "metadata.json"

    @property
    def partial(self) -> Path:
        """What an interrupted run leaves: how far it came and how to go on."""
        return self.root / "partial.json"

    @property
    def excluded(self) -> Path:
        """Which problems were given up, why, and after how many tries."""
        return self.root / "excluded_tasks.json"

    @property
    def timings(self) -> Path:
        """Seconds of generation and evaluation, apart from the data so that the data are reproducible."""
        return self.root / "timings.parquet"

    @property
    def segments(self) -> Path:
        """Finished batches, one directory a stage and arm."""
        return self.root / "segments"

    @property
    def snapshots(self) -> Path:
        """Readable copies of the data set so far."""
        return self.root / "snapshots"

    @property
    def locks(self) -> Path:
        """One lock a running slice."""
        return self.root / "locks"

    @property
    def slices(self) -> Path:
        """One record a worker on a slice: how far it is, and how it ended."""
        return self.root / "slices"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    def worker_log(self, start: int, end: int) -> Path:
        """What the worker on positions `start` to `end` said."""
        return self.logs / f"worker_{start:06d}-{end:06d}.log"

    @property
    def superseded(self) -> Path:
        """Earlier outputs that `--fresh` put aside."""
        return self.root / "superseded"

    @property
    def activations(self) -> Path:
        """Captured residual-stream vectors, one npz file a problem and layer."""
        return self.root / "activations"

    @property
    def activation_index(self) -> Path:
        """SHA-256 of every activation file."""
        return self.activations / "index.parquet"

    @property
    def sae_fit(self) -> Path:
        """How well each layer's SAE reconstructs the site and its neighbours."""
        return self.root / "sae_fit.json"

    def stage(self, stage: str, arm: str) -> Path:
        """Directory of one stage's segments."""
        return self.segments / stage / arm

    def snapshot(self, sequence: int, records: int) -> Path:
        """The `sequence`-th snapshot, holding `records` records."""
        return self.snapshots / f"snapshot_{sequence:06d}_{records:06d}.parquet"


def difficulty_mapping(stamp: str) -> str:
    """Phase 0's table of problems with their complexity."""
    return f"mbpp_difficulty_mapping_{stamp}.parquet"


def difficulty_summary(stamp: str) -> str:
    """Phase 0's counts and quantiles."""
    return f"mbpp_difficulty_mapping_{stamp}_summary.json"


def difficulty_histogram(stamp: str) -> str:
    """Phase 0's histogram, without its suffix."""
    return f"mbpp_difficulty_mapping_{stamp}_histogram"


def split_file(split: str) -> str:
    """Phase 0.1's table of one split."""
    return f"{split}_mbpp.parquet"


KNOWN_ANSWERS = "known_answers.json"
REPORT = "report.html"
SPLIT_METADATA = "split_metadata.json"
SPLIT_PLOT = "split_difficulty"
SAE_FIT_PLOT = "sae_fit"
TOP_FEATURES = "top_20_features.json"
FEATURE_SCORES = "feature_scores.parquet"
SAE_ANALYSIS = "sae_analysis_results.json"
BEST_FEATURES = "best_features.json"
ACTIVATION_INDEX = "activations/index.parquet"
REPLICATION = "replication.json"
EVALUATION_RESULTS = "evaluation_results.json"
EVALUATION_SUMMARY = "evaluation_summary.txt"
SCORES = "scores.parquet"
COEFFICIENT_RESULTS = "coefficient_results.parquet"
COEFFICIENT_SUMMARY = "phase_4_5_summary.json"
COEFFICIENT_EXAMPLES = "coefficient_examples"
COEFFICIENT_PLOTS = "coefficient_analysis_plots"
SELECTED_COEFFICIENTS = "selected_coefficients.json"
STEERING_DIRECTIONS = "steering_directions.json"
FINAL_EVALUATION = "final_evaluation"
SCREENING = "screening"
STEERING_RESULTS = "steering_results.parquet"
STEERING_ANALYSIS = "steering_effect_analysis.json"
STEERING_EXAMPLES = "examples"
CROSS_MODEL_COMPARISON = "cross_model_comparison.json"
FEATURE_FREQUENCIES = "feature_frequencies.npz"


def steering_summary(phase: str) -> str:
    """Headline figures of phase 4.8 or 7.6, `phase_4_8_summary.json`."""
    return f"phase_{phase.replace('.', '_')}_summary.json"


def frequency_array(layer: int) -> str:
    """Name of a layer's array in phase 2.2's file: the share of texts on which each feature fires."""
    return f"layer_{layer}"


def temperature_name(temperature: float) -> str:
    """A temperature as it stands in file names: 0.3 is `temp_0_3`."""
    return f"temp_{float(temperature):g}".replace(".", "_") if temperature % 1 else f"temp_{int(temperature)}_0"


def temperature_dataset(temperature: float, split: str = "") -> str:
    """Data set of one temperature, `dataset_temp_0_3.parquet` or `dataset_hyperparams_temp_0_0.parquet`."""
    return f"dataset_{split + '_' if split else ''}{temperature_name(temperature)}.parquet"


def task_activation(task_id: int, layer: int) -> str:
    """Activation file of one problem and layer, relative to `activations/`."""
    return f"task_activations/task_{task_id:03d}_layer_{layer}.npz"


def dataset_file(split: str, stamp: str) -> str:
    """Phase 1.0's data set."""
    return f"dataset_{split}_{stamp}.parquet"


def dataset_metadata_file(split: str, stamp: str) -> str:
    """What phase 1.0's data set holds, beside it."""
    return f"dataset_{split}_{stamp}_metadata.json"


def labelled_activation(task_id: int, layer: int, passed: bool) -> str:
    """Phase 1.0's activation file of one problem and layer, relative to `activations/`."""
    return f"{'correct' if passed else 'incorrect'}/{task_id}_layer_{layer}.npz"
