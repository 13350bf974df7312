"""What phases 4.8 and 7.6 share: both directions on every problem, beside matched controls, and what came of it.

Controls, the same for both phases: decoder directions of features of the same layer matched in firing rate and decoder
norm, and random directions of equal norm, with the target's coefficient, on all problems or on a seeded subset
stratified by complexity and label. The target's rank among them on the outcome named beforehand is its p-value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from common.conditions import Condition, random_direction, random_feature, target, zero
from common.errors import UsageError
from common.logging import get_logger
from common.plotting import save
from common.runs.artifacts import (
    ACTIVATION_INDEX,
    FEATURE_SCORES,
    SELECTED_COEFFICIENTS,
    STEERING_ANALYSIS,
    STEERING_DIRECTIONS,
    STEERING_EXAMPLES,
    STEERING_RESULTS,
    steering_summary,
)
from common.runs.detection_output import SelectedProblems
from common.runs.discovery import PhaseOutput, run_command
from common.runs.features import Feature
from common.runs.files import read_json, verified_bytes, write_json
from common.runs.metadata import Extent, OutputFile, output_file
from common.runs.slices import covered
from common.statistics.permutation import DIRECTIONS, Direction
from common.steering_effects import SteeredArm, arms_of, chosen, direction_effects, noise_floor, selective_effects
from common.steering_examples import Flip, pick, write_examples
from common.steering_plots import controls_figure, difficulty_figure, effects_figure
from common_simplified.generation_files import ArmTables, WrittenFiles
from common_simplified.generation_work import Arm
from common_simplified.steering_runner import SteeringRunner
from common_simplified.steering_vectors import ControlFeature, firing_rates, matched_control_features

CONTROL_PURPOSE = "controls"
SAME_SAES = ("saes", "points")
FAR_IN_RATE = 0.1
# What each file of examples shows: which flip, and whether the baseline passed.
EXAMPLES: dict[str, tuple[Flip, bool]] = {
    "fixed": ("fix", False),
    "broken": ("break", True),
    "preserved": ("none", True),
    "unfixed": ("none", False),
}
_log = get_logger(__name__)


class SteeringEffectsRunner(SteeringRunner):
    """Steers the validation split along both directions and their controls."""

    split = "validation"
    results_name = STEERING_RESULTS
    purpose = CONTROL_PURPOSE

    def steered_where_predicted(self) -> dict[Direction, SelectedProblems]:
        """Returns, by direction of steering, the problems on which a predictor asks for it (none by default)."""
        return {}

    def use_selection(self, selected: PhaseOutput, baseline: PhaseOutput) -> None:
        """Takes features and coefficients that phase 4.5 chose; `--feature` overrules the feature alone."""
        path = selected.use(STEERING_DIRECTIONS)
        for name in (STEERING_DIRECTIONS, SELECTED_COEFFICIENTS):  # the one is read, the other is what people read
            verified_bytes(selected.paths.root / name, selected.entry(name)["sha256"])
        chosen: dict[str, Any] = read_json(path)
        self.selection = selected
        self.limit = int(selected.record["max_new_tokens"])
        given = dict(self.options.features)
        self.features, self.coefficients = {}, {}
        for direction in DIRECTIONS:
            entry = chosen[direction]
            known = Feature(entry["layer"], entry["feature_idx"])
            self.features[direction] = given.get(direction, known)
            self.coefficients[direction] = float(entry["coefficient"])
            if self.features[direction] != known:
                now = self.features[direction]
                self.notes.append(
                    f"the {direction} coefficient {entry['coefficient']:g} was chosen for feature "
                    f"{known.layer}:{known.index}, not for {now.layer}:{now.index}"
                )
        self.refuse_unknown_features(baseline)
        baseline.use(ACTIVATION_INDEX)

    def use_rates(self, ranked: PhaseOutput) -> None:
        """Reads how often every feature fires on the sae split, for matching controls."""
        self.ranking = ranked
        self._scores = ranked.table(FEATURE_SCORES)
        self._classes = (int(ranked.record["n_correct"]), int(ranked.record["n_incorrect"]))

    def prepare(self) -> None:
        """Finds every input, and checks that those of other phases belong to this model, these SAEs and this site."""
        super().prepare()
        for output in (self.selection, self.ranking):
            self.refuse_other(output, SAME_SAES)
        for direction, items in self.controls.items():
            self._say_how_near(direction, items)

    def analysis_settings(self) -> dict[str, Any]:
        """Returns the settings that change what is made of the solutions, and nothing about them."""
        names = ("phase4_8_selective", "phase4_8_examples", "phase3_8_bootstrap_draws", "phase3_8_random_rivals")
        return {name: getattr(self.config, name) for name in names}

    def arm_settings(self) -> dict[str, Any]:
        """Returns what decides which controls there are, and what is steered with."""
        return {
            "phase4_8_controls": self.config.phase4_8_controls,
            "phase4_8_control_problems": self.config.phase4_8_control_problems,
            "directions": {
                name: f"{self.features[name].layer}:{self.features[name].index} × {self.coefficients[name]:g}"
                for name in DIRECTIONS
            },
        }

    @cached_property
    def controls(self) -> dict[Direction, list[ControlFeature]]:
        """The matched random features of each direction."""
        found = {}
        for direction, feature in self.features.items():
            rates = firing_rates(self._scores, feature.layer, *self._classes)
            wanted, targets = self.config.phase4_8_controls, self.features.values()
            found[direction] = matched_control_features(self.profile, feature, targets, rates, wanted)
        return found

    @cached_property
    def control_positions(self) -> list[int]:
        """The positions on which controls run."""
        n = self.config.phase4_8_control_problems
        if n is None:
            return self.usable
        return self.drawn(n, "control problems")

    @cached_property
    def _arms(self) -> list[Arm]:
        targets = [target(name, self.features[name], self.coefficients[name]) for name in DIRECTIONS]
        arms = self.grouped("targets", [zero(self.features["correct"]), *targets], self.usable)
        for direction in DIRECTIONS:
            feature, coefficient = self.features[direction], self.coefficients[direction]
            draws = range(self.config.phase4_8_controls)
            features: list[Condition] = [
                random_feature(direction, feature, control.index, coefficient, draw)
                for draw, control in enumerate(self.controls[direction])
            ]
            directions = [random_direction(direction, feature, coefficient, draw) for draw in draws]
            arms += self.grouped(f"{direction}_random_features", features, self.control_positions)
            arms += self.grouped(f"{direction}_random_directions", directions, self.control_positions)
        return arms

    def arms(self) -> list[Arm]:
        """The zero arm and both targets on every problem, the controls on theirs."""
        return self._arms

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes analysis, summary, examples and plots."""
        results = written.datasets[STEERING_RESULTS]
        self._headline: dict[str, Any] = {}
        if results.num_rows == 0:
            return [], {"steering": None, "steering_reason": "no problem of the positions done has a labelled baseline"}
        analysis = self.analysis(results)
        headline = self.headline(analysis)
        self._headline = {direction: headline[direction] for direction in DIRECTIONS}
        name = steering_summary(self.phase)
        outputs = [
            OutputFile(STEERING_ANALYSIS, write_json(self.paths.root / STEERING_ANALYSIS, analysis)),
            OutputFile(name, write_json(self.paths.root / name, headline)),
            *self._write_examples(results),
            *self._write_plots(analysis),
        ]
        return outputs, {"steering": headline}

    def analysis(self, results: pa.Table) -> dict[str, Any]:
        """Returns every figure of the phase, ready for JSON."""
        arms = arms_of(results)
        selected, few = self.steered_where_predicted(), self.config.phase4_8_control_problems
        return {
            "what": "steering on the validation split against the stored baseline",
            "model": {"name": self.setup.model.name, "role": self.role},
            "split": self.split,
            "n_problems": len(self.problems),
            "complete": covered(self.finished) == len(self.problems),
            "not_steered": self.left_out(),
            "prompt_format": self.baseline_output.record["prompt_format"],
            "max_new_tokens": self.limit,
            "steer_bos": self.config.steer_bos,
            "controls_per_kind": self.config.phase4_8_controls,
            "control_problems": "all" if few is None else "a seeded stratified subset",
            "noise_floor": noise_floor(arms),
            "directions": {name: self._direction(arms, name, selected.get(name)) for name in DIRECTIONS},
        }

    def headline(self, analysis: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the figures that are read first: net change, rates, rank among controls."""
        return {
            "what": analysis["what"],
            "model": analysis["model"],
            "noise_floor": _brief(analysis["noise_floor"]),
            **{
                direction: {
                    "feature": entry["feature"],
                    "coefficient": entry["coefficient"],
                    "in_residual_norms": entry["in_residual_norms"],
                    **_brief(entry["effect"]),
                    "primary_outcome": entry["primary_outcome"],
                    "outcome_on_control_problems": entry["controls"]["outcome"],
                    "n_control_problems": entry["controls"]["n_problems"],
                    "rank_among_controls": entry["controls"]["rank"],
                    "rank_kind": entry["controls"]["rank_kind"],
                }
                for direction, entry in analysis["directions"].items()
            },
        }

    def report(self, extent: Extent, tables: dict[str, ArmTables]) -> None:
        """Logs what steering did in either direction, net change first."""
        for direction, entry in self._headline.items():
            p, rank = entry["mcnemar_p"], entry["rank_among_controls"]
            among = "no controls"
            if rank["p"] is not None:
                kind = entry["rank_kind"].replace("_", " ")
                among = f"rank p {rank['p']:.3f} among {rank['n_controls']} {kind}s"
            _log.info(
                "phase %s: %s direction × %g: net %+d (%d fixes, %d breaks of %d), McNemar p %s; %s",
                *(
                    self.phase,
                    direction,
                    entry["coefficient"],
                    entry["net"],
                    entry["fixes"],
                    entry["breaks"],
                    entry["n"],
                ),
                *("not defined" if p is None else f"{p:.2g}", among),
            )
        super().report(extent, tables)

    def _direction(
        self, arms: Sequence[SteeredArm], direction: Direction, selected: SelectedProblems | None
    ) -> dict[str, Any]:
        feature = self.features[direction]
        found = direction_effects(arms, direction)
        (own,) = chosen(arms, "target", direction)
        matched = {control.index: control for control in self.controls[direction]}
        for entry in found["controls"]["random_feature"]["conditions"]:
            control = matched[entry["feature_idx"]]
            entry["firing_rate"], entry["decoder_norm"] = control.firing_rate, control.decoder_norm
        rates = firing_rates(self._scores, feature.layer, *self._classes)
        return {
            **found,
            "coefficient_chosen": self.selection.record["choices"][direction]["how"],
            "residual_norm": self.residual_norms[feature.layer],
            "decoder_norm": self.vectors.norm(feature),
            "in_residual_norms": found["coefficient"] * self.norm_ratio(feature),
            "firing_rate": float(rates[feature.index]),
            "control_firing_rates": _spread([control.firing_rate for control in self.controls[direction]]),
            "selective": None if selected is None else _selective(arms, own, direction, selected),
        }

    def _write_examples(self, results: pa.Table) -> list[OutputFile]:
        outputs, directory = [], self.paths.root / STEERING_EXAMPLES
        for direction in DIRECTIONS:
            name = target(direction, self.features[direction], self.coefficients[direction]).name
            rows = results.filter(pa.array([each == name for each in results["condition"].to_pylist()])).to_pylist()
            own = [self.example(row) for row in rows if row["left_out"] is None]
            for word, (flip, passed) in EXAMPLES.items():
                such = [row for row in pick(own, flip, len(own)) if row["baseline_passed"] == passed]
                shown = such[: self.config.phase4_8_examples]
                title = f"{word} along the {direction}-preferring direction ({name})"
                note = f"{len(shown)} of {len(such)} such problems"
                for path in write_examples(directory, f"{direction}_{word}", title, note, shown):
                    outputs.append(output_file(self.paths, str(path.relative_to(self.paths.root))))
        return outputs

    def _write_plots(self, analysis: Mapping[str, Any]) -> list[OutputFile]:
        directions, floor = analysis["directions"], analysis["noise_floor"]
        figures = {
            "steering_effects": effects_figure(directions, floor),
            "steering_controls": controls_figure(directions),
            "steering_by_difficulty": difficulty_figure(directions),
        }
        paths = [path for name, made in figures.items() for path in save(made, self.paths.root / name)]
        return [output_file(self.paths, path.name) for path in paths]

    def _say_how_near(self, direction: Direction, items: Sequence[ControlFeature]) -> None:
        """Warns where the layer holds too few features that fire about as often as the target."""
        feature = self.features[direction]
        rate = float(firing_rates(self._scores, feature.layer, *self._classes)[feature.index])
        far = [item for item in items if abs(item.firing_rate - rate) > FAR_IN_RATE]
        if far:
            rates = _spread([item.firing_rate for item in items])
            assert rates is not None
            self.notes.append(
                f"{direction} direction: its feature fires on {rate:.0%} of problems, the {len(items)} nearest of its "
                f"layer on {rates['minimum']:.0%} to {rates['maximum']:.0%}, median {rates['median']:.0%}"
            )

    def refuse_other_role(self, output: PhaseOutput) -> None:
        """Refuses a baseline made with the model of the other role."""
        role = output.record["model"]["role"]
        if role != self.role:
            raise UsageError(
                f"phase {self.phase} steers the {self.role} model, but {output.paths.root} was made with the {role} "
                f"model; run: {run_command(self.config, output.phase)} --fresh"
            )


def _selective(
    arms: Sequence[SteeredArm], target: SteeredArm, direction: Direction, selected: SelectedProblems
) -> dict[str, Any]:
    """Returns what steering only where a predictor fires did; without a threshold, why there is nothing."""
    where = {
        "steered_where": f"the {selected.predictor}-preferring predictor reaches its threshold",
        "threshold": selected.threshold,
        "threshold_split": "hyperparams",
        "n_scored": selected.n_scored,
        "reason": selected.reason,
    }
    if selected.task_ids is None:
        return where
    return {**where, **selective_effects(arms, target, direction, selected.task_ids)}


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": float(np.median(values)), "minimum": min(values), "maximum": max(values)}


def _brief(effect: Mapping[str, Any] | None) -> dict[str, Any]:
    if effect is None:
        return {}
    counts = ("n", "net", "fixes", "breaks", "breaks_that_parse", "mcnemar_p")
    return {name: effect[name] for name in (*counts, "correction", "corruption", "preservation")}
