"""The documents of steps 4 and 5 of the pathway analysis, its manifests, and the list of all its files."""

from __future__ import annotations

from common.glossary import pathway
from common.glossary.pathway_files import AUDIT, CAUSAL, MEMORY, MODEL, NULL, PATHWAYS, PROMPTS, PROTOTYPE, SETTINGS
from common.glossary.words import Each, File, Maybe, Rows, keys, merged, shape, table

_CONTRAST = keys(
    {
        "name": "text: its name",
        "prompt_class": "text: class of the prompts",
        "condition_a": "text: first condition",
        "condition_b": "text: second condition",
        "primary": "bool: whether it is patch against patch",
        "n_features": "int, features: with trials",
        "n_tested": "int, features: that could be tested",
        "n_tokens_tested": "int, tokens: tested",
        "n_features_with_hits": "int, features: with kept tokens",
        "n_hits": "int, tokens: kept",
    }
)
_TOKENS_READ = shape(
    "token analysis",
    "What step 4 read and compared.",
    {
        "schema_version": "int: of this file's form",
        "study": "text: kind of study",
        "classes": (Rows("text"), "both classes"),
        "contrasts": (Rows(_CONTRAST), "what is compared"),
        "settings": (SETTINGS, "as `tokens` of `config.yaml`"),
        "seed": "int: of the shuffles",
        "n_responses": "int, responses: read",
        "n_empty_responses": "int, responses: empty",
        "n_responses_with_prompt_echo": "int, responses: that repeat their prompt, which is cut off",
        "n_effects": "int, tokens: tested",
        "model": (MODEL, "the model"),
        "tokenizer_sha256": "text or null: of its tokenizer",
        "n_features": "int, features: how many",
        "n_associations": "int, rows: written",
        "n_kept": "int, rows: kept",
        "rules": (Each("figure", "text"), "how each figure is computed"),
    },
)
_FARED = keys(
    {
        "contrast": "text: which contrast",
        **pathway.RESPONSES,
        "n_unpaired": "int, responses: without a partner, left out",
        "n_tokens": "int, tokens: tested",
        "n_permutations": "int: shuffles",
        "p": "float or null: of its first token",
        "q": "float or null: Benjamini–Hochberg over features",
        "n_hits": "int, tokens: kept",
        "reason": "text or null: why it was not tested",
    }
)
_SIDE = Rows(keys({"token": "text: the token", "token_id": "int: of the tokenizer", "score": "float: logit change"}))
TOKENS = keys(
    {
        "metadata": (_TOKENS_READ, "what was read and compared"),
        "associations": (
            Rows(
                keys(
                    {
                        "feature": pathway.NAME["feature"],
                        **pathway.TOKEN,
                        **pathway.USE,
                        **pathway.RESPONSES,
                        **pathway.ODDS,
                        **pathway.P,
                        **pathway.Q,
                        **pathway.WHICH,
                        "kept": "bool: whether it is kept",
                    }
                )
            ),
            "kept tokens, and the first of each primary contrast",
        ),
        "features": (
            Rows(
                keys(
                    {
                        "feature": pathway.NAME["feature"],
                        "n_tested": "int: contrasts that could be tested",
                        "n_hits": "int, tokens: kept",
                        "reason": "text or null: why none could",
                        "contrasts": (Rows(_FARED), "how each went"),
                    }
                )
            ),
            "how each feature fared",
        ),
        "lens": (
            Rows(keys({**pathway.NAME, "top": (_SIDE, "raised most"), "bottom": (_SIDE, "lowered most")})),
            "decoder row through final norm and unembedding; no test",
        ),
    }
)
_LISTS = {name: (Rows("text"), line.partition(": ")[2]) for name, line in {**pathway.WORDS, **pathway.LENS}.items()}
SIMILARITY = keys(
    {
        "n_validated": "int, edges: validated",
        "n_both_ends_measured": "int, edges: whose ends both have token effects",
        "n_compared": "int, edges: in layers with more than one such feature",
        "mean": "float or null: mean signed cosine of both ends' word effects",
        "null_mean": "float or null: the same with effects dealt anew within layers",
        "null_low": "float or null: 2.5 percentile of that",
        "null_high": "float or null: 97.5 percentile",
        "p": "float or null: one-sided",
        "strength_spearman": "float or null: rank correlation with |attribution|",
        "strength_p": "float or null: one-sided",
        "n_draws": "int or null: deals",
        "reason": "text or null: why there is none",
        "edges": (Rows(keys({"edge_id": "text: the edge", "similarity": "float: its cosine"})), "each edge"),
    }
)
INTEGRATED = keys(
    {
        "metadata": (
            keys(
                {
                    "schema_version": "int: of this file's form",
                    "study": "text: kind of study",
                    "classes": (Rows("text"), "both classes"),
                    "model": (MODEL, "the model"),
                    "n_layers": "int, layers: of the model",
                    "seed": "int: of the draws",
                    "slopes": (Rows("float"), "the range of slopes that counts as agreement"),
                    "matched_null": (Maybe(NULL), "step 3's"),
                    "token_metadata": (_TOKENS_READ, "step 4's"),
                    "inputs": (Each("file", "text"), "SHA-256 of what was read"),
                }
            ),
            "what was read",
        ),
        "counts": (Each("what", "int"), "of trials, features, edges, chains and tokens"),
        "similarity": (SIMILARITY, "whether edges connect features that move the same words"),
        "features": (Rows(keys({**pathway.JOINED, **_LISTS})), "every feature that a step names"),
        "pathways": (
            Rows(
                keys(
                    {
                        **pathway.PATHWAY,
                        "features": (Rows("text"), "the features in order"),
                        "classes": (Rows("any"), "their classes"),
                        "edge_ids": (Rows("text"), "their edges"),
                        "labels": (Rows("text"), "computation or persistence, of each"),
                        "gradients": (Rows("float"), "derivative of each"),
                        "mean_deltas": (Rows("float"), "measured change of each"),
                        "sign": "int: 1 where raising the first raises the last, else −1",
                        "mediated_share": "float or null: what holding the middle removes",
                        **{name: _LISTS[name] for name in pathway.WORDS},
                        "reading": "text: the row as a sentence; a hypothesis, not tested",
                    }
                )
            ),
            "validated edges and mediated chains that end in words",
        ),
        "class_composition": (Rows(keys(pathway.COMPOSITION)), "edges by class of both ends"),
        "layer_bands": (Rows(keys(pathway.BANDS)), "counts by third of the layers"),
        "edges_by_layer": (Rows(keys(pathway.BY_LAYER)), "edges by pair of layers"),
        "reconciliation": (
            Rows(keys({"check": "text: what must agree", "one": "int: one count", "other": "int: the other"})),
            "counts that two steps must agree on",
        ),
    }
)
MANIFEST = keys(
    {
        "step": "int: the step",
        "name": "text: its name",
        "status": "text: passed or failed",
        "message": "text: how it ended",
        "settings": (SETTINGS, "every setting, as `config.yaml`"),
        "profile": "text: the profile",
        "model": (merged(MODEL, keys({"dtype": "text: number format"})), "the model"),
        "limit": "int or null: `--limit`",
        "forced": "bool: whether a step before had not passed",
        "inputs": (Each("file", "text"), "SHA-256 of what was read"),
        "outputs": (Each("file", "text"), "SHA-256 of what was written"),
    }
)
_RECORD = {
    **pathway.NAME,
    "cohen_d": "float: of its activation between the classes",
    "class": "text: the class on which it is more active",
    "mean_<class>": "float, activation: mean over the class",
    "is_causal": "bool: q ≤ alpha and a large enough difference",
    "rate_difference": "float: success rates, correct patch minus incorrect, over both classes",
    "effect_<class>": "float: the same on the prompts of the class",
    "p": "float or null: exact McNemar",
    "q": "float or null: Benjamini–Hochberg over all features",
    "n_pairs": "int, problems: judged under both patches",
    "n_excluded": "int, problems: given up",
}
CHECKPOINT = keys(
    {
        "timestamp": "text or null: null, so that bytes repeat",
        "run": "text: the run",
        "layer_range": (Rows("int"), "first and last layer"),
        "features_tested": "int, features: so far",
        "n_trials_per_condition": (Each("class", "int"), "problems of either class"),
        "results": (Rows(keys(_RECORD)), "every feature so far"),
    }
)
LOG = Rows(
    keys(
        {
            "feature": pathway.NAME["feature"],
            "condition": f"text: {pathway.CONDITIONS}",
            "trial": "int: number of the trial",
            "task_id": "int: the problem",
            "response": "text: the solution",
            "test_passed": "bool or null: whether it passes",
        }
    )
)
AUDIT_TIMES = keys(
    {
        "seconds": "float, s: wall seconds",
        "megabytes": "float, MB: read",
        "trials_per_second": "float: rate",
        "megabytes_per_second": "float: rate",
        "peak_memory_gb": "float, GB: of the process",
    }
)
TOKEN_TIMES = keys(
    {
        "n_features": "int, features: how many",
        "responses_seconds": "float, s: reading and tokenizing",
        "lens_seconds": "float, s: the lens",
        "seconds_a_feature": "float, s: testing one",
    }
)
DISCOVERY_TIMES = keys(
    {
        "span": (Rows("int"), "first and last target"),
        "seconds": "float, s: wall seconds",
        "peak_memory_gb": (Maybe(MEMORY), "peak memory"),
    }
)
_TABLES = {
    "features": "a feature that any step names",
    "edges": "a kept edge",
    "targets": "a target",
    "chains": "two validated edges in a row",
    "tokens": "a kept token",
    "pathways": "an edge or chain that ends in words",
    "class_composition": "a pair of classes",
    "layer_bands": "a third of the layers",
    "edges_by_layer": "a pair of layers",
}
_PLOTS = {
    "network": "validated edges between layers",
    "effect_against_prediction": "measured against predicted change",
    "edges_by_layer": "validated edges by pair of layers",
    "token_log_odds": "kept words by feature",
}
PATHWAY_FILES: tuple[File, ...] = (
    File("study/analysis/<name>.json", "tested features, cumulative", CHECKPOINT, when="made by the producer"),
    File("study/response_logs/<name>.json", "every trial", LOG, when="made by the producer"),
    File("data/prompts_sample.json", "prompts of steps 2 and 3", PROMPTS),
    File("results/audit/data_validation.json", "step 0: what is right and wrong with the study", AUDIT),
    File("results/audit/features.parquet", "step 0: every tested feature", table(pathway.AUDITED), row="a feature"),
    File("results/audit/trials.parquet", "step 0: every trial, once", table(pathway.TRIALS), row="a trial"),
    File("results/audit/timings.json", "step 0: how long it took", AUDIT_TIMES),
    File("data/causal_features.json", "step 1: the causal features", CAUSAL),
    File("results/prototype/single_feature_test.json", "step 2: one feature, and the self-test", PROTOTYPE),
    File("results/pathways/validated_pathways.json", "step 3: edges, targets, chains", PATHWAYS),
    File("results/pathways/logs/timings_<span>.json", "step 3: how long it took", DISCOVERY_TIMES),
    File("results/tokens/token_associations.json", "step 4: tokens that features move", TOKENS),
    File(
        "results/tokens/token_effects.parquet",
        "step 4: every token that was tested",
        table(pathway.EFFECTS),
        row="a feature, contrast and token",
    ),
    File("results/tokens/timings.json", "step 4: how long it took", TOKEN_TIMES),
    File("results/integrated/integrated.json", "step 5: everything joined by feature", INTEGRATED),
    *(File(f"results/integrated/{name}.csv", "step 5", pathway.CSV[name], row=row) for name, row in _TABLES.items()),
    File("results/integrated/summary.md", "step 5: the findings for reading"),
    *(
        File(f"results/integrated/{name}.{suffix}", f"step 5: {what}")
        for name, what in _PLOTS.items()
        for suffix in ("png", "svg")
    ),
    File("steps/step_<k>.json", "how each step ended, on which settings and files", MANIFEST),
)
