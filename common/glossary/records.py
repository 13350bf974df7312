"""`metadata.json`, the record of a phase: what every record holds, and what each phase adds."""

from __future__ import annotations

from common.glossary import shapes
from common.glossary.words import Each, Maybe, Rows, Shape, keys, merged, shape

INPUT = keys(
    {
        "phase": "text or null: the phase that wrote it; null for a file given by hand, or a data set",
        "path": "text: where it was read",
        "sha256": "text: its SHA-256 then",
        "rows": "int or null, rows: where it is a table",
        "record_id": "text or null: the id of that phase's record",
    }
)
OUTPUT = keys(
    {
        "path": "text: relative to the phase's directory",
        "sha256": "text: its SHA-256",
        "rows": "int or null, rows: where it is a table",
    }
)
WORKER = keys(
    {
        "span": (Rows("int"), "first and last position of its slice"),
        "host": "text: the machine",
        "device": "text: the device there",
        "state": "text: done, failed, stopped or not ended",
    }
)
EVERY = keys(
    {
        "phase": "text: the phase's id",
        "schema_version": "int: of this record's form",
        "generation": "int: number of this output in its directory, from 1; the newest has the largest",
        "created": "text: UTC, for people; nothing is decided by it",
        "complete": "bool: whether it covers the split, from complete inputs",
        "expected": "int, problems: how many the split holds (phase 2.2: texts)",
        "done": "int, problems: how many are covered",
        "excluded": "int, problems: of those, given up or without a label",
        "inputs_complete": "bool: whether everything that was read was complete",
        "slices": (Rows(Rows("int")), "first and last position of each finished stretch"),
        "commit": "text or null: of the checkout",
        "commit_reason?": "text: why there is no commit",
        "dirty": "bool or null: whether tracked files had been changed since",
        "command": "text: the command line",
        "profile": "text: the profile",
        "seed": "int: of every draw, together with the draw's purpose",
        "config": (Each("setting", "any"), "every setting, see [Settings](cli.md#settings)"),
        "config_hash": "text: SHA-256 of the settings",
        "inputs": (Rows(INPUT), "what was read"),
        "outputs": (Rows(OUTPUT), "the files that this record vouches for"),
        "versions": (Each("package", Maybe("text")), "of Python and of the packages that results depend on"),
        "wall_seconds": (Each("stage", "float"), "wall seconds of each stage of this run"),
        "workers?": (Rows(WORKER), "the workers on slices, where there were some"),
        "record_id": "text: digest of everything else in the record",
    }
)
SETUP = shape(
    "model and SAEs",
    "What computed, and where the residual stream was read.",
    {
        "model": (shapes.MODEL, "the model"),
        "decoding": "text: how decoding steps ran, `eager` or `graphs`",
        "layers": (Rows("int"), "layers that were captured or steered"),
        "saes": (Rows(shapes.SAE), "the SAEs of these layers"),
        "points": (Each("layer", "text"), "the point of each layer, as `blocks.N.hook_…`"),
        "site_given": "bool: whether `--site` was given",
    },
)
FINGERPRINT = shape(
    "fingerprint",
    "Everything that changes what is generated; results of two fingerprints are never mixed.",
    {
        "model": "text: name with revision or digest",
        "role": "text: `base` or `instruct`",
        "dtype": "text: number format",
        "device_type": "text: `cpu`, `cuda` or `mps`",
        "decoding": "text: how decoding steps ran, `eager` or `graphs`",
        "points": (Each("layer", "text"), "what is captured"),
        "batch_size": "int, rows: the grid",
        "data": "text: SHA-256 of the problems (phase 2.2: of the texts)",
        "seed": ("any", "seed of the draws; null where nothing is drawn"),
        "prompt_format?": "text: form of the prompt",
        "temperature?": "float: of sampling",
        "samples?": "int: a problem",
        "max_new_tokens?": "int, tokens: the limit",
        "max_tokens?": "int, tokens: read of a general text",
        "stop_version?": "int: version of the rule that ends a row",
        "step_version?": "int: version of the step",
        "steering_version?": "int: version of steering",
        "steering_points?": (Each("layer", "text"), "where directions are added"),
        "saes?": (Each("layer", shapes.SAE), "the SAEs whose directions or fit are used"),
        "conditions?": (Rows(Rows("any")), "the ways of steering"),
        "positions?": ("any", "digest, or number, of the positions"),
        "prompts?": "text: digest of the baseline's prompts",
        "steer_bos?": "bool: whether BOS is steered",
    },
)
EVALUATION = keys(
    {
        "data": "text: SHA-256 of the problems",
        "timeout_seconds": "float, s: CPU seconds a solution may use",
        "memory_mb": "int, MiB: memory a solution may use",
        "sandbox_rung": "int: how solutions were isolated, 4 (most) to 0",
        "extraction_version": "int: version of the extractor",
        "evaluation_version": "int: version of the evaluator",
    }
)
RESULT = keys(
    {
        "judged": "int, solutions: how many have a label",
        "passed": "int, solutions: how many passed",
        "pass_rate": "float or null: passed over judged",
        "outcomes": (Each("outcome", "int"), "solutions by how their tests ended"),
        "stop_reasons": (Each("stop reason", "int"), "solutions by why generation ended"),
        "sandbox_rungs": (Rows("int"), "the rungs that labels stand under"),
        "smallest_batch": "int, rows: the smallest batch that was used (memory may halve it)",
    }
)
SANDBOX = keys(
    {
        "isolation": "text: the rung in words",
        "open": (Maybe(Rows("text")), "what stays open at this rung"),
        "open_reason?": "text: why that is not known here",
    }
)
GENERATING = merged(
    SETUP,
    keys(
        {
            "prompt_format": "text: form of the prompts",
            "split": "text: the split",
            "datasets": (Each("arm", "text"), "the file of each arm (a temperature, or a group of ways of steering)"),
            "batch_size": "int, rows: the batch grid",
            "sandbox": (SANDBOX, "how solutions were isolated"),
            "arm_settings": (Each("setting", "any"), "what decides which arms there are"),
            "fingerprints": (
                keys(
                    {
                        "generation": (Each("arm", FINGERPRINT), "what changes each arm's text"),
                        "evaluation": (EVALUATION, "what changes labels"),
                    }
                ),
                "what changes results",
            ),
            "results": (Each("arm", RESULT), "counts of each arm; empty where solutions are steered"),
        }
    ),
    name="generating phase",
    about="What a phase that generates adds to its record.",
)
FIT_SUMMARY = shape(
    "fit",
    "How well SAEs fit a model, in short.",
    {
        "n_problems": "int, problems: whose prompts were read",
        "layers": (
            Maybe(Rows(keys({**shapes.LAYER_FIT, "dead_share": "float or null: features that never fired, of all"}))),
            "the fit of each layer",
        ),
        "reason": "text or null: why there is none",
    },
)
HEAD = shape(
    "summary of steering",
    "The figures that are read first.",
    {
        "what": "text: what the figures are",
        "model": (shapes.ROLE, "the steered model"),
        "noise_floor": (Maybe(keys(shapes.HEADLINE)), "coefficient 0 by the same code"),
        **{
            direction: (
                keys(
                    {
                        "feature": (shapes.FEATURE, "whose direction"),
                        "coefficient": "float: what it was multiplied by",
                        "in_residual_norms": "float: the same in mean norms of the residual stream there",
                        **shapes.HEADLINE,
                        "primary_outcome": "text: what the rank stands on, named beforehand",
                        "outcome_on_control_problems": "int, problems: the primary outcome there",
                        "n_control_problems": "int, problems: on which target and controls are compared",
                        "rank_among_controls": (shapes.RANK, "the worse of both kinds"),
                        "rank_kind": "text: which kind of control that is",
                    }
                ),
                f"the {direction}-preferring direction",
            )
            for direction in ("correct", "incorrect")
        },
    },
)
STEERING = merged(
    GENERATING,
    keys(
        {
            "baseline_phase": "text: whose stored solutions it is compared with",
            "analysis_settings": (Each("setting", "any"), "what changes figures and no solution"),
            "max_new_tokens": "int, tokens: the limit under steering",
            "steer_bos": "bool: whether BOS is steered",
            "steering_features": (Each("direction", Rows("int")), "layer and index of each direction's feature"),
            "n_conditions": "int: ways of steering",
            "stop_reasons": (Each("stop reason", "int"), "steered solutions by why generation ended"),
            "n_rows": "int, rows: steered solutions",
            "residual_norms": (Each("layer", "float"), "mean norm of the baseline's stream at the last prompt token"),
        }
    ),
    name="steering phase",
    about="What a phase that steers adds to its record.",
)
EFFECTS = merged(STEERING, keys({"steering": (Maybe(HEAD), "the summary"), "steering_reason?": "text: why none"}))
CHOICE = keys(
    {
        "feature": (shapes.FEATURE, "whose direction"),
        "coefficient": "float: the coefficient",
        "how": "text: suggested or by hand",
        "rationale": "text: why",
    }
)
GENERAL_FILTER = keys(
    {
        "applied": "bool: whether phase 2.2 was there",
        "n_texts": "int or null, texts: how many it read",
        "left_out_from": "float or null: features at or above this frequency are left out",
    }
)
CLASSES = {
    "n_problems": "int, problems: with a label",
    "n_correct": "int, problems: solved",
    "n_incorrect": "int, problems: failed",
}


def _top_feature(name: str, score: str, meaning: str) -> Shape:
    return shape(
        name,
        "One item of a ranking.",
        {
            "layer": "int: its layer",
            "feature_idx": "int: its place in the layer's SAE",
            score: f"float: {meaning}",
            "f_correct": "float: share of correct problems on which it fires",
            "f_incorrect": "float: share of incorrect problems on which it fires",
            "mean_activation_correct": "float, activation: mean over the correct problems",
            "mean_activation_incorrect": "float, activation: mean over the incorrect problems",
            "general_text_frequency": "float or null: share of general texts on which it fires",
            "p_value": "float or null: its own test, over no other feature",
            "q_value": "float or null: Benjamini–Hochberg over every testable feature",
            "p_max_permutation": "float: p against the largest score under shuffled labels; the figure that decides",
            "neuronpedia_url": "text or null: its page",
        },
    )


TOP_SEPARATION = _top_feature(
    "feature by score", "separation_score", "difference of both shares, in the direction's own sign"
)
TOP_WELCH = _top_feature("feature by t", "t_statistic", "Welch's t, in the direction's own sign")


def _ranking(item: Shape) -> Shape:
    return keys(
        {
            **CLASSES,
            "general_text_filter": (GENERAL_FILTER, "whether common features were left out"),
            "site_misfits": (
                Rows("text"),
                "layers that fit no better than a block away (with `--site`, which only warns)",
            ),
            "best": (Each("direction", Maybe(item)), "rank 1 of each direction"),
            "saes": (Rows(shapes.SAE), "the SAEs"),
        }
    )


CORPUS = keys(
    {
        "name": "text: hub name or file",
        "revision": "text or null: commit on the hub",
        "sha256": "text: over the files",
        "content_sha256": "text: over the texts that were read",
        "n": "int, texts: how many were read",
        "n_corpus": "int, texts: how many it holds",
    }
)
CAPTURED = merged(GENERATING, shapes.BEST_FEATURES)
NOTE = keys({"predictor_note": "text or null: said where 2.5's features stand in for 2.10's"})
BASE_RUN = keys({"model": "text: its name", "prompt_format": "text: form of its prompts"})
RATES = keys(
    {"instruct": (shapes.PASS_RATE, "this model"), "base": (shapes.PASS_RATE, "the base model, same problems")}
)
DETECTED = keys(
    {
        "feature": (shapes.FEATURE, "the predictor"),
        "threshold": "float or null, activation: from the hyperparameter split",
        "n": "int, problems: of the validation split",
        "auroc": (shapes.ESTIMATE, "area under the ROC curve"),
        "f1": "float or null: at the threshold",
        "f1_all_positive": "float or null: of calling everything positive",
        "balanced_accuracy": "float or null: at the threshold",
    }
)
SPLIT_FIGURES = keys(
    {
        "n": "int, problems: its size",
        "mean": "float: mean complexity",
        "standard_deviation": "float or null: with n − 1",
        "minimum": "int: smallest complexity",
        "maximum": "int: largest complexity",
    }
)
SPLITTING = keys(
    {
        "seed": "int: seed of the deal",
        "ratios": (Each("split", "int"), "tenths of each split"),
        "sizes": (Each("split", "int"), "problems of each split"),
        "complexity": (Each("split", SPLIT_FIGURES), "how difficult each split is"),
        "ks_distance": (Each("pair of splits", "float"), "largest gap between both distributions of complexity"),
    }
)
FIT_FINGERPRINT = keys({"fit_fingerprint": (FINGERPRINT, "what changes the SAEs' fit")})

ADDED: dict[str, Shape] = {
    "0": keys(
        {
            "mapping": "text: name of the table",
            "dataset": (shapes.DATASET, "which problems"),
            "cyclomatic_complexity": (shapes.COMPLEXITY, "how difficult they are"),
        }
    ),
    "0.1": SPLITTING,
    "1.0": merged(GENERATING, FIT_FINGERPRINT, keys({"dataset": "text: name of the data set"})),
    "2.2": merged(
        SETUP,
        keys(
            {
                "corpus": (CORPUS, "which texts"),
                "n_texts": "int, texts: with a second token, so that one could be read",
                "fingerprint": (FINGERPRINT, "what changes the result"),
            }
        ),
    ),
    "2.5": _ranking(TOP_SEPARATION),
    "2.10": _ranking(TOP_WELCH),
    "3.5": merged(CAPTURED, NOTE, keys({"temperatures": (Rows("float"), "in the order of the files")})),
    "3.6": CAPTURED,
    "3.8": keys(
        {
            "detection": (Each("direction", DETECTED), "the figures that are read first"),
            "predictors": (shapes.FEATURES_USED, "which features were evaluated"),
        }
    ),
    "4.5": merged(
        STEERING,
        keys(
            {
                "choices": (Each("direction", CHOICE), "what was chosen; empty before the grid is whole"),
                "final_problems": "int, problems: of the final evaluation",
            }
        ),
    ),
    "4.8": EFFECTS,
    "7.3": merged(
        CAPTURED,
        NOTE,
        FIT_FINGERPRINT,
        keys(
            {
                "sae_note": "text: whose SAEs these are",
                "sae_fit": (FIT_SUMMARY, "their fit on this model"),
                "pass_rates": (RATES, "both models"),
                "base": (Maybe(BASE_RUN), "the base model's run; null without phase 3.5"),
                "prompt_format_given": "bool: whether `--prompt-format` was given",
            }
        ),
    ),
    "7.6": merged(EFFECTS, keys({"statements?": (Rows("text"), "what transferred, in words")})),
}
