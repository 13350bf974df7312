"""Phase 4.5: how strongly to steer.

Every coefficient is tried on the same few problems of the hyperparameter split, stratified by complexity and label,
against phase 3.6's stored solutions, beside random directions of equal norm and a zero arm. One coefficient a
direction is suggested with its reason, or recorded as chosen by hand, and tried again on other problems.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.conditions import Condition, random_direction, target, zero
from common.errors import UsageError
from common.logging import get_logger
from common.plotting import save
from common.runs.artifacts import (
    ACTIVATION_INDEX,
    COEFFICIENT_EXAMPLES,
    COEFFICIENT_PLOTS,
    COEFFICIENT_RESULTS,
    COEFFICIENT_SUMMARY,
    FINAL_EVALUATION,
    SCREENING,
    SELECTED_COEFFICIENTS,
    STEERING_DIRECTIONS,
)
from common.runs.best_features import top_features
from common.runs.features import Feature
from common.runs.files import read_json, write_json
from common.runs.metadata import OutputFile, output_file, read_record
from common.runs.slices import covered
from common.statistics.permutation import DIRECTIONS, Direction
from common.steering_effects import arms_of, noise_floor
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_work import Arm
from common_simplified.steering_runner import SteeringRunner, greedy_dataset
from phase4_5.choice import (
    Choice,
    Divergence,
    all_reports,
    by_hand,
    generation_divergence,
    screened_feature,
    suggestion,
)
from phase4_5.examples import write_coefficient_examples
from phase4_5.plots import coefficient_analysis
from phase4_5.side_run import SideRun, final_directory, run_beside, stands_beside

_log = get_logger(__name__)
Reports = dict[Direction, list[dict[str, Any]]]


class SteeringCoefficientSelector(SteeringRunner):
    """Tries every coefficient, suggests one a direction, and evaluates the chosen ones on other problems."""

    phase = "4.5"
    split = "hyperparams"
    purpose = "choosing"
    results_name = COEFFICIENT_RESULTS
    choices: dict[Direction, Choice] | None = None
    final: pa.Table | None = None
    reports: Reports | None = None
    screening: pa.Table | None = None
    screened: Reports | None = None

    def find_inputs(self) -> None:
        """Finds the baseline and the steering features, and draws the problems."""
        if self.options.select and (self.options.start, self.options.end) != (None, None):
            raise UsageError("--select chooses over the whole split: leave --start and --end out")
        output = self.find("3.6")
        self.limit = self.config.phase4_5_max_new_tokens
        self.use_baseline(output, greedy_dataset(output))
        output.use(ACTIVATION_INDEX)
        given = dict(self.options.features)
        best = top_features(self.find("2.5"), self.config.phase4_5_candidates)
        self.candidates: dict[Direction, list[Feature]] = {
            name: [given[name]] if name in given else best[name] for name in DIRECTIONS
        }
        self.features = {name: items[0] for name, items in self.candidates.items()}
        self.refuse_unknown_features(output)
        few, more = self.config.phase4_5_problems_per_coeff, self.config.phase4_5_final_eval_problems
        self.grid_positions = self.drawn(few, "coefficient problems")
        self.final_positions = self.drawn(more, "final evaluation problems", self.grid_positions)
        if not self.grid_positions:
            raise UsageError(
                "phase 4.5: no problem can be drawn: every baseline solution is longer than phase4_5_max_new_tokens = "
                f"{self.limit} (raise it, or run phase 3.6 again)"
            )

    def steered_features(self) -> list[Feature]:
        """Returns every candidate of either direction."""
        return list(dict.fromkeys(feature for items in self.candidates.values() for feature in items))

    def decide_arms(self) -> bool:
        """Chooses a feature a direction where several are tried; only opened, where that has been done before."""
        if not any(len(items) > 1 for items in self.candidates.values()):
            return True
        conditions = self._screened_conditions()
        fresh = self.options.fresh
        if self.options.open and not stands_beside(self, SCREENING, conditions, self.grid_positions, fresh=fresh):
            return False
        self._screen(conditions)
        return True

    def set_aside(self, *, besides: Collection[Path] = ()) -> None:
        """Moves what stands in the directory aside, but for the screening, which has put itself aside."""
        super().set_aside(besides={*besides, self.paths.root / SCREENING})

    def arms(self) -> list[Arm]:
        """The zero arm and, for each direction and coefficient, the feature beside random directions."""
        conditions = [zero(self.features["correct"])]
        for direction, feature in self.features.items():
            for coefficient in self.coefficients[feature]:
                conditions += self._cell(direction, feature, coefficient)
        return self.grouped("grid", conditions, self.grid_positions)

    @cached_property
    def coefficients(self) -> dict[Feature, tuple[float, ...]]:
        """The coefficients that are tried of each feature, in the unit of the steering itself."""
        asked = self.config.phase4_5_coefficients
        if self.config.phase4_5_coefficient_unit == "absolute":
            return dict.fromkeys(self.steered_features(), asked)
        return {
            feature: tuple(float(f"{value / self.norm_ratio(feature):.3g}") for value in asked)
            for feature in self.steered_features()
        }

    def arm_settings(self) -> dict[str, Any]:
        """Returns what decides which coefficients are tried, and along what."""
        return {
            "phase4_5_coefficients": list(self.config.phase4_5_coefficients),
            "phase4_5_coefficient_unit": self.config.phase4_5_coefficient_unit,
            "phase4_5_max_new_tokens": self.limit,
            "phase4_5_random_directions": self.config.phase4_5_random_directions,
            "phase4_5_problems_per_coeff": self.config.phase4_5_problems_per_coeff,
            "features": {
                name: ", ".join(f"{feature.layer}:{feature.index}" for feature in items)
                for name, items in self.candidates.items()
            },
        }

    def is_outdated(self) -> bool:
        """Returns whether inputs or the person's choice have changed, or the final evaluation is another."""
        record = read_record(self.paths)
        if record is None:
            return False
        other_choice = any(value != self._chosen_before(name) for name, value in self._asked.items())
        other_final = bool(record["choices"]) and record["final_problems"] != len(self.final_positions)
        return super().is_outdated() or other_choice or other_final

    def before_publishing(self) -> None:
        """Chooses and evaluates the choice, once every problem of the grid is done."""
        if covered(self.finished) < len(self.problems):
            _log.info("phase 4.5: nothing is chosen before the whole split is done")
            return
        self.reports = self._reports(self.results_so_far(self.arms()))
        self.choices = {direction: self._choose(direction, self.reports[direction]) for direction in DIRECTIONS}
        for direction, choice in self.choices.items():
            _log.info(
                "phase 4.5: %s: layer %d, feature %d, coefficient %g (%s): %s",
                *(direction, *choice.feature, choice.coefficient, choice.how, choice.rationale),
            )
        if self.final_positions:
            self.final = self._evaluate_choices()

    def publish_files(self) -> None:
        """Publishes, then removes evaluations of choices that no longer stand."""
        super().publish_files()
        current = self._final_directory() if self.choices is not None else None
        for path in sorted((self.paths.root / FINAL_EVALUATION).glob("*")):
            if current is not None and path != self.paths.root / current:
                shutil.rmtree(path)

    def evaluate_coefficient(self, direction: Direction, coefficient: float) -> dict[str, Any]:
        """Returns what a coefficient of the grid did with the direction's feature (see `choice.coefficient_report`)."""
        assert self.reports is not None, "the grid has not been run"
        (report,) = [item for item in self.reports[direction] if item["coefficient"] == coefficient]
        return report

    @staticmethod
    def calculate_flip_rate(baseline_passed: Sequence[bool], steered_passed: Sequence[bool]) -> float | None:
        """Returns the share of problems whose label differs, None without problems."""
        pairs = list(zip(baseline_passed, steered_passed, strict=True))
        return sum(one != other for one, other in pairs) / len(pairs) if pairs else None

    @staticmethod
    def calculate_generation_divergence(baseline_code: Sequence[str], steered_code: Sequence[str]) -> Divergence:
        """Returns mean similarities and the mean ratio of lengths, steered against baseline."""
        return generation_divergence(baseline_code, steered_code)

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes summary, examples, plot and, where the grid is whole, the selected coefficients."""
        table = written.datasets[COEFFICIENT_RESULTS]
        choices = {name: self._as_record(choice) for name, choice in (self.choices or {}).items()}
        details = {"choices": choices, "final_problems": len(self.final_positions)}
        if table.num_rows == 0:
            return [], details  # a slice without any of the drawn problems
        self.reports = self.reports or self._reports(table)
        floor = noise_floor(arms_of(table))
        directions = {direction: self._direction(direction) for direction in DIRECTIONS}
        final = self._final_report()
        summary = {
            "what": "steering coefficients tried on the hyperparameter split against the stored baseline",
            "split": self.split,
            "problems": [self.problems[position].task_id for position in self.grid_positions],
            "not_drawn": self.left_out(),
            "max_new_tokens": self.limit,
            "noise_floor": floor,
            "directions": directions,
            "final_evaluation": final,
        }
        outputs = [OutputFile(COEFFICIENT_SUMMARY, write_json(self.paths.root / COEFFICIENT_SUMMARY, summary))]
        outputs += self._write_examples(table)
        panels: dict[Direction, dict[str, Any]] = {
            name: {**directions[name], "noise_floor": floor} for name in DIRECTIONS
        }
        for path in save(coefficient_analysis(panels), self.paths.root / COEFFICIENT_PLOTS):
            outputs.append(output_file(self.paths, path.name))
        if self.choices is not None:
            outputs += self._write_selected(final)
        if self.screening is not None:
            outputs.append(output_file(self.paths, f"{SCREENING}/{COEFFICIENT_RESULTS}", self.screening.num_rows))
        if self.final is not None:
            name = f"{self._final_directory()}/{COEFFICIENT_RESULTS}"
            outputs.append(output_file(self.paths, name, self.final.num_rows))
        return outputs, details

    @cached_property
    def _asked(self) -> dict[str, float | None]:
        return dict(self.options.select)

    def _cell(self, direction: Direction, feature: Feature, coefficient: float) -> list[Condition]:
        draws, candidate = range(self.config.phase4_5_random_directions), feature != self.candidates[direction][0]
        others = [random_direction(direction, feature, coefficient, draw, candidate=candidate) for draw in draws]
        return [target(direction, feature, coefficient, candidate=candidate), *others]

    def _screened_conditions(self) -> list[Condition]:
        """Returns every candidate at the middle coefficient, each beside its random directions."""
        conditions = []
        for direction, features in self.candidates.items():
            for feature in features:
                tried = sorted(self.coefficients[feature], key=abs)
                conditions += self._cell(direction, feature, tried[len(tried) // 2])
        return conditions

    def _screen(self, conditions: list[Condition]) -> None:
        """Tries the candidates and takes the one that steers best."""
        fresh = self.options.fresh and not self.options.open
        side = run_beside(self, SCREENING, conditions, self.grid_positions, fresh=fresh)
        self.screening = side.published()
        self._count_seconds("screening", side)
        self.screened = all_reports(self.screening, self.norm_ratio)
        for direction in DIRECTIONS:
            choice = screened_feature(direction, self.screened[direction])
            self.features[direction] = choice.feature
            _log.info(
                "phase 4.5: %s: layer %d, feature %d of %d screened: %s",
                *(direction, *choice.feature, len(self.candidates[direction]), choice.rationale),
            )

    def _count_seconds(self, name: str, side: SideRun) -> None:
        for stage, seconds in side.wall_seconds.items():
            self.wall_seconds[f"{name} {stage}"] = seconds

    def _reports(self, table: pa.Table) -> Reports:
        return all_reports(table, self.norm_ratio)

    def _choose(self, direction: Direction, reports: Sequence[dict[str, Any]]) -> Choice:
        suggested = suggestion(direction, reports)
        coefficient = self._asked[direction] if direction in self._asked else self._chosen_before(direction)
        return suggested if coefficient is None else by_hand(coefficient, suggested, reports)

    def _chosen_before(self, direction: str) -> float | None:
        """Returns the coefficient that a person chose before, for the same feature; None where it was suggested."""
        record = read_record(self.paths)
        choice = {} if record is None else record["choices"].get(direction, {})
        if record is None or choice.get("how") != "by hand":
            return None
        now = {name: list(feature) for name, feature in self.features.items()}
        return choice["coefficient"] if record["steering_features"][direction] == now[direction] else None

    def _final_directory(self) -> str:
        assert self.choices is not None
        return final_directory({name: choice.coefficient for name, choice in self.choices.items()})

    def _evaluate_choices(self) -> pa.Table:
        assert self.choices is not None
        conditions = [zero(self.features["correct"])]
        for direction, choice in self.choices.items():
            conditions += self._cell(direction, choice.feature, choice.coefficient)
        side = run_beside(self, self._final_directory(), conditions, self.final_positions, fresh=False)
        self._count_seconds("final", side)
        return side.published()

    def _direction(self, direction: Direction) -> dict[str, Any]:
        assert self.reports is not None
        feature = self.features[direction]
        return {
            "feature": feature._asdict(),
            "residual_norm": self.residual_norms[feature.layer],
            "decoder_norm": self.vectors.norm(feature),
            "chosen": None if self.choices is None else self._as_record(self.choices[direction]),
            "coefficients": self.reports[direction],
            "candidates": [item._asdict() for item in self.candidates[direction]],
            "screening": None if self.screened is None else self.screened[direction],
        }

    def _final_report(self) -> dict[str, Any]:
        if self.choices is None or self.final is None:
            why = "the grid is not whole" if self.choices is None else "no problem is left for it"
            return {"reason": why, "n_problems": 0, "directions": {}}
        reports = all_reports(self.final, self.norm_ratio)
        for name, (report,) in reports.items():
            effect = report["effect"]
            _log.info(
                "phase 4.5: %s: coefficient %g on %d other problems: %d fixes, %d breaks (%d parse)",
                *(name, report["coefficient"], effect["n"], effect["fixes"], effect["breaks"]),
                effect["breaks_that_parse"],
            )
        return {
            "n_problems": len(self.final_positions),
            "noise_floor": noise_floor(arms_of(self.final)),
            "directions": {name: report for name, (report,) in reports.items()},
        }

    def _write_selected(self, final: dict[str, Any]) -> list[OutputFile]:
        """Writes the choice with its reasons, and, without them, what later phases depend on."""
        assert self.choices is not None
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        directions = {
            name: {
                "layer": self.features[name].layer,
                "feature_idx": self.features[name].index,
                "coefficient": choice.coefficient,
            }
            for name, choice in self.choices.items()
        }
        selected = {
            name: {
                **directions[name],
                "in_residual_norms": choice.coefficient * self.norm_ratio(choice.feature),
                "chosen": choice.how,
                "rationale": choice.rationale,
                "on_other_problems": final["directions"].get(name, {}).get("effect"),
                "timestamp": self._moment_of(name, choice) or moment,
            }
            for name, choice in self.choices.items()
        }
        files = {SELECTED_COEFFICIENTS: selected, STEERING_DIRECTIONS: directions}
        return [OutputFile(name, write_json(self.paths.root / name, content)) for name, content in files.items()]

    def _moment_of(self, direction: Direction, choice: Choice) -> str | None:
        """Returns when the same choice was made before: writing it again is not choosing again."""
        record, path = read_record(self.paths), self.paths.root / SELECTED_COEFFICIENTS
        if record is None or record["choices"].get(direction) != self._as_record(choice) or not path.is_file():
            return None
        return str(read_json(path)[direction]["timestamp"])

    @staticmethod
    def _as_record(choice: Choice) -> dict[str, Any]:
        return {**choice._asdict(), "feature": choice.feature._asdict()}

    def _write_examples(self, table: pa.Table) -> list[OutputFile]:
        """Writes every steered solution of the grid, and of the final evaluation, as a diff against the baseline's."""
        directory = self.paths.root / COEFFICIENT_EXAMPLES
        paths = write_coefficient_examples(directory, table, self.example)
        if self.final is not None:
            paths += write_coefficient_examples(directory, self.final, self.example, "_other_problems")
        return [output_file(self.paths, str(path.relative_to(self.paths.root))) for path in paths]
