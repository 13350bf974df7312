"""Phase 0.1: deals the problems to three splits of equal difficulty, one for each job.

Features are chosen on `sae`, thresholds and coefficients on `hyperparams`, figures reported on `validation`.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from common.logging import get_logger
from common.runs.artifacts import SPLIT_METADATA, SPLIT_PLOT, SPLITS, split_file
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, output_file
from common.runs.phase_runner import PhaseRunner
from common.runs.tables import PROBLEM_SCHEMA
from phase0_1.splitting import balance, split_problems

_log = get_logger(__name__)


class ProblemSplitter(PhaseRunner):
    """Writes the three splits and how equal they are."""

    phase = "0.1"

    def prepare(self) -> None:
        """Finds phase 0's table and deals it."""
        table = self.find_table("0", lambda output: output.record["mapping"], PROBLEM_SCHEMA.names)
        self.table: pa.Table = table.select(PROBLEM_SCHEMA.names)
        ids = self.table["task_id"].to_pylist()
        complexity = self.table["cyclomatic_complexity"].to_pylist()
        first, second, third = self.config.phase0_1_ratios
        self.members = split_problems(ids, complexity, self.config.seed, (first, second, third))
        self.balance = balance(self.members, dict(zip(ids, complexity, strict=True)))

    def describe(self) -> None:
        """Says how large the splits would be."""
        _log.info("%s", self._in_words())
        super().describe()

    def execute(self) -> None:
        """Writes the splits, the split metadata, and the record last."""
        if self.options.fresh:
            self.set_aside()
        rows = {task_id: row for row, task_id in enumerate(self.table["task_id"].to_pylist())}
        outputs = []
        for split in SPLITS:
            part = self.table.take([rows[task_id] for task_id in self.members[split]])
            digest = write_parquet(self.paths.root / split_file(split), part)
            outputs.append(OutputFile(split_file(split), digest, part.num_rows))
        details = self._details()
        outputs.append(OutputFile(SPLIT_METADATA, write_json(self.paths.root / SPLIT_METADATA, details)))
        outputs.extend(self._plots())
        n = self.table.num_rows
        self.publish(Extent(n, n, inputs_complete=self.inputs_complete), outputs, details)
        _log.info("phase 0.1: %s", self._in_words())

    def _details(self) -> dict[str, Any]:
        return {
            "seed": self.config.seed,
            "ratios": dict(zip(SPLITS, self.config.phase0_1_ratios, strict=True)),
            "sizes": {split: len(self.members[split]) for split in SPLITS},
            "complexity": {split: figures._asdict() for split, figures in self.balance.splits.items()},
            "ks_distance": self.balance.ks_distance,
        }

    def _plots(self) -> list[OutputFile]:
        from common.plotting import save
        from phase0_1.plots import split_difficulty

        of_task = dict(
            zip(*(self.table[name].to_pylist() for name in ("task_id", "cyclomatic_complexity")), strict=True)
        )
        complexity = {split: [of_task[task_id] for task_id in self.members[split]] for split in SPLITS}
        paths = save(split_difficulty(complexity, self.balance.ks_distance), self.paths.root / SPLIT_PLOT)
        return [output_file(self.paths, path.name) for path in paths]

    def _in_words(self) -> str:
        parts = [
            f"{split} {figures.n} (mean complexity {figures.mean:.2f})"
            for split, figures in self.balance.splits.items()
        ]
        return f"{', '.join(parts)}; largest KS distance {max(self.balance.ks_distance.values()):.3f}"
