"""What steps 2 and 3 stand on: which model, SAEs and prompts, and what of them changes the results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from common.errors import UsageError
from common.model_facts import ModelFacts
from common.runs.files import canonical_json
from common.sae_registry import sae_layers
from common_simplified.model_setup import ModelSetup, set_up_model
from experiment_pathway_token_analysis.src.causal_targets import Prompts, Target
from experiment_pathway_token_analysis.src.residuals import refuse_points
from experiment_pathway_token_analysis.src.steps import Run

STEP_VERSION = 1
# Settings that only say what is validated: they may change without anything being computed again.
JUDGING = (
    *("alpha", "min_sign_agreement", "slope_low", "slope_high", "min_effect", "linear_tolerance", "mediated_share"),
    "min_prompts",
)


def set_up(run: Run, last_layer: int, *, computes_here: bool = True) -> ModelSetup:
    """Resolves the model and the SAEs of every layer up to `last_layer`; refuses what does not fit."""
    known = sae_layers(run.profile.sae)

    def layers(facts: ModelFacts) -> Sequence[int]:
        chosen = [layer for layer in known or range(facts.n_layers) if layer <= last_layer]
        if last_layer not in chosen:
            raise UsageError(f"feature of layer {last_layer}: {run.profile.sae.release} has no SAE of that layer")
        return chosen

    given = run.config.site is not None
    setup = set_up_model(run.config, run.profile, "base", layers, site_given=given, computes_here=computes_here)
    refuse_points(setup.points)
    return setup


def fingerprint(run: Run, setup: ModelSetup, targets: Sequence[Target], prompts: Prompts) -> dict[str, Any]:
    """Returns what changes the record of a target."""
    gradient, replay = asdict(run.settings.gradient), asdict(run.settings.replay)
    listed = canonical_json([[target.name, target.prompt_class] for target in targets])
    return {
        **setup.fingerprint(),
        "saes": {str(layer): sae.digest or f"{sae.sae_id}@{sae.revision}" for layer, sae in setup.saes.items()},
        "prompts": prompts.digest,
        "classes": list(run.settings.study.classes),
        "targets": hashlib.sha256(listed.encode()).hexdigest()[:16],
        "gradient": {key: value for key, value in gradient.items() if key != "targets_per_batch"},
        "replay": {key: value for key, value in replay.items() if key not in JUDGING},
        "seed": run.settings.seed,
        "step_version": STEP_VERSION,
    }
