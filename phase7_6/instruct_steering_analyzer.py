"""Phase 7.6: the base model's directions and coefficients on the instruction-tuned sibling, and what transferred.

Phase 4.8's experiments and controls against phase 7.3's solutions; the predictors of phase 3.8 at its thresholds on
7.3's activations; both models side by side with intervals, and a plain statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from common.errors import UsageError
from common.model_location import INSTRUCT
from common.plotting import save
from common.runs.artifacts import ACTIVATION_INDEX, CROSS_MODEL_COMPARISON, STEERING_ANALYSIS
from common.runs.detection_output import (
    SelectedProblems,
    detected_features,
    detection_reports,
    predictor_fires,
    use_detection,
)
from common.runs.discovery import run_command
from common.runs.files import read_json, verified_bytes, write_json
from common.runs.metadata import OutputFile, output_file
from common.statistics.permutation import DIRECTIONS, Direction
from common.steering_comparison import compare_steering, figure_rows
from common_simplified.detection import Detection, Draws
from common_simplified.detection_splits import refuse_missing_layers
from common_simplified.generation_files import WrittenFiles
from common_simplified.steering_effects_runner import SteeringEffectsRunner
from common_simplified.steering_runner import greedy_dataset
from common_simplified.transferred_detection import compare_detection, detect_on, detected_scores
from phase7_6.plots import comparison_figure


class InstructSteeringAnalyzer(SteeringEffectsRunner):
    """Steers the instruction-tuned model as phase 4.8 steers the base model."""

    phase = "7.6"
    role = INSTRUCT

    def find_inputs(self) -> None:
        """Finds the baseline, what phases 4.5 and 4.8 chose and did, and what the predictors are read and held with."""
        baseline, selected = self.find("7.3"), self.find("4.5")
        self.refuse_other_role(baseline)
        self.use_baseline(baseline, greedy_dataset(baseline))
        self.use_selection(selected, baseline)
        self.use_rates(self.find("2.5"))
        self._built, self._hyper, self._evaluated = self.find("1.0"), self.find("3.6"), self.find("3.8")
        use_detection(self._evaluated)
        self._built.use(self._built.record["dataset"])
        self._hyper.use(greedy_dataset(self._hyper))
        for output in (self._built, self._hyper):
            output.use(ACTIVATION_INDEX)
        predictors = detected_features(detection_reports(self._evaluated))
        refuse_missing_layers(self.phase, self.config, self.profile, predictors, baseline)
        self._base = self._read_base()

    def steered_where_predicted(self) -> dict[Direction, SelectedProblems]:
        """Returns where each predictor fires on this model, at phase 3.8's thresholds."""
        if not self.config.phase4_8_selective:
            return {}
        return predictor_fires(self._evaluated, detected_scores(self.detection))

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes what phase 4.8 writes, and the comparison of both models."""
        outputs, details = super().extra_files(written)
        if not outputs:
            return outputs, details
        analysis: Mapping[str, Any] = read_json(self.paths.root / STEERING_ANALYSIS)
        comparison = self._comparison(analysis)
        name = CROSS_MODEL_COMPARISON
        outputs.append(OutputFile(name, write_json(self.paths.root / name, comparison)))
        figure = comparison_figure(figure_rows(comparison["steering"], comparison["detection"]))
        outputs += [output_file(self.paths, path.name) for path in save(figure, self.paths.root / "both_models")]
        return outputs, {**details, "statements": comparison["statements"]}

    @cached_property
    def detection(self) -> dict[Direction, Detection]:
        """The predictors on this model's activations, beside the same rivals."""
        with self.timed("detection"):
            return detect_on(
                self.baseline_output, self._evaluated, self._built, self._hyper, self.profile, self._draws()
            )

    def _draws(self) -> Draws:
        config = self.config
        return Draws(config.seed, config.phase3_8_bootstrap_draws, config.phase3_8_random_rivals)

    def _comparison(self, analysis: Mapping[str, Any]) -> dict[str, Any]:
        detection = compare_detection(self._evaluated, self.detection, self._draws())
        base, own = self._base["directions"], analysis["directions"]
        whole = bool(analysis["complete"] and self._base["complete"])
        steering = {name: compare_steering(name, base[name], own[name], whole=whole) for name in DIRECTIONS}
        found = self.baseline_output.record
        return {
            "what": "the same features, thresholds, directions and coefficients on both models, validation split",
            "models": {"base": self._base["model"]["name"], "instruct": self.setup.model.name},
            "complete": whole,
            "prompt_formats": {"base": self._base["prompt_format"], "instruct": found["prompt_format"]},
            "pass_rates": found["pass_rates"],
            "sae_fit": found["sae_fit"],
            "detection": detection,
            "steering": steering,
            "statements": [
                *(f"detection, {direction}: {entry['statement']}" for direction, entry in detection.items()),
                *(entry["statement"] for entry in steering.values()),
            ],
        }

    def _read_base(self) -> Mapping[str, Any]:
        """Reads phase 4.8's analysis; refuses one made for other features or coefficients."""
        output = self.find("4.8")
        path = output.use(STEERING_ANALYSIS)
        verified_bytes(path, output.entry(STEERING_ANALYSIS)["sha256"])
        base: Mapping[str, Any] = read_json(path)
        given = " ".join(f"{name}={feature.layer}:{feature.index}" for name, feature in self.options.features)
        cure = run_command(self.config, "4.8") + (f" --feature {given}" if given else "")
        for direction in DIRECTIONS:
            entry = base["directions"][direction]
            theirs = (entry["feature"]["layer"], entry["feature"]["index"], entry["coefficient"])
            ours = (*self.features[direction], self.coefficients[direction])
            if theirs != ours:
                raise UsageError(
                    f"phase 7.6: phase 4.8 steered along {theirs[0]}:{theirs[1]} with {theirs[2]:g} ({direction}), "
                    f"this would be {ours[0]}:{ours[1]} with {ours[2]:g}; run: {cure} --fresh"
                )
        return base
