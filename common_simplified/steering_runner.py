"""The runner that every steering phase stands on: conditions instead of samples, a stored baseline beside them.

Each row of an arm is a problem under a condition. Prompts are the baseline's own, word for word, and every solution
goes through the same extraction and tests. Conditions are grouped so that a cell of the batch grid holds about one
batch of rows; one engine, with one permanent hook a site, serves them all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from common.conditions import RANDOM_DIRECTION, Condition
from common.errors import UsageError
from common.logging import get_logger
from common.model_facts import ModelFacts
from common.runs.artifacts import temperature_name
from common.runs.compatibility import COMPARED, refuse_other_model
from common.runs.discovery import PhaseOutput, run_command
from common.runs.features import Feature
from common.runs.files import canonical_json
from common.runs.interruption import StopRequest
from common.runs.metadata import Extent, read_record
from common.runs.publishing import Snapshots
from common.runs.slices import Span
from common.statistics.detection_report import difficulty_of
from common.statistics.permutation import Direction
from common.statistics.stratified import stratified_subset
from common_simplified.detection_splits import refuse_missing_layers
from common_simplified.generation import GenerationEngine, Request
from common_simplified.generation_files import ArmFiles, ArmTables
from common_simplified.generation_report import counted, refuse_exclusions
from common_simplified.generation_runner import GenerationRunner
from common_simplified.generation_work import Arm, finished_by_solution, labelled_tables
from common_simplified.sites import HookPoint
from common_simplified.steering_baseline import BaselineRow, mean_residual_norm, read_baseline
from common_simplified.steering_files import SteeringFiles
from common_simplified.steering_vectors import SteeringVectors
from common_simplified.stopping import STOP_VERSION

STEERING_VERSION = 1
_log = get_logger(__name__)


class SteeringRunner(GenerationRunner):
    """Generates a split under conditions, against the stored baseline of another phase."""

    results_name: ClassVar[str]
    purpose: ClassVar[str]
    baseline_output: PhaseOutput
    baseline: list[BaselineRow]
    features: dict[Direction, Feature]
    limit: int

    def prepare(self) -> None:
        """Finds the split, the baseline and the model, and checks that they belong together."""
        super().prepare()
        self.refuse_other(self.baseline_output)
        theirs, ours = self.baseline_output.record["model"]["dtype"], self.setup.dtype_name
        if ours != theirs:
            self.notes.append(f"the baseline was generated in {theirs}, steering computes in {ours}")
        assert self.residual_norms, "no layer is steered"  # what is missing of them is refused before generating

    def work(self, stop: StopRequest) -> None:
        """Says what a reader must know, then generates; a refusal, or nothing to do, has come before."""
        for note in self.notes:
            _log.warning("phase %s: %s", self.phase, note)
        super().work(stop)

    def analysis_settings(self) -> dict[str, Any]:
        """Returns the settings that change what is made of the solutions, and nothing about them."""
        return {}

    def is_outdated(self) -> bool:
        """Returns whether inputs, or the settings of the analysis, are others than those of what is published."""
        record = read_record(self.paths)
        return super().is_outdated() or (record is not None and record["analysis_settings"] != self.analysis_settings())

    @cached_property
    def notes(self) -> list[str]:
        """What is said before work begins; gathered while inputs are found."""
        return []

    def refuse_other(self, output: PhaseOutput, compared: Sequence[str] = COMPARED) -> None:
        """Refuses an input made with another model, for other SAEs or at another site than this phase uses."""
        refuse_other_model(self.phase, output, self.setup.as_record(), run_command(self.config, output.phase), compared)

    def use_baseline(self, output: PhaseOutput, dataset: str) -> None:
        """Reads the stored solutions that steering is compared with."""
        self.baseline_output = output
        self.baseline = read_baseline(output, dataset, self.problems)
        if not self.usable:
            raise UsageError(
                f"phase {self.phase}: phase {output.phase} holds no solution with a label; run: "
                f"{self._baseline_command()} --fresh"
            )

    def steered_features(self) -> list[Feature]:
        """Returns every feature that is steered along."""
        return list(self.features.values())

    def refuse_unknown_features(self, output: PhaseOutput) -> None:
        """Refuses a feature that does not exist, or whose layer the baseline did not capture."""
        refuse_missing_layers(self.phase, self.config, self.profile, self.steered_features(), output)

    def drawn(self, n: int, purpose: str, without: Collection[int] = ()) -> list[int]:
        """Draws `n` positions that may enter rates, stratified by complexity and label, `without` some."""
        free = [
            place for place in self.usable if place not in without and not self.baseline[place].left_out(self.limit)
        ]
        groups = difficulty_of(np.array([self.problems[place].cyclomatic_complexity for place in free], dtype=np.int64))
        labels = np.array([bool(self.baseline[place].passed) for place in free], dtype=bool)
        rows = stratified_subset(groups.tolist(), labels, n, self.config.seed, purpose)
        return [free[row] for row in rows]

    def left_out(self) -> dict[str, int]:
        """Counts by reason the problems that cannot enter rates."""
        return dict(Counter(why for row in self.baseline if (why := row.left_out(self.limit)) is not None))

    @property
    def usable(self) -> list[int]:
        """The positions whose baseline has a label."""
        return [position for position, row in enumerate(self.baseline) if row.passed is not None]

    def capture_layers(self, facts: ModelFacts) -> list[int]:  # noqa: ARG002
        """Returns the layers that are steered; nothing is captured."""
        return sorted({feature.layer for feature in self.steered_features()})

    def snapshots_of(self, arm: Arm) -> Snapshots | None:  # noqa: ARG002
        """Returns nothing: a copy of every condition so far would cost more than it shows."""
        return None

    def describe(self) -> None:
        """Says what a run would do."""
        rows = sum(arm.units(self.span) for arm in self.arms())
        _log.info(
            "phase %s would generate %d solutions of %d problems (positions %d to %d of %s) under %d conditions with "
            "%s, and write to %s",
            *(self.phase, rows, len(self.span), *self.span, self.split),
            *(sum(len(arm.conditions) for arm in self.arms()), self.setup.model.name, self.paths.root),
        )

    def points_of(self, arm: Arm) -> dict[int, HookPoint]:  # noqa: ARG002
        """Returns nothing: steered generation captures nothing."""
        return {}

    def check_prompts(self) -> None:
        """Does nothing: the prompts are the baseline's."""

    def dataset_name(self, arm: Arm) -> str:  # noqa: ARG002
        """The one table that holds every arm."""
        return self.results_name

    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """Never called: steered generation captures nothing."""
        raise AssertionError(f"a steered row has no activation file: {row}, layer {layer}")

    def grouped(self, name: str, conditions: Sequence[Condition], positions: Iterable[int]) -> list[Arm]:
        """Cuts conditions into arms of which a cell of the grid holds about one batch of rows."""
        inside = frozenset(positions)
        size = max(1, len(self.problems) // max(1, len(inside)))
        parts = [tuple(conditions[start : start + size]) for start in range(0, len(conditions), size)]
        return [
            Arm(f"{name}_{place:03d}" if len(parts) > 1 else name, 0.0, len(part), part, inside)
            for place, part in enumerate(parts)
        ]

    @cached_property
    def vectors(self) -> SteeringVectors:
        """What each condition adds."""
        return SteeringVectors(self.profile, self.config.seed, self.purpose)

    @cached_property
    def residual_norms(self) -> dict[int, float]:
        """Mean norm of the baseline's residual stream at the last prompt token, by steered layer."""
        layers = {feature.layer for feature in self.steered_features()}
        return {
            layer: mean_residual_norm(self.baseline_output, self.baseline, layer, self.profile.d_model)
            for layer in sorted(layers)
        }

    def norm_ratio(self, feature: Feature) -> float:
        """Returns the norm of a feature's decoder row in units of the residual stream's mean norm at its layer."""
        return self.vectors.norm(feature) / self.residual_norms[feature.layer]

    @cached_property
    def files(self) -> ArmFiles:
        """What is published, and how it is read back."""
        return self.steering_files

    @cached_property
    def steering_files(self) -> SteeringFiles:
        """The published table."""
        return SteeringFiles(self.paths, self.problems, self.baseline, self.results_name, self.limit)

    def request_of(self, arm: Arm, position: int, sample: int) -> Request:
        """Returns the baseline's prompt with what is added under the condition."""
        condition, prompt = arm.conditions[sample], self.baseline[position].prompt
        assert prompt is not None, f"position {position} has no baseline"
        steering = self.vectors.steering(condition, self.setup.points[condition.layer])
        return Request(prompt, finished_by_solution(self.problems[position]), None, steering)

    def engine(self, arm: Arm, stop: StopRequest) -> GenerationEngine:  # noqa: ARG002
        """Returns the one engine of every arm, with a permanent hook at each steered site."""
        return GenerationEngine(
            self.loaded,
            max_new_tokens=self.limit,
            timeout_seconds=self.config.generation_timeout_seconds,
            check_stop=stop.check,
            capture=self.setup.capture,
            steering_points=list(dict.fromkeys(self.setup.points.values())),
            steer_bos=self.config.steer_bos,
        )

    def progress_groups(self) -> list[tuple[str, list[Arm]]]:
        """Returns one bar for all conditions."""
        return [(f"phase {self.phase}", self.arms())]

    def so_far(self) -> tuple[int, int, str]:
        """Returns how many steered solutions are done: conditions follow each other, so problems say little."""
        whole = Span(0, len(self.problems) - 1)
        stores = {arm.name: self.state.stores(arm).evaluation.spans() for arm in self.arms()}
        done = sum(arm.units(span) for arm in self.arms() for span in stores[arm.name])
        return done, sum(arm.units(whole) for arm in self.arms()), "steered solutions"

    def generation_fingerprint(self, arm: Arm) -> dict[str, Any]:
        """Returns what changes steered text."""
        layers = sorted({condition.layer for condition in arm.conditions})
        is_drawn = any(condition.kind == RANDOM_DIRECTION for condition in arm.conditions)
        return {
            **self.setup.fingerprint({}),
            "steering_points": {str(layer): str(self.setup.points[layer]) for layer in layers},
            "saes": {str(layer): self.setup.saes[layer]._asdict() for layer in layers},
            "conditions": [list(condition) for condition in arm.conditions],
            "seed": [self.config.seed, self.purpose] if is_drawn else None,
            "positions": _digest(sorted(arm.positions or [])),
            "prompts": self._prompts_digest,
            "steer_bos": self.config.steer_bos,
            "batch_size": self.config.batch_size,
            "data": self.data_hash,
            "max_new_tokens": self.limit,
            "stop_version": STOP_VERSION,
            "steering_version": STEERING_VERSION,
        }

    def details(self, tables: dict[str, ArmTables]) -> dict[str, Any]:
        """Returns what a steering phase adds to its record."""
        record = super().details({})
        return {
            **record,
            "prompt_format": self.baseline_output.record["prompt_format"],
            "baseline_phase": self.baseline_output.phase,
            "analysis_settings": self.analysis_settings(),
            "max_new_tokens": self.limit,
            "steer_bos": self.config.steer_bos,
            "steering_features": {name: list(feature) for name, feature in self.features.items()},
            "n_conditions": sum(len(arm.conditions) for arm in self.arms()),
            "stop_reasons": counted(
                reason for item in tables.values() for reason in item.generated["stop_reason"].to_pylist()
            ),
            "n_rows": sum(item.generated.num_rows for item in tables.values()),
            "residual_norms": {str(layer): norm for layer, norm in self.residual_norms.items()},
        }

    def report(self, extent: Extent, tables: dict[str, ArmTables]) -> None:
        """Logs what came out; raises `PipelineError` where too many solutions were given up."""
        rows = sum(item.generated.num_rows for item in tables.values())
        _log.info(
            "phase %s: %d of %d problems, %d steered solutions under %d conditions",
            *(self.phase, extent.done, extent.expected, rows, sum(len(arm.conditions) for arm in self.arms())),
        )
        failed = len(self.excluded_rows(tables))
        refuse_exclusions(self.phase, failed, rows, "solutions", self.config, self.paths)

    def excluded_rows(self, tables: dict[str, ArmTables]) -> list[dict[str, Any]]:
        """Returns what was given up: problem, condition, reason and number of tries."""
        rows = []
        for arm in self.arms():
            made = tables[arm.name].generated.select(["task_id", "sample", "excluded_reason", "tries"]).to_pylist()
            for row in made:
                name = arm.conditions[row.pop("sample")].name
                if row["excluded_reason"] is not None:
                    rows.append({**row, "condition": name})
        return rows

    def results_so_far(self, arms: Iterable[Arm]) -> pa.Table:
        """Returns the rows of finished arms from their segments, as they will be published."""
        parts = [self.steering_files.results(arm, ArmTables(*labelled_tables(self.state.stores(arm)))) for arm in arms]
        return pa.concat_tables(parts).combine_chunks()

    def published(self) -> pa.Table:
        """Returns the published rows."""
        record = read_record(self.paths)
        assert record is not None, f"{self.paths.metadata} is missing"
        return PhaseOutput(self.phase, self.paths, record).table(self.results_name)

    def example(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a row of the results with its problem, for reading."""
        problem = self.problems[row["position"]]
        return {**row, "text": problem.text, "test_list": list(problem.test_list)}

    @cached_property
    def _prompts_digest(self) -> str:
        return _digest([row.prompt for row in self.baseline])

    def _baseline_command(self) -> str:
        return run_command(self.config, self.baseline_output.phase)


def greedy_dataset(output: PhaseOutput) -> str:
    """Returns the name of a generating phase's data set at temperature 0."""
    datasets = output.record["datasets"]
    return datasets.get(temperature_name(0.0)) or next(iter(datasets.values()))


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
