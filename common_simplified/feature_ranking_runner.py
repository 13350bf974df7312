"""The runner that the ranking phases stand on: score every feature of every layer, rank, test, publish.

A phase declares its statistic; the filter of merely common features, the max-statistic permutation null over exactly
the features that are ranked, the tables and the plots are here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from common.logging import get_logger
from common.plotting import save
from common.ranking_plots import firing_frequencies, score_by_layer
from common.runs.artifacts import FEATURE_SCORES, SAE_ANALYSIS, TOP_FEATURES
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile, output_file
from common.runs.phase_runner import PhaseRunner
from common.sae_registry import neuronpedia_url
from common.statistics.feature_tests import benjamini_hochberg
from common.statistics.permutation import DIRECTIONS, Direction, MaxStatisticNull, PermutationStatistic
from common.statistics.selection import class_means, firing_counts, rank_features, scores_from_counts
from common_simplified.feature_ranking import dataset_figures, labelled_split, layer_activations
from common_simplified.general_text import GeneralTextFilter, general_text_filter

_log = get_logger(__name__)
Columns = dict[str, np.ndarray]
Ranked = dict[Direction, np.ndarray]
SIGN: dict[Direction, float] = {"correct": 1.0, "incorrect": -1.0}
SHARED_COLUMNS = ("f_correct", "f_incorrect", "mean_activation_correct", "mean_activation_incorrect")


class FeatureRankingRunner(PhaseRunner):
    """Ranks the features of all layers together by one statistic, in either direction."""

    score_name: ClassVar[str]
    score_words: ClassVar[str]
    test_words: ClassVar[str]
    statistic: ClassVar[PermutationStatistic]

    @abstractmethod
    def null_values(self, activations: np.ndarray) -> np.ndarray:
        """Returns what the statistic is computed from, (problems, features)."""

    @abstractmethod
    def score_layer(self, activations: np.ndarray, labels: np.ndarray) -> Columns:
        """Returns the score and the per-feature `p_value` of one layer, and what else a feature's entry shows."""

    @property
    @abstractmethod
    def limits(self) -> tuple[int, int]:
        """Returns how many features are kept a direction, and how often labels are shuffled."""

    def prepare(self) -> None:
        """Finds phase 1.0's output, checks that it serves these SAEs and that they fit, and finds the filter."""
        self.source = self.find("1.0")
        self.split = labelled_split(self.source, self.config, self.profile, self.phase)
        self.filter: GeneralTextFilter = general_text_filter(self, self.source)

    def execute(self) -> None:
        """Scores every feature, ranks, and writes the tables, the plots and the record."""
        if self.options.fresh:
            self.set_aside()
        _log.info("phase %s: %s", self.phase, self.filter.words)
        top_k, permutations = self.limits
        null = MaxStatisticNull(self.split.labels, permutations, self.config.seed, type(self).statistic)
        with self.timed("scoring"):
            table = self._score(null)
        ranked: Ranked = {direction: self._rank(table, direction, top_k) for direction in DIRECTIONS}
        top: dict[Direction, list[dict[str, Any]]] = {
            direction: self._items(table, null, rows, direction) for direction, rows in ranked.items()
        }
        scores = self._public_scores(table, null)
        outputs = [
            OutputFile(TOP_FEATURES, write_json(self.paths.root / TOP_FEATURES, top)),
            OutputFile(FEATURE_SCORES, write_parquet(self.paths.root / FEATURE_SCORES, scores), scores.num_rows),
            OutputFile(SAE_ANALYSIS, write_json(self.paths.root / SAE_ANALYSIS, self._results(table, null, top))),
            *self._plots(table, null, ranked),
        ]
        record = self.source.record
        extent = Extent(int(record["expected"]), int(record["done"]), inputs_complete=self.inputs_complete)
        best = {name: (items[0] if items else None) for name, items in top.items()}
        details = {"general_text_filter": self.filter.as_record(), "site_misfits": self.split.misfits, "best": best}
        self.publish(extent, outputs, {**dataset_figures(self.split), **details, "saes": record["saes"]})
        self._report(top)

    def _score(self, null: MaxStatisticNull) -> Columns:
        """Returns one array a figure, over the features of all layers in order of layer and index."""
        parts: list[Columns] = []
        for layer, activations in layer_activations(self.source, self.split, self.profile):
            frequencies = self.filter.frequencies(layer, activations.shape[1])
            keep = self.filter.keep(frequencies)
            null.update(self.null_values(activations)[:, keep])
            frequency = scores_from_counts(firing_counts(activations > 0, self.split.labels))
            means = class_means(activations, self.split.labels)
            parts.append(
                {
                    "layer": np.full(len(keep), layer, dtype=np.int64),
                    "feature_idx": np.arange(len(keep), dtype=np.int64),
                    "f_correct": frequency.f_correct,
                    "f_incorrect": frequency.f_incorrect,
                    "mean_activation_correct": means.correct,
                    "mean_activation_incorrect": means.incorrect,
                    "general_text_frequency": frequencies,
                    "ranked": keep,
                    **self.score_layer(activations, self.split.labels),
                }
            )
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        table["q_value"] = benjamini_hochberg(table["p_value"]).q_values
        return table

    def _rank(self, table: Columns, direction: Direction, top_k: int) -> np.ndarray:
        """Returns the rows of the direction's best features, best first."""
        score = SIGN[direction] * table[self.score_name]
        return rank_features(score, table["layer"], table["feature_idx"], table["ranked"], top_k)

    def _items(
        self, table: Columns, null: MaxStatisticNull, rows: np.ndarray, direction: Direction
    ) -> list[dict[str, Any]]:
        p_max = null.p_values(table[self.score_name][rows], direction)
        return [self._item(table, int(row), SIGN[direction], float(p)) for row, p in zip(rows, p_max, strict=True)]

    def _item(self, table: Columns, row: int, sign: float, p_max: float) -> dict[str, Any]:
        """Describes one feature; the score is its direction's own."""
        layer, index = int(table["layer"][row]), int(table["feature_idx"][row])
        return {
            "layer": layer,
            "feature_idx": index,
            self.score_name: sign * float(table[self.score_name][row]),
            **{name: float(table[name][row]) for name in SHARED_COLUMNS},
            "general_text_frequency": float(table["general_text_frequency"][row]),
            "p_value": float(table["p_value"][row]),
            "q_value": float(table["q_value"][row]),
            "p_max_permutation": p_max,
            "neuronpedia_url": neuronpedia_url(self.profile.sae, layer, index),
        }

    def _results(self, table: Columns, null: MaxStatisticNull, top: dict[Any, Any]) -> dict[str, Any]:
        tested = benjamini_hochberg(table["p_value"])
        return {
            "model": self.source.record["model"],
            "saes": self.source.record["saes"],
            **dataset_figures(self.split),
            "n_features": len(table["layer"]),
            "n_ranked": int(table["ranked"].sum()),
            "n_untestable": tested.n_untestable,
            "general_text_filter": self.filter.as_record(),
            "per_feature_test": f"{self.test_words}; q by Benjamini–Hochberg over the testable features",
            "permutation_null": {
                "statistic": f"largest {self.score_words} over all ranked features",
                "n_permutations": null.n_permutations,
                "seed": self.config.seed,
                "score_at_p_0_05": {name: abs(null.critical_value(0.05, name)) for name in DIRECTIONS},
            },
            "n_significant_among_top": {
                name: sum(item["p_max_permutation"] <= 0.05 for item in items) for name, items in top.items()
            },
            "site_misfits": self.split.misfits,
            "best_by_layer": self._best_by_layer(table),
            "top_features": top,
        }

    def _best_by_layer(self, table: Columns) -> list[dict[str, Any]]:
        rows = []
        for layer in np.unique(table["layer"]):
            inside = np.flatnonzero((table["layer"] == layer) & table["ranked"] & np.isfinite(table[self.score_name]))
            score = table[self.score_name][inside]
            best = {}
            for direction, sign in SIGN.items():
                row = inside[int((sign * score).argmax())] if len(inside) else None
                feature = None if row is None else int(table["feature_idx"][row])
                value = None if row is None else sign * float(table[self.score_name][row])
                best[direction] = {"feature_idx": feature, "score": value}
            rows.append({"layer": int(layer), "n_ranked": len(inside), **best})
        return rows

    def _public_scores(self, table: Columns, null: MaxStatisticNull) -> pa.Table:
        columns = dict(table)
        for name in DIRECTIONS:
            p_max = null.p_values(table[self.score_name], name)
            columns[f"p_max_permutation_{name}"] = np.where(table["ranked"], p_max, np.nan)
        return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})

    def _plots(self, table: Columns, null: MaxStatisticNull, ranked: Ranked) -> list[OutputFile]:
        high, low = null.critical_value(0.05, "correct"), null.critical_value(0.05, "incorrect")
        n, n_correct = len(self.split.labels), int(self.split.labels.sum())
        keep = table["ranked"] & np.isfinite(table[self.score_name])
        figures = {
            f"{self.score_name}_by_layer": score_by_layer(
                *(table["layer"][keep], table[self.score_name][keep], self.score_words, high, low),
                *(n, null.n_permutations),
            ),
            "firing_frequencies": firing_frequencies(
                *(table["f_correct"], table["f_incorrect"], ranked["correct"], ranked["incorrect"]),
                *(n_correct, n - n_correct),
            ),
        }
        paths = [path for name, figure in figures.items() for path in save(figure, self.paths.root / name)]
        return [output_file(self.paths, path.name) for path in paths]

    def _report(self, top: dict[Direction, list[dict[str, Any]]]) -> None:
        for direction, items in top.items():
            if not items:
                _log.warning("phase %s: no feature could be ranked as %s-preferring", self.phase, direction)
                continue
            best = items[0]
            _log.info(
                "phase %s: best %s-preferring feature: layer %d, feature %d; fires on %.0f %% of correct and %.0f %% "
                "of incorrect problems (n = %d), %s %.3f, max-permutation p = %.4f",
                *(self.phase, direction, best["layer"], best["feature_idx"]),
                *(100 * best["f_correct"], 100 * best["f_incorrect"], len(self.split.labels)),
                *(self.score_words, best[self.score_name], best["p_max_permutation"]),
            )
