"""The published files of a generating phase: one data set an arm, timings, and the tree of activation files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from common.problems import Problem
from common.runs.artifacts import PhasePaths
from common.runs.discovery import PhaseOutput
from common.runs.files import write_parquet
from common.runs.metadata import OutputFile, read_record
from common.runs.publishing import ActivationName, ActivationReader, write_activations
from common.runs.tables import (
    EVALUATION_SCHEMA,
    GENERATION_SCHEMA,
    VECTOR_PREFIX,
    dataset_table,
    timing_table,
    vector_column,
)
from common_simplified.generation_work import Arm


class ArmTables(NamedTuple):
    """What an arm has: generated rows with their vectors, and tested rows, both in order of position."""

    generated: pa.Table
    evaluated: pa.Table


class WrittenFiles(NamedTuple):
    """Entries for the record, each arm's data set, its generated rows, and the names of the activation files."""

    outputs: list[OutputFile]
    datasets: dict[str, pa.Table]
    generated: dict[str, pa.Table]
    activations: set[str]


class ArmFiles(Protocol):
    """Writes what a phase publishes of its arms, and reads it back."""

    def write(self, arms: Sequence[Arm], tables: Mapping[str, ArmTables]) -> WrittenFiles:
        """Writes every arm's rows."""
        ...

    def read(self, arm: Arm, layers: Sequence[int], d_model: int) -> pa.Table:
        """Reads an arm's generated rows back, as they were before publishing."""
        ...

    def read_labels(self, arm: Arm) -> pa.Table:
        """Reads an arm's tested rows back, as they were before publishing."""
        ...


@dataclass(frozen=True)
class GenerationFiles:
    """Writes and reads back what a generating phase publishes.

    `dataset_name` names an arm's data set; `activation_name` names the file of a row (its keys and `passed`) and layer.
    """

    paths: PhasePaths
    problems: Sequence[Problem]
    dataset_name: Callable[[Arm], str]
    activation_name: ActivationName

    def write(self, arms: Sequence[Arm], tables: Mapping[str, ArmTables]) -> WrittenFiles:
        """Writes every arm's data set, the timings of all, and the activation files of the arms that captured."""
        outputs: list[OutputFile] = []
        datasets: dict[str, pa.Table] = {}
        names: set[str] = set()
        for arm in arms:
            generated, evaluated = tables[arm.name]
            dataset = dataset_table(self.problems, generated, evaluated)
            digest = write_parquet(self.paths.root / self.dataset_name(arm), dataset)
            outputs.append(OutputFile(self.dataset_name(arm), digest, dataset.num_rows))
            datasets[arm.name] = dataset
            if any(name.startswith(VECTOR_PREFIX) for name in generated.column_names):
                labels = dataset["test_passed"].to_pylist()
                tree = write_activations(self.paths, generated, labels, self.activation_name)
                outputs.append(tree.index)
                names |= tree.names
        timings = pa.concat_tables([timing_table(*tables[arm.name]) for arm in arms])
        digest = write_parquet(self.paths.timings, timings)
        outputs.append(OutputFile(self.paths.timings.name, digest, timings.num_rows))
        generated = {name: item.generated for name, item in tables.items()}
        return WrittenFiles(outputs, datasets, generated, names)

    def read(self, arm: Arm, layers: Sequence[int], d_model: int) -> pa.Table:
        """Reads an arm's generated rows back, with the vectors of `layers`, as they were before publishing."""
        output, dataset, timings = self._published(arm)
        table = _joined(dataset, timings, GENERATION_SCHEMA)
        if layers:
            reader = ActivationReader(output)
            for layer in layers:
                table = table.append_column(f"{VECTOR_PREFIX}{layer}", self._vectors(reader, dataset, layer, d_model))
        return table

    def read_labels(self, arm: Arm) -> pa.Table:
        """Reads an arm's tested rows back, as they were before publishing."""
        _, dataset, timings = self._published(arm)
        return _joined(dataset, timings, EVALUATION_SCHEMA)

    def _published(self, arm: Arm) -> tuple[PhaseOutput, pa.Table, pa.Table]:
        record = read_record(self.paths)
        assert record is not None, f"{self.paths.metadata} has gone"
        output = PhaseOutput(record["phase"], self.paths, record)
        timings = _rows_of(output.table(self.paths.timings.name), arm)
        return output, output.table(record["datasets"][arm.name]), timings

    def _vectors(self, reader: ActivationReader, dataset: pa.Table, layer: int, d_model: int) -> pa.Array:
        matrix = np.full((dataset.num_rows, d_model), np.nan, dtype=np.float32)
        for index, row in enumerate(dataset.select(["task_id", "temperature", "sample", "test_passed"]).to_pylist()):
            if row["test_passed"] is not None:
                name = self.activation_name({**row, "passed": row["test_passed"]}, layer)
                matrix[index] = reader.matrix([name], d_model)[0]
        return vector_column(matrix)


def _joined(dataset: pa.Table, timings: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the columns of a stage from the published table that has each."""
    columns = {
        field.name: (dataset if field.name in dataset.column_names else timings).column(field.name) for field in schema
    }
    return pa.table(columns, schema=schema)


def _rows_of(timings: pa.Table, arm: Arm) -> pa.Table:
    keep: Any = [temperature == arm.temperature for temperature in timings["temperature"].to_pylist()]
    return timings.filter(pa.array(keep, pa.bool_()))
