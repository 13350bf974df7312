"""Phase 1.0: one greedy solution for each problem of the sae split, its label, and the residual stream before it.

Writes `dataset_sae_<timestamp>.parquet` with a summary beside it, one activation file a problem and layer under
`activations/correct/` or `activations/incorrect/`, and `sae_fit.json`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from common.errors import PipelineError
from common.runs.artifacts import dataset_file, dataset_metadata_file, labelled_activation, timestamp
from common.runs.discovery import PhaseOutput
from common.runs.files import write_json, write_parquet
from common.runs.fit_gate import fit_report
from common.runs.interruption import StopRequest
from common.runs.metadata import OutputFile, output_file, read_record
from common.runs.publishing import ActivationReader, remove_stale_activations, write_activations
from common.runs.records import StageStore, fingerprint_differences
from common.runs.slices import Span, missing_cells
from common.runs.tables import GENERATION_SCHEMA, dataset_table, timing_table, vector_column
from common_simplified.generation_runner import ArmTables, GenerationRunner
from common_simplified.generation_work import Arm
from common_simplified.sae_fit import measure_fit

GREEDY = Arm("greedy", 0.0, 1)


class DatasetBuilder(GenerationRunner):
    """Builds the labelled data set on which features are chosen."""

    phase = "1.0"
    split = "sae"

    def arms(self) -> list[Arm]:
        """One greedy sample a problem."""
        return [GREEDY]

    def extra_work(self, stop: StopRequest) -> None:
        """Measures the SAEs' fit on the first positions of the split, as far as the span holds them."""
        last = min(self.config.sae_fit_positions, len(self.problems)) - 1
        if self.span.start > last:
            return
        wanted = Span(self.span.start, min(self.span.end, last))
        store = self._fit_store()
        stored = store.stored_fingerprint()
        if stored is not None and fingerprint_differences(stored, self._fit_fingerprint()):
            store.clear()
        store.open(self._fit_fingerprint())
        store.verify()
        for cell in missing_cells(wanted, store.spans(), self.config.batch_size):
            if stop.requested:
                return
            with self.timed("SAE fit"):
                store.write(cell, self._measure(cell))

    def write_files(self, tables: dict[str, ArmTables]) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes the data set, its summary, timings, activations and the SAE fit."""
        generated, evaluated = tables[GREEDY.name]
        dataset = dataset_table(self.problems, generated, evaluated)
        stamp = timestamp()
        name = dataset_file(self.split, stamp)
        data = OutputFile(name, write_parquet(self.paths.root / name, dataset), dataset.num_rows)
        labels = dataset["test_passed"].to_pylist()
        tree = write_activations(self.paths, generated, labels, _activation_name)
        timings = timing_table(generated, evaluated)
        timing = OutputFile(self.paths.timings.name, write_parquet(self.paths.timings, timings), timings.num_rows)
        summary = self._write_summary(stamp, dataset)
        self._kept_activations = tree.names
        return [data, summary, tree.index, timing, *self._write_fit()], {"dataset": name, "layers": self.layers}

    def publish(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Writes the record, then removes activation files that it no longer vouches for."""
        record = super().publish(*args, **kwargs)
        remove_stale_activations(self.paths, self._kept_activations)
        return record

    def published_rows(self, arm: Arm) -> pa.Table:  # noqa: ARG002
        """Reads the generated rows and their vectors back from the data set and the activation files."""
        record = read_record(self.paths)
        assert record is not None, f"{self.paths.metadata} has gone"
        output = PhaseOutput(self.phase, self.paths, record)
        dataset = output.table(record["dataset"])
        timings = output.table(self.paths.timings.name)
        columns = {field.name: _column(field.name, dataset, timings) for field in GENERATION_SCHEMA}
        table = pa.table(columns, schema=GENERATION_SCHEMA)
        reader = ActivationReader(output)
        for layer in record["layers"]:
            table = table.append_column(f"vector_{layer}", self._vectors(reader, dataset, layer))
        return table

    def _vectors(self, reader: ActivationReader, dataset: pa.Table, layer: int) -> pa.Array:
        import numpy as np

        width = self.model.facts.d_model
        matrix = np.full((dataset.num_rows, width), np.nan, dtype=np.float32)
        pairs = zip(dataset["task_id"].to_pylist(), dataset["test_passed"].to_pylist(), strict=True)
        for row, (task_id, passed) in enumerate(pairs):
            if passed is not None:
                matrix[row] = reader.matrix([labelled_activation(task_id, layer, passed)], width)[0]
        return vector_column(matrix)

    def _measure(self, cell: Span) -> pa.Table:
        problems = [self.problems[position] for position in range(cell.start, cell.end + 1)]
        keys = [{"position": cell.start + index, "task_id": problem.task_id} for index, problem in enumerate(problems)]
        prompts = [self.prompt_of(problem) for problem in problems]
        return measure_fit(self.loaded, self.profile, prompts, keys, self.points)

    def _fit_store(self) -> StageStore:
        return StageStore(self.paths.stage("sae_fit", GREEDY.name))

    def _fit_fingerprint(self) -> dict[str, Any]:
        saes = {str(layer): identity._asdict() for layer, identity in self.saes.items()}
        return {**self.generation_fingerprint(GREEDY), "saes": saes, "positions": self.config.sae_fit_positions}

    def _write_fit(self) -> list[OutputFile]:
        store = self._fit_store()
        if store.spans():
            write_json(self.paths.sae_fit, fit_report(store.read()))
        elif not self.paths.sae_fit.is_file():
            return []
        return [output_file(self.paths, self.paths.sae_fit.name)]

    def _write_summary(self, stamp: str, dataset: pa.Table) -> OutputFile:
        name = dataset_metadata_file(self.split, stamp)
        labels = dataset["test_passed"].to_pylist()
        outcomes = Counter(outcome or "excluded" for outcome in dataset["outcome"].to_pylist())
        summary = {
            "split": self.split,
            "n_problems": dataset.num_rows,
            "n_expected": len(self.problems),
            "n_correct": labels.count(True),
            "n_excluded": labels.count(None),
            "outcomes": dict(sorted(outcomes.items())),
            "layers": self.layers,
            "hook_names": {str(layer): str(point) for layer, point in self.points.items()},
            "model": self.model.name,
        }
        return OutputFile(name, write_json(self.paths.root / name, summary))


def _activation_name(row: Any, layer: int) -> str:
    if row["passed"] is None:
        raise PipelineError(f"problem {row['task_id']} has a vector but no label")
    return labelled_activation(int(row["task_id"]), layer, bool(row["passed"]))


def _column(name: str, dataset: pa.Table, timings: pa.Table) -> Any:
    return (dataset if name in dataset.column_names else timings).column(name)
