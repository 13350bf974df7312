"""Step 2: one causal feature end to end, and the numerical self-test → `single_feature_test.json`.

The feature is the causal one of largest |Cohen's d| in the last layer that has one, unless the settings name another;
where none is causal, one that fires stands in for it. Its most active upstream features are listed, layer by layer, on
the prompt on which it fires most: they say what is there, not what drives it (that is step 3). Fails where any check of
the self-test fails; memory past its ceiling ends it at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from common.capacity import available_ram
from common.errors import UsageError
from common.logging import get_logger
from common.runs.features import Feature
from common.runs.files import write_json
from common_simplified.model_loader import LoadedModel
from common_simplified.model_setup import ModelSetup
from experiment_pathway_token_analysis.src.causal_targets import (
    Prompts,
    Target,
    feature_name,
    read_prompts,
    read_targets,
)
from experiment_pathway_token_analysis.src.codes import Clean, read_clean
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries
from experiment_pathway_token_analysis.src.discovery_setup import set_up
from experiment_pathway_token_analysis.src.estimates import prefix_room
from experiment_pathway_token_analysis.src.memory_use import GB, MemoryMeter, lack_of_memory_named
from experiment_pathway_token_analysis.src.residuals import LastToken
from experiment_pathway_token_analysis.src.room import PROTOTYPE, require_room
from experiment_pathway_token_analysis.src.self_test import (
    GRADIENTS,
    Check,
    gradients_equal_differences,
    hooks_equal_hidden_states,
    no_op_patch_changes_nothing,
    saes_fit,
)
from experiment_pathway_token_analysis.src.steps import Run, StepResult

SCHEMA_VERSION = 1
_log = get_logger(__name__)


@dataclass(frozen=True)
class Bench:
    """What the checks stand on."""

    run: Run
    setup: ModelSetup
    loaded: LoadedModel
    last: LastToken
    dictionaries: Dictionaries
    prompts: Prompts
    clean: Clean
    feature: Feature
    meter: MemoryMeter

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return [prompt.text for prompt in self.prompts.all]


def run_step(run: Run) -> StepResult:
    """Runs step 2."""
    targets, prompts = read_targets(run), read_prompts(run)
    feature = chosen_feature(run, targets)
    last = run.profile.n_layers - 1 if feature is None else feature.layer
    setup = set_up(run, last)
    if len(setup.layers) < 2:
        raise UsageError(
            f"layer {last} has no earlier layer with an SAE; name another feature with --set prototype.feature=L2-17"
        )
    require_room(run, [PROTOTYPE], setup.place())
    meter = MemoryMeter(setup.device, run.settings.memory_ceiling_gb)
    meter.reset()
    with lack_of_memory_named("step 2 was at work"):
        report, checks = _measure(run, setup, prompts, feature, meter)
    name = report["feature"]
    peak = meter.peak()
    below = peak.reserved <= meter.ceiling
    checks.append(
        Check(
            "memory stays below its ceiling", below, {"peak_gb": peak.reserved / GB, "ceiling_gb": meter.ceiling / GB}
        )
    )
    failed = [check.name for check in checks if check.passed is False]
    report["memory_usage_gb"] = peak.as_gb()
    report["self_test"] = {"passed": not failed, "checks": [check.as_dict() for check in checks]}
    write_json(run.paths.prototype, report)
    inputs = [run.paths.causal_features, run.paths.prompts]
    return StepResult(
        not failed, _message(name, checks, failed, peak.reserved), inputs, [run.paths.prototype], int(bool(failed))
    )


def chosen_feature(run: Run, targets: list[Target]) -> Feature | None:
    """Returns the feature that the settings name, or the strongest causal one of the last layer that has one.

    None where no feature is causal, which is a valid outcome: then any active one serves (`_stand_in`).
    """
    name = run.settings.prototype.feature
    if name is not None:
        match = re.fullmatch(r"L(\d+)-(\d+)", name)
        if match is None:
            raise UsageError(f"prototype.feature = {name!r} is not of the form L3-17")
        return Feature(int(match[1]), int(match[2]))
    if not targets:
        return None
    last = max(target.feature.layer for target in targets)
    ofthat = [target for target in targets if target.feature.layer == last]
    return max(ofthat, key=lambda target: (abs(target.cohen_d or 0.0), -target.feature.index)).feature


def _measure(
    run: Run, setup: ModelSetup, prompts: Prompts, wanted: Feature | None, meter: MemoryMeter
) -> tuple[dict[str, Any], list[Check]]:
    """Makes the report and every check, with a look at the ceiling before each prompt, SAE and pair."""
    loaded = setup.load()
    meter.refuse_over("the model alone")
    dictionaries = Dictionaries(run.profile, setup.device)
    with LastToken(loaded, setup.points, [prompt.text for prompt in prompts.all], prefix_room(run)) as last:
        clean = read_clean(last, dictionaries, prompts, setup.layers, meter.check)
        feature = wanted or _stand_in(clean, setup.layers[-1])
        if feature.index >= clean.layers[feature.layer].codes.shape[1]:
            raise UsageError(f"feature {feature_name(feature)} does not exist in its SAE; run step 1 again")
        bench = Bench(run, setup, loaded, last, dictionaries, prompts, clean, feature, meter)
        return _report(bench), _checks(bench)


def _stand_in(clean: Clean, layer: int) -> Feature:
    """Returns the feature of a layer that fires most strongly on the prompts."""
    return Feature(layer, int(np.argmax(clean.layers[layer].codes.mean(axis=0))))


def _report(bench: Bench) -> dict[str, Any]:
    """Returns the feature's own activation and its most active upstream features, where it fires most."""
    codes = bench.clean.layers[bench.feature.layer].codes[:, bench.feature.index]
    prompt = int(np.argmax(codes))
    most = bench.run.settings.prototype.upstream_per_layer
    return {
        "schema_version": SCHEMA_VERSION,
        "feature": feature_name(bench.feature),
        **{"layer": bench.feature.layer, "feature_id": bench.feature.index},
        **{"prompt": bench.prompts.all[prompt].id, "activation": float(codes[prompt])},
        "n_active_prompts": int((codes > 0).sum()),
        "n_prompts": len(codes),
        **bench.setup.as_record(),
        "stream_norms": {str(layer): float(stream[prompt].norm()) for layer, stream in bench.clean.streams.items()},
        "upstream_candidates": [
            candidate
            for layer in bench.setup.layers
            if layer < bench.feature.layer
            for candidate in _most_active(layer, bench.clean.layers[layer].codes[prompt], most)
        ],
    }


def _most_active(layer: int, codes: np.ndarray, most: int) -> list[dict[str, Any]]:
    order = np.argsort(-codes, kind="stable")[:most]
    chosen = [int(index) for index in order if codes[index] > 0]
    return [
        {"source": feature_name(Feature(layer, index)), "source_layer": layer, "activation": float(codes[index])}
        for index in chosen
    ]


def _checks(bench: Bench) -> list[Check]:
    run, clean, last = bench.run, bench.clean, bench.last
    sources = [
        Feature(layer, int(index))
        for layer in bench.setup.layers
        for index in np.flatnonzero(clean.layers[layer].codes[0] > 0)[:10]
    ]
    return [
        hooks_equal_hidden_states(bench.loaded, bench.setup, bench.texts[0], last),
        saes_fit(
            *(bench.loaded, bench.setup, bench.dictionaries, bench.texts),
            run.settings.prototype.max_variance_unexplained,
            bench.meter.check,
        ),
        no_op_patch_changes_nothing(last, bench.dictionaries, clean, sources),
        *_gradient_checks(bench),
    ]


def _gradient_checks(bench: Bench) -> list[Check]:
    """Makes the checks of gradients in float32, whatever the model runs in, where float32 fits."""
    settings, name = bench.run.settings, GRADIENTS
    wanted = (settings.prototype.gradient_pairs, settings.prototype.gradient_tolerance, settings.seed)
    given = (bench.dictionaries, bench.clean, bench.feature.layer, *wanted, bench.meter.check)
    model, dtype = bench.loaded.model, bench.loaded.dtype
    if dtype == torch.float32:
        return gradients_equal_differences(bench.last, *given)
    if (reason := _why_not_in_float32(bench)) is not None:
        _log.warning("not checked: %s (%s)", name, reason)
        return [Check(name, None, {"reason": reason})]
    model.float()
    try:
        loaded = bench.loaded._replace(dtype=torch.float32)
        with LastToken(loaded, bench.setup.points, bench.texts, 0) as last:
            return gradients_equal_differences(last, *given)
    finally:
        model.to(dtype)


def _why_not_in_float32(bench: Bench) -> str | None:
    """Returns what the model in float32 would exceed, None where there is room for it."""
    loaded, meter = bench.loaded, bench.meter
    more = sum(parameter.numel() for parameter in loaded.model.parameters()) * (4 - loaded.dtype.itemsize)
    held = meter.now() + more
    if held > meter.ceiling:
        return f"with the model in float32 {held / GB:.1f} GB are held, memory_ceiling_gb is {meter.ceiling / GB:g}"
    free = available_ram() if loaded.device.type != "cuda" else bench.setup.place().gpu_memory
    if free is None or more <= free:
        return None
    return f"the model in float32 takes {more / GB:.1f} GB more, {free / GB:.1f} GB are free"


def _message(name: str, checks: list[Check], failed: list[str], peak: int) -> str:
    held = sum(check.passed is True for check in checks)
    if failed:
        return f"{name}: {', '.join(failed)}: not so; the report says by how much"
    return f"{name}: {held} of {len(checks)} checks hold, peak memory {peak / GB:.2f} GB"
