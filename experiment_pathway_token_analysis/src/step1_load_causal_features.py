"""Step 1: the causal features that go on, at most so many a layer, by |Cohen's d|.

Causal is what the study's own flag says (`legacy_is_causal`), or what the trials say when tested again with control of
the false discovery rate over all features (`fdr`); both flags are stored either way. A layer with fewer features keeps
what it has and is named; that none survives is a valid outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.logging import get_logger
from common.runs.files import read_parquet, sha256_file, write_json
from experiment_pathway_token_analysis.src.contrasts import Contrast, contrast, q_values, trials_of_features
from experiment_pathway_token_analysis.src.settings import Selection, Study
from experiment_pathway_token_analysis.src.steps import Run, StepResult
from experiment_pathway_token_analysis.src.trial_table import outcome_columns

RULES = {
    "legacy_is_causal": "the study's own flag",
    "fdr": "q <= alpha over all tested features and |rate difference| >= min_rate_difference",
}
_log = get_logger(__name__)


class Tested(NamedTuple):
    """A feature's contrast, its q, its trials by condition, and whether it is causal by the false discovery rate."""

    contrast: Contrast
    q: float | None
    n_trials: dict[str, int]
    causal: bool | None


@dataclass(frozen=True)
class Candidate:
    """One tested feature as the audit left it (`row`), with its test, if it has trials."""

    row: dict[str, Any]
    tested: Tested | None

    def is_chosen(self, select_by: str) -> bool:
        """Returns whether the rule calls it causal."""
        if select_by == "legacy_is_causal":
            return self.row["is_causal"]
        return self.tested is not None and self.tested.causal is True

    @property
    def rank_key(self) -> tuple[float, float, int]:
        """Largest |Cohen's d| first, then smallest q, then smallest id."""
        q = self.tested.q if self.tested is not None else None
        return -abs(self.row["cohen_d"]), q if q is not None else 2.0, self.row["feature_id"]


def run_step(run: Run) -> StepResult:
    """Writes `data/causal_features.json` from the audit's tables."""
    paths, settings = run.paths, run.settings
    rows = read_parquet(paths.features).to_pylist()
    tested = _tested(run)
    candidates = [Candidate(row, tested.get(row["feature"])) for row in rows]
    last = settings.selection.last_layer
    layers = range(settings.selection.first_layer, (run.profile.n_layers - 1 if last is None else last) + 1)
    chosen, by_layer = _chosen(candidates, layers, settings.selection)
    features = [_entry(one, rank, settings.study, settings.selection) for one, rank in chosen]
    write_json(paths.causal_features, {"metadata": _metadata(run, candidates, layers, by_layer), "features": features})
    short = [layer for layer, counts in by_layer.items() if counts["n_selected"] < settings.selection.per_layer]
    message = f"{len(features)} features of {len(layers)} layers by {settings.selection.select_by}"
    if short:
        message += f"; {len(short)} layers have fewer than {settings.selection.per_layer}"
    _log.info("%s", message)
    return StepResult(True, message, [paths.audit, paths.features, paths.trials], [paths.causal_features])


def class_of(row: dict[str, Any], study: Study) -> str:
    """Returns the class on which a feature is more active.

    It is what the study says; or the class of the greater mean; or what the sign of Cohen's d says: the earlier study
    took its second class (risky) minus its first, this pipeline takes correct minus incorrect.
    """
    a, b = study.classes
    if row["class"] is not None:
        return row["class"]
    if row["mean_a"] is not None and row["mean_b"] is not None and row["mean_a"] != row["mean_b"]:
        return a if row["mean_a"] > row["mean_b"] else b
    of_positive, of_negative = (b, a) if study.kind == "llama_patching" else (a, b)
    return of_positive if row["cohen_d"] > 0 else of_negative


def _tested(run: Run) -> dict[str, Tested]:
    """Tests every feature that has trials; q is over all of them."""
    study, selection = run.settings.study, run.settings.selection
    found = {
        feature: (contrast(trials, study), {name: len(trials.get(name, ())) for name in study.conditions})
        for feature, trials in trials_of_features(outcome_columns(run.paths.trials))
    }
    qs = q_values([one.p for one, _ in found.values()])
    return {
        feature: Tested(one, q, counts, _causal(one, q, selection))
        for (feature, (one, counts)), q in zip(found.items(), qs, strict=True)
    }


def _causal(one: Contrast, q: float | None, selection: Selection) -> bool | None:
    if q is None or one.rate_difference is None:
        return None
    return q <= selection.alpha and abs(one.rate_difference) >= selection.min_rate_difference


def _chosen(
    candidates: Sequence[Candidate], layers: range, selection: Selection
) -> tuple[list[tuple[Candidate, int]], dict[int, dict[str, Any]]]:
    """Returns the features that go on with their ranks from 1, and what became of each layer."""
    chosen: list[tuple[Candidate, int]] = []
    by_layer: dict[int, dict[str, Any]] = {}
    for layer in layers:
        of_layer = [one for one in candidates if one.row["layer"] == layer]
        causal = [one for one in of_layer if one.is_chosen(selection.select_by)]
        ranked = sorted((one for one in causal if one.row["cohen_d"] is not None), key=lambda one: one.rank_key)
        kept = ranked[: selection.per_layer]
        chosen += [(one, rank) for rank, one in enumerate(kept, 1)]
        by_layer[layer] = {
            "n_tested": len(of_layer),
            "n_candidates": len(causal),
            "n_without_cohen_d": len(causal) - len(ranked),
            "n_selected": len(kept),
            "cut_off_abs_d": abs(kept[-1].row["cohen_d"]) if kept else None,
        }
    return chosen, by_layer


def _entry(one: Candidate, rank: int, study: Study, selection: Selection) -> dict[str, Any]:
    row, tested = one.row, one.tested
    tests = tested.contrast if tested is not None else None
    return {
        "feature": row["feature"],
        "layer": row["layer"],
        "feature_id": row["feature_id"],
        "cohen_d": row["cohen_d"],
        "class": class_of(row, study),
        "rank_in_layer": rank,
        "is_causal": row["is_causal"],
        "fdr_causal": tested.causal if tested is not None else None,
        **{f"effect_{name}": tests.effects[i] if tests is not None else None for i, name in enumerate(study.classes)},
        **{f"p_{name}": tests.p_values[i] if tests is not None else None for i, name in enumerate(study.classes)},
        "rate_difference": tests.rate_difference if tests is not None else None,
        "p": tests.p if tests is not None else None,
        "q": tested.q if tested is not None else None,
        "method": tests.method if tests is not None else None,
        "n_pairs": tests.n_pairs if tests is not None else 0,
        "untested_because": tests.reason if tests is not None else "it has no trials",
        "n_trials": tested.n_trials if tested is not None else dict.fromkeys(study.conditions, 0),
        **{f"mean_{name}": row[key] for name, key in zip(study.classes, ("mean_a", "mean_b"), strict=True)},
        "run": row["run"],
        "selected_by": selection.select_by,
    }


def _metadata(
    run: Run, candidates: Sequence[Candidate], layers: range, by_layer: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    selection, paths = run.settings.selection, run.paths
    tests = [one.tested for one in candidates if one.tested is not None]
    legacy, fdr = ([one.is_chosen(rule) for one in candidates] for rule in RULES)
    return {
        "schema_version": 1,
        "kind": run.settings.study.kind,
        "classes": list(run.settings.study.classes),
        "select_by": selection.select_by,
        "rule": RULES[selection.select_by],
        "ranking": "|cohen_d| descending, then q, then feature_id",
        "per_layer": selection.per_layer,
        "layers": [layers.start, layers.stop - 1],
        "alpha": selection.alpha,
        "min_rate_difference": selection.min_rate_difference,
        "effects": f"rate under the {run.settings.study.classes[0]} patch minus rate under the other",
        "features": len(candidates),
        "features_tested": sum(one.contrast.p is not None for one in tests),
        "causal_by_legacy_flag": sum(legacy),
        "causal_by_fdr": sum(fdr),
        "causal_by_both": sum(x and y for x, y in zip(legacy, fdr, strict=True)),
        "total_selected": sum(counts["n_selected"] for counts in by_layer.values()),
        "total_if_every_layer_were_full": selection.per_layer * len(layers),
        "short_layers": [layer for layer, counts in by_layer.items() if counts["n_selected"] < selection.per_layer],
        "by_layer": {str(layer): counts for layer, counts in by_layer.items()},
        "inputs": {path.name: sha256_file(path) for path in (paths.audit, paths.features, paths.trials)},
    }
