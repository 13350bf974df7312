"""The JSON files of the steering phases (4.5, 4.8, 7.6)."""

from __future__ import annotations

from common.glossary.findings import RIVAL
from common.glossary.records import CHOICE, FIT_SUMMARY, HEAD, RATES
from common.glossary.shapes import (
    CLASSIFICATION,
    DETECTION,
    ESTIMATE,
    FAILURE_MODES,
    FEATURE,
    FLIPS,
    LEFT_OUT,
    RANK,
    ROLE,
    SHARE,
    THRESHOLD,
)
from common.glossary.words import Each, Maybe, Rows, keys, merged, shape

SURVIVAL = {
    "defines_function": (SHARE, "solutions that define the asked-for function"),
    "keeps_signature": (SHARE, "of them, with as many arguments as the reference's"),
}
COEFFICIENT = shape(
    "coefficient",
    "What one coefficient of one feature did, with random directions of equal norm beside it.",
    {
        "feature": (FEATURE, "whose direction"),
        "coefficient": "float: what it was multiplied by",
        "in_residual_norms": "float: the same in mean norms of the residual stream there",
        "effect": (FLIPS, "against the stored baseline"),
        **SURVIVAL,
        "mean_token_similarity": "float or null: of baseline and steered code as tokens, 1 for equal",
        "mean_char_similarity": "float or null: the same as characters",
        "mean_length_ratio": "float or null: steered length over the baseline's",
        "failure_modes": (FAILURE_MODES, "how the steered solutions end"),
        "stop_reasons": (Each("stop reason", "int"), "solutions by why generation ended"),
        "left_out": (LEFT_OUT, "what enters no rate"),
        "random_directions": (
            Rows(keys({"draw": "int: its number", "effect": (FLIPS, "what it did"), **SURVIVAL})),
            "random directions of equal norm with the same coefficient",
        ),
    },
)
FINAL = keys(
    {
        "n_problems": "int, problems: none of them used for choosing",
        "noise_floor?": (Maybe(FLIPS), "coefficient 0 by the same code"),
        "directions": (Each("direction", COEFFICIENT), "the chosen coefficients"),
        "reason?": "text: why there is none",
    }
)
COEFFICIENTS = keys(
    {
        "what": "text: what the figures are",
        "split": "text: the split",
        "problems": (Rows("int"), "task ids of the problems that every coefficient was tried on"),
        "not_drawn": (LEFT_OUT, "problems that could not be drawn"),
        "max_new_tokens": "int, tokens: the limit",
        "noise_floor": (Maybe(FLIPS), "coefficient 0 by the same code"),
        "directions": (
            Each(
                "direction",
                keys(
                    {
                        "feature": (FEATURE, "whose direction"),
                        "residual_norm": "float: mean norm of the baseline's stream there, last prompt token",
                        "decoder_norm": "float: norm of the feature's decoder row",
                        "chosen": (Maybe(CHOICE), "the choice; null before the grid is whole"),
                        "coefficients": (Rows(COEFFICIENT), "every coefficient, in the order of the setting"),
                        "candidates": (Rows(FEATURE), "the features that could be tried, best ranked first"),
                        "screening": (
                            Maybe(Rows(COEFFICIENT)),
                            "each candidate at the middle coefficient, if screened",
                        ),
                    }
                ),
            ),
            "both directions",
        ),
        "final_evaluation": (FINAL, "the choice on other problems"),
    }
)
_STEERED = {
    "layer": "int: layer that is steered",
    "feature_idx": "int: feature whose decoder row is added",
    "coefficient": "float: what it is multiplied by",
}
DIRECTIONS = Each("direction", keys(_STEERED))
SELECTED = Each(
    "direction",
    keys(
        {
            **_STEERED,
            "in_residual_norms": "float: the same in mean norms of the residual stream there",
            "chosen": "text: suggested or by hand",
            "rationale": "text: why",
            "on_other_problems": (Maybe(FLIPS), "the final evaluation; null without one"),
            "timestamp": "text: UTC, when it was chosen",
        }
    ),
)
CONTROL = shape(
    "control",
    "One control: another feature of the layer, or a random direction, with the target's coefficient.",
    {
        "condition": "text: its name in `steering_results.parquet`",
        "feature_idx": "int or null: the feature; null for a random direction",
        "draw": "int: its number",
        "outcome": "int, problems: the primary outcome",
        "left_out": (LEFT_OUT, "what enters no rate"),
        "stopped_at_limit": "int, solutions: that reached the token limit",
        "effect": (FLIPS, "what it did"),
        "firing_rate?": "float: share of problems of the sae split on which the feature fires",
        "decoder_norm?": "float: norm of its decoder row",
    },
)
_KIND = keys({"rank": (RANK, "the target among these"), "conditions": (Rows(CONTROL), "each of them")})
CONTROLS = shape(
    "controls",
    "The target beside its controls, all on the problems that enter rates in every one of them.",
    {
        "n_problems": "int, problems: on which they are compared",
        "all_problems": "bool: whether these are all of the target's",
        "n_left_out": "int, rows: of controls, on other problems",
        "target": (FLIPS, "the target there"),
        "outcome": "int, problems: its primary outcome",
        "rank": (RANK, "the worse of both kinds; this p is reported"),
        "rank_kind": "text: which kind that is",
        "random_feature": (_KIND, "features of the layer that fire about as often"),
        "random_direction": (_KIND, "random directions of equal norm"),
    },
)
SELECTIVE = keys(
    {
        "steered_where": "text: which predictor asks for it",
        "threshold": "float or null, activation: phase 3.8's",
        "threshold_split": "text: the split that it was chosen on",
        "n_scored": "int, problems: with a score",
        "reason": "text or null: why there are no figures",
        "n_steered?": "int, problems: where the predictor fires",
        "n?": "int, problems: of how many",
        "note?": "text or null: where it fires on none or on all",
        "effect?": (FLIPS, "steered there, the baseline elsewhere"),
        "controls?": (CONTROLS, "the controls, gated in the same way"),
    }
)
SPREAD = keys({"median": "float: the median", "minimum": "float: the least", "maximum": "float: the greatest"})
BY_DIFFICULTY = Rows(merged(FLIPS, keys({"group": "text: complexity 1, 2-3 or 4+"})))
ANALYSIS = keys(
    {
        "what": "text: what the figures are",
        "model": (ROLE, "the steered model"),
        "split": "text: the split",
        "n_problems": "int, problems: in the split",
        "complete": "bool: whether all of it is done",
        "not_steered": (LEFT_OUT, "problems that cannot enter rates"),
        "prompt_format": "text: form of the prompts, the baseline's",
        "max_new_tokens": "int, tokens: the limit",
        "steer_bos": "bool: whether BOS is steered",
        "controls_per_kind": "int: controls of either kind, a direction",
        "control_problems": "text: whether controls ran on all problems",
        "noise_floor": (Maybe(FLIPS), "coefficient 0 by the same code"),
        "directions": (
            Each(
                "direction",
                keys(
                    {
                        "feature": (FEATURE, "whose direction"),
                        "coefficient": "float: what it was multiplied by",
                        "primary_outcome": "text: what the rank stands on, named beforehand",
                        "effect": (FLIPS, "on all problems, against the stored baseline"),
                        **SURVIVAL,
                        "left_out": (LEFT_OUT, "what enters no rate"),
                        "failure_modes": (FAILURE_MODES, "how the steered solutions end"),
                        "stop_reasons": (Each("stop reason", "int"), "solutions by why generation ended"),
                        "by_difficulty": (BY_DIFFICULTY, "as `effect`, by complexity"),
                        "controls": (CONTROLS, "beside its controls"),
                        "coefficient_chosen": "text: suggested or by hand",
                        "residual_norm": "float: mean norm of the baseline's stream there, last prompt token",
                        "decoder_norm": "float: norm of the feature's decoder row",
                        "in_residual_norms": "float: the coefficient in mean norms of the residual stream",
                        "firing_rate": "float: share of problems of the sae split on which the feature fires",
                        "control_firing_rates": (Maybe(SPREAD), "of the matched features"),
                        "selective": (Maybe(SELECTIVE), "only where a predictor fires (needs phase 3.8)"),
                    }
                ),
            ),
            "both directions",
        ),
    }
)
SUMMARY = HEAD
_MODEL_RIVAL = keys({**RIVAL, "classification?": (Maybe(CLASSIFICATION), "at its threshold, where it is one score")})
_ON_MODEL = merged(DETECTION, keys({"rivals": (Each("rival", _MODEL_RIVAL), "on the same rows")}))
_PAIR = {"base": "base model", "instruct": "instruction-tuned model"}
_VERDICT = {
    "rule": "text: what counts as transferred, fixed beforehand",
    "transferred": "bool or null: the verdict; null where it cannot be told",
    "holds_on_base": "bool or null: whether the rule holds on the base model",
    "statement": "text: the same in words",
}
_DIFFERENCE = {
    "of": "text: instruct minus base",
    "value": "float or null: the difference",
    "low": "float or null: lower end of the 95 % interval",
    "high": "float or null: upper end of the 95 % interval",
    "reason": "text or null: why there is none",
}
_AUROC_DIFFERENCE = merged(
    ESTIMATE,
    keys(
        {
            "of": "text: instruct minus base",
            "n_base_only": "int, problems: with a label on the base model only",
            "n_instruct_only": "int, problems: with a label on the sibling only",
        }
    ),
)
_STEERED_ON = keys(
    {
        "effect": (FLIPS, "on all problems"),
        "outcome_on_control_problems": "int, problems: the primary outcome there",
        "n_control_problems": "int, problems: on which target and controls are compared",
        "rank_among_controls": (RANK, "the worse of both kinds"),
        "rank_kind": "text: which kind that is",
    }
)
COMPARISON = keys(
    {
        "what": "text: what the figures are",
        "models": (Each("role", "text"), "both models"),
        "complete": "bool: whether both cover the split",
        "prompt_formats": (Each("role", "text"), "form of the prompts"),
        "pass_rates": (RATES, "of both models on the same problems"),
        "sae_fit": (FIT_SUMMARY, "the SAEs' fit on the instruction-tuned model"),
        "detection": (
            Each(
                "direction",
                keys(
                    {
                        "feature": (FEATURE, "the predictor"),
                        "positive": "text: `passed` or `failed`",
                        "threshold": (THRESHOLD, "from the base model's hyperparameter split"),
                        **{role: (_ON_MODEL, words) for role, words in _PAIR.items()},
                        "auroc_difference": (_AUROC_DIFFERENCE, "paired by problem"),
                        **_VERDICT,
                    }
                ),
            ),
            "both predictors",
        ),
        "steering": (
            Each(
                "direction",
                keys(
                    {
                        "feature": (FEATURE, "whose direction"),
                        "coefficient": "float: what it was multiplied by",
                        "in_residual_norms": (Each("role", "float"), "in mean norms of either model's stream"),
                        "primary_outcome": "text: what the rank stands on, named beforehand",
                        **{role: (_STEERED_ON, words) for role, words in _PAIR.items()},
                        "differences": (Each("rate", keys(_DIFFERENCE)), "of rates, Newcombe's interval (approximate)"),
                        **_VERDICT,
                    }
                ),
            ),
            "both directions",
        ),
        "statements": (Rows("text"), "every verdict in words"),
    }
)
