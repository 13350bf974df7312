"""Phase 1.0: one greedy solution for each problem of the sae split, its label, and the residual stream before it.

Writes `dataset_sae_<timestamp>.parquet` with a summary beside it, one activation file a problem and layer under
`activations/correct/` or `activations/incorrect/`, and `sae_fit.json`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa

from common.runs.artifacts import dataset_file, dataset_metadata_file, labelled_activation, timestamp
from common.runs.files import write_json
from common.runs.fit_gate import fit_report
from common.runs.interruption import StopRequest
from common.runs.metadata import OutputFile, output_file, read_record
from common.runs.records import StageStore, fingerprint_differences
from common.runs.slices import Span, missing_cells, missing_spans
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_runner import GenerationRunner
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

    @cached_property
    def stamp(self) -> str:
        """The timestamp in this run's file names."""
        return timestamp()

    def dataset_name(self, arm: Arm) -> str:  # noqa: ARG002
        """`dataset_sae_<timestamp>.parquet`."""
        return dataset_file(self.split, self.stamp)

    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """`correct/…` or `incorrect/…`, by label."""
        return labelled_activation(row["task_id"], layer, row["passed"])

    def extra_work(self, stop: StopRequest) -> None:
        """Measures the SAEs' fit on the first positions of the split, as far as the span holds them."""
        gaps = [gap for gap in self.extra_gaps() if gap.overlaps(self.span)]
        if not gaps:
            return
        wanted = Span(self.span.start, min(self.span.end, gaps[-1].end))
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

    def extra_gaps(self) -> list[Span]:
        """Returns the positions whose prompts the SAEs' fit is still to be measured on."""
        if self._fit_is_published():
            return []
        store = self._fit_store()
        stored = store.stored_fingerprint()
        usable = stored is not None and not fingerprint_differences(stored, self._fit_fingerprint())
        first = Span(0, min(self.config.sae_fit_positions, len(self.problems)) - 1)
        return missing_spans(first, store.spans() if usable else [])

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes the data set's summary and the SAEs' fit."""
        summary = self._write_summary(written.datasets[GREEDY.name])
        return [summary, *self._write_fit()], {
            "dataset": self.dataset_name(GREEDY),
            "fit_fingerprint": self._fit_fingerprint(),
        }

    def _measure(self, cell: Span) -> pa.Table:
        problems = [self.problems[position] for position in range(cell.start, cell.end + 1)]
        keys = [{"position": cell.start + index, "task_id": problem.task_id} for index, problem in enumerate(problems)]
        prompts = [self.prompt_of(problem) for problem in problems]
        return measure_fit(self.loaded, self.profile, prompts, keys, self.setup.points)

    def _fit_is_published(self) -> bool:
        record = read_record(self.paths)
        if record is None or not record["complete"] or not self.paths.sae_fit.is_file():
            return False
        return not fingerprint_differences(record["fit_fingerprint"], self._fit_fingerprint())

    def _fit_store(self) -> StageStore:
        return StageStore(self.paths.stage("sae_fit", GREEDY.name))

    def _fit_fingerprint(self) -> dict[str, Any]:
        saes = {str(layer): identity._asdict() for layer, identity in self.setup.saes.items()}
        return {**self.generation_fingerprint(GREEDY), "saes": saes, "positions": self.config.sae_fit_positions}

    def _write_fit(self) -> list[OutputFile]:
        store = self._fit_store()
        if store.spans():
            write_json(self.paths.sae_fit, fit_report(store.read()))
        elif not self.paths.sae_fit.is_file():
            return []
        return [output_file(self.paths, self.paths.sae_fit.name)]

    def _write_summary(self, dataset: pa.Table) -> OutputFile:
        name = dataset_metadata_file(self.split, self.stamp)
        labels = dataset["test_passed"].to_pylist()
        outcomes = Counter(outcome or "excluded" for outcome in dataset["outcome"].to_pylist())
        summary = {
            "split": self.split,
            "n_problems": dataset.num_rows,
            "n_expected": len(self.problems),
            "n_correct": labels.count(True),
            "n_excluded": labels.count(None),
            "outcomes": dict(sorted(outcomes.items())),
            "layers": self.setup.layers,
            "hook_names": {str(layer): str(point) for layer, point in self.setup.points.items()},
            "model": self.setup.model.name,
        }
        return OutputFile(name, write_json(self.paths.root / name, summary))
