"""The registry: the table of contents of the pipeline.

The command line, `plan`, `status`, the report and the documentation read the phases from here. Adding a phase is adding
one entry and one directory. Phase ids are text: "2.10" is not "2.1".
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from common.errors import UsageError, suggest

PLOT_SUFFIXES = ("png", "svg")


@dataclass(frozen=True)
class PhaseSpec:
    """One phase: what it is called, what runs it, what it reads and writes.

    `reads` are phase ids that must be complete, `optional_reads` are used where they are there. `plots` are named
    without suffix: each is written as PNG and as SVG. `sliceable` phases work problem by problem on `split` and take
    `--start/--end`; `splits` are what `--split` accepts; `takes_features` and `takes_selection` say whether `--feature`
    and `--select` mean something. `needs` is "cpu" or "model"; `model_field` is the setting that `--model` means;
    `words` are those that run it after `run.py`.
    """

    id: str
    name: str
    runner: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    needs: str
    optional_reads: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    split: str | None = None
    sliceable: bool = False
    splits: tuple[str, ...] = ()
    takes_features: bool = False
    takes_selection: bool = False
    model_field: str = "model_name"
    command: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Everything that it writes under a name of its own: `writes`, and both files of every plot."""
        return (*self.writes, *(f"{name}.{suffix}" for name in self.plots for suffix in PLOT_SUFFIXES))

    @property
    def words(self) -> tuple[str, ...]:
        """The command that runs it."""
        return self.command or ("phase", self.id)

    def runner_class(self) -> Any:
        """Imports and returns the runner's class (this is where torch comes in, for phases that need it)."""
        module, _, name = self.runner.partition(":")
        return getattr(importlib.import_module(module), name)


PHASES: tuple[PhaseSpec, ...] = (
    PhaseSpec(
        id="0",
        name="difficulty analysis",
        runner="phase0.difficulty_analyzer:DifficultyAnalyzer",
        reads=(),
        writes=("mbpp_difficulty_mapping_<timestamp>.parquet", "mbpp_difficulty_mapping_<timestamp>_summary.json"),
        plots=("mbpp_difficulty_mapping_<timestamp>_histogram",),
        needs="cpu",
    ),
    PhaseSpec(
        id="0.1",
        name="problem splitting",
        runner="phase0_1.problem_splitter:ProblemSplitter",
        reads=("0",),
        writes=("sae_mbpp.parquet", "hyperparams_mbpp.parquet", "validation_mbpp.parquet", "split_metadata.json"),
        plots=("split_difficulty",),
        needs="cpu",
    ),
    PhaseSpec(
        id="1.0",
        name="dataset building",
        runner="phase1_0.dataset_builder:DatasetBuilder",
        reads=("0.1",),
        writes=("dataset_sae_<timestamp>.parquet", "activations/", "sae_fit.json"),
        plots=("sae_fit",),
        needs="model",
        split="sae",
        sliceable=True,
    ),
    PhaseSpec(
        id="2.2",
        name="general-text frequencies",
        runner="phase2_2.general_text_runner:GeneralTextRunner",
        reads=(),
        writes=("feature_frequencies.npz",),
        needs="model",
        sliceable=True,
    ),
    PhaseSpec(
        id="2.5",
        name="separation-score features",
        splits=("sae", "hyperparams", "validation"),
        runner="phase2_5.separation_analyzer:SeparationAnalyzer",
        reads=("1.0",),
        optional_reads=("2.2",),
        writes=("top_20_features.json", "feature_scores.parquet", "sae_analysis_results.json"),
        plots=("separation_score_by_layer", "firing_frequencies"),
        needs="cpu",
    ),
    PhaseSpec(
        id="2.10",
        name="t-statistic features",
        runner="phase2_10.t_statistic_selector:TStatisticSelector",
        reads=("1.0",),
        optional_reads=("2.2",),
        writes=("top_20_features.json", "feature_scores.parquet", "sae_analysis_results.json"),
        plots=("t_statistic_by_layer", "firing_frequencies"),
        needs="cpu",
    ),
    PhaseSpec(
        id="3.5",
        name="temperature robustness",
        runner="phase3_5.temperature_runner:TemperatureRobustnessRunner",
        reads=("0.1", "2.5"),
        optional_reads=("2.10",),
        writes=("dataset_temp_<T>.parquet", "activations/task_activations/"),
        plots=("by_temperature",),
        needs="model",
        split="validation",
        sliceable=True,
    ),
    PhaseSpec(
        id="3.6",
        name="hyperparameter split",
        runner="phase3_6.hyperparameter_runner:HyperparameterDataRunner",
        reads=("0.1", "3.5"),
        writes=("dataset_hyperparams_temp_0_0.parquet", "activations/task_activations/"),
        needs="model",
        split="hyperparams",
        sliceable=True,
    ),
    PhaseSpec(
        id="3.8",
        name="AUROC and F1",
        runner="phase3_8.auroc_f1_evaluator:AurocF1Evaluator",
        reads=("1.0", "3.5", "3.6"),
        writes=("evaluation_results.json", "evaluation_summary.txt", "scores.parquet"),
        plots=(
            "roc_curves",
            "precision_recall_curves",
            "f1_against_threshold",
            "confusion_matrices",
            "score_distributions",
        ),
        takes_features=True,
        needs="cpu",
    ),
    PhaseSpec(
        id="4.5",
        name="steering coefficients",
        runner="phase4_5.steering_coefficient_selector:SteeringCoefficientSelector",
        reads=("0.1", "2.5", "3.6"),
        writes=("selected_coefficients.json", "phase_4_5_summary.json", "coefficient_examples/"),
        plots=("coefficient_analysis_plots",),
        needs="model",
        split="hyperparams",
        sliceable=True,
        takes_features=True,
        takes_selection=True,
    ),
    PhaseSpec(
        id="4.8",
        name="steering effects",
        runner="phase4_8.steering_effect_analyzer:SteeringEffectAnalyzer",
        reads=("0.1", "2.5", "3.5", "4.5"),
        optional_reads=("3.8",),
        writes=("steering_results.parquet", "steering_effect_analysis.json", "phase_4_8_summary.json", "examples/"),
        plots=("steering_effects", "steering_controls", "steering_by_difficulty"),
        needs="model",
        split="validation",
        sliceable=True,
        takes_features=True,
    ),
    PhaseSpec(
        id="7.3",
        name="instruction-tuned baseline",
        runner="phase7_3.instruct_baseline_runner:InstructBaselineRunner",
        reads=("0.1", "2.5"),
        optional_reads=("2.10", "3.5"),
        writes=("dataset_instruct_temp_0_0.parquet", "activations/task_activations/", "sae_fit.json"),
        plots=("sae_fit",),
        needs="model",
        split="validation",
        sliceable=True,
        model_field="phase7_3_model_name",
    ),
    PhaseSpec(
        id="7.6",
        name="instruction-tuned steering",
        runner="phase7_6.instruct_steering_analyzer:InstructSteeringAnalyzer",
        reads=("0.1", "1.0", "2.5", "3.6", "3.8", "4.5", "4.8", "7.3"),
        writes=("steering_results.parquet", "phase_7_6_summary.json", "cross_model_comparison.json", "examples/"),
        plots=("steering_effects", "steering_controls", "steering_by_difficulty", "both_models"),
        needs="model",
        split="validation",
        sliceable=True,
        takes_features=True,
        model_field="phase7_3_model_name",
    ),
)

# No phase: step 3 of the pathway analysis, which the launcher of several workers cuts into slices as it does phases.
PATHWAY = PhaseSpec(
    id="pathway",
    name="pathway discovery",
    runner="experiment_pathway_token_analysis.src.step3_pathway_discovery:Discovery",
    reads=(),
    writes=("validated_pathways.json",),
    needs="model",
    sliceable=True,
    command=("pathway", "--from", "3", "--to", "3"),
)

OLDER_NUMBERS = {"1": "1.0", "1.2": "3.5", "2": "2.5", "3": "3.8"}


def phase_ids() -> list[str]:
    """Returns the ids of all phases in dependency order."""
    return [spec.id for spec in PHASES]


def get_phase(name: str) -> PhaseSpec:
    """Returns the phase with id `name`; older numbers are understood; an unknown one raises `UsageError`."""
    wanted = OLDER_NUMBERS.get(name, name)
    for spec in PHASES:
        if spec.id == wanted:
            return spec
    known = ", ".join(phase_ids())
    raise UsageError(f"phase {name!r} is unknown (phases: {known}){suggest(name, phase_ids())}")
