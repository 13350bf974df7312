"""Replay: a source's activation is really changed, the blocks above run again, and the target's change is read.

(value − current) × decoder row is added to the stream of the last prompt token, so what the SAE does not explain stays
(no splicing). All changes of one target on one prompt go through the model side by side, in passes of a fixed number of
rows, and each row is compared with the same row of an unchanged pass: results depend neither on which other targets are
asked for nor on how many rows a matrix product likes best. Layers below a source must be the unchanged ones bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from common.runs.features import Feature
from common.statistics.selection import FloatArray
from experiment_pathway_token_analysis.src.codes import Clean
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries, Reading
from experiment_pathway_token_analysis.src.estimates import ROWS
from experiment_pathway_token_analysis.src.residuals import Change, LastToken


class Variant(NamedTuple):
    """One way to change a source: its name, and which share of the way to the patch value (or to zero) it goes."""

    name: str
    towards: str
    share: float


OPPOSITE = Variant("opposite", "opposite", 1.0)
MIDPOINT = Variant("midpoint", "midpoint", 1.0)
ABLATION = Variant("ablation", "zero", 1.0)


def edge_variants(small_step: float) -> list[Variant]:
    """Returns how an edge's source is changed: to the other class's mean, half-way between both, off, and a little."""
    steps = [Variant("plus", "opposite", small_step), Variant("minus", "opposite", -small_step)]
    return [OPPOSITE, MIDPOINT, ABLATION, *steps]


class Freeze(NamedTuple):
    """A feature that a row holds at its unchanged activation, its decoder row (d_model,), and how it is read."""

    middle: Feature
    row: torch.Tensor
    reading: Reading


@dataclass(frozen=True)
class Plan:
    """Rows of one target: each row's source, its decoder row, by how much its activation is changed, what is frozen.

    `rows` (rows, d_model), `amounts` (rows, prompts); `gated` are the rows of which the target's activation is wanted.
    """

    sources: list[Feature]
    rows: torch.Tensor
    amounts: FloatArray
    gated: list[int]
    freezes: list[Freeze | None]

    def chunks(self) -> list[range]:
        """Returns the rows of each pass."""
        return [range(at, min(at + ROWS, len(self.sources))) for at in range(0, len(self.sources), ROWS)]


@dataclass(frozen=True)
class Measured:
    """What the target did, float64: its pre-activation's change (rows, prompts), its activations (gated, prompts)."""

    delta: FloatArray
    active_before: FloatArray
    active_after: FloatArray


def amounts_of(clean: Clean, source: Feature, variant: Variant, prompts: Sequence[int]) -> FloatArray:
    """Returns by how much a variant changes a source's activation on each of `prompts`, float64."""
    codes = clean.layers[source.layer]
    current = codes.codes[list(prompts), source.index].astype(np.float64)
    means = codes.class_means[:, source.index]
    values = {
        "opposite": means[1 - clean.classes[list(prompts)]],
        "midpoint": np.full(len(current), means.mean()),
        "zero": np.zeros(len(current)),
    }
    return variant.share * (values[variant.towards] - current)


class Replayer:
    """Measures plans on the validating prompts; `prompts` are their positions."""

    def __init__(
        self,
        last: LastToken,
        dictionaries: Dictionaries,
        clean: Clean,
        prompts: Sequence[int],
        check: Callable[[], None],
    ) -> None:
        self.last, self.dictionaries, self.clean, self.prompts, self.check = last, dictionaries, clean, prompts, check

    @torch.no_grad()
    def measure(self, plans: Mapping[Feature, Plan], readings: Mapping[Feature, Reading]) -> dict[Feature, Measured]:
        """Returns what each target does under its plan; an unchanged pass a prompt serves all of them."""
        collected = {target: _Collected(reading) for target, reading in readings.items()}
        until = max(target.layer for target in plans)
        for column, prompt in enumerate(self.prompts):
            self.check()
            self.last.run(prompt, ROWS, until)
            unchanged = self.last.streams
            for target, plan in plans.items():
                for rows in plan.chunks():
                    self.last.run(prompt, ROWS, target.layer, self._changes(plan, rows, column))
                    _refuse_changed_below(unchanged, self.last.streams, plan, rows)
                    collected[target].add(rows, plan, unchanged[target.layer], self.last.streams[target.layer])
                collected[target].end_prompt()
        return {target: self._measured(target, collected[target]) for target in plans}

    def _changes(self, plan: Plan, rows: range, column: int) -> dict[int, Change]:
        """Returns what adds each row's change to the stream of its source's layer, and holds what it freezes."""
        device, dtype = self.last.loaded.device, self.last.loaded.dtype
        changes: dict[int, Change] = {}
        for layer, places in _by_layer([plan.sources[row] for row in rows]).items():
            chosen = [rows.start + place for place in places]
            amounts = torch.from_numpy(plan.amounts[chosen, column]).float().unsqueeze(1)
            added = (plan.rows[chosen] * amounts).to(device, dtype)
            changes[layer] = _adding_to(torch.tensor(places, device=device), added)
        freezes = {place: plan.freezes[row] for place, row in enumerate(rows)}
        frozen = {place: freeze for place, freeze in freezes.items() if freeze is not None}
        for layer in sorted({freeze.middle.layer for freeze in frozen.values()}):
            here = {place: freeze for place, freeze in frozen.items() if freeze.middle.layer == layer}
            changes[layer] = self._freezing(layer, here, self.prompts[column], changes.get(layer))
        return changes

    def _freezing(self, layer: int, freezes: Mapping[int, Freeze], prompt: int, before: Change | None) -> Change:
        """Returns what gives each row's middle feature its unchanged activation back, after any change there."""
        device = self.last.loaded.device
        places = torch.tensor(list(freezes), device=device)
        middles = [freeze.middle.index for freeze in freezes.values()]
        kept = torch.from_numpy(self.clean.layers[layer].codes[prompt, middles]).to(device).double()
        decoder = torch.stack([freeze.row for freeze in freezes.values()]).to(device)
        readings = [freeze.reading for freeze in freezes.values()]

        def freeze(stream: torch.Tensor) -> torch.Tensor:
            stream = stream if before is None else before(stream)
            missing = kept - self._activations(layer, middles, readings, stream[places])
            return stream.index_add(0, places, (missing.unsqueeze(1) * decoder).to(stream.dtype))

        return freeze

    def _activations(
        self, layer: int, indices: list[int], readings: Sequence[Reading], stream: torch.Tensor
    ) -> torch.Tensor:
        """Returns the activation of one feature a row, float64 (rows,)."""
        if readings[0].threshold is None:
            own = torch.arange(len(indices), device=stream.device)
            return self.dictionaries.encoder(layer).encode_features(stream, indices)[own, own].double()
        weights = torch.stack([reading.weight for reading in readings])
        numbers = [[reading.bias, reading.threshold] for reading in readings]
        bias, threshold = torch.tensor(numbers, dtype=torch.float64, device=stream.device).T
        pre = (stream.double() * weights).sum(dim=1) + bias
        return torch.relu(pre) * (pre > threshold)

    def _measured(self, target: Feature, found: _Collected) -> Measured:
        encoder = None if found.reading.threshold is not None else self.dictionaries.encoder(target.layer)
        before, after = (
            found.activations(pairs, encoder, target.index) for pairs in (found.gated_before, found.gated_after)
        )
        return Measured(
            np.stack([np.concatenate(parts) for parts in found.deltas], axis=1),
            before,
            after,
        )


class _Collected:
    """What is read of one target while prompts go by."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.deltas: list[list[FloatArray]] = []
        self.gated_before: list[list[torch.Tensor]] = []
        self.gated_after: list[list[torch.Tensor]] = []
        self._parts: tuple[list[FloatArray], list[torch.Tensor], list[torch.Tensor]] = ([], [], [])

    def add(self, rows: range, plan: Plan, before: torch.Tensor, after: torch.Tensor) -> None:
        """Takes over one pass: the target layer's stream of the unchanged and of the changed rows."""
        deltas, gated_before, gated_after = self._parts
        difference = self.reading.pre(after) - self.reading.pre(before)
        deltas.append(difference[: len(rows)].cpu().numpy())
        places = [row - rows.start for row in plan.gated if row in rows]
        gated_before.append(before[places].clone())
        gated_after.append(after[places].clone())

    def end_prompt(self) -> None:
        """Ends a prompt."""
        deltas, gated_before, gated_after = self._parts
        self.deltas.append(deltas or [np.zeros(0)])
        self.gated_before.append(gated_before)
        self.gated_after.append(gated_after)
        self._parts = ([], [], [])

    def activations(self, prompts: list[list[torch.Tensor]], encoder: object, index: int) -> FloatArray:
        """Returns the target's activations (gated rows, prompts) at the streams that were kept."""
        columns = []
        for parts in prompts:
            stream = torch.cat(parts) if parts else torch.zeros(0, len(self.reading.weight))
            if encoder is None:
                found = self.reading.activation(self.reading.pre(stream.to(self.reading.weight.device)))
            else:
                found = encoder.encode_features(stream, [index])[:, 0]  # type: ignore[attr-defined]
            columns.append(found.double().cpu().numpy())
        return np.stack(columns, axis=1)


def _adding_to(places: torch.Tensor, added: torch.Tensor) -> Change:
    return lambda stream: stream.index_add(0, places, added)


def _by_layer(sources: Sequence[Feature]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for place, source in enumerate(sources):
        places.setdefault(source.layer, []).append(place)
    return places


def _refuse_changed_below(
    before: Mapping[int, torch.Tensor], after: Mapping[int, torch.Tensor], plan: Plan, rows: range
) -> None:
    """Asserts that no layer below a row's source differs from the unchanged pass in a single bit."""
    for layer in sorted(after):
        places = [place for place, row in enumerate(rows) if plan.sources[row].layer > layer]
        if places:
            assert torch.equal(before[layer][places], after[layer][places]), f"a change above layer {layer} reached it"
