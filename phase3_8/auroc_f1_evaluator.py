"""Phase 3.8: how well the predictor features tell, before a line is written, whether it will be right.

The score is a feature's SAE activation at the last prompt token. Three splits do three jobs: features were chosen on
sae, thresholds are found on hyperparams, figures are reported on validation, beside trivial and simple rivals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import UsageError
from common.logging import get_logger
from common.plotting import save
from common.runs.artifacts import EVALUATION_RESULTS, EVALUATION_SUMMARY, SCORES, PhasePaths
from common.runs.best_features import BestFeatures, Feature, recorded_features
from common.runs.compatibility import refuse_other
from common.runs.discovery import PhaseOutput, phase_directory, run_command
from common.runs.files import write_bytes, write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, output_file, read_record
from common.runs.phase_runner import PhaseRunner
from common.statistics.detection import Classification, ThresholdChoice
from common.statistics.permutation import DIRECTIONS, Direction
from common_simplified.detection import Detection, Draws, detect
from common_simplified.detection_splits import read_splits, refuse_missing_layers
from common_simplified.temperature_rows import TemperatureRows, positive_rows, temperature_rows
from phase3_8 import curve_plots, plots
from phase3_8.summary_text import summary_text

_log = get_logger(__name__)


class AurocF1Evaluator(PhaseRunner):
    """Evaluates both predictor features as detectors."""

    phase = "3.8"

    def prepare(self) -> None:
        """Finds every split's rows, and checks that all were made for the same features and layers."""
        built, validation, hyper = self.find("1.0"), self.find("3.5"), self.find("3.6")
        self.features = self._features(validation)
        if hyper.record["best_layers"] != validation.record["best_layers"]:
            raise UsageError(
                "phase 3.8: phases 3.5 and 3.6 were run for different features; run: "
                f"{run_command(self.config, '3.6')} --fresh"
            )
        refuse_missing_layers(self.phase, self.config, self.profile, self.features, built, validation, hyper)
        for output in (validation, hyper):
            refuse_other(self.phase, built, output, f"{run_command(self.config, output.phase)} --fresh")
        self._warn_of_newer_predictors()
        datasets = [validation.table(name) for name in validation.record["datasets"].values()]
        self.splits = read_splits(built, hyper, validation)
        self.by_temperature: TemperatureRows = temperature_rows(datasets)

    def execute(self) -> None:
        """Evaluates both directions and writes figures, scores, plots and the record."""
        if self.options.fresh:
            self.set_aside()
        config = self.config
        draws = Draws(config.seed, config.phase3_8_bootstrap_draws, config.phase3_8_random_rivals)
        with self.timed("detection"):
            found: dict[Direction, Detection] = {
                direction: detect(
                    *(direction, feature, self.splits, self.profile, draws), by_temperature=self.by_temperature
                )
                for direction, feature in zip(DIRECTIONS, self.features, strict=True)
            }
        results = self._results(found, draws)
        scores = self._scores(found)
        text = summary_text(results)
        outputs = [
            OutputFile(EVALUATION_RESULTS, write_json(self.paths.root / EVALUATION_RESULTS, results)),
            OutputFile(EVALUATION_SUMMARY, write_bytes(self.paths.root / EVALUATION_SUMMARY, text.encode())),
            OutputFile(SCORES, write_parquet(self.paths.root / SCORES, scores), scores.num_rows),
            *self._plots(found),
        ]
        n = len(self.splits.validation.task_ids) + self.splits.validation.n_excluded
        extent = Extent(n, n, self.splits.validation.n_excluded, inputs_complete=self.inputs_complete)
        heads = {name: _headline(item) for name, item in found.items()}
        self.publish(extent, outputs, {"detection": heads, "predictors": self.features.as_record()})
        for name, item in found.items():
            _log.info("phase 3.8: %s", _in_words(name, item))

    def _features(self, validation: PhaseOutput) -> BestFeatures:
        given = dict(self.options.features)
        known, _ = recorded_features(validation)
        return BestFeatures(given.get("correct", known.correct), given.get("incorrect", known.incorrect))

    def _warn_of_newer_predictors(self) -> None:
        """Says so where phase 2.10 now ranks other features first than those that phase 3.5 was run for."""
        paths = PhasePaths(phase_directory(self.config, self.options, "2.10"))
        ranked = read_record(paths)
        now = {} if ranked is None or not ranked["complete"] else ranked["best"]
        for name in DIRECTIONS:
            best = now.get(name)
            if best is not None and (best["layer"], best["feature_idx"]) != getattr(self.features, name):
                _log.warning(
                    "phase 3.8: phase 2.10 ranks layer %d, feature %d first (%s), not the feature evaluated here",
                    *(best["layer"], best["feature_idx"], name),
                )

    def _results(self, found: dict[Direction, Detection], draws: Draws) -> dict[str, Any]:
        validation = self.splits.sources[2].record
        return {
            "what": "detection of program validity before generation, on the validation split",
            "splits": {"features": "sae", "thresholds": "hyperparams", "figures": "validation"},
            "n": {
                "sae": len(self.splits.sae.task_ids),
                "hyperparams": len(self.splits.hyperparams.task_ids),
                "validation": len(self.splits.validation.task_ids),
            },
            "predictor_note": None
            if len(self.options.features) == 2
            else self.splits.sources[2].record["predictor_note"],
            "features_given": sorted(name for name, _ in self.options.features),
            "site_given": validation["site_given"],
            "seed": draws.seed,
            "bootstrap_draws": draws.n_draws,
            "directions": {name: item.report for name, item in found.items()},
        }

    def _scores(self, found: dict[Direction, Detection]) -> pa.Table:
        parts = []
        for split, rows in (("hyperparams", self.splits.hyperparams), ("validation", self.splits.validation)):
            columns: dict[str, Any] = {
                "split": [split] * len(rows.task_ids),
                "task_id": rows.task_ids,
                "test_passed": rows.passed,
                "cyclomatic_complexity": rows.complexity,
                "n_prompt_tokens": rows.prompt_tokens.astype(np.int64),
            }
            for name, item in found.items():
                columns[f"{name}_score"] = item.hyperparams_scores if split == "hyperparams" else item.validation_scores
                for rival, scores in item.rivals.items():
                    values = scores.scores[0 if split == "hyperparams" else 1]
                    if values.shape[1] == 1:
                        columns[f"{name}_rival_{rival.replace(' ', '_')}"] = values[:, 0]
            parts.append(pa.table(columns))
        return pa.concat_tables(parts).combine_chunks()

    def _plots(self, found: dict[Direction, Detection]) -> list[OutputFile]:
        detected: dict[Direction, plots.Detected] = {name: self._drawn(name, item) for name, item in found.items()}
        chosen: dict[Direction, ThresholdChoice] = {name: item.choice for name, item in found.items()}
        at: dict[Direction, Classification | None] = {name: item.at_threshold for name, item in found.items()}
        thresholds: dict[Direction, float | None] = {name: item.choice.threshold for name, item in found.items()}
        features = plots.features_of(detected)
        figures = {
            "roc_curves": curve_plots.roc_curves(detected),
            "precision_recall_curves": curve_plots.precision_recall_curves(detected),
            "f1_against_threshold": plots.f1_against_threshold(chosen, at, features),
            "confusion_matrices": plots.confusion_matrices(at, features),
            "score_distributions": plots.score_distributions(detected, thresholds),
        }
        paths = [path for name, figure in figures.items() for path in save(figure, self.paths.root / name)]
        return [output_file(self.paths, path.name) for path in paths]

    def _drawn(self, direction: Direction, item: Detection) -> plots.Detected:
        validation = self.splits.validation
        return plots.Detected(
            feature=f"layer {item.feature.layer}, feature {item.feature.index:,}",
            scores=item.validation_scores,
            positive=positive_rows(validation.passed, direction),
            n_problems=len(np.unique(validation.task_ids)),
            auroc=item.report["validation"]["auroc"],
            average_precision=item.report["validation"]["average_precision"],
            rivals={name: rival.scores[1] for name, rival in item.rivals.items()},
        )


def _headline(item: Detection) -> dict[str, Any]:
    validation = item.report["validation"]
    return {
        "feature": item.feature._asdict(),
        "threshold": item.choice.threshold,
        "n": validation["n"],
        "auroc": validation["auroc"],
        "f1": item.at_threshold.f1 if item.at_threshold else None,
        "f1_all_positive": item.at_threshold.f1_all_positive if item.at_threshold else None,
        "balanced_accuracy": item.at_threshold.balanced_accuracy if item.at_threshold else None,
    }


def _in_words(direction: Direction, item: Detection) -> str:
    auroc, at = item.report["validation"]["auroc"], item.at_threshold
    feature: Feature = item.feature
    if auroc["value"] is None:
        ranking = f"AUROC could not be computed ({auroc['reason']})"
    elif auroc["low"] is None:
        ranking = f"AUROC {auroc['value']:.3f}"
    else:
        ranking = f"AUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]"
    f1 = "" if at is None or at.f1 is None else f", F1 {at.f1:.3f} (everything positive: {at.f1_all_positive:.3f})"
    return f"{direction}: layer {feature.layer}, feature {feature.index}: {ranking}{f1}, n = {auroc['n']}"
