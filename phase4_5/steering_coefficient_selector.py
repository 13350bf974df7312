"""Phase 4.5: how strongly to steer.

Every coefficient is tried on the same few problems of the hyperparameter split, stratified by complexity and label,
against phase 3.6's stored solutions, beside random directions of equal norm and a zero arm. One coefficient a
direction is suggested with its reason, or recorded as chosen by hand, and tried again on other problems.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from common.code_survival import char_similarity, length_ratio, token_similarity
from common.conditions import Condition, random_direction, target, zero
from common.errors import OtherSettingsError, UsageError
from common.logging import get_logger
from common.plotting import save
from common.runs.artifacts import (
    ACTIVATION_INDEX,
    COEFFICIENT_EXAMPLES,
    COEFFICIENT_PLOTS,
    COEFFICIENT_RESULTS,
    COEFFICIENT_SUMMARY,
    FINAL_EVALUATION,
    SELECTED_COEFFICIENTS,
    STEERING_DIRECTIONS,
)
from common.runs.best_features import best_features
from common.runs.files import write_json
from common.runs.metadata import OutputFile, output_file, read_record
from common.runs.slices import covered
from common.statistics.detection_report import difficulty_of
from common.statistics.permutation import DIRECTIONS, Direction
from common.statistics.stratified import stratified_subset
from common.steering_effects import arms_of, noise_floor
from common.steering_examples import write_examples
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_work import Arm
from common_simplified.steering_runner import SteeringRunner, greedy_dataset
from phase4_5.choice import Choice, Divergence, all_reports, by_hand, generation_divergence, suggestion
from phase4_5.final_evaluation import FinalEvaluation, directory_of
from phase4_5.plots import coefficient_analysis

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

    def find_inputs(self) -> None:
        """Finds the baseline and the steering features, and draws the problems."""
        if self.options.select and (self.options.start, self.options.end) != (None, None):
            raise UsageError("--select chooses over the whole split: leave --start and --end out")
        output = self.find("3.6")
        self.limit = self.config.phase4_5_max_new_tokens
        self.use_baseline(output, greedy_dataset(output))
        output.use(ACTIVATION_INDEX)
        self.use_features(best_features(self.find("2.5")), output)
        few, more = self.config.phase4_5_problems_per_coeff, self.config.phase4_5_final_eval_problems
        self.grid_positions = self._draw(few, "coefficient problems", [])
        self.final_positions = self._draw(more, "final evaluation problems", self.grid_positions)

    def arms(self) -> list[Arm]:
        """The zero arm and, for each direction and coefficient, the feature beside random directions."""
        conditions = [zero(self.features["correct"])]
        for direction in DIRECTIONS:
            for coefficient in self.config.phase4_5_coefficients:
                conditions += self._cell(direction, coefficient)
        return self.grouped("grid", conditions, self.grid_positions)

    def arm_settings(self) -> dict[str, Any]:
        """Returns what decides which coefficients are tried, and along what."""
        return {
            "phase4_5_coefficients": list(self.config.phase4_5_coefficients),
            "phase4_5_random_directions": self.config.phase4_5_random_directions,
            "phase4_5_problems_per_coeff": self.config.phase4_5_problems_per_coeff,
            "features": {name: f"{feature.layer}:{feature.index}" for name, feature in self.features.items()},
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
        if covered(self.state.finished_spans()) < len(self.problems):
            _log.info("phase 4.5: nothing is chosen before the whole split is done")
            return
        self.reports = self._reports(self.results_so_far(self.arms()))
        self.choices = {direction: self._choose(direction, self.reports[direction]) for direction in DIRECTIONS}
        for direction, choice in self.choices.items():
            _log.info(
                "phase 4.5: %s: coefficient %g (%s): %s", direction, choice.coefficient, choice.how, choice.rationale
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
        """Returns what a coefficient of the grid did (see `phase4_5.choice.coefficient_report`)."""
        assert self.reports is not None, "the grid has not been run"
        return self.reports[direction][self.config.phase4_5_coefficients.index(coefficient)]

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
        choices = {name: choice._asdict() for name, choice in (self.choices or {}).items()}
        details = {"choices": choices, "final_problems": len(self.final_positions)}
        if table.num_rows == 0:
            return [], details  # a slice without any of the drawn problems
        self.reports = self.reports or self._reports(table)
        floor = noise_floor(arms_of(table))
        directions = {direction: self._direction(direction, self.reports[direction]) for direction in DIRECTIONS}
        final = self._final_report()
        summary = {
            "what": "steering coefficients tried on the hyperparameter split against the stored baseline",
            "split": self.split,
            "problems": [self.problems[position].task_id for position in self.grid_positions],
            "not_drawn": self._not_drawn(),
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
        if self.final is not None:
            name = f"{self._final_directory()}/{COEFFICIENT_RESULTS}"
            outputs.append(output_file(self.paths, name, self.final.num_rows))
        return outputs, details

    @cached_property
    def _asked(self) -> dict[str, float | None]:
        return dict(self.options.select)

    def _draw(self, n: int, purpose: str, without: Sequence[int]) -> list[int]:
        """Draws positions, stratified by complexity and label, among those that may enter rates."""
        taken = set(without)
        free = [place for place in self.usable if place not in taken and not self.baseline[place].left_out(self.limit)]
        groups = difficulty_of(np.array([self.problems[place].cyclomatic_complexity for place in free], dtype=np.int64))
        labels = np.array([bool(self.baseline[place].passed) for place in free], dtype=bool)
        rows = stratified_subset(groups.tolist(), labels, n, self.config.seed, purpose)
        return [free[row] for row in rows]

    def _not_drawn(self) -> dict[str, int]:
        """Counts by reason the problems that could not be drawn."""
        return dict(Counter(why for row in self.baseline if (why := row.left_out(self.limit)) is not None))

    def _cell(self, direction: Direction, coefficient: float) -> list[Condition]:
        feature = self.features[direction]
        draws = range(self.config.phase4_5_random_directions)
        others = [random_direction(direction, feature, coefficient, draw) for draw in draws]
        return [target(direction, feature, coefficient), *others]

    def _reports(self, table: pa.Table) -> Reports:
        grid: dict[Direction, Sequence[float]] = dict.fromkeys(DIRECTIONS, self.config.phase4_5_coefficients)
        return all_reports(table, grid, {name: self.norm_ratio(name) for name in DIRECTIONS})

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
        return directory_of({name: choice.coefficient for name, choice in self.choices.items()})

    def _evaluate_choices(self) -> pa.Table:
        assert self.choices is not None
        coefficients: dict[Direction, float] = {name: item.coefficient for name, item in self.choices.items()}
        final = FinalEvaluation(self, coefficients, self.final_positions, fresh=False)
        try:
            final.execute()
        except OtherSettingsError:  # other problems, or another limit, than when this choice was last evaluated
            final = FinalEvaluation(self, coefficients, self.final_positions, fresh=True)
            final.execute()
        for stage, seconds in final.wall_seconds.items():
            self.wall_seconds[f"final {stage}"] = seconds
        return final.published()

    def _direction(self, direction: Direction, reports: list[dict[str, Any]]) -> dict[str, Any]:
        feature = self.features[direction]
        return {
            "feature": feature._asdict(),
            "residual_norm": self.residual_norms[feature.layer],
            "decoder_norm": self.vectors.norm(direction),
            "chosen": None if self.choices is None else self.choices[direction]._asdict(),
            "coefficients": reports,
        }

    def _final_report(self) -> dict[str, Any]:
        if self.choices is None or self.final is None:
            why = "the grid is not whole" if self.choices is None else "no problem is left for it"
            return {"reason": why, "n_problems": 0, "directions": {}}
        chosen: dict[Direction, Sequence[float]] = {name: [item.coefficient] for name, item in self.choices.items()}
        reports = all_reports(self.final, chosen, {name: self.norm_ratio(name) for name in DIRECTIONS})
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
                "in_residual_norms": choice.coefficient * self.norm_ratio(name),
                "chosen": choice.how,
                "rationale": choice.rationale,
                "on_other_problems": final["directions"].get(name, {}).get("effect"),
                "timestamp": moment,
            }
            for name, choice in self.choices.items()
        }
        files = {SELECTED_COEFFICIENTS: selected, STEERING_DIRECTIONS: directions}
        return [OutputFile(name, write_json(self.paths.root / name, content)) for name, content in files.items()]

    def _write_examples(self, table: pa.Table) -> list[OutputFile]:
        """Writes every steered solution of the grid, and of the final evaluation, as a diff against the baseline's."""
        written = self._examples_of(table, {name: self.config.phase4_5_coefficients for name in DIRECTIONS}, "")
        if self.final is not None and self.choices is not None:
            chosen: dict[Direction, tuple[float, ...]] = {
                name: (choice.coefficient,) for name, choice in self.choices.items()
            }
            written += self._examples_of(self.final, chosen, "_other_problems")
        return written

    def _examples_of(
        self, table: pa.Table, coefficients: dict[Direction, tuple[float, ...]], suffix: str
    ) -> list[OutputFile]:
        outputs, of_condition = [], {}
        for row in table.to_pylist():
            of_condition.setdefault(row["condition"], []).append(row)
        for direction, values in coefficients.items():
            feature = self.features[direction]
            for value in values:
                name = target(direction, feature, value).name
                shown = [_with_similarity(self.example(row)) for row in of_condition.get(name, [])]
                title = f"{direction}-preferring feature {feature.layer}:{feature.index}, coefficient {value:g}"
                note = f"all {len(shown)} problems on which this coefficient was tried"
                directory = self.paths.root / COEFFICIENT_EXAMPLES
                for path in write_examples(directory, f"{name}{suffix}", title, note, shown):
                    outputs.append(output_file(self.paths, str(path.relative_to(self.paths.root))))
        return outputs


def _with_similarity(row: dict[str, Any]) -> dict[str, Any]:
    baseline, steered = row["baseline_code"], row["generated_code"]
    if baseline is None or steered is None:
        return row
    return {
        **row,
        "token_similarity": token_similarity(baseline, steered),
        "char_similarity": char_similarity(baseline, steered),
        "length_ratio": length_ratio(steered, baseline),
    }
