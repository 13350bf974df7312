"""The rows in which one target's edges, controls and chains are replayed, and how their figures are found again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from common.runs.features import Feature
from common.statistics.selection import FloatArray
from experiment_pathway_token_analysis.src.codes import Clean
from experiment_pathway_token_analysis.src.dictionaries import Reading
from experiment_pathway_token_analysis.src.edges import Effects
from experiment_pathway_token_analysis.src.gradients import Candidate
from experiment_pathway_token_analysis.src.replay import (
    MIDPOINT,
    OPPOSITE,
    Freeze,
    Measured,
    Plan,
    Variant,
    amounts_of,
    edge_variants,
)


class Sources(NamedTuple):
    """One target's sources: kept candidates, of which the first `n_replayed` are replayed, controls, and chains.

    `rows` are decoder rows, `local` derivatives on the validating prompts, `readings` those of the chains' middles.
    """

    kept: list[Candidate]
    n_passing: int
    n_replayed: int
    controls: list[Feature]
    rows: dict[Feature, torch.Tensor]
    local: dict[Feature, FloatArray]
    chains: list[tuple[Feature, Feature]]
    readings: dict[Feature, Reading]

    @property
    def replayed(self) -> list[Candidate]:
        """The candidates that are replayed."""
        return self.kept[: self.n_replayed]

    @property
    def needs_whole_encoders(self) -> bool:
        """Whether a middle is a top-k SAE's, whose activation needs the whole encoder."""
        return any(reading.threshold is None for reading in self.readings.values())


class Rows:
    """Lays out the rows of targets on the validating prompts."""

    def __init__(self, clean: Clean, validating: Sequence[int], small_step: float) -> None:
        self.clean, self.validating, self.small_step = clean, validating, small_step

    def variants(self, found: Sources) -> list[tuple[Feature, Variant]]:
        """Returns the rows of edges, then of controls: each row's source, and how it is changed."""
        small = edge_variants(self.small_step)
        rows = [(item.source, variant) for item in found.replayed for variant in small]
        return rows + [(source, variant) for source in found.controls for variant in (OPPOSITE, MIDPOINT)]

    def plan(self, found: Sources) -> Plan:
        """Returns the rows of edges, then controls, then (but for top-k SAEs) chains."""
        rows = self.variants(found)
        n_edge_rows = len(edge_variants(self.small_step)) * found.n_replayed
        freezes: list[Freeze | None] = [None] * len(rows)
        if not found.needs_whole_encoders:
            rows += [(source, OPPOSITE) for source, _ in found.chains]
            freezes += _freezes(found, found.chains)
        gated = [place for place, (_, variant) in enumerate(rows[:n_edge_rows]) if variant is OPPOSITE]
        return self._rows(found, rows, gated, freezes)

    def _rows(
        self, found: Sources, rows: list[tuple[Feature, Variant]], gated: list[int], freezes: list[Freeze | None]
    ) -> Plan:
        sources = [source for source, _ in rows]
        amounts = [amounts_of(self.clean, source, variant, self.validating) for source, variant in rows]
        return Plan(sources, torch.stack([found.rows[source] for source in sources]), np.array(amounts), gated, freezes)

    def chain_plan(self, found: Sources, chains: list[tuple[Feature, Feature]]) -> Plan:
        """Returns the rows of some chains alone."""
        return self._rows(found, [(source, OPPOSITE) for source, _ in chains], [], _freezes(found, chains))

    def effects(self, found: Sources, plan: Plan, measured: Measured) -> dict[Feature, Effects]:
        """Returns each source's effects, from the rows that are its own."""
        rows: dict[Feature, dict[str, int]] = {}
        for place, (source, variant) in enumerate(self.variants(found)):
            rows.setdefault(source, {})[variant.name] = place
        gates = {plan.sources[row]: place for place, row in enumerate(plan.gated)}
        return {
            source: Effects(
                {name: plan.amounts[place] for name, place in places.items()},
                {name: measured.delta[place] for name, place in places.items()},
                found.local[source],
                measured.active_before[gates[source]] if source in gates else None,
                measured.active_after[gates[source]] if source in gates else None,
            )
            for source, places in rows.items()
        }


def _freezes(found: Sources, chains: Sequence[tuple[Feature, Feature]]) -> list[Freeze | None]:
    return [Freeze(middle, found.rows[middle], found.readings[middle]) for _, middle in chains]
