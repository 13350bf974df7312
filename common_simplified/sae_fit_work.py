"""Measuring the SAEs' fit in a generating phase: on the first positions of its split, durably, and as `sae_fit.json`.

The measurement itself is `sae_fit`; here are its segments, its fingerprint, and what of it is still to be done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from common.phases import PLOT_SUFFIXES
from common.runs.artifacts import SAE_FIT_PLOT
from common.runs.files import read_json, write_json
from common.runs.fit_gate import fit_report
from common.runs.interruption import StopRequest
from common.runs.locks import directory_lock
from common.runs.metadata import OutputFile, output_file, read_record
from common.runs.records import StageStore, fingerprint_differences
from common.runs.slices import Span, covered, missing_cells, missing_spans
from common_simplified.generation_runner import GenerationRunner
from common_simplified.sae_fit import measure_fit

STAGE = "sae_fit"


class SaeFitWork:
    """The fit of the SAEs at the points that a generating phase captures, on the prompts of its first arm."""

    def __init__(self, runner: GenerationRunner) -> None:
        self.runner = runner
        self.arm = runner.arms()[0]

    @property
    def store(self) -> StageStore:
        """The segments: per-problem sums, which slices add up exactly."""
        return StageStore(self.runner.paths.stage(STAGE, self.arm.name))

    def fingerprint(self) -> dict[str, Any]:
        """Returns what changes the figures."""
        saes = {str(layer): identity._asdict() for layer, identity in self.runner.setup.saes.items()}
        positions = self.runner.config.sae_fit_positions
        return {**self.runner.generation_fingerprint(self.arm), "saes": saes, "positions": positions}

    def gaps(self) -> list[Span]:
        """Returns the positions whose prompts the fit is still to be measured on."""
        if self._is_published():
            return []
        stored = self.store.stored_fingerprint()
        usable = stored is not None and not fingerprint_differences(stored, self.fingerprint())
        first = Span(0, min(self.runner.config.sae_fit_positions, len(self.runner.problems)) - 1)
        return missing_spans(first, self.store.spans() if usable else [])

    def work(self, stop: StopRequest) -> None:
        """Measures the fit on the first positions of the split, as far as the runner's span holds them."""
        runner, store = self.runner, self.store
        if store.spans():
            store.verify()  # a damaged one is a gap
        gaps = [gap for gap in self.gaps() if gap.overlaps(runner.span)]
        if not gaps:
            return
        wanted = Span(runner.span.start, min(runner.span.end, gaps[-1].end))
        with directory_lock(runner.paths.locks):  # another slice may be about to do the same
            self._open(store)
        for cell in missing_cells(wanted, store.spans(), runner.config.batch_size):
            if stop.requested:
                return
            with runner.timed("SAE fit"):
                store.write(cell, self._measure(cell))

    def _open(self, store: StageStore) -> None:
        stored = store.stored_fingerprint()
        if stored is not None and fingerprint_differences(stored, self.fingerprint()):
            store.clear()
        store.open(self.fingerprint())
        store.verify()

    def write(self, more: Mapping[str, Any] | None = None) -> list[OutputFile]:
        """Writes `sae_fit.json` with what `more` adds to the report, and its plot.

        Published ones stay where nothing is measured. Returns their entries for the record, none where no position has
        been measured.
        """
        path = self.runner.paths.sae_fit
        if self.store.spans():
            report = fit_report(self.store.read())
            left_out = covered(self.store.spans()) - report["n_problems"]
            report = {**report, "n_problems_left_out": left_out, **(more or {})}
            write_json(path, report)
            self._draw(report)
        elif not path.is_file():
            return []
        plots = [self.runner.paths.root / f"{SAE_FIT_PLOT}.{suffix}" for suffix in PLOT_SUFFIXES]
        return [output_file(self.runner.paths, one.name) for one in (path, *plots) if one.is_file()]

    def _draw(self, report: Mapping[str, Any]) -> None:
        from common.plotting import save
        from common.sae_fit_plot import sae_fit_figure

        save(sae_fit_figure(report), self.runner.paths.root / SAE_FIT_PLOT)

    def published(self) -> dict[str, Any] | None:
        """Returns the report that was written, None where there is none."""
        return read_json(self.runner.paths.sae_fit) if self.runner.paths.sae_fit.is_file() else None

    def _is_published(self) -> bool:
        record = read_record(self.runner.paths)
        if record is None or not record["complete"] or not self.runner.paths.sae_fit.is_file():
            return False
        return not fingerprint_differences(record["fit_fingerprint"], self.fingerprint())

    def _measure(self, cell: Span) -> pa.Table:
        runner = self.runner
        problems = [runner.problems[position] for position in range(cell.start, cell.end + 1)]
        keys = [{"position": cell.start + index, "task_id": problem.task_id} for index, problem in enumerate(problems)]
        prompts = [runner.prompt_of(problem) for problem in problems]
        retries = runner.config.max_retries
        return measure_fit(runner.loaded, runner.profile, prompts, keys, runner.setup.points, max_retries=retries)
