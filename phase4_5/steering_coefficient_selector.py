"""Phase 4.5: how strongly to steer.

Every coefficient is tried on the same few problems of the hyperparameter split, stratified by complexity and label,
against phase 3.6's stored solutions, beside random directions of equal norm and a zero arm. One coefficient a
direction is suggested with its reason, or recorded as chosen by hand, and tried again on other problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from common.conditions import Condition, coefficient_name, random_direction, target, zero
from common.errors import OtherSettingsError
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
)
from common.runs.best_features import best_features
from common.runs.files import read_json, write_json
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
from phase4_5.choice import Choice, Divergence, coefficient_report, generation_divergence, suggestion
from phase4_5.final_evaluation import FinalEvaluation
from phase4_5.plots import coefficient_analysis

_log = get_logger(__name__)


class SteeringCoefficientSelector(SteeringRunner):
    """Tries every coefficient, suggests one a direction, and evaluates the chosen ones on other problems."""

    phase = "4.5"
    split = "hyperparams"
    purpose = "choosing"
    results_name = COEFFICIENT_RESULTS
    choices: dict[Direction, Choice] | None = None
    final: pa.Table | None = None

    def find_inputs(self) -> None:
        """Finds the baseline and the steering features, and draws the problems."""
        output = self.find("3.6")
        self.limit = self.config.phase4_5_max_new_tokens
        self.use_baseline(output, greedy_dataset(output))
        output.use(ACTIVATION_INDEX)
        self.use_features(best_features(self.find("2.5")), output)
        self.grid_positions = self._draw(self.config.phase4_5_problems_per_coeff, "coefficient problems", [])
        self.final_positions = self._draw(
            self.config.phase4_5_final_eval_problems, "final evaluation problems", self.grid_positions
        )

    def arms(self) -> list[Arm]:
        """The zero arm and, for each direction and coefficient, the feature beside random directions."""
        conditions = [zero(self.features["correct"])]
        for direction in DIRECTIONS:
            for coefficient in self.config.phase4_5_coefficients:
                conditions += self._cell(direction, coefficient)
        return self.grouped("grid", conditions, self.grid_positions)

    def is_outdated(self) -> bool:
        """Returns whether inputs or the person's choice have changed, or the final evaluation is another."""
        record = read_record(self.paths)
        if record is None:
            return False
        asked = {name: value for name, value in self.options.select if value != self._recorded_coefficient(name)}
        other_final = record["final_problems"] != len(self.final_positions)
        return super().is_outdated() or bool(asked) or (bool(record["choices"]) and other_final)

    def before_publishing(self) -> None:
        """Chooses and evaluates the choice, once every problem of the grid is done."""
        if covered(self.state.finished_spans()) < len(self.problems):
            _log.info("phase 4.5: nothing is chosen before the whole split is done")
            return
        self._table = self.results_so_far(self.arms())
        self.choices = {direction: self._choose(direction) for direction in DIRECTIONS}
        for direction, choice in self.choices.items():
            _log.info(
                "phase 4.5: %s: coefficient %g (%s): %s", direction, choice.coefficient, choice.how, choice.rationale
            )
        if self.final_positions:
            self.final = self._evaluate_choices({name: choice.coefficient for name, choice in self.choices.items()})

    def evaluate_coefficient(self, direction: Direction, coefficient: float) -> dict[str, Any]:
        """Returns what a coefficient of the grid did (see `phase4_5.choice.coefficient_report`)."""
        return self._report(self._table, direction, coefficient)

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
        self._table = written.datasets[COEFFICIENT_RESULTS]
        reports = {
            direction: [self.evaluate_coefficient(direction, value) for value in self.config.phase4_5_coefficients]
            for direction in DIRECTIONS
        }
        floor = noise_floor(arms_of(self._table))
        summary = {
            "what": "steering coefficients tried on the hyperparameter split against the stored baseline",
            "split": self.split,
            "problems": [self.problems[position].task_id for position in self.grid_positions],
            "max_new_tokens": self.limit,
            "noise_floor": floor,
            "directions": {direction: self._direction(direction, reports[direction]) for direction in DIRECTIONS},
            "final_evaluation": self._final_report(),
        }
        outputs = [OutputFile(COEFFICIENT_SUMMARY, write_json(self.paths.root / COEFFICIENT_SUMMARY, summary))]
        outputs += self._write_examples()
        panels: dict[Direction, dict[str, Any]] = {
            name: {**summary["directions"][name], "noise_floor": floor} for name in DIRECTIONS
        }
        for path in save(coefficient_analysis(panels), self.paths.root / COEFFICIENT_PLOTS):
            outputs.append(output_file(self.paths, path.name))
        if self.choices is not None:
            outputs.append(self._write_selected())
        if self.final is not None:
            outputs.append(output_file(self.paths, f"{FINAL_EVALUATION}/{COEFFICIENT_RESULTS}", self.final.num_rows))
        choices = {name: choice._asdict() for name, choice in (self.choices or {}).items()}
        return outputs, {"choices": choices, "final_problems": len(self.final_positions)}

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

    def _cell(self, direction: Direction, coefficient: float) -> list[Condition]:
        feature = self.features[direction]
        draws = range(self.config.phase4_5_random_directions)
        others = [random_direction(direction, feature, coefficient, draw) for draw in draws]
        return [target(direction, feature, coefficient), *others]

    def _choose(self, direction: Direction) -> Choice:
        reports = [self.evaluate_coefficient(direction, value) for value in self.config.phase4_5_coefficients]
        suggested = suggestion(direction, reports)
        by_hand = self._by_hand(direction)
        if by_hand is None:
            return suggested
        reason = f"chosen by hand; suggested was {coefficient_name(suggested.coefficient)}: {suggested.rationale}"
        return Choice(by_hand, "by hand", reason)

    def _by_hand(self, direction: Direction) -> float | None:
        """Returns the coefficient asked for now, or the one that a person chose before for the same feature."""
        if direction in self._asked:
            return self._asked[direction]
        record = read_record(self.paths)
        if record is None or direction not in record["choices"]:
            return None
        same = record["steering_features"][direction] == list(self.features[direction])
        before = record["choices"][direction]
        return before["coefficient"] if same and before["how"] == "by hand" else None

    def _recorded_coefficient(self, direction: str) -> float | None:
        record = read_record(self.paths)
        choice = {} if record is None else record["choices"].get(direction, {})
        return choice.get("coefficient") if choice.get("how") == "by hand" else None

    def _evaluate_choices(self, coefficients: dict[Direction, float]) -> pa.Table:
        for fresh in (False, True):
            final = FinalEvaluation(self, coefficients, self.final_positions, fresh=fresh)
            try:
                final.execute()
            except OtherSettingsError:
                assert not fresh, "a fresh evaluation has no earlier settings"
                continue
            break
        for stage, seconds in final.wall_seconds.items():
            self.wall_seconds[f"final {stage}"] = seconds
        record = read_record(final.paths)
        assert record is not None and record["complete"], f"{final.paths.root} is not whole"
        return final.published()

    def _report(self, table: pa.Table, direction: Direction, coefficient: float) -> dict[str, Any]:
        codes: dict[str, dict[int, tuple[str, str]]] = {}
        columns = ("condition", "position", "baseline_code", "generated_code")
        for row in table.select(columns).to_pylist():
            codes.setdefault(row["condition"], {})[row["position"]] = (row["baseline_code"], row["generated_code"])
        names = {position: problem.entry_point for position, problem in enumerate(self.problems)}
        norm = self.residual_norms[self.features[direction].layer]
        return coefficient_report(arms_of(table), direction, coefficient, codes, names, norm)

    def _direction(self, direction: Direction, reports: list[dict[str, Any]]) -> dict[str, Any]:
        feature = self.features[direction]
        choice = None if self.choices is None else self.choices[direction]._asdict()
        return {
            "feature": feature._asdict(),
            "residual_norm": self.residual_norms[feature.layer],
            "chosen": choice,
            "coefficients": reports,
        }

    def _final_report(self) -> dict[str, Any]:
        if self.choices is None or self.final is None:
            why = "the grid is not whole" if self.choices is None else "no problem is left for it"
            return {"reason": why, "n_problems": 0, "directions": {}}
        final = self.final
        return {
            "n_problems": len(self.final_positions),
            "noise_floor": noise_floor(arms_of(final)),
            "directions": {name: self._report(final, name, item.coefficient) for name, item in self.choices.items()},
        }

    def _write_selected(self) -> OutputFile:
        assert self.choices is not None
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        selected = {
            direction: {
                "coefficient": choice.coefficient,
                "in_residual_norms": choice.coefficient / self.residual_norms[self.features[direction].layer],
                "layer": self.features[direction].layer,
                "feature_idx": self.features[direction].index,
                "chosen": choice.how,
                "rationale": choice.rationale,
                "timestamp": self._moment_of(direction, choice) or moment,
            }
            for direction, choice in self.choices.items()
        }
        return OutputFile(SELECTED_COEFFICIENTS, write_json(self.paths.root / SELECTED_COEFFICIENTS, selected))

    def _moment_of(self, direction: Direction, choice: Choice) -> str | None:
        """Returns when the same choice was made before: writing it again is not choosing again."""
        path = self.paths.root / SELECTED_COEFFICIENTS
        record = read_record(self.paths)
        if record is None or not path.is_file() or record["choices"].get(direction) != choice._asdict():
            return None
        before: Mapping[str, Any] = read_json(path)[direction]
        return str(before["timestamp"]) if before["feature_idx"] == self.features[direction].index else None

    def _write_examples(self) -> list[OutputFile]:
        outputs = []
        directory = self.paths.root / COEFFICIENT_EXAMPLES
        rows = self._table.to_pylist()
        for direction in DIRECTIONS:
            for value in self.config.phase4_5_coefficients:
                name = target(direction, self.features[direction], value).name
                shown = [self.example(row) for row in rows if row["condition"] == name]
                feature = self.features[direction]
                title = f"{direction}-preferring feature {feature.layer}:{feature.index}, coefficient {value:g}"
                note = f"all {len(shown)} problems on which this coefficient was tried"
                for path in write_examples(directory, name, title, note, shown):
                    outputs.append(output_file(self.paths, str(path.relative_to(self.paths.root))))
        return outputs
