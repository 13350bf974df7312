"""The document of step 4: what was tested and how, the associations, how each feature fared, and the lens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.hub import Snapshot
from common.runs.files import finite
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.token_contrasts import Contrast
from experiment_pathway_token_analysis.src.token_results import Outcome
from experiment_pathway_token_analysis.src.token_tests import FEW, MORE

SCHEMA_VERSION = 1
RULES = {
    "unit": "the response; labels are shuffled over responses, within a problem where trials have one",
    "log_odds": "natural log, informative Dirichlet prior pooled over both conditions (Monroe et al. 2008, eq. 16)",
    "z": "log_odds over its standard deviation (eq. 20 and 22), which takes words for independent",
    "permutation_z": "z over its root mean square under the shuffles",
    "p": "(1 + shuffles in which any token of any level has so large a |permutation_z|) / (1 + shuffles)",
    "n_permutations": f"{MORE} times as many again where fewer than {FEW} of the first exceed the largest",
    "q": "over the features of a contrast: Benjamini-Hochberg for features, Benjamini-Bogomolov 2014 for their tokens",
    "kept": "q <= alpha and |log_odds| > min_log_odds",
    "associations": "every kept token; of the primary contrasts also the top_tokens of largest |permutation_z| a level",
    "lens": "decoder row x scale of the final norm x unembedding; no test",
}


def document(
    run: Run,
    contrasts: Sequence[Contrast],
    outcomes: Sequence[Outcome],
    lens: Sequence[Mapping[str, Any]],
    read: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns what `token_associations.json` holds; `read` tells what was read and by which tokenizer."""
    settings = run.settings
    rows = [row for outcome in outcomes for row in _written(outcome, settings.tokens.top_tokens)]
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "study": settings.study.kind,
        "classes": list(settings.study.classes),
        "contrasts": [_contrast_summary(one, outcomes) for one in contrasts],
        "settings": settings.as_dict()["tokens"],
        "seed": settings.seed,
        **read,
        "n_features": len({one.feature for one in outcomes}),
        "n_associations": len(rows),
        "n_kept": sum(row["kept"] for row in rows),
        "rules": RULES,
    }
    return {"metadata": metadata, "associations": rows, "features": _features(outcomes), "lens": list(lens)}


def model_metadata(run: Run, snapshot: Snapshot) -> dict[str, Any]:
    """Returns which model and tokenizer the tokens are of."""
    tokenizer = snapshot.path / "tokenizer.json"
    return {
        "model": {"name": run.config.model_name, "revision": snapshot.revision},
        "tokenizer_sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest() if tokenizer.is_file() else None,
    }


def rows_json(value: Mapping[str, Any]) -> str:
    """Returns an object as JSON with one line a row of its lists, so that a large file stays readable."""
    parts = [f"{_line(name)}: {_lines(finite(part))}" for name, part in value.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _lines(part: Any) -> str:
    if not isinstance(part, list) or not part:
        return _line(part)
    return "[\n" + ",\n".join(map(_line, part)) + "\n]"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _written(outcome: Outcome, n_first: int) -> list[dict[str, Any]]:
    """Returns the rows of an outcome that are written, strongest first: kept ones and, if primary, the first ones."""
    seen: dict[str, int] = {}
    rows = []
    for row in outcome.rows:
        seen[row["level"]] = seen.get(row["level"], 0) + 1
        if row["kept"] or (outcome.contrast.primary and seen[row["level"]] <= n_first):
            rows.append(row)
    return rows


def _features(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Returns one row a feature: how each contrast went, and a reason where none could be tested."""
    by_feature: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_feature.setdefault(one.feature, []).append(one)
    table = []
    for feature, own in by_feature.items():
        reasons = list(dict.fromkeys(one.reason for one in own if one.reason))
        table.append(
            {
                "feature": feature,
                "n_tested": sum(one.reason is None for one in own),
                "n_hits": sum(one.n_hits for one in own),
                "reason": "; ".join(reasons) if len(reasons) and all(one.reason for one in own) else None,
                "contrasts": [one.as_dict() for one in own],
            }
        )
    return table


def _contrast_summary(contrast: Contrast, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    own = [one for one in outcomes if one.contrast.name == contrast.name]
    return {
        **contrast.as_dict(),
        "n_features": len(own),
        "n_tested": sum(one.reason is None for one in own),
        "n_tokens_tested": sum(one.n_tokens for one in own),
        "n_features_with_hits": sum(one.n_hits > 0 for one in own),
        "n_hits": sum(one.n_hits for one in own),
    }
