"""Phase 2.5: which SAE features fire on problems that will be solved and not on others, and the reverse.

Separation score of a feature: the share of correct problems on which it fires minus the share of incorrect ones
(Ferrando et al. 2024, arXiv 2411.14257, section 3, in the use of arXiv 2510.02917). All layers are pooled. The best of
many features looks good by chance alone, so every ranked feature carries the p-value of the largest score under
shuffled labels.
"""

from __future__ import annotations

import numpy as np

from common.config import Config
from common.logging import get_logger
from common.runs.artifacts import FEATURE_SCORES, REPLICATION, PhasePaths
from common.runs.files import write_json, write_parquet
from common.runs.metadata import Extent, OutputFile
from common.runs.options import RunOptions
from common.statistics.feature_tests import fisher_p_values
from common.statistics.permutation import separation_statistic
from common.statistics.selection import firing_counts, scores_from_counts
from common_simplified.feature_ranking_runner import Columns, FeatureRankingRunner
from phase2_5.replication import replicate

_log = get_logger(__name__)


class SeparationAnalyzer(FeatureRankingRunner):
    """Ranks the features of every layer by separation score: the steering features."""

    phase = "2.5"
    score_name = "separation_score"
    score_words = "separation score"
    test_words = "Fisher's exact test of the firing counts, two-sided"
    statistic = staticmethod(separation_statistic)

    def __init__(self, config: Config, options: RunOptions | None = None) -> None:
        super().__init__(config, options)
        self.replicates = self.options.split not in (None, "sae")
        if self.replicates:
            self.paths = PhasePaths(self.paths.root / "by_split" / str(self.options.split))

    def prepare(self) -> None:
        """Finds what is ranked, or, with `--split`, what the ranking is measured on again."""
        if not self.replicates:
            super().prepare()
            return
        self.ranked = self.find("2.5")
        self.again = self.find("3.5" if self.options.split == "validation" else "3.6")

    def execute(self) -> None:
        """Ranks, or measures the same figures on another split; the latter leaves the phase's own record alone."""
        if not self.replicates:
            super().execute()
            return
        with self.timed("replication"):
            found = replicate(self.ranked, self.again, self.profile)
        table = self.paths.root / FEATURE_SCORES
        outputs = [
            OutputFile(FEATURE_SCORES, write_parquet(table, found.scores), found.scores.num_rows),
            OutputFile(REPLICATION, write_json(self.paths.root / REPLICATION, found.summary)),
        ]
        record = self.again.record
        extent = Extent(record["expected"], record["done"], record["excluded"], inputs_complete=self.inputs_complete)
        self.publish(extent, outputs, {"split": self.options.split, "layers": record["layers"]})
        for line in found.lines():
            _log.info("phase 2.5 on %s: %s", self.options.split, line)

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
