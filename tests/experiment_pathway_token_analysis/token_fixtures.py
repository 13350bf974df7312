"""A small patching study as steps 0, 1 and 3 leave it, with a planted word: what steps 4 and 5 start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.config import Config
from common.profiles import Profile
from common.runs.files import write_json, write_parquet
from experiment_pathway_token_analysis.src.paths import PathwayPaths
from experiment_pathway_token_analysis.src.settings import Settings, load_settings
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.trial_table import SCHEMA
from tests.common_simplified.fixtures import tiny_profile

WORDS = ("red", "green", "blue", "black", "white", "pink", "grey", "brown")
Trial = tuple[str, str, int, int | None, str]  # feature, condition, trial, task_id, response


def settings_of(profile: str = "llama-3.1-8b", *given: str) -> Settings:
    """Settings of the Llama study (prose, two prompts), or with "organism" of the one made here (code, problems)."""
    return load_settings(profile, given)


def study_run(root: Path, settings: Settings, profile: Profile | None = None, **options: Any) -> Run:
    """A run whose directory is `root/pathway`, on the tiny random model."""
    profile = profile if profile is not None else tiny_profile(root / "tiny")
    return Run(Config(model_name=profile.model), profile, settings, PathwayPaths(root / "pathway"), **options)


def sentence(random: np.random.Generator, n_words: int = 12, words: Sequence[str] = WORDS) -> str:
    return " ".join(random.choice(words, size=n_words).tolist())


def prose_trials(
    features: Sequence[str],
    settings: Settings,
    respond: Callable[[np.random.Generator, str, str], str],
    n_trials: int = 12,
    without: Sequence[tuple[str, str]] = (),
) -> list[Trial]:
    """Trials of every feature and condition but those in `without`, as `respond(random, feature, condition)` writes."""
    random = np.random.default_rng(7)
    return [
        (feature, condition, trial, None, respond(random, feature, condition))
        for feature in features
        for condition in settings.study.conditions
        if (feature, condition) not in without
        for trial in range(n_trials)
    ]


def write_trials(run: Run, trials: Sequence[Trial], rows_a_group: int = 500, *, as_given: bool = False) -> None:
    """Writes the audit's table of trials, sorted by feature, condition and trial unless wanted `as_given`."""
    import pyarrow.parquet as pq

    rows = trials if as_given else sorted(trials, key=lambda row: row[:3])
    columns = list(zip(*rows, strict=True)) or [()] * 5
    feature, condition, trial, task_id, response = (list(column) for column in columns)
    values = {
        "feature": feature,
        "condition": condition,
        "run": ["run"] * len(feature),
        "trial": trial,
        "task_id": task_id,
        "outcome": [True] * len(feature),
        "response": response,
    }
    table = pa.table([pa.array(values[one.name], type=one.type) for one in SCHEMA], schema=SCHEMA)
    run.paths.trials.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, run.paths.trials, row_group_size=rows_a_group, write_page_checksum=True)


def causal(feature: str, prompt_class: str, cohen_d: float = 1.0, **more: Any) -> dict[str, Any]:
    layer, _, feature_id = feature[1:].partition("-")
    return {
        "feature": feature,
        "layer": int(layer),
        "feature_id": int(feature_id),
        "cohen_d": cohen_d,
        "class": prompt_class,
        "rank_in_layer": 1,
        "is_causal": True,
        "fdr_causal": None,
        **more,
    }


def write_causal(run: Run, features: Sequence[Mapping[str, Any]]) -> None:
    write_json(run.paths.causal_features, {"metadata": {"schema_version": 1}, "features": list(features)})


def edge(source: str, target: str, **more: Any) -> dict[str, Any]:
    """An edge of step 3, validated unless `more` says otherwise; keys of `replay` may be given by name too."""
    replay = {
        "mean_delta": 0.5,
        "ci_low": 0.4,
        "ci_high": 0.6,
        "slope": 1.0,
        "pearson": 0.9,
        "spearman": 0.9,
        "sign_agreement": 1.0,
        "gate_flip_rate": 0.0,
        "p": 0.001,
        "q": 0.01,
        "matched_p": 0.01,
        "linear_ok": True,
        "tested": True,
        "reason": None,
    }
    replay.update({name: more.pop(name) for name in list(more) if name in replay})
    ends = {}
    for end, feature in (("source", source), ("target", target)):
        layer, _, feature_id = feature[1:].partition("-")
        ends |= {end: feature, f"{end}_layer": int(layer), f"{end}_id": int(feature_id)}
    return {
        "edge_id": f"{source}->{target}",
        **ends,
        "n_prompts": 20,
        "gradient": {"mean": 0.4, "sd": 0.1},
        "attribution": 0.5,
        "rank": 1,
        "skip_share": 0.2,
        "decoder_cosine": 0.1,
        "label": "computation",
        "predicted_delta": 0.5,
        "replay": replay,
        "validated": True,
        **more,
    }


def write_pathways(
    run: Run,
    edges: Sequence[Mapping[str, Any]] = (),
    targets: Sequence[Mapping[str, Any]] = (),
    chains: Sequence[Mapping[str, Any]] = (),
) -> None:
    document = {"metadata": {}, "edges": list(edges), "targets": list(targets), "chains": list(chains)}
    write_json(run.paths.validated, document)


def target(feature: str, **more: Any) -> dict[str, Any]:
    """A target of step 3."""
    one = causal(feature, "correct")
    figures = {"n_active_prompts": 12, "scale": 0.5, "n_candidates": 3, "n_kept": 2}
    counts = {"n_tested": 1, "n_validated": 1, "n_controls": 4}
    head = {name: one[name] for name in ("feature", "layer", "feature_id", "class")}
    return {**head, **figures, **counts, "status": "ok", "reason": None, **more}


def chain(source: str, middle: str, end: str, **more: Any) -> dict[str, Any]:
    """A chain of step 3, mediated unless `more` says otherwise."""
    figures = {"n": 20, "total_effect": 0.5, "frozen_effect": 0.1, "mediated_share": 0.8, "score": 1.5}
    return {"source": source, "middle": middle, "target": end, **figures, "mediated": True, **more}


def write_features(run: Run, features: Sequence[Mapping[str, Any]]) -> None:
    """Writes the audit's table of tested features, and as much of its report as later steps read."""
    texts, numbers = ("feature", "class"), ("cohen_d", "mean_a", "mean_b")
    kinds = {**dict.fromkeys(texts, pa.string()), **dict.fromkeys(numbers, pa.float64()), "layer": pa.int32()}
    arrays = {name: pa.array([one.get(name) for one in features], type=kind) for name, kind in kinds.items()}
    write_parquet(run.paths.features, pa.table(arrays))
    write_json(run.paths.audit, {"total_trials": 12_345})


def association(feature: str, contrast: str, token: str, z: float, **more: Any) -> dict[str, Any]:
    """A kept word of step 4; `z` positive: more under the patch towards the first class."""
    return {
        "feature": feature,
        "contrast": contrast,
        "level": "word",
        "token": token,
        "token_id": None,
        "kind": None,
        **{"count_a": 30, "count_b": 10, "total_a": 900, "total_b": 910, "docs_a": 20, "docs_b": 8},
        **{
            "n_a": 30,
            "n_b": 31,
            "log_odds": z / 4,
            "z": 2 * z,
            "permutation_z": z,
            "plain_log_ratio": z / 3,
            "p": 0.0005,
            "q": 0.01,
        },
        "direction": "first" if z > 0 else "second",
        "kept": True,
        **more,
    }


def write_tokens(
    run: Run, rows: Sequence[Mapping[str, Any]], tested: Sequence[str], reasons: Mapping[str, str] | None = None
) -> None:
    """Writes step 4's results: `rows` (kept ones count as hits), with a table of effects of the same tokens."""
    from experiment_pathway_token_analysis.src.token_contrasts import contrasts
    from experiment_pathway_token_analysis.src.token_results import EFFECTS

    found = contrasts(run.settings.study)
    sides = {one.name: {"first": one.condition_a, "second": one.condition_b} for one in found}
    rows = [{**row, "direction": sides[row["contrast"]].get(row["direction"], row["direction"])} for row in rows]
    hits = {name: sum(row["feature"] == name and row["kept"] for row in rows) for name in tested}
    why = reasons or {}
    features = [
        {
            "feature": name,
            "n_tested": 0 if name in why else 6,
            "n_hits": hits[name],
            "reason": why.get(name),
            "contrasts": [],
        }
        for name in tested
    ]
    counts = {"n_features": len(tested), "n_tested": len(tested) - len(why), "n_features_with_hits": 1, "n_hits": 1}
    metadata = {
        "contrasts": [{**one.as_dict(), **counts} for one in found],
        "classes": list(run.settings.study.classes),
        "settings": run.settings.as_dict()["tokens"],
        "model": {"name": "tiny", "revision": None},
        "n_features": len(tested),
        "n_kept": sum(row["kept"] for row in rows),
    }
    lens = [{"feature": name, "top": [{"token": "up"}], "bottom": [{"token": "down"}]} for name in tested]
    write_json(run.paths.tokens, {"metadata": metadata, "associations": rows, "features": features, "lens": lens})
    table = [{one.name: row[one.name] for one in EFFECTS} for row in rows]
    write_parquet(run.paths.token_effects, pa.Table.from_pylist(table, schema=EFFECTS))
