"""Step 4: which tokens a feature puts into the output, by its patched responses and by its weights alone.

Per feature and contrast the unit is the response: log-odds with an informative Dirichlet prior (Monroe et al. 2008), p
by shuffling condition labels over responses within problems with the maximum over all tokens, q over features. Beside
it the tokens that the decoder row itself raises and lowers. `results/tokens/` holds the associations, every tested
token (`token_effects.parquet`) and the step's times.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.hub import MODEL_REQUIRED, Snapshot, resolve_repo
from common.model_location import configured_model
from common.progress import Progress
from common.runs.files import read_json, write_bytes, write_json
from common_simplified.model_loader import load_tokenizer
from experiment_pathway_token_analysis.src.feature_trials import FeatureTrials, TrialTable
from experiment_pathway_token_analysis.src.lens import Vocabulary, lens_table, open_readout
from experiment_pathway_token_analysis.src.response_tokens import ResponseTokens, Tokens, echo_length, prompts_by_class
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.src.token_contrasts import Contrast, contrasts
from experiment_pathway_token_analysis.src.token_counts import Sample, count_levels, sample_of
from experiment_pathway_token_analysis.src.token_report import document, model_metadata, rows_json
from experiment_pathway_token_analysis.src.token_results import (
    EffectsWriter,
    Outcome,
    candidate_rows,
    decide,
    effects_table,
)
from experiment_pathway_token_analysis.src.token_tests import Labellings, token_effects


def run_step(run: Run) -> StepResult:
    """Tests every causal feature's tokens, writes the results, and returns how that ended."""
    features = read_json(run.paths.causal_features)["features"][: run.limit]
    started = time.monotonic()
    model = configured_model(run.config, run.profile)
    snapshot = resolve_repo(model.location, model.revision, required=MODEL_REQUIRED)
    association = TokenAssociation(run, load_tokenizer(snapshot))
    outcomes = association.test([one["feature"] for one in features])
    tested = time.monotonic()
    lens = _lens(run, snapshot, association.tokens, features)
    inputs = [run.paths.causal_features, run.paths.validated, run.paths.trials]
    inputs += [run.paths.prompts] if run.paths.prompts.is_file() else []
    association.effects.write(run.paths.token_effects)
    write_bytes(run.paths.tokens, rows_json(association.document(outcomes, lens, snapshot)).encode("utf-8"))
    write_json(run.paths.token_timings, _times(started, tested, time.monotonic(), len(features)))
    return StepResult(True, _message(outcomes), inputs, [run.paths.tokens, run.paths.token_effects])


class TokenAssociation:
    """Step 4's work on one study: reads trials feature by feature and tests each contrast."""

    def __init__(self, run: Run, tokenizer: Any) -> None:
        self.run = run
        self.settings, self.contrasts = run.settings.tokens, contrasts(run.settings.study)
        self.tokens = ResponseTokens(tokenizer, code=run.settings.study.kind == "program_validity")
        self.effects = EffectsWriter()
        self.n_responses = self.n_echoes = self.n_empty = 0
        self._class_of = {
            one: each.prompt_class for each in self.contrasts for one in (each.condition_a, each.condition_b)
        }
        self._prompts = prompts_by_class(read_json(run.paths.prompts)) if run.paths.prompts.is_file() else None
        self._labellings = Labellings(self.settings.permutations, run.settings.seed)

    def test(self, features: Sequence[str]) -> list[Outcome]:
        """Returns one outcome a feature and contrast, features in the order given, with q over all of them."""
        table = TrialTable(self.run.paths.trials)
        by_feature: dict[str, list[Outcome]] = {}
        with Progress("token association", len(features), unit="feature") as progress:
            for feature in table.in_order(features):
                by_feature[feature] = self._feature(feature, table.of(feature))
                progress.advance(1)
        outcomes = [outcome for feature in features for outcome in by_feature[feature]]
        decide(outcomes, self.settings)
        return outcomes

    def _feature(self, feature: str, trials: FeatureTrials) -> list[Outcome]:
        echoes = [self._echo(*row) for row in zip(trials.conditions, trials.responses, strict=True)]
        tokens = self.tokens.of(trials.responses, echoes)
        self.n_responses += len(tokens)
        self.n_echoes += sum(echo > 0 for echo in echoes)
        self.n_empty += sum(not len(one.pieces) for one in tokens)
        return [self._contrast(feature, contrast, trials, tokens) for contrast in self.contrasts]

    def _echo(self, condition: str, response: str) -> int:
        return echo_length(response, self._prompts.get(self._class_of[condition], ())) if self._prompts else 0

    def _contrast(self, feature: str, contrast: Contrast, trials: FeatureTrials, tokens: Sequence[Tokens]) -> Outcome:
        sample = sample_of(trials, contrast)
        n_a = int(sample.labels.sum())
        outcome = Outcome(feature, contrast, n_a, len(sample.labels) - n_a, sample.n_unpaired)
        responses = [tokens[row] for row in sample.rows]
        outcome.reason = _untestable(trials, contrast, sample, responses)
        if outcome.reason is None:
            self._test(outcome, sample, responses)
        return outcome

    def _test(self, outcome: Outcome, sample: Sample, responses: Sequence[Tokens]) -> None:
        settings = self.settings
        limits = (settings.min_occurrences, settings.min_responses)
        levels = count_levels(responses, *limits, kinds=self.tokens.has_kinds)
        effects, outcome.n_permutations = token_effects(levels, self._labellings.of(sample), settings.prior_tokens)
        tested = effects.p[np.isfinite(effects.p)]
        outcome.n_tokens = len(tested)
        if not len(tested):
            outcome.reason = f"no token occurs {limits[0]} times in {limits[1]} responses"
            return
        table = effects_table(outcome, effects, self.tokens)
        self.effects.add(table)
        outcome.p = float(tested.min())
        outcome.rows = candidate_rows(table, outcome, settings)

    def document(
        self, outcomes: Sequence[Outcome], lens: Sequence[Mapping[str, Any]], snapshot: Snapshot
    ) -> dict[str, Any]:
        """Returns what `token_associations.json` holds."""
        read = {
            "n_responses": self.n_responses,
            "n_empty_responses": self.n_empty,
            "n_responses_with_prompt_echo": None if self._prompts is None else self.n_echoes,
            "n_effects": self.effects.n_rows,
        }
        return document(self.run, self.contrasts, outcomes, lens, {**read, **model_metadata(self.run, snapshot)})


def _message(outcomes: Sequence[Outcome]) -> str:
    primary = [one for one in outcomes if one.contrast.primary]
    tested = {one.feature for one in primary if one.reason is None}
    hits = {one.feature for one in primary if one.n_hits}
    n = len({one.feature for one in outcomes})
    return f"{len(hits)} of {len(tested)} tested features move tokens, patch against patch ({n} features in all)"


def _times(started: float, tested: float, ended: float, n_features: int) -> dict[str, Any]:
    return {
        "n_features": n_features,
        "responses_seconds": round(tested - started, 3),
        "lens_seconds": round(ended - tested, 3),
        "seconds_a_feature": round((tested - started) / n_features, 4) if n_features else None,
    }


def _untestable(trials: FeatureTrials, contrast: Contrast, sample: Sample, responses: Sequence[Tokens]) -> str | None:
    """Returns why a contrast cannot be tested, None where it can."""
    if not trials.conditions:
        return "no trials"
    lacking = [name for name in (contrast.condition_a, contrast.condition_b) if name not in trials.conditions]
    if lacking:
        return f"no trials under {' and '.join(lacking)}"
    if not len(sample.rows):
        return "no problem has trials under both conditions"
    return None if any(len(one.pieces) for one in responses) else "every response is empty"


class _Endpoint(NamedTuple):
    layer: int
    feature_id: int


def _lens(
    run: Run, snapshot: Snapshot, tokens: ResponseTokens, features: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the lens of the causal features and of both ends of validated edges."""
    wanted = {_Endpoint(one["layer"], one["feature_id"]) for one in features}
    for edge in read_json(run.paths.validated)["edges"]:
        if edge["validated"]:
            wanted |= {_Endpoint(edge[f"{end}_layer"], edge[f"{end}_id"]) for end in ("source", "target")}
    by_layer: dict[int, list[int]] = {}
    for one in sorted(wanted):
        by_layer.setdefault(one.layer, []).append(one.feature_id)
    if not by_layer:
        return []
    vocabulary = Vocabulary(tokens.vocabulary_size, tokens.piece)
    return lens_table(run.profile, open_readout(snapshot.path), by_layer, vocabulary, run.settings.tokens.lens_tokens)
