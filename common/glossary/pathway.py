"""The tables of the pathway analysis, below `{data-dir}/pathway/`."""

from __future__ import annotations

from common.glossary.words import Shape, keys

CONDITIONS = "the way of patching (see [pathway.md](pathway.md#the-producer))"
NAME = {
    "feature": "text: L{layer}-{index}",
    "layer": "int: its layer",
    "feature_id": "int: its place in the layer's SAE",
}
ENDS = {
    "edge_id": "text: source and target",
    "source": "text: the earlier feature",
    "target": "text: the later one",
    "source_layer": "int: its layer",
    "source_id": "int: its place in the layer's SAE",
    "target_layer": "int: its layer",
    "target_id": "int: its place in the layer's SAE",
}
KIND_OF_EDGE = {"label": "text: computation, or persistence of one direction in the stream"}
PASSING = {
    "attribution": "float, activation: derivative × what the patch changes, mean over the selecting prompts",
    "rank": "int: place among the target's sources, by |attribution|",
    "skip_share": "float or null: share of the derivative that the unchanged stream carries",
    "decoder_cosine": "float: cosine of both decoder rows",
}
N_PROMPTS = {"n_prompts": "int, prompts: validating ones on which the patch changes the source"}
PREDICTED = {"predicted_delta": "float or null, activation: mean change of the target by the derivative"}
REPLAY = {
    "mean_delta": "float or null, activation: mean measured change of the target, signed by the source's change",
    "ci_low": "float or null, activation: lower end of its 95 % interval (bootstrap over prompts)",
    "ci_high": "float or null, activation: upper end",
    "slope": "float or null: measured on predicted change, through the origin",
    "pearson": "float or null: correlation of both",
    "spearman": "float or null: rank correlation of both",
    "sign_agreement": "float or null: share of prompts on which both have one sign",
    "p_effect": "float or null: sign-flip test of the change",
    "class_delta": "float or null, activation: mean change with the source half-way between the classes, by class",
    "p_class": "float or null: sign-flip test of that",
    "p": "float or null: the larger of both; the one that decides",
    "q": "float or null: Benjamini–Hochberg over all tested edges",
    "matched_p": "float or null: among matched sources of the same pair of layers",
    "small_step_slope": "float or null: measured on predicted change for a small share of the patch",
    "linear_ok": "bool or null: whether that is near 1",
    "ablation_delta": "float or null, activation: mean change with the source set to 0",
    "activation_delta": "float or null, activation: change of the activation, after the SAE's gate",
    "gate_flip_rate": "float or null: share of prompts on which the target starts or stops being active",
    "tested": "bool: whether it was replayed on enough prompts",
    "reason": "text or null: why it was not",
}
TARGET = {
    **NAME,
    "class": "text or null: the class on which it is more active",
    "status": "text: how far it came",
    "reason": "text or null: why no further",
    "n_active_prompts": "int, prompts: on which it is active",
    "scale": "float or null, activation: its standard deviation over prompts",
    "n_candidates": "int, features: earlier ones with a derivative that counts",
    "n_kept": "int, features: sources kept",
    "n_tested": "int, edges: replayed on enough prompts",
    "n_validated": "int, edges: validated",
    "n_controls": "int, features: matched sources replayed",
}
CHAIN = {
    "source": "text: the first feature",
    "middle": "text: the middle one",
    "target": "text: the last",
    "n": "int, prompts: how many",
    "total_effect": "float or null, activation: source on target",
    "frozen_effect": "float or null, activation: the same with the middle held",
    "mediated_share": "float or null: what holding the middle removes",
    "score": "float: strength by attribution, for ranking",
    "mediated": "bool or null: whether that is at least half",
}
USE = {
    "count_a": "int, tokens: how often it occurs under the first condition",
    "count_b": "int, tokens: under the second",
    "total_a": "int, tokens: all tokens of the level under the first condition",
    "total_b": "int, tokens: under the second",
    "docs_a": "int, responses: of the first condition that hold it",
    "docs_b": "int, responses: of the second",
}
TOKEN = {
    "contrast": "text: which two conditions are compared",
    "level": "text: piece (of the tokenizer), word, or kind (of code token)",
    "token": "text: the token",
    "token_id": "int or null: of the tokenizer, for pieces",
    "kind": "text or null: kind of code token",
}
ODDS = {
    "log_odds": "float or null: natural log-odds ratio with a Dirichlet prior, positive for the first condition",
    "z": "float or null: log_odds over its standard deviation, as if words were independent",
    "permutation_z": "float or null: z over its root mean square under shuffled labels",
    "plain_log_ratio": "float or null: ln((count_a + 1) / (count_b + 1))",
}
P = {"p": "float or null: against the largest |permutation_z| of any token under shuffled labels"}
Q = {"q": "float or null: Benjamini–Bogomolov over features"}
RESPONSES = {
    "n_a": "int, responses: under the first condition",
    "n_b": "int, responses: under the second",
}
WHICH = {"direction": "text: the condition that uses it more"}
JOINED = {
    **NAME,
    "band": "text: early, middle or late third of the layers",
    "listed": "bool: whether step 1 lists it as causal",
    "class": "text or null: the class on which it is more active",
    "cohen_d": "float or null: of its activation between the classes",
    "has_pathway": "bool: whether it has a validated edge",
    "n_edges_in": "int, edges: kept, ending in it",
    "n_validated_in": "int, edges: of them, validated",
    "n_edges_out": "int, edges: kept, starting from it",
    "n_validated_out": "int, edges: of them, validated",
    "target_status": "text: how far it came as a target",
    "target_reason": "text or null: why no further",
    "has_tokens": "bool: whether tokens were kept for it",
    "n_token_hits": "int, tokens: kept, over all contrasts",
    "n_contrasts_tested": "int: contrasts that could be tested",
    "tokens_reason": "text or null: why none could",
}
WORDS = {
    "tokens_more_a": "text: words used more under the first class's patch, at most 8",
    "tokens_more_b": "text: under the second class's patch",
}
LENS = {
    "lens_top": "text: tokens that its decoder row raises most through the unembedding; no test",
    "lens_bottom": "text: that it lowers most",
}
PATHWAY = {"kind": "text: edge or chain", "pathway": "text: the features in order"}
COMPOSITION = {
    "source_class": "text: class of the source",
    "target_class": "text: class of the target",
    "n_kept": "int, edges: kept by gradient",
    "n_tested": "int, edges: replayed on enough prompts",
    "n_validated": "int, edges: validated",
    "share_low": "float or null: of validated among tested, lower end of the 95 % Wilson interval",
    "share_high": "float or null: upper end",
    "n_positive": "int, edges: validated with a positive derivative",
    "n_negative": "int, edges: with a negative one",
    "expected": "float or null, edges: mean with classes shuffled within pairs of layers",
    "p": "float or null: two-sided, of n_validated against that",
}
BANDS = {
    "band": "text: early, middle or late third of the layers",
    "layers": "text: which layers",
    "n_listed": "int, features: listed as causal",
    "n_targets_with_edges": "int, features: with an edge into them",
    "n_edges_in_tested": "int, edges: into them, tested",
    "n_edges_in_validated": "int, edges: into them, validated",
    "n_edges_out_validated": "int, edges: out of them, validated",
    "n_tokens_tested": "int, features: whose tokens were tested",
    "n_with_tokens": "int, features: with kept tokens",
    "n_pathway_and_tokens": "int, features: with both",
}
BY_LAYER = {
    "source_layer": "int: layer of the source",
    "target_layer": "int: layer of the target",
    "n_kept": "int, edges: kept by gradient",
    "n_tested": "int, edges: replayed on enough prompts",
    "n_validated": "int, edges: validated",
    "n_computation": "int, edges: of them, computation",
    "n_positive": "int, edges: validated with a positive derivative",
    "n_negative": "int, edges: with a negative one",
}

AUDITED = {
    "feature": "text: L{layer}-{index}",
    "layer": "int32: its layer",
    "feature_id": "int32: its place in the layer's SAE",
    "cohen_d": "float64: of its activation between the classes",
    "is_causal": "bool: what the study's own rule says",
    "mean_a": "float64, activation: mean over the first class; null where the study does not say",
    "mean_b": "float64, activation: mean over the second class",
    "class": "text: the class that the study names; null where it names none",
    "run": "text: the run of the study",
    "generation": "int8: which form of record it came in, 1 or 2",
}
TRIALS = {
    "feature": "text: L{layer}-{index}",
    "condition": f"text: {CONDITIONS}",
    "run": "text: the run of the study",
    "trial": "int32: number of the trial",
    "task_id": "int64: the problem; null in studies of one prompt",
    "outcome": "bool: whether the trial counts as positive (solved); null where that could not be read",
    "response": "text: what the model wrote",
}
EFFECTS = {
    "feature": "text: L{layer}-{index}",
    "contrast": "text: which two conditions are compared",
    "level": "text: piece (of the tokenizer), word, or kind (of code token)",
    "token": "text: the token",
    "token_id": "int32: of the tokenizer, for pieces",
    "kind": "text: kind of code token",
    **{name: line.replace("int,", "int64,") for name, line in USE.items()},
    **{
        name: ODDS[name].replace("float or null", "float64")
        for name in ("log_odds", "z", "plain_log_ratio", "permutation_z")
    },
    "p": P["p"].replace("float or null", "float64"),
}
_GRADIENT = {
    "gradient_mean": "float: derivative of the target along the source, mean over the selecting prompts",
    "gradient_sd": "float or null: its standard deviation over them",
}
_TESTS = {
    **REPLAY,
    "similarity": "float or null: whether both ends move the same words, signed",
    "validated": "bool: verdict",
}
CSV: dict[str, Shape] = {
    "features": keys({**JOINED, **WORDS, **LENS}),
    "edges": keys(
        {
            **ENDS,
            "source_class": "text or null: class of the source",
            "target_class": "text or null: class of the target",
            **KIND_OF_EDGE,
            **N_PROMPTS,
            **_GRADIENT,
            **PASSING,
            **PREDICTED,
            **_TESTS,
        }
    ),
    "targets": keys(TARGET),
    "chains": keys(CHAIN),
    "tokens": keys(
        {
            "feature": NAME["feature"],
            "class": "text or null: the class on which it is more active",
            **TOKEN,
            **USE,
            **RESPONSES,
            **ODDS,
            **P,
            **Q,
            **WHICH,
        }
    ),
    "pathways": keys(
        {
            **PATHWAY,
            "classes": "text: class of each feature",
            "labels": "text: computation or persistence, of each edge",
            "gradients": "text: derivative of each edge",
            "mean_deltas": "text: measured change of each edge",
            "sign": "int: 1 where raising the first raises the last, else −1",
            "mediated_share": "float or null: what holding the middle removes",
            **WORDS,
            "reading": "text: the row as a sentence; a hypothesis, not tested",
        }
    ),
    "class_composition": keys(COMPOSITION),
    "layer_bands": keys(BANDS),
    "edges_by_layer": keys(BY_LAYER),
}
