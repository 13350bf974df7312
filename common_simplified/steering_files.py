"""The published files of a steering phase: one table with a row a problem and condition, and timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from common.code_survival import parses, survival_columns
from common.conditions import Condition
from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import write_parquet
from common.runs.metadata import OutputFile, read_record
from common.runs.tables import EVALUATION_SCHEMA, STEERED_SCHEMA, same_rows
from common_simplified.generation_files import ArmTables, WrittenFiles
from common_simplified.generation_work import Arm
from common_simplified.steering_baseline import BaselineRow

RESULTS_SCHEMA = pa.schema(
    [
        ("position", pa.int32()),
        ("task_id", pa.int64()),
        ("cyclomatic_complexity", pa.int64()),
        ("condition", pa.string()),
        ("kind", pa.string()),
        ("direction", pa.string()),
        ("layer", pa.int32()),
        ("feature_idx", pa.int64()),
        ("target_idx", pa.int64()),
        ("draw", pa.int32()),
        ("coefficient", pa.float64()),
        ("baseline_passed", pa.bool_()),
        ("baseline_code", pa.string()),
        ("baseline_parses", pa.bool_()),
        ("left_out", pa.string()),
        ("prompt", pa.string()),
        ("generated_text", pa.string()),
        ("generated_code", pa.string()),
        ("test_passed", pa.bool_()),
        ("outcome", pa.string()),
        ("failure_mode", pa.string()),
        ("parses", pa.bool_()),
        ("defines_function", pa.bool_()),
        ("keeps_signature", pa.bool_()),
        ("sandbox_rung", pa.int32()),
        ("opaque", pa.bool_()),
        ("error_message", pa.string()),
        ("tests_passed", pa.int32()),
        ("tests_total", pa.int32()),
        ("n_prompt_tokens", pa.int32()),
        ("n_new_tokens", pa.int32()),
        ("stop_reason", pa.string()),
        ("steered_steps", pa.int32()),
        ("excluded_reason", pa.string()),
    ]
)
_FROM_STAGES = ("tries", "batch_rows", "batch_seconds", "cpu_seconds", "wall_seconds", "peak_memory_mb")
TIMING_SCHEMA = pa.schema(
    [
        ("position", pa.int32()),
        ("task_id", pa.int64()),
        ("condition", pa.string()),
        ("tries", pa.int32()),
        ("batch_rows", pa.int32()),
        *((name, pa.float64()) for name in _FROM_STAGES[2:]),
    ]
)


@dataclass(frozen=True)
class SteeringFiles:
    """Writes and reads back the rows of steered arms; `baseline` has one row a position of the split."""

    paths: PhasePaths
    problems: Sequence[Problem]
    baseline: Sequence[BaselineRow]
    results_name: str
    limit: int

    def write(self, arms: Sequence[Arm], tables: Mapping[str, ArmTables]) -> WrittenFiles:
        """Writes the results of every arm, in order of condition and position, and their timings."""
        results = pa.concat_tables([self.results(arm, tables[arm.name]) for arm in arms]).combine_chunks()
        timings = pa.concat_tables([_timings(arm, tables[arm.name]) for arm in arms]).combine_chunks()
        outputs = [
            OutputFile(name, write_parquet(self.paths.root / name, table), table.num_rows)
            for name, table in ((self.results_name, results), (self.paths.timings.name, timings))
        ]
        return WrittenFiles(outputs, {self.results_name: results}, {}, set())

    def results(self, arm: Arm, tables: ArmTables) -> pa.Table:
        """Returns an arm's rows as they are published, in order of condition and position."""
        same_rows(tables.generated, tables.evaluated)
        pairs = zip(tables.generated.to_pylist(), tables.evaluated.to_pylist(), strict=True)
        rows = [self._row(arm.conditions[made["sample"]], made, tested) for made, tested in pairs]
        order = {condition.name: place for place, condition in enumerate(arm.conditions)}
        rows.sort(key=lambda row: (order[row["condition"]], row["position"]))
        return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)

    def read(self, arm: Arm, layers: Sequence[int], d_model: int) -> pa.Table:  # noqa: ARG002
        """Reads an arm's generated rows back, as they were before publishing."""
        return pa.Table.from_pylist(self._rows_of(arm), schema=STEERED_SCHEMA)

    def read_labels(self, arm: Arm) -> pa.Table:
        """Reads an arm's tested rows back, as they were before publishing."""
        return pa.Table.from_pylist(self._rows_of(arm), schema=EVALUATION_SCHEMA)

    def _rows_of(self, arm: Arm) -> list[dict[str, Any]]:
        rows = [
            {**row, "sample": sample, "temperature": 0.0}
            for sample, condition in enumerate(arm.conditions)
            for row in self._published.get(condition.name, [])
        ]
        return sorted(rows, key=lambda row: (row["position"], row["sample"]))

    @cached_property
    def _published(self) -> dict[str, list[dict[str, Any]]]:
        """The published rows with their timings, by condition; read once."""
        record = read_record(self.paths)
        assert record is not None, f"{self.paths.metadata} has gone"
        output = PhaseOutput(record["phase"], self.paths, record)
        results, timings = (output.table(name).to_pylist() for name in (self.results_name, self.paths.timings.name))
        found: dict[str, list[dict[str, Any]]] = {}
        for row, time in zip(results, timings, strict=True):
            assert (row["condition"], row["position"]) == (time["condition"], time["position"]), row["condition"]
            found.setdefault(row["condition"], []).append({**time, **row})
        return found

    @cached_property
    def _baseline_parses(self) -> list[bool | None]:
        return [None if row.code is None else parses(row.code) for row in self.baseline]

    def _row(self, condition: Condition, made: dict[str, Any], tested: dict[str, Any]) -> dict[str, Any]:
        problem, baseline = self.problems[made["position"]], self.baseline[made["position"]]
        return {
            **{key: made[key] for key in STEERED_SCHEMA.names if key in RESULTS_SCHEMA.names},
            **{key: value for key, value in tested.items() if key in RESULTS_SCHEMA.names},
            **condition._asdict(),
            "condition": condition.name,
            "cyclomatic_complexity": problem.cyclomatic_complexity,
            "baseline_passed": baseline.passed,
            "baseline_code": baseline.code,
            "baseline_parses": self._baseline_parses[made["position"]],
            "left_out": "generation failed" if made["excluded_reason"] else baseline.left_out(self.limit),
            **survival_columns(tested["outcome"], tested["generated_code"], problem.entry_point, problem.code),
        }


def _timings(arm: Arm, tables: ArmTables) -> pa.Table:
    rows = []
    for made, tested in zip(tables.generated.to_pylist(), tables.evaluated.to_pylist(), strict=True):
        both = {**tested, **made}
        both["condition"] = arm.conditions[made["sample"]].name
        rows.append({name: both[name] for name in TIMING_SCHEMA.names})
    order = {condition.name: place for place, condition in enumerate(arm.conditions)}
    rows.sort(key=lambda row: (order[row["condition"]], row["position"]))
    return pa.Table.from_pylist(rows, schema=TIMING_SCHEMA)
