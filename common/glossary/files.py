"""Every file that a phase publishes, by phase."""

from __future__ import annotations

from collections.abc import Iterator

from common.glossary import findings, records, shapes, steering, tables, truth
from common.glossary.words import File, Kind, Rows, Shape, keys
from common.phases import PLOT_SUFFIXES, get_phase


def _plots(phase: str) -> Iterator[File]:
    """Yields both files of every plot that the registry names for a phase."""
    spec = get_phase(phase)
    for name in spec.plots:
        for suffix in PLOT_SUFFIXES:
            yield File(f"{name}.{suffix}", PLOTS[name])


def _pair(name: str, what: str, when: str = "") -> Iterator[File]:
    yield File(f"{name}.json", what, shapes.EXAMPLES, when=when)
    yield File(f"{name}.md", "the same for reading, as diffs", when=when)


EXCLUDED = File(
    "excluded_tasks.json",
    "problems that were given up",
    keys(
        {
            "excluded": (
                Rows(
                    keys(
                        {
                            "task_id": "int: the problem",
                            "temperature?": "float: of its sample",
                            "sample?": "int: number of its sample",
                            "condition?": "text: the way of steering",
                            "excluded_reason": "text: why",
                            "tries": "int: how often it was tried",
                        }
                    )
                ),
                "what was given up",
            ),
            "n_excluded": "int, problems: how many",
            "n_expected": "int, problems: in the split",
            "share": "float: of the split",
        }
    ),
    when="where something was given up",
)
TIMINGS = File("timings.parquet", "what took how long", tables.TIMINGS, row="a solution")
STEERED_TIMINGS = File("timings.parquet", "what took how long", tables.STEERING_TIMINGS, row="a steered solution")
INDEX = File("activations/index.parquet", "the SHA-256 of every activation file", tables.ACTIVATION_INDEX, row="a file")
ARR_0 = keys({"arr_0": "any: float32, shape (1, d_model): the residual stream at the last prompt token"})
TASK_VECTOR = File("activations/task_activations/task_<id>_layer_<n>.npz", "one vector", ARR_0)
BEST = File("best_features.json", "which features the captured layers are for", shapes.BEST_FEATURES)


def _ranking(top: Kind, scores: Shape, analysis: Shape) -> tuple[File, ...]:
    return (
        File("top_20_features.json", "the best features of either direction, in rank order", top),
        File("feature_scores.parquet", "every feature of every layer", scores, row="a feature"),
        File("sae_analysis_results.json", "the ranking with its null and its counts", analysis),
    )


def _effects(phase: str) -> tuple[File, ...]:
    results = File("steering_results.parquet", "every steered solution", tables.STEERED, row="a problem and condition")
    what = "some solutions that a direction left fixed, broken, preserved or unfixed"
    return (
        results,
        STEERED_TIMINGS,
        File("steering_effect_analysis.json", "every figure", steering.ANALYSIS),
        File(f"phase_{phase}_summary.json", "the figures that are read first", steering.SUMMARY),
        *_pair("examples/<direction>_<change>", what),
        EXCLUDED,
    )


CHOICE_RESULTS = "coefficient_results.parquet"
GRID = "every steered solution of the grid"
_FILES: dict[str, tuple[File, ...]] = {
    "0": (
        File("mbpp_difficulty_mapping_<timestamp>.parquet", "the problems", tables.PROBLEMS, row="a problem"),
        File("mbpp_difficulty_mapping_<timestamp>_summary.json", "their difficulty", findings.DIFFICULTY),
    ),
    "0.1": (
        File("<split>_mbpp.parquet", "one split: sae, hyperparams, validation", tables.PROBLEMS, row="a problem"),
        File("split_metadata.json", "sizes, and how equal the splits are", findings.SPLIT_METADATA),
    ),
    "1.0": (
        File("dataset_sae_<timestamp>.parquet", "solutions and labels", tables.DATASET, row="a problem"),
        File("dataset_sae_<timestamp>_metadata.json", "its counts", findings.DATASET_SUMMARY),
        File("activations/<label>/<id>_layer_<n>.npz", "one vector; the label is correct or incorrect", ARR_0),
        INDEX,
        File("sae_fit.json", "how well each SAE fits its site, and one block to either side", findings.SAE_FIT),
        TIMINGS,
        EXCLUDED,
    ),
    "2.2": (
        File(
            "feature_frequencies.npz",
            "how often each feature fires on ordinary text",
            keys(
                {
                    "layer_<n>": "any: float64, shape (d_sae,): share of texts on which each feature fires",
                    "n_texts": "any: int64: how many texts",
                }
            ),
        ),
    ),
    "2.5": (
        *_ranking(findings.TOP["2.5"], tables.SEPARATION_SCORES, findings.SEPARATION_ANALYSIS),
        File(
            "by_split/<split>/feature_scores.parquet",
            "the features of the layers captured on another split",
            tables.REPLICATION_SCORES,
            row="a feature",
            when="with `--split`",
        ),
        File(
            "by_split/<split>/replication.json",
            "the ranked features measured again",
            findings.REPLICATION,
            when="with `--split`",
        ),
    ),
    "2.10": _ranking(findings.TOP["2.10"], tables.WELCH_SCORES, findings.WELCH_ANALYSIS),
    "3.5": (
        File("dataset_temp_<T>.parquet", "one temperature: 0_0, 0_3, …", tables.DATASET, row="a problem and sample"),
        TASK_VECTOR,
        INDEX,
        BEST,
        TIMINGS,
        EXCLUDED,
    ),
    "3.6": (
        File("dataset_hyperparams_temp_0_0.parquet", "the greedy solutions", tables.DATASET, row="a problem"),
        TASK_VECTOR,
        INDEX,
        BEST,
        TIMINGS,
        EXCLUDED,
    ),
    "3.8": (
        File("evaluation_results.json", "every figure of detection", findings.EVALUATION),
        File("evaluation_summary.txt", "the same as tables for reading"),
        File(
            "scores.parquet",
            "every score, and those of the single-score rivals",
            tables.DETECTION_SCORES,
            row="a problem",
        ),
    ),
    "4.5": (
        File(CHOICE_RESULTS, GRID, tables.STEERED, row="a problem and condition"),
        STEERED_TIMINGS,
        File("phase_4_5_summary.json", "what every coefficient did", steering.COEFFICIENTS),
        File(
            "selected_coefficients.json",
            "the choice, with its reasons",
            steering.SELECTED,
            when="once the grid is whole",
        ),
        File(
            "steering_directions.json",
            "the choice without reasons and times: what later phases read",
            steering.DIRECTIONS,
            when="once the grid is whole",
        ),
        *_pair("coefficient_examples/<direction>_<coefficient>", "every solution under one coefficient"),
        File(
            f"final_evaluation/<choice>/{CHOICE_RESULTS}",
            "the choice on other problems",
            tables.STEERED,
            row="a problem and condition",
            when="once the grid is whole",
        ),
        File(
            f"screening/{CHOICE_RESULTS}",
            "the candidates at the middle coefficient",
            tables.STEERED,
            row="a problem and condition",
            when="with several candidates",
        ),
        EXCLUDED,
    ),
    "4.8": _effects("4_8"),
    "7.3": (
        File("dataset_instruct_temp_0_0.parquet", "the greedy solutions", tables.DATASET, row="a problem"),
        TASK_VECTOR,
        INDEX,
        BEST,
        File("sae_fit.json", "how well the base model's SAEs fit this model", findings.INSTRUCT_FIT),
        TIMINGS,
        EXCLUDED,
    ),
    "7.6": (
        *_effects("7_6"),
        File("cross_model_comparison.json", "both models side by side, and what transferred", steering.COMPARISON),
    ),
}
# What each plot of the registry shows.
PLOTS = {
    "mbpp_difficulty_mapping_<timestamp>_histogram": "problems by complexity",
    "split_difficulty": "how difficult each split is",
    "sae_fit": "variance left unexplained at each layer's site, and one block to either side",
    "separation_score_by_layer": "scores by layer, with the limits of the permutation null",
    "t_statistic_by_layer": "t by layer, with the limits of the permutation null",
    "firing_frequencies": "share of correct against share of incorrect problems on which each feature fires",
    "by_temperature": "pass rate and AUROC by temperature",
    "roc_curves": "ROC curves of both predictors among their rivals",
    "precision_recall_curves": "precision against recall, beside the share of positives",
    "f1_against_threshold": "F1 at every threshold of the hyperparameter split",
    "confusion_matrices": "counts at the threshold",
    "score_distributions": "scores by class",
    "coefficient_analysis_plots": "effects, and survival of the code, by coefficient",
    "steering_effects": "rates and net change of both directions",
    "steering_controls": "each direction among its controls",
    "steering_by_difficulty": "rates by difficulty",
    "both_models": "detection and rates of both models",
}
FILES = {phase: (*files, *_plots(phase)) for phase, files in _FILES.items()}
KNOWN_ANSWERS = File(
    "known_answers.json", "what was found against the planted truth", truth.KNOWN_ANSWERS, when="bundled model"
)
REPORT = File("report.html", "one page of everything that is complete", when="`run.py report`, `make demo`")
EXPORT = File("csv/<phase>/<table>.csv", "every table as CSV, with the same columns", when="`run.py export --csv`")
UNFINISHED = File(
    "partial.json",
    "how far an unfinished run came, and how to go on",
    keys(
        {
            "phase": "text: the phase's id",
            "expected": "int, problems: in the split",
            "done": "int, problems: done",
            "arms": "int: how many times each problem is generated",
            "span": (Rows("int"), "first and last position of the run"),
            "to_go_on": "text: the command",
        }
    ),
    when="while a run is unfinished",
)


def record_of(phase: str) -> Shape:
    """Returns the keys of a phase's `metadata.json`."""
    return Shape({**records.EVERY.fields, **records.ADDED[phase].fields})
