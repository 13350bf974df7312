"""What step 3 does with a batch of targets: gradients, sources, controls, replay, chains; one record a target.

A record holds nothing that depends on which other targets are worked on beside it, in which order, or in how many
slices. When memory runs out the batch is halved; a single target that still does not fit is recorded as an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from common.logging import get_logger
from common.runs.features import Feature
from common.statistics.selection import FloatArray
from experiment_pathway_token_analysis.src.causal_targets import Prompts, Target, feature_name
from experiment_pathway_token_analysis.src.codes import Clean
from experiment_pathway_token_analysis.src.controls import matched_sources, quota
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries, Reading
from experiment_pathway_token_analysis.src.edges import (
    Effects,
    chain_figures,
    edge_figures,
    edge_head,
    effect_figures,
    passing,
)
from experiment_pathway_token_analysis.src.gradients import (
    Candidate,
    Candidates,
    Gradients,
    along,
    select_sources,
    target_gradients,
)
from experiment_pathway_token_analysis.src.memory_use import free_cached
from experiment_pathway_token_analysis.src.replay import Measured, Plan, Replayer
from experiment_pathway_token_analysis.src.residuals import LastToken
from experiment_pathway_token_analysis.src.settings import Settings
from experiment_pathway_token_analysis.src.target_rows import Rows, Sources

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
_log = get_logger(__name__)


class TargetWork:
    """Makes the records of targets; everything that all of them share is computed once.

    `check` is called before each prompt: it raises `OverCeiling` where too much memory is held, `Interrupted` where the
    run is to end.
    """

    def __init__(
        self,
        last: LastToken,
        dictionaries: Dictionaries,
        prompts: Prompts,
        clean: Clean,
        targets: Sequence[Target],
        settings: Settings,
        check: Callable[[], None],
    ) -> None:
        self.last, self.dictionaries, self.prompts, self.clean = last, dictionaries, prompts, clean
        self.settings, self.check = settings, check
        self.causal = {target.feature for target in targets}
        self.n_targets = len(targets)
        self.in_layer = Counter(target.feature.layer for target in targets)
        self.validating = prompts.rows(selects=False)
        self.classes = clean.classes[self.validating]
        self.rows = Rows(clean, self.validating, settings.replay.small_step)

    def records(self, targets: Sequence[Target]) -> dict[int, dict[str, Any]]:
        """Returns the record of each target, by its position."""
        try:
            return self._records(targets)
        except OUT_OF_MEMORY as error:
            self.last.streams = {}
            free_cached(self.last.loaded.device)
            reason = " ".join(str(error).split())[:200]
        if len(targets) == 1:
            _log.warning("target %s: out of memory (%s)", targets[0].name, reason)
            return {targets[0].position: _without_edges(targets[0], "error", f"out of memory: {reason}")}
        half = (len(targets) + 1) // 2
        _log.warning("out of memory with %d targets at once: going on with %d (%s)", len(targets), half, reason)
        return {**self.records(targets[:half]), **self.records(targets[half:])}

    def _records(self, targets: Sequence[Target]) -> dict[int, dict[str, Any]]:
        self.check()
        readings = {target.feature: self.dictionaries.reading(*target.feature) for target in targets}
        state = {target.feature: self._state(target, readings[target.feature]) for target in targets}
        found = {target.position: state[target.feature] for target in targets}
        live = {
            target.feature: readings[target.feature] for target in targets if found[target.position]["status"] == "ok"
        }
        if live:
            self._find_edges(live, state)
        return found

    def _state(self, target: Target, reading: Reading) -> dict[str, Any]:
        """Returns a target's record before any edge: whether it can have some, and its scale."""
        feature, codes = target.feature, self.clean.layers[target.feature.layer].codes
        active = int((codes[:, feature.index] > 0).sum())
        pre = reading.pre(self.clean.streams[feature.layer].to(reading.weight.device)).cpu().numpy()
        scale = float(pre[self.clean.selects].std(ddof=1)) if self.clean.selects.sum() > 1 else 0.0
        status, reason = "ok", None
        if not any(layer < feature.layer for layer in self.clean.layers):
            status, reason = "skipped", "no earlier layer has an SAE"
        elif active == 0:
            status, reason = "inactive", "it fires at the last token of no prompt"
        elif scale == 0:
            status, reason = "inactive", "its pre-activation is the same on every prompt"
        return {**_without_edges(target, status, reason), "n_active_prompts": active, "scale": scale}

    def _find_edges(self, readings: dict[Feature, Reading], records: dict[Feature, dict[str, Any]]) -> None:
        layers, check = sorted(self.clean.layers), self.check
        gradients = target_gradients(self.last, readings, len(self.prompts.all), layers, check)
        scales = {target: records[target]["scale"] for target in readings}
        candidates = select_sources(gradients, scales, self.clean, self.dictionaries, self.settings.gradient, check)
        sources = self._sources(gradients, candidates)
        for target, found in sources.items():
            records[target]["n_candidates"], records[target]["n_kept"] = found.n_passing, len(found.kept)
        sources = {target: found for target, found in sources.items() if found.kept}
        if not sources:
            return
        plans = {target: self.rows.plan(found) for target, found in sources.items()}
        replayer = Replayer(self.last, self.dictionaries, self.clean, self.validating, check)
        measured = replayer.measure(plans, readings)
        cosines = self._cosines(sources)
        for target, found in sources.items():
            effects = self.rows.effects(found, plans[target], measured[target])
            record = records[target]
            record["edges"] = [
                self._edge(target, readings[target], found, effects, place, cosines[target][place])
                for place in range(len(found.kept))
            ]
            record["controls"] = [self._control(source, effects[source]) for source in found.controls]
            record["chains"] = self._chains(
                target, found, effects, self._frozen(target, found, plans, measured, replayer, readings)
            )

    def _sources(
        self, gradients: dict[Feature, Gradients], candidates: dict[Feature, Candidates]
    ) -> dict[Feature, Sources]:
        """Adds to each target's candidates its controls, all their decoder rows and local derivatives."""
        most = max(1, self.settings.replay.max_edges // self.n_targets)
        found = {}
        for target, (kept, n_passing) in candidates.items():
            controls = self._controls(target, [item.source for item in kept], most)
            pairs = self._chain_pairs(kept[:most])
            found[target] = Sources(kept, n_passing, min(most, len(kept)), controls, {}, {}, pairs, {})
        for layer in sorted(self.clean.layers):
            for target, item in found.items():
                wanted = [one.source for one in item.kept if one.source.layer == layer]
                wanted += [source for source in item.controls if source.layer == layer]
                if wanted:
                    rows = self.dictionaries.rows(layer, [source.index for source in wanted])
                    local = along(gradients[target][layer][self.validating], rows)
                    item.rows.update(zip(wanted, rows, strict=True))
                    item.local.update(zip(wanted, local.T, strict=True))
                for middle in {middle for _, middle in item.chains if middle.layer == layer}:
                    item.readings[middle] = self.dictionaries.reading(*middle)
        return found

    def _controls(self, target: Feature, kept: list[Feature], most: int) -> list[Feature]:
        """Draws controls for the first `most` sources, none of them one of those that are kept."""
        n = quota(self.settings.replay.controls_per_layer_pair, self.in_layer[target.layer])
        chosen: list[Feature] = []
        for layer in sorted({source.layer for source in kept[:most]}):
            own = [source.index for source in kept[:most] if source.layer == layer]
            others = [source.index for source in kept[most:] if source.layer == layer]
            chosen += matched_sources(layer, own, self.clean.layers[layer], n, self.settings.seed, target, others)
        return chosen

    def _frozen(
        self,
        target: Feature,
        found: Sources,
        plans: dict[Feature, Plan],
        measured: dict[Feature, Measured],
        replayer: Replayer,
        readings: dict[Feature, Reading],
    ) -> FloatArray:
        """Returns the target's change with each chain's middle frozen, (chains, prompts).

        Of a top-k SAE a middle's activation needs the whole encoder: then its chains run layer by layer, so that one
        SAE is in memory at a time.
        """
        if not found.needs_whole_encoders:
            return measured[target].delta[len(plans[target].sources) - len(found.chains) :]
        frozen = np.zeros((len(found.chains), len(self.validating)))
        for layer in sorted({middle.layer for _, middle in found.chains}):
            chosen = [place for place, (_, middle) in enumerate(found.chains) if middle.layer == layer]
            chains = [found.chains[place] for place in chosen]
            plan = self.rows.chain_plan(found, chains)
            frozen[chosen] = replayer.measure({target: plan}, {target: readings[target]})[target].delta
        return frozen

    def _edge(
        self,
        target: Feature,
        reading: Reading,
        found: Sources,
        effects: dict[Feature, Effects],
        place: int,
        cosine: float,
    ) -> dict[str, Any]:
        item = found.kept[place]
        skip = float(found.rows[item.source].double() @ reading.weight.cpu())
        replayed = place < found.n_replayed
        return {
            **edge_head(item.source, target),
            "gradient": {"mean": item.gradient, "sd": item.gradient_sd},
            "attribution": item.attribution,
            "rank": place + 1,
            **passing(item.gradient, skip, cosine, self.settings.gradient)._asdict(),
            "figures": self._figures(effects[item.source]) if replayed else None,
        }

    def _figures(self, effects: Effects) -> dict[str, Any]:
        return edge_figures(effects, self.classes, self.settings.replay, self.settings.seed)

    def _control(self, source: Feature, effects: Effects) -> dict[str, Any]:
        figures = effect_figures(effects, self.classes, self.settings.replay, self.settings.seed)
        return {"source": feature_name(source), "source_layer": source.layer, "figures": figures}

    def _cosines(self, sources: dict[Feature, Sources]) -> dict[Feature, list[float]]:
        """Returns the cosine of each kept source's decoder row with the target's."""
        found = {}
        for target, item in sources.items():
            own = self.dictionaries.rows(target.layer, [target.index])[0].double()
            rows = [item.rows[one.source].double() for one in item.kept]
            found[target] = [float(row @ own / (row.norm() * own.norm()).clamp(min=1e-30)) for row in rows]
        return found

    def _chains(
        self, target: Feature, found: Sources, effects: dict[Feature, Effects], frozen: FloatArray
    ) -> list[dict[str, Any]]:
        """Returns what became of each chain source → middle → target with its middle frozen."""
        return [
            {
                **{"source": feature_name(source), "middle": feature_name(middle), "target": feature_name(target)},
                **chain_figures(effects[source].deltas["opposite"], frozen[row], effects[source].amounts["opposite"]),
            }
            for row, (source, middle) in enumerate(found.chains)
        ]

    def _chain_pairs(self, replayed: list[Candidate]) -> list[tuple[Feature, Feature]]:
        """Returns source and middle of the chains that are measured: those of largest attributions, multiplied.

        Both are replayed sources here, and the middle is a target itself.
        """
        if self.settings.replay.max_chains == 0:
            return []
        middles = [item for item in replayed if item.source in self.causal]
        pairs = [(a, b) for b in middles for a in replayed if a.source.layer < b.source.layer]
        pairs.sort(key=lambda pair: (-pair[0].attribution * pair[1].attribution, pair[0].source, pair[1].source))
        most = max(self.settings.gradient.top_sources, math.ceil(self.settings.replay.max_chains / self.n_targets))
        return [(a.source, b.source) for a, b in pairs[:most]]


def _without_edges(target: Target, status: str, reason: str | None) -> dict[str, Any]:
    return {
        "feature": target.name,
        "layer": target.feature.layer,
        "feature_id": target.feature.index,
        "class": target.prompt_class,
        "n_active_prompts": None,
        "scale": None,
        "n_candidates": 0,
        "n_kept": 0,
        "status": status,
        "reason": reason,
        "edges": [],
        "controls": [],
        "chains": [],
    }
