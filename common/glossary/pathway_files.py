"""The files of the pathway analysis: its JSON documents, and the list of all its files by step."""

from __future__ import annotations

from common.glossary import pathway
from common.glossary.records import SETUP
from common.glossary.shapes import SHARE
from common.glossary.words import Each, Rows, keys, merged, shape

SETTINGS = Each("setting", "any")
NULL = shape(
    "matched null",
    "How often matched sources, which nothing speaks for, pass the whole rule.",
    {
        "n_setting": "int, features: matched sources that set the bar",
        "n_measured": "int, features: others, on which the rate is measured",
        "false_positive_rate": (SHARE, "of those that pass the whole rule"),
        "pairs": (
            Rows(
                keys(
                    {
                        "source_layer": "int: layer of the sources",
                        "target_layer": "int: layer of the targets",
                        "n": "int, features: that set the bar",
                        "p95": "float: 95 % quantile of their effects, in standard deviations of the target",
                    }
                )
            ),
            "by pair of layers",
        ),
    },
)
MODEL = keys({"name": "text: hub name or directory", "revision": "text or null: commit on the hub"})
MEMORY = keys(
    {
        "allocated": "float, GB: in use at most",
        "reserved": "float, GB: taken from the device at most",
        "where": "text: which device",
    }
)
FINDING = keys(
    {
        "code": "text: short name",
        "severity": "text: error or warning",
        "title": "text: what is wrong",
        "cure": "text: what to do",
        "count": "int: how often",
        "files": (Each("file", "int"), "how often in each file"),
        "examples": (
            Rows(
                keys({"file": "any: the file", "record": "any: number of the record", "detail": "text: what it holds"})
            ),
            "the first of them",
        ),
    }
)
CHECKS = keys(
    {
        "files": (
            keys(
                {
                    "checkpoints": "int: files found",
                    "expected_checkpoints": "int or null: files expected",
                    "response_logs": "int: files found",
                    "expected_response_logs": "int or null: files expected",
                }
            ),
            "how many files",
        ),
        "checkpoint_records": "int, records: read",
        "checkpoint_records_repeated": "int, records: of a feature that stands there already",
        "checkpoint_conflicts": "int: features whose records differ",
        "checkpoint_conflicts_listed": (Rows("any"), "the first of them"),
        "runs": (Rows("text"), "runs of the study"),
        "features": "int, features: tested",
        "ids_below_d_model": "int, features: whose id is below the model's width",
        "ids_below_d_model_share": "float or null: of all",
        "ids_below_d_model_expected": "float: of ids drawn from the whole dictionary",
        "largest_id": "int or null: the largest id",
        "features_with_means": "int, features: with class means",
        "features_with_negative_means": "int, features: with a negative one, impossible after ReLU",
        "features_of_generation_1": "int, features: in the older form of record",
        "features_of_generation_2": "int, features: in the newer form",
        "trial_records": "int, records: read",
        "trial_records_usable": "int, records: with every required field",
        "trial_records_repeated": "int, records: of a trial that stands there already",
        "trial_conflicts": "int: trials whose records differ",
        "trial_conflicts_listed": (Rows("any"), "the first of them"),
        "empty_responses": "int, trials: with an empty response",
        "aliases": (Each("name", "int"), "trials under another name of a condition"),
        "trial_runs": (Rows("text"), "runs of the study in the logs"),
        "trials_per_condition": (
            Each(
                "condition",
                keys(
                    {
                        "trials": "int, trials: all",
                        "features": "int, features: with trials",
                        "fewest": "int, trials: of a feature",
                        "median": "number, trials: of a feature",
                        "most": "int, trials: of a feature",
                    }
                ),
            ),
            "how many trials",
        ),
        "outcomes_per_condition": (
            Each(
                "condition",
                keys(
                    {
                        "negative": "int, trials: failed",
                        "positive": "int, trials: solved",
                        "not_parsed": "int, trials: whose outcome could not be read",
                    }
                ),
            ),
            "how they ended",
        ),
        "causal_features_without_trials": "int, features: how many",
        "features_with_trials_in_no_checkpoint": "int, features: how many",
        "trial_features_join_rate_percent": "float or null, %: features with trials that a checkpoint tests",
    }
)
AUDIT = keys(
    {
        "schema_version": "int: of this file's form",
        "kind": "text: kind of study",
        "profile": "text: the profile",
        "strict": "bool: whether warnings count",
        "causal_by_layer": (Each("layer", "int"), "causal features of each layer"),
        "total_causal_features": "int, features: causal by the study's rule",
        "total_response_features": "int, features: with trials",
        "joinable_features": "int, features: with both",
        "join_rate_percent": "float or null, %: joinable of causal",
        "total_trials": "int, trials: each once",
        "checks": (CHECKS, "what was counted"),
        "inputs": (Each("file", "text"), "SHA-256 of every file"),
        "audit_results": (
            keys(
                {
                    "errors": (Rows(FINDING), "what ends the analysis"),
                    "warnings": (Rows(FINDING), "what it goes on with"),
                    "validated": "bool: whether it goes on",
                }
            ),
            "what is wrong",
        ),
        "validated": "bool: the same",
        "exit_code": "int: 0 passed, 1 warnings under `--strict`, 2 failed",
    }
)
LISTED = keys(
    {
        **pathway.NAME,
        "cohen_d": "float: of its activation between the classes",
        "class": "text: the class on which it is more active",
        "rank_in_layer": "int: by |Cohen's d|, from 1",
        "is_causal": "bool: what the study's rule says",
        "fdr_causal": "bool or null: what the test over trials says",
        "effect_<class>": "float or null: success rates, own patch minus the other's, prompts of the class",
        "p_<class>": "float or null: exact test of that",
        "rate_difference": "float or null: over both classes",
        "p": "float or null: exact test of that",
        "q": "float or null: Benjamini–Hochberg over all features with trials",
        "method": "text or null: which exact test",
        "n_pairs": "int, pairs: trials of one problem under both patches",
        "untested_because": "text or null: why there is no test",
        "n_trials": (Each("condition", "int"), "trials under each condition"),
        "mean_<class>": "float or null, activation: mean over the class",
        "run": "text: the run of the study",
        "selected_by": "text: which flag chose it",
    }
)
LAYER = keys(
    {
        "n_tested": "int, features: tested in the layer",
        "n_candidates": "int, features: of them, causal",
        "n_without_cohen_d": "int, features: of those, without an effect size",
        "n_selected": "int, features: taken",
        "cut_off_abs_d": "float or null: the smallest |Cohen's d| taken",
    }
)
CAUSAL = keys(
    {
        "metadata": (
            keys(
                {
                    "schema_version": "int: of this file's form",
                    "kind": "text: kind of study",
                    "classes": (Rows("text"), "both classes"),
                    "select_by": "text: legacy_is_causal or fdr",
                    "rule": "text: the same in words",
                    "ranking": "text: how features are ranked",
                    "per_layer": "int, features: at most",
                    "layers": (Rows("int"), "layers that were looked at"),
                    "alpha": "float: level of the false discovery rate",
                    "min_rate_difference": "float: smallest difference that counts",
                    "effects": "text: what the effects are",
                    "features": "int, features: in the study",
                    "features_tested": "int, features: with a test",
                    "causal_by_legacy_flag": "int, features: by the study's flag",
                    "causal_by_fdr": "int, features: by the test",
                    "causal_by_both": "int, features: by both",
                    "total_selected": "int, features: taken",
                    "total_if_every_layer_were_full": "int, features: that would be",
                    "short_layers": (Rows("int"), "layers with fewer than `per_layer`"),
                    "by_layer": (Each("layer", LAYER), "what became of each layer"),
                    "inputs": (Each("file", "text"), "SHA-256 of what was read"),
                }
            ),
            "how they were chosen",
        ),
        "features": (Rows(LISTED), "the causal features, by layer and rank"),
    }
)
PROMPTS = keys(
    {
        "schema_version": "int: of this file's form",
        "prompts": (
            Rows(
                keys(
                    {
                        "id": "text: its name",
                        "class": "text: which class it belongs to",
                        "prompt": "text: the prompt",
                        "split": "text: select or validate",
                        "task_id": "int or null: the problem",
                    }
                )
            ),
            "prompts of steps 2 and 3",
        ),
    }
)
CHECK = keys(
    {
        "name": "text: what is checked",
        "passed": "bool: whether it holds",
        **{
            f"{name}?": f"any: {what}"
            for name, what in {
                "layers": "layers looked at",
                "different_layers": "layers at which hook and hidden state differ",
                "cached_pass_relative_difference": "of a pass from cached prefixes against a whole one",
                "ceiling_gb": "the memory ceiling, GB",
                "n_drawn": "pairs drawn",
                "peak_gb": "peak memory, GB",
                "share_within_tolerance": "of pairs whose gradient agrees with finite differences",
                "n_tokens": "tokens read",
                "n": "how many",
                "pairs": "pairs with derivative and finite difference",
                "at_most": "the limit",
                "tolerance": "the tolerance",
                "worst_unexplained": "largest share of variance unexplained",
                "rows": "rows compared",
                "worst_error": "largest difference",
                "another_value_does": "whether another value changes the result, so that the check can fail",
            }.items()
        },
    }
)
PROTOTYPE = merged(
    keys(
        {
            "schema_version": "int: of this file's form",
            **pathway.NAME,
            "prompt": "text: id of the prompt on which it is most active",
            "activation": "float, activation: there",
            "n_active_prompts": "int, prompts: on which it is active",
            "n_prompts": "int, prompts: all",
        }
    ),
    SETUP,
    keys(
        {
            "stream_norms": (Each("layer", "float"), "mean norm of the stream"),
            "upstream_candidates": (
                Rows(
                    keys(
                        {
                            "source": "text: an active earlier feature",
                            "source_layer": "int: its layer",
                            "activation": "float, activation: there",
                        }
                    )
                ),
                "the most active features of each earlier layer",
            ),
            "memory_usage_gb": (MEMORY, "peak memory"),
            "self_test": (
                keys({"passed": "bool: whether all hold", "checks": (Rows(CHECK), "each check")}),
                "the numerical self-test",
            ),
        }
    ),
)
EDGE = keys(
    {
        **pathway.ENDS,
        **pathway.N_PROMPTS,
        "gradient": (
            keys(
                {
                    "mean": "float: derivative of the target along the source, mean over selecting prompts",
                    "sd": "float or null: standard deviation over them",
                }
            ),
            "by backpropagation",
        ),
        **pathway.PASSING,
        **pathway.KIND_OF_EDGE,
        **pathway.PREDICTED,
        "replay": (
            keys(
                {
                    **{
                        (name if name in ("tested", "p", "q", "matched_p", "reason") else f"{name}?"): line
                        for name, line in pathway.REPLAY.items()
                    },
                    "n_ablated?": "int, prompts: on which setting the source to 0 changes it",
                }
            ),
            "by running the blocks above again",
        ),
        "validated": "bool: verdict",
    }
)
PATHWAYS = keys(
    {
        "metadata": (
            merged(
                keys({"schema_version": "int: of this file's form"}),
                SETUP,
                keys(
                    {
                        "method": "text: how edges are found",
                        "freezing": "text: what is frozen",
                        "position": "text: which token",
                        "patch_value": "text: what a source is set to",
                        "classes": (Rows("text"), "both classes"),
                        "prompts": (
                            keys(
                                {
                                    "digest": "text: of all prompts",
                                    "select": "int, prompts: that select edges",
                                    "validate": "int, prompts: that validate them",
                                }
                            ),
                            "which prompts",
                        ),
                        "settings": (Each("section", SETTINGS), "as `config.yaml`"),
                        "seed": "int: of the draws",
                        "fingerprint": "text: of everything that changes results",
                        "counts": (Each("what", "int"), "of targets, edges and chains"),
                        "p_threshold": "float: the largest p that is still rejected",
                        "matched_null": (NULL, "matched sources"),
                    }
                ),
            ),
            "how they were found",
        ),
        "edges": (Rows(EDGE), "every kept edge"),
        "targets": (Rows(keys(pathway.TARGET)), "every target"),
        "chains": (Rows(keys(pathway.CHAIN)), "two validated edges in a row"),
    }
)
