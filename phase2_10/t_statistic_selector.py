"""Phase 2.10: which SAE features are more active before a correct solution than before an incorrect one, or less.

The score is Welch's t (Biometrika 34, 1947) of a feature's activation, correct against incorrect. Its tails are not to
be trusted for features that are mostly zero, so `p_value` is the rank test's (Mann & Whitney 1947, with ties), and the
largest t under shuffled labels decides. The best features of either direction are the predictors of phase 3.8.
"""

from __future__ import annotations

import numpy as np

from common.statistics.feature_tests import auroc_from_ranks, mann_whitney_p_values, rank_sums, welch_t
from common.statistics.permutation import welch_t_statistic
from common_simplified.feature_ranking_runner import Columns, FeatureRankingRunner


class TStatisticSelector(FeatureRankingRunner):
    """Ranks the features of every layer by Welch's t: the predictor features."""

    phase = "2.10"
    score_name = "t_statistic"
    score_words = "Welch's t"
    test_words = "Mann–Whitney rank test of the activations, two-sided"
    statistic = staticmethod(welch_t_statistic)

    @property
    def limits(self) -> tuple[int, int]:
        """Features kept a direction, and shuffles."""
        return self.config.phase2_10_top_k, self.config.phase2_10_permutations

    def null_values(self, activations: np.ndarray) -> np.ndarray:
        """The activations themselves."""
        return activations

    def score_layer(self, activations: np.ndarray, labels: np.ndarray) -> Columns:
        """Welch's t, the rank test's p, and the AUROC on the problems that features are chosen on."""
        ranks = rank_sums(activations, labels)
        return {
            "t_statistic": welch_t(activations, labels),
            "auroc_in_sample": auroc_from_ranks(ranks),
            "p_value": mann_whitney_p_values(ranks),
        }
