"""`known_answers.json`: what the phases found on the bundled model, against its planted truth."""

from __future__ import annotations

from common.glossary.shapes import ESTIMATE, FEATURE, RANK, ROLE, SHARE
from common.glossary.words import Each, Maybe, keys

_RATE = keys(
    {
        "rate": "float or null: share that passes",
        "n": "int, problems: how many",
        "low": "float or null: lower end of the 95 % interval",
        "high": "float or null: upper end of the 95 % interval",
    }
)
_COUNTS = {
    "n_failing": "int, problems: whose baseline fails",
    "n_passing": "int, problems: whose baseline passes",
    "fixes": "int, problems: baseline fails, steered passes",
    "breaks": "int, problems: baseline passes, steered fails",
    "intended": "int, problems: breaks that do what the problem's planted bug does",
    "intended_share_of_breaks": (SHARE, "of them, among the breaks"),
}
_IN_SAMPLE = keys(
    {
        "layer": "int: its layer",
        "feature_idx": "int: its place in the layer's SAE",
        "auroc_for_label": "float: of its activation, for its class",
        "auroc_for_carelessness": "float: of its activation, for the hidden variable's sign",
        "spearman_with_carelessness": "float: rank correlation of its activation with the hidden variable",
        "p_max_permutation": "float: phase 2.5's",
        "n": "int, problems: the sae split, on which it was chosen",
    }
)
_AUROC = keys(
    {
        "value": "float or null: AUROC",
        "low": "float or null: lower end of the 95 % interval",
        "high": "float or null: upper end of the 95 % interval",
        "n": "int, problems: how many",
    }
)
_HELD_OUT = keys(
    {
        "layer": "int: its layer",
        "index": "int: its place in the layer's SAE",
        "auroc": (_AUROC, "phase 3.8's, on the validation split"),
        "share_of_ceiling": "float: AUROC over the best that the cues allow",
        "reaches_0_9_of_ceiling": "bool: whether that is at least 0.9",
        "ahead_of_random_directions": (Maybe(ESTIMATE), "AUROC minus the median random direction's"),
        "ahead_of_matched_features": (Maybe(ESTIMATE), "AUROC minus the median matched feature's"),
        "spearman_with_carelessness": "float: rank correlation of its activation with the hidden variable",
    }
)
_DETECTION = keys(
    {
        "split": "text: the split",
        "n": "int, problems: how many",
        "ceiling_auroc": "float: the best that the wording's cues allow there",
        "features": (Each("direction", _HELD_OUT), "both predictors"),
    }
)
_COMPARED = keys(
    {
        "n": "int, problems: on which target and controls are compared",
        "target": (keys(_COUNTS), "the target there"),
        "controls": (Each("condition", keys({**_COUNTS, "kind": "text: which kind of control"})), "each control"),
    }
)
_STEERED = keys(
    {
        "feature": (FEATURE, "whose direction"),
        "coefficient": "float: what it was multiplied by",
        "all_problems": (keys(_COUNTS), "the target on every problem that enters rates"),
        "control_problems": (_COMPARED, "target and controls on the same problems"),
        "primary_outcome": "text: what the rank stands on, named beforehand",
        "rank": (RANK, "phase 4.8's or 7.6's"),
        "beats_every_control": "bool or null: whether no control does as well",
        "rank_by_intended_bugs": (RANK, "the target among all controls by breaks with the planted bug"),
    }
)
KNOWN_ANSWERS = keys(
    {
        "what": "text: what the figures are",
        "split": "text: the split of `features` and `pass_rate`",
        "n_problems": "int, problems: in it",
        "pass_rate": (
            Each("asked", _RATE),
            "of all problems, of those asked with care (z < −0.5) and without (z > 0.5)",
        ),
        "ceiling": (
            keys(
                {
                    "what": "text: what it is",
                    "auroc": "float: the best that the wording's cues and the difficulty allow",
                    "n": "int, problems: how many",
                }
            ),
            "what detection can reach",
        ),
        "features": (Each("direction", _IN_SAMPLE), "phase 2.5's best, on the problems they were chosen on"),
        "note": "text: how to read them",
        "detection?": (_DETECTION, "phase 3.8's predictors, held out"),
        "steering": (
            Each(
                "phase",
                keys(
                    {
                        "model": (ROLE, "the steered model"),
                        "n": "int, problems: in the split",
                        "directions": (Each("direction", _STEERED), "both directions"),
                    }
                ),
            ),
            "what steering broke, and how (phases 4.8 and 7.6)",
        ),
    }
)
