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
from common.runs.interruption import StopRequest
from common.runs.metadata import OutputFile
from common.runs.slices import Span
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_runner import GenerationRunner
from common_simplified.generation_work import Arm
from common_simplified.sae_fit_work import SaeFitWork

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

    @cached_property
    def fit(self) -> SaeFitWork:
        """The measurement of the SAEs' fit."""
        return SaeFitWork(self)

    def extra_work(self, stop: StopRequest) -> None:
        """Measures the SAEs' fit on the first positions of the split, as far as the span holds them."""
        self.fit.work(stop)

    def extra_gaps(self) -> list[Span]:
        """Returns the positions whose prompts the SAEs' fit is still to be measured on."""
        return self.fit.gaps()

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes the data set's summary and the SAEs' fit."""
        summary = self._write_summary(written.datasets[GREEDY.name])
        return [summary, *self.fit.write()], {
            "dataset": self.dataset_name(GREEDY),
            "fit_fingerprint": self.fit.fingerprint(),
        }

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
