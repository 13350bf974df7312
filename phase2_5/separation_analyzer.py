"""Phase 2.5: which SAE features fire on problems that will be solved and not on others, and the reverse.

Separation score of a feature: the share of correct problems on which it fires minus the share of incorrect ones
(Ferrando et al. 2024, arXiv 2411.14257, section 3, in the use of arXiv 2510.02917). All layers are pooled. The best of
many features looks good by chance alone, so every ranked feature carries the p-value of the largest score under
shuffled labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from common.logging import get_logger
from common.plotting import save
from common.runs.artifacts import FEATURE_SCORES, SAE_ANALYSIS, TOP_FEATURES
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, output_file
from common.runs.phase_runner import PhaseRunner
from common.sae_registry import neuronpedia_url
from common.statistics.feature_tests import benjamini_hochberg, fisher_p_values
from common.statistics.permutation import Direction, MaxStatisticNull, separation_statistic
from common.statistics.selection import class_means, firing_counts, rank_features, scores_from_counts
from common_simplified.feature_ranking import dataset_figures, labelled_split, layer_activations
from phase2_5.plots import firing_frequencies, score_by_layer

_log = get_logger(__name__)
Ranked = dict[Direction, np.ndarray]
DIRECTIONS: tuple[Direction, ...] = ("correct", "incorrect")
SIGN: dict[Direction, float] = {"correct": 1.0, "incorrect": -1.0}
UNFILTERED = "phase 2.2 (general-text frequencies) has not been run: every feature is ranked"


class SeparationAnalyzer(PhaseRunner):
    """Ranks the features of every layer by separation score."""

    phase = "2.5"

    def prepare(self) -> None:
        """Finds phase 1.0's output and checks that it serves these SAEs and that they fit their site."""
        self.source = self.find("1.0")
        self.split = labelled_split(self.source, self.config, self.profile, self.phase)

    def execute(self) -> None:
        """Scores every feature, ranks, and writes the tables, the plots and the record."""
        if self.options.fresh:
            self.set_aside()
        _log.info("phase 2.5: %s", UNFILTERED)
        null = MaxStatisticNull(
            self.split.labels, self.config.phase2_5_permutations, self.config.seed, separation_statistic
        )
        with self.timed("scoring"):
            table = self._score(null)
        ranked: Ranked = {direction: self._rank(table, direction) for direction in DIRECTIONS}
        top = {direction: self._items(table, null, rows, direction) for direction, rows in ranked.items()}
        results = self._results(table, null, top)
        scores = _public_scores(table, null)
        outputs = [
            OutputFile(TOP_FEATURES, write_json(self.paths.root / TOP_FEATURES, top)),
            OutputFile(FEATURE_SCORES, write_parquet(self.paths.root / FEATURE_SCORES, scores), scores.num_rows),
            OutputFile(SAE_ANALYSIS, write_json(self.paths.root / SAE_ANALYSIS, results)),
            *self._plots(table, null, ranked),
        ]
        n = int(self.source.record["done"])
        extent = Extent(int(self.source.record["expected"]), n, inputs_complete=self.inputs_complete)
        self.publish(
            extent, outputs, {**dataset_figures(self.split), "site_misfits": self.split.misfits, **_heads(top)}
        )
        self._report(top)

    def _score(self, null: MaxStatisticNull) -> dict[str, np.ndarray]:
        """Returns one array a figure, over the features of all layers in order of layer and index."""
        parts: list[dict[str, np.ndarray]] = []
        for layer, activations in layer_activations(self.source, self.split, self.profile):
            fires = activations > 0
            null.update(fires)
            counts = firing_counts(fires, self.split.labels)
            scores = scores_from_counts(counts)
            means = class_means(activations, self.split.labels)
            width = fires.shape[1]
            parts.append(
                {
                    "layer": np.full(width, layer, dtype=np.int64),
                    "feature_idx": np.arange(width, dtype=np.int64),
                    "separation_score": scores.score,
                    "f_correct": scores.f_correct,
                    "f_incorrect": scores.f_incorrect,
                    "mean_activation_correct": means.correct,
                    "mean_activation_incorrect": means.incorrect,
                    "p_value": fisher_p_values(*counts),
                }
            )
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        table["q_value"] = benjamini_hochberg(table["p_value"]).q_values
        return table

    def _rank(self, table: dict[str, np.ndarray], direction: Direction) -> np.ndarray:
        """Returns the rows of the direction's best features, best first."""
        score = SIGN[direction] * table["separation_score"]
        keep = np.ones(len(score), dtype=bool)
        return rank_features(score, table["layer"], table["feature_idx"], keep, self.config.phase2_5_top_k)

    def _items(
        self, table: dict[str, np.ndarray], null: MaxStatisticNull, rows: np.ndarray, direction: Direction
    ) -> list[dict[str, Any]]:
        p_max = null.p_values(table["separation_score"][rows], direction)
        return [self._item(table, int(row), SIGN[direction], float(p)) for row, p in zip(rows, p_max, strict=True)]

    def _item(self, table: dict[str, np.ndarray], row: int, sign: float, p_max: float) -> dict[str, Any]:
        """Describes one feature; the score is its direction's own."""
        layer, index = int(table["layer"][row]), int(table["feature_idx"][row])
        return {
            "layer": layer,
            "feature_idx": index,
            "separation_score": sign * float(table["separation_score"][row]),
            **{name: float(table[name][row]) for name in ("f_correct", "f_incorrect")},
            **{name: float(table[name][row]) for name in ("mean_activation_correct", "mean_activation_incorrect")},
            "general_text_frequency": None,
            "p_value": float(table["p_value"][row]),
            "q_value": float(table["q_value"][row]),
            "p_max_permutation": p_max,
            "neuronpedia_url": neuronpedia_url(self.profile.sae, layer, index),
        }

    def _results(self, table: dict[str, np.ndarray], null: MaxStatisticNull, top: dict[str, Any]) -> dict[str, Any]:
        tested = benjamini_hochberg(table["p_value"])
        return {
            "model": self.source.record["model"],
            "saes": self.source.record["saes"],
            **dataset_figures(self.split),
            "n_features": len(table["layer"]),
            "n_ranked": len(table["layer"]),
            "n_never_or_always_firing": tested.n_untestable,
            "general_text_filter": {"applied": False, "reason": UNFILTERED},
            "per_feature_test": "Fisher's exact test, two-sided; q by Benjamini–Hochberg over the testable features",
            "permutation_null": {
                "statistic": "largest separation score over all ranked features",
                "n_permutations": null.n_permutations,
                "seed": self.config.seed,
                "score_at_p_0_05": {name: abs(null.critical_value(0.05, name)) for name in DIRECTIONS},
            },
            "n_significant": {
                name: sum(item["p_max_permutation"] <= 0.05 for item in items) for name, items in top.items()
            },
            "site_misfits": self.split.misfits,
            "best_by_layer": _best_by_layer(table),
            "top_features": top,
        }

    def _plots(self, table: dict[str, np.ndarray], null: MaxStatisticNull, ranked: Ranked) -> list[OutputFile]:
        high, low = null.critical_value(0.05, "correct"), null.critical_value(0.05, "incorrect")
        n, n_correct = len(self.split.labels), int(self.split.labels.sum())
        figures = {
            "separation_score_by_layer": score_by_layer(
                table["layer"], table["separation_score"], high, low, n, null.n_permutations
            ),
            "firing_frequencies": firing_frequencies(
                *(table["f_correct"], table["f_incorrect"], ranked["correct"], ranked["incorrect"]),
                *(n_correct, n - n_correct),
            ),
        }
        paths = [path for name, figure in figures.items() for path in save(figure, self.paths.root / name)]
        return [output_file(self.paths, path.name) for path in paths]

    def _report(self, top: dict[str, list[dict[str, Any]]]) -> None:
        for direction, items in top.items():
            if not items:
                continue
            best = items[0]
            _log.info(
                "phase 2.5: best %s-preferring feature: layer %d, feature %d; fires on %.0f %% of correct and %.0f %% "
                "of incorrect problems (n = %d), score %.3f, max-permutation p = %.4f",
                *(direction, best["layer"], best["feature_idx"], 100 * best["f_correct"], 100 * best["f_incorrect"]),
                *(len(self.split.labels), best["separation_score"], best["p_max_permutation"]),
            )


def _public_scores(table: dict[str, np.ndarray], null: MaxStatisticNull) -> pa.Table:
    columns = {
        **table,
        "general_text_frequency": np.full(len(table["layer"]), np.nan),
        "p_max_permutation_correct": null.p_values(table["separation_score"], "correct"),
        "p_max_permutation_incorrect": null.p_values(table["separation_score"], "incorrect"),
    }
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def _best_by_layer(table: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for layer in np.unique(table["layer"]):
        inside = np.flatnonzero(table["layer"] == layer)
        score = table["separation_score"][inside]
        high, low = int(score.argmax()), int(score.argmin())
        rows.append(
            {
                "layer": int(layer),
                "correct": {"feature_idx": int(table["feature_idx"][inside[high]]), "score": float(score[high])},
                "incorrect": {"feature_idx": int(table["feature_idx"][inside[low]]), "score": float(-score[low])},
            }
        )
    return rows


def _heads(top: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"best": {name: (items[0] if items else None) for name, items in top.items()}}
