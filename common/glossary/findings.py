"""The JSON files of the phases that split, rank and detect (0 to 3.8, and 7.3's fit)."""

from __future__ import annotations

from common.glossary.records import CLASSES, GENERAL_FILTER, SPLITTING, TOP_SEPARATION, TOP_WELCH
from common.glossary.shapes import (
    COMPLEXITY,
    DATASET,
    DETECTION,
    ESTIMATE,
    FEATURE,
    LAYER_FIT,
    MODEL,
    SAE,
    SPREAD,
    THRESHOLD,
)
from common.glossary.words import Each, Maybe, Rows, Shape, keys, merged, shape

DIFFICULTY = keys({"dataset": (DATASET, "which problems"), "cyclomatic_complexity": (COMPLEXITY, "their difficulty")})
SPLIT_METADATA = SPLITTING
DATASET_SUMMARY = keys(
    {
        "split": "text: the split",
        "n_problems": "int, problems: in the data set",
        "n_expected": "int, problems: in the split",
        "n_correct": "int, problems: solved",
        "n_excluded": "int, problems: given up",
        "outcomes": (Each("outcome", "int"), "solutions by how their tests ended"),
        "layers": (Rows("int"), "layers that were captured"),
        "hook_names": (Each("layer", "text"), "the point of each layer"),
        "model": "text: name of the model",
    }
)
_NEIGHBOUR = keys(
    {
        "offset": "int, blocks: −1 is the block before, 1 the one after",
        **{name: line for name, line in LAYER_FIT.items() if name != "layer"},
        "reason": "text or null: why there is no figure",
    }
)
SAE_FIT = keys(
    {
        "what": "text: what the figures are",
        "n_problems": "int, problems: whose prompts were read",
        "n_problems_left_out": "int, problems: whose prompts memory could not hold",
        "layers": (
            Rows(
                keys(
                    {
                        **LAYER_FIT,
                        "reason": "text or null: why there is no figure",
                        "dead_share": "float or null: features that never fired on these tokens, of all",
                        "d_sae": "int, features: width of the SAE",
                        "neighbours": (Rows(_NEIGHBOUR), "the same one block to either side, where there is one"),
                    }
                )
            ),
            "each layer's fit at its declared point",
        ),
    }
)
INSTRUCT_FIT = merged(
    SAE_FIT,
    keys({"model": "text: the model", "role": "text: `instruct`", "note": "text: whose SAEs these are"}),
)


def top_features(item: Shape) -> Each:
    """Returns the file of the best features of either direction."""
    return Each("direction", Rows(item))


def _analysis(item: Shape) -> Shape:
    best = keys(
        {
            "feature_idx": "int or null: the layer's best feature",
            "score": "float or null: its score, in the direction's own sign",
        }
    )
    null = keys(
        {
            "statistic": "text: what is maximised",
            "n_permutations": "int: shuffles of the labels",
            "seed": "int: their seed",
            "score_at_p_0_05": (Each("direction", Maybe("float")), "the score that p = 0.05 needs"),
        }
    )
    return keys(
        {
            "model": (MODEL, "whose solutions"),
            "saes": (Rows(SAE), "the SAEs"),
            **CLASSES,
            "n_features": "int, features: of all layers",
            "n_ranked": "int, features: that take part",
            "n_untestable": "int, features: constant over the problems",
            "general_text_filter": (GENERAL_FILTER, "whether common features were left out"),
            "per_feature_test": "text: the test behind `p_value`",
            "permutation_null": (null, "the null of the largest score"),
            "n_significant_among_top": (Each("direction", "int"), "of the kept features, those with p ≤ 0.05"),
            "site_misfits": (Rows("text"), "layers that fit no better than a block away"),
            "best_by_layer": (
                Rows(
                    keys(
                        {
                            "layer": "int: the layer",
                            "n_ranked": "int, features: that take part there",
                            "correct": (best, "correct-preferring"),
                            "incorrect": (best, "incorrect-preferring"),
                        }
                    )
                ),
                "the best feature of every layer",
            ),
            "top_features": (top_features(item), "as in `top_20_features.json`"),
        }
    )


SEPARATION_ANALYSIS, WELCH_ANALYSIS = _analysis(TOP_SEPARATION), _analysis(TOP_WELCH)
REPLICATION = keys(
    {
        "what": "text: what the figures are",
        "split": "text: the split that was measured",
        "n_problems": "int, problems: with a label",
        "share_correct": "float: mean share of passing samples",
        "layers": (Rows("int"), "layers captured there"),
        "features": (
            Each(
                "direction",
                Rows(
                    keys(
                        {
                            "layer": "int: its layer",
                            "feature_idx": "int: its place in the layer's SAE",
                            "separation_score": "float or null: here",
                            "separation_score_sae": "float: on the sae split, where it was chosen",
                            "f_correct": "float or null: share of correct problems on which it fires",
                            "f_incorrect": "float or null: share of incorrect problems on which it fires",
                            "mean_activation_correct": "float or null, activation: over correct problems",
                            "mean_activation_incorrect": "float or null, activation: over incorrect problems",
                            "reason": "text or null: why there are no figures",
                        }
                    )
                ),
            ),
            "the ranked features, in rank order",
        ),
    }
)
SETTINGS = keys(
    {
        "sign?": "text: how scores without a class in mind were turned",
        "n_scores?": "int: how many scores",
        "n_negated?": "int: of them, turned",
        "n_train": "int, problems: of the sae split, on which everything was chosen",
        "firing_rate?": "float: of the predictor, on the sae split",
        "median_firing_rate?": "float: of the matched features",
        "distance_of_means?": "float: norm of the difference of class means",
        "regularisation?": "float: inverse strength of the L2 penalty",
        "n_folds?": "int: of the cross-validation",
        "cross_validated_auroc?": (Each("inverse strength", "float"), "mean AUROC over the folds"),
    }
)
RIVAL = {
    "n": "int, rows: how many rows",
    "n_scores": "int, scores: one, or the number of random ones",
    "auroc": (SPREAD, "of the rival's scores"),
    "average_precision": (SPREAD, "of the rival's scores"),
    "target_minus_median": (Maybe(ESTIMATE), "AUROC of the feature minus the (median) rival's, paired by problem"),
    "n_at_least_target": "int or null, scores: with an AUROC at least the feature's",
    "reason": "text or null: why figures are missing",
}
RIVALS = shape(
    "rival",
    "A simple score that a feature has to beat, on the same rows; everything in it was chosen on the sae split.",
    {
        "settings": (SETTINGS, "what was chosen"),
        "n_problems": "int, problems: how many",
        **RIVAL,
        "detection?": (DETECTION, "its figures as those of the feature, where it is one score"),
    },
)
EVALUATION = keys(
    {
        "what": "text: what the figures are",
        "splits": (Each("job", "text"), "which split features, thresholds and figures come from"),
        "n": (Each("split", "int"), "problems with a label"),
        "predictor_note": "text or null: where 2.5's features stand in for 2.10's",
        "features_given": (Rows("text"), "directions whose feature was given with `--feature`"),
        "site_given": "bool: whether `--site` was given",
        "seed": "int: of the bootstrap and the random rivals",
        "bootstrap_draws": "int, draws: over problems",
        "directions": (
            Each(
                "direction",
                keys(
                    {
                        "feature": (FEATURE, "the predictor"),
                        "positive": "text: `passed` or `failed`",
                        "threshold": (THRESHOLD, "chosen on the hyperparameter split"),
                        "validation": (DETECTION, "greedy solutions of the validation split"),
                        "by_difficulty": (Rows(DETECTION), "by complexity: 1, 2-3, 4+"),
                        "by_temperature": (Rows(DETECTION), "all samples of each temperature, the prompt's score"),
                        "rivals": (Each("rival", RIVALS), "simple scores on the same rows"),
                    }
                ),
            ),
            "both predictors",
        ),
    }
)
TOP = {"2.5": top_features(TOP_SEPARATION), "2.10": top_features(TOP_WELCH)}
