"""Phase 2.5: which SAE features fire on problems that will be solved and not on others, and the reverse.

Separation score of a feature: the share of correct problems on which it fires minus the share of incorrect ones
(Ferrando et al. 2024, arXiv 2411.14257, section 3, in the use of arXiv 2510.02917). All layers are pooled. The best of
many features looks good by chance alone, so every ranked feature carries the p-value of the largest score under
shuffled labels.
"""

from __future__ import annotations

import numpy as np

from common.statistics.feature_tests import fisher_p_values
from common.statistics.permutation import separation_statistic
from common.statistics.selection import firing_counts, scores_from_counts
from common_simplified.feature_ranking_runner import Columns, FeatureRankingRunner


class SeparationAnalyzer(FeatureRankingRunner):
    """Ranks the features of every layer by separation score: the steering features."""

    phase = "2.5"
    score_name = "separation_score"
    score_words = "separation score"
    test_words = "Fisher's exact test of the firing counts, two-sided"
    statistic = staticmethod(separation_statistic)

    @property
    def limits(self) -> tuple[int, int]:
        """Features kept a direction, and shuffles."""
        return self.config.phase2_5_top_k, self.config.phase2_5_permutations

    def null_values(self, activations: np.ndarray) -> np.ndarray:
        """A feature fires or does not."""
        return activations > 0

    def score_layer(self, activations: np.ndarray, labels: np.ndarray) -> Columns:
        """Separation score and Fisher's p."""
        counts = firing_counts(activations > 0, labels)
        return {"separation_score": scores_from_counts(counts).score, "p_value": fisher_p_values(*counts)}
