"""Objects that stand in several JSON files: shares, estimates, flips, ranks, models, SAEs."""

from __future__ import annotations

from common.glossary.words import Each, Maybe, Rows, keys, shape

FEATURE = shape(
    "feature",
    "One latent of an SAE.",
    {"layer": "int: the layer whose SAE it belongs to, from 0", "index": "int: its place in that SAE, from 0"},
)
SHARE = shape(
    "share",
    "A share of problems with its 95 % Wilson interval; without a denominator it is null, with the reason.",
    {
        "value": "float or null: numerator over denominator",
        "low": "float or null: lower end of the 95 % interval",
        "high": "float or null: upper end of the 95 % interval",
        "numerator": "int, problems: how many have the property",
        "denominator": "int, problems: of how many",
        "reason": "text or null: why there is no value",
    },
)
ESTIMATE = shape(
    "estimate",
    "A figure with a 95 % interval by bootstrap over problems (2.5 and 97.5 percentiles of the draws).",
    {
        "value": "float or null: the figure on the rows as they are",
        "low": "float or null: lower end of the 95 % interval",
        "high": "float or null: upper end of the 95 % interval",
        "n": "int, rows: how many rows it stands on",
        "n_problems": "int, problems: of how many problems",
        "n_draws": "int, draws: bootstrap draws",
        "n_draws_left_out": "int, draws: draws that held one class only",
        "reason": "text or null: why there is no value, or no interval",
    },
)
FLIPS = shape(
    "flips",
    "What steering changed on the problems that enter rates, each with its baseline and its steered solution.",
    {
        "n": "int, problems: how many enter",
        "n_failing": "int, problems: whose baseline fails",
        "n_passing": "int, problems: whose baseline passes",
        "fixes": "int, problems: baseline fails, steered passes",
        "breaks": "int, problems: baseline passes, steered fails",
        "breaks_that_parse": "int, problems: of the breaks, those whose code is still Python",
        "net": "int, problems: fixes minus breaks",
        "solved_before": "int, problems: solved by the baseline",
        "solved_after": "int, problems: solved under steering",
        "flip_rate": (SHARE, "fixes and breaks, of all"),
        "correction": (SHARE, "fixes, of the initially failing"),
        "corruption": (SHARE, "breaks, of the initially passing"),
        "preservation": (SHARE, "still passing, of the initially passing"),
        "parsing": (SHARE, "solutions whose code is Python, of all"),
        "mcnemar_p": "float or null: exact two-sided McNemar test of fixes against breaks",
    },
)
HEADLINE = {
    "n": "int, problems: how many enter",
    "net": "int, problems: fixes minus breaks",
    "fixes": "int, problems: baseline fails, steered passes",
    "breaks": "int, problems: baseline passes, steered fails",
    "breaks_that_parse": "int, problems: of the breaks, those whose code is still Python",
    "mcnemar_p": "float or null: exact two-sided McNemar test of fixes against breaks",
    "correction": (SHARE, "fixes, of the initially failing"),
    "corruption": (SHARE, "breaks, of the initially passing"),
    "preservation": (SHARE, "still passing, of the initially passing"),
}
RANK = shape(
    "rank",
    "A target's place among its controls on the primary outcome; ties count against the target.",
    {
        "target": "float, problems: the target's outcome",
        "n_controls": "int, controls: how many it is compared with",
        "n_at_least": "int, controls: how many do at least as well",
        "p": "float or null: (1 + n_at_least) / (1 + n_controls)",
        "smallest_p": "float: the p that so few controls can reach",
        "median": "float or null, problems: the controls' median outcome",
        "minimum": "float or null, problems: the controls' smallest outcome",
        "maximum": "float or null, problems: the controls' largest outcome",
        "percentile_2_5": "float or null, problems: 2.5 percentile of the controls' outcomes",
        "percentile_97_5": "float or null, problems: 97.5 percentile of the controls' outcomes",
        "reason": "text or null: why there is no p",
    },
)
SPREAD = shape(
    "spread",
    "The middle and both ends of several figures.",
    {"median": "float or null: the median", "min": "float or null: the least", "max": "float or null: the greatest"},
)
PASS_RATE = shape(
    "pass rate",
    "How many solutions of a model passed, with a 95 % Wilson interval.",
    {
        "passed": "int or null, solutions: how many passed",
        "judged": "int or null, solutions: how many have a label",
        "pass_rate": "float or null: passed over judged",
        "low": "float or null: lower end of the 95 % interval",
        "high": "float or null: upper end of the 95 % interval",
        "reason": "text or null: why there is none",
    },
)
CLASSIFICATION = shape(
    "classification",
    "Counts and figures of calling rows positive from a threshold on; F1 stands beside what a constant answer reaches.",
    {
        "threshold": "float, activation: rows at or above it are called positive",
        "n": "int, rows: how many rows",
        "n_positive": "int, rows: how many are positive",
        "n_flagged": "int, rows: how many are called positive",
        "tp": "int, rows: true positives",
        "fp": "int, rows: false positives",
        "tn": "int, rows: true negatives",
        "fn": "int, rows: false negatives",
        "f1": "float or null: harmonic mean of precision and recall",
        "f1_all_positive": "float or null: F1 of calling every row positive",
        "precision": "float or null: positive among those called positive",
        "recall": "float or null: called positive among the positive",
        "specificity": "float or null: called negative among the negative",
        "balanced_accuracy": "float or null: mean of recall and specificity",
        "matthews": "float or null: Matthews correlation",
        "reasons": (Each("figure", "text"), "why a figure is null, by its name"),
    },
)
DETECTION = shape(
    "detection",
    "How well one score tells positive from negative rows.",
    {
        "n": "int, rows: how many rows",
        "n_problems": "int, problems: of how many problems",
        "n_positive": "int, rows: how many are positive",
        "share_positive": "float or null: n_positive over n, the average precision of chance",
        "auroc": (ESTIMATE, "area under the ROC curve"),
        "average_precision": (ESTIMATE, "mean precision over the steps of recall, not interpolated"),
        "classification": (Maybe(CLASSIFICATION), "figures at the threshold from the hyperparameter split"),
        "reason": "text or null: why figures are missing",
        "n_excluded?": "int, problems: left out, since they have no label",
        "group?": "any: which rows these are, in a list by difficulty or temperature",
    },
)
THRESHOLD = shape(
    "threshold",
    "The threshold of highest F1, chosen on the hyperparameter split alone.",
    {
        "split": "text: the split that it was chosen on",
        "threshold": "float or null, activation: the threshold",
        "f1": "float or null: its F1 there",
        "f1_all_positive": "float or null: F1 of calling every problem positive there",
        "n": "int, problems: how many it was chosen on",
        "n_positive": "int, problems: how many of them are positive",
        "n_excluded": "int, problems: left out, since they have no label",
        "reason": "text or null: why there is no threshold",
    },
)
MODEL = shape(
    "model",
    "Which weights computed.",
    {
        "name": "text: hub name or directory",
        "role": "text: `base` or `instruct`",
        "revision": "text or null: commit on the hub",
        "digest": "text or null: SHA-256 over a local directory's files",
        "dtype": "text: number format of the computation",
        "device_type": "text: `cpu`, `cuda` or `mps`",
    },
)
ROLE = shape("model role", "A model, in short.", {"name": "text: hub name or directory", "role": "text: see model"})
SAE = shape(
    "SAE",
    "Which dictionary was used at a layer.",
    {
        "sae_layer?": "int: the layer that it is used at",
        "release": "text: SAELens release, or directory",
        "sae_id": "text: its name in the release",
        "revision": "text or null: commit on the hub",
        "digest": "text or null: SHA-256 over local files",
        "hook_name": "text: the point that it was trained on, as its own metadata name it",
        "site": "text: `resid_pre`, `resid_mid` or `resid_post`",
        "layer": "int: the block that it was trained on",
        "neuronpedia_id": "text or null: its name on Neuronpedia",
    },
)
DATASET = shape(
    "data set",
    "Which problems were read.",
    {
        "name": "text: hub name or file",
        "revision": "text or null: commit on the hub",
        "sha256": "text: over the files as they are",
        "files": (Each("file", "text"), "SHA-256 of each file"),
        "content_sha256": "text: over the problems, however they are stored",
        "n": "int, problems: how many",
    },
)
COMPLEXITY = shape(
    "complexity",
    "Cyclomatic complexity of the reference solutions.",
    {
        "n": "int, problems: how many",
        "counts": (Each("complexity", "int"), "problems of each complexity"),
        "mean": "float: the mean",
        "standard_deviation": "float or null: with n − 1; null for one problem",
        "minimum": "int: the smallest",
        "maximum": "int: the largest",
        "quantiles": (Each("quantile", "float"), "the value at each quantile"),
    },
)
LAYER_FIT = {
    "layer": "int: the layer",
    "hook_name": "text: the point that was read",
    "n_tokens": "int, tokens: prompt tokens read, BOS left out",
    "fraction_unexplained": "float or null: Σ‖x − x̂‖² / Σ‖x − mean‖²",
    "mean_l0": "float or null, features: active ones a token",
}
FEATURES_USED = keys(
    {
        "correct": "int: layer of the correct-preferring feature",
        "incorrect": "int: layer of the incorrect-preferring feature",
        "correct_feature_idx": "int: the correct-preferring feature's place in its SAE",
        "incorrect_feature_idx": "int: the incorrect-preferring feature's place in its SAE",
    }
)
BEST_FEATURES = keys(
    {
        "best_layers": (FEATURES_USED, "the predictors (phase 2.10; without it, phase 2.5)"),
        "steering_layers": (FEATURES_USED, "the steering features (phase 2.5)"),
    }
)
LEFT_OUT = Each("reason", "int")
FAILURE_MODES = keys(
    {
        "initially_failing": (Each("failure mode", "int"), "of the problems whose baseline fails"),
        "initially_passing": (Each("failure mode", "int"), "of the problems whose baseline passes"),
    }
)
EXAMPLES = Rows(
    keys(
        {
            "task_id": "int: the problem",
            "text": "text: what it asks for",
            "tests": (Rows("text"), "its assertions"),
            "condition": "text: the way of steering",
            "coefficient": "float: what the direction was multiplied by",
            "baseline_passed": "bool or null: whether the unsteered solution passes",
            "steered_passed": "bool or null: whether the steered one does",
            "flip": "text: `fix`, `break` or `none`",
            "left_out": "text or null: why it enters no rate",
            "outcome": "text or null: how the steered solution's tests ended",
            "failure_mode": "text or null: how the steered solution fails",
            "error_message": "text or null: what it raised, at most 300 characters",
            "token_similarity?": "float: of baseline and steered code as tokens, 1 for equal",
            "char_similarity?": "float: the same as characters",
            "length_ratio?": "float or null: steered length over the baseline's",
            "baseline_code": "text or null: the unsteered solution",
            "generated_code": "text or null: the steered one",
        }
    )
)
