"""The filter of merely common features: those that fire on general text as well (phase 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import UsageError
from common.runs.artifacts import FEATURE_FREQUENCIES, PhasePaths, frequency_array
from common.runs.compatibility import refuse_other
from common.runs.discovery import PhaseOutput, phase_directory, run_command, unfinished
from common.runs.files import read_npz
from common.runs.metadata import read_record
from common.runs.phase_runner import PhaseRunner

UNFILTERED = "phase 2.2 (general-text frequencies) has not been run: every feature is ranked"


@dataclass(frozen=True)
class GeneralTextFilter:
    """How often features fire on general text, by layer, and the share from which on they are left out."""

    by_layer: dict[int, np.ndarray] | None
    n_texts: int
    limit: float

    @property
    def words(self) -> str:
        """Says what is left out."""
        if self.by_layer is None:
            return UNFILTERED
        return f"features that fire on {100 * self.limit:g} % of {self.n_texts} general texts or more are left out"

    def frequencies(self, layer: int, width: int) -> np.ndarray:
        """Returns the share of texts on which each of a layer's features fires, nan where that was not measured."""
        return np.full(width, np.nan) if self.by_layer is None else self.by_layer[layer]

    def keep(self, frequencies: np.ndarray) -> np.ndarray:
        """Returns which features are ranked."""
        return np.ones(len(frequencies), dtype=bool) if self.by_layer is None else frequencies < self.limit

    def as_record(self) -> dict[str, Any]:
        """Returns the filter as it stands in records."""
        if self.by_layer is None:
            return {"applied": False, "reason": UNFILTERED}
        return {"applied": True, "n_texts": self.n_texts, "left_out_from": self.limit}


def general_text_filter(runner: PhaseRunner, source: PhaseOutput) -> GeneralTextFilter:
    """Returns the filter from phase 2.2's output, or one that leaves nothing out where phase 2.2 has not been run.

    Raises `UsageError` where the frequencies were measured with another model, other SAEs or at another site than
    `source` (phase 1.0's output), or lack a layer.
    """
    limit = runner.config.general_text_max_frequency
    paths = PhasePaths(phase_directory(runner.config, runner.options, "2.2"))
    if read_record(paths) is None and not unfinished(paths):
        return GeneralTextFilter(None, 0, limit)
    output = runner.find("2.2")
    refuse_other(runner.phase, source, output, f"{run_command(runner.config, '2.2')} --fresh")
    arrays = read_npz(output.use(FEATURE_FREQUENCIES), sha256=output.entry(FEATURE_FREQUENCIES)["sha256"])
    measured = {layer for layer in output.record["layers"] if str(layer) in output.record["points"]}
    absent = [layer for layer in source.record["layers"] if layer not in measured]
    if absent:
        raise UsageError(
            f"phase {runner.phase}: {output.paths.root} lacks layers {', '.join(map(str, absent))}; "
            f"run: {run_command(runner.config, '2.2')} --fresh"
        )
    by_layer = {layer: arrays[frequency_array(layer)].astype(np.float64) for layer in source.record["layers"]}
    return GeneralTextFilter(by_layer, int(output.record["n_texts"]), limit)
