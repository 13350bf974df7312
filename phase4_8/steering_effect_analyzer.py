"""Phase 4.8: what adding a feature's direction during generation does to the base model's solutions.

Both directions run on the whole validation split against phase 3.5's solutions at temperature 0, beside their controls;
steering only where the predictor fires stands beside constant steering.
"""

from __future__ import annotations

from common.runs.detection_output import SelectedProblems, predictor_fires, use_detection, validation_scores
from common.statistics.permutation import Direction
from common_simplified.steering_effects_runner import SteeringEffectsRunner
from common_simplified.steering_runner import greedy_dataset


class SteeringEffectAnalyzer(SteeringEffectsRunner):
    """Steers the base model."""

    phase = "4.8"

    def find_inputs(self) -> None:
        """Finds the baseline, features with coefficients, firing rates and, for selective steering, the predictors."""
        baseline, selected = self.find("3.5"), self.find("4.5")
        self.refuse_other_role(baseline)
        self.use_baseline(baseline, greedy_dataset(baseline))
        self.use_selection(selected, baseline)
        self.use_rates(self.find("2.5"))
        self._evaluated = self.find_optional("3.8")
        if self._evaluated is not None:
            use_detection(self._evaluated)
        elif self.config.phase4_8_selective:
            self.notes.append("phase 3.8 has not been run: no selective steering")

    def steered_where_predicted(self) -> dict[Direction, SelectedProblems]:
        """Returns where each predictor fires, by phase 3.8's scores and thresholds."""
        if self._evaluated is None or not self.config.phase4_8_selective:
            return {}
        return predictor_fires(self._evaluated, validation_scores(self._evaluated))
