"""Phase 0: loads and checks the problems, and measures how difficult their reference solutions are.

Difficulty is cyclomatic complexity (McCabe, IEEE TSE 1976), as radon computes it, of the most complex function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from common.dataset_loading import LoadedDataset, load_mbpp
from common.logging import get_logger
from common.runs.artifacts import difficulty_histogram, difficulty_mapping, difficulty_summary, timestamp
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, InputFile, OutputFile, output_file
from common.runs.phase_runner import PhaseRunner
from common.runs.tables import problem_table
from phase0.complexity import cyclomatic_complexity, summarise
from phase0.plots import complexity_histogram

_log = get_logger(__name__)


class DifficultyAnalyzer(PhaseRunner):
    """Writes the table of problems with their complexity, its summary and a histogram."""

    phase = "0"

    def prepare(self) -> None:
        """Loads the problems, checks every row, and measures complexity."""
        given = [item.path for item in self.options.inputs if item.phase in (None, "0")]
        with self.timed("loading"):
            self.data: LoadedDataset = load_mbpp(given[0] if given else self.profile.dataset)
        with self.timed("complexity"):
            self.problems = [
                replace(problem, cyclomatic_complexity=cyclomatic_complexity(problem.code))
                for problem in self.data.problems
            ]
        self.summary = summarise([problem.cyclomatic_complexity or 1 for problem in self.problems])

    def describe(self) -> None:
        """Prints the summary and writes nothing."""
        _log.info("%s", _in_words(self.summary))
        super().describe()

    def execute(self) -> None:
        """Writes the table, the summary and the histogram, and the record last."""
        from common.plotting import save

        if self.options.fresh:
            self.set_aside()
        stamp = timestamp()
        table = problem_table(self.problems)
        name = difficulty_mapping(stamp)
        outputs = [OutputFile(name, write_parquet(self.paths.root / name, table), table.num_rows)]
        summary = {"dataset": self.data.identity, "cyclomatic_complexity": self.summary}
        outputs.append(
            OutputFile(difficulty_summary(stamp), write_json(self.paths.root / difficulty_summary(stamp), summary))
        )
        figure = complexity_histogram([problem.cyclomatic_complexity or 1 for problem in self.problems])
        pictures = save(figure, self.paths.root / difficulty_histogram(stamp))
        outputs.extend(output_file(self.paths, path.name) for path in pictures)
        identity = self.data.identity
        self._given.append(InputFile(None, identity["name"], identity["sha256"], identity["n"], identity["revision"]))
        n = len(self.problems)
        self.publish(Extent(n, n), outputs, self._details(name))
        _log.info("phase 0: %s", _in_words(self.summary))

    def _details(self, mapping: str) -> dict[str, Any]:
        return {"mapping": mapping, "dataset": self.data.identity, "cyclomatic_complexity": self.summary}


def _in_words(summary: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} of {value}" for value, count in summary["counts"].items())
    return f"{summary['n']} problems; cyclomatic complexity: {counts}"
