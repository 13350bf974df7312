"""Phase 7.3: the validation split, greedily, by the instruction-tuned sibling, read through the base model's SAEs.

No SAEs were trained on the sibling, so those of the base model read its stream; how well they fit there is measured as
in phase 1.0 and reported, never a gate. The form of the prompt is the base model's, so that the same token is captured,
unless another is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from common.logging import get_logger
from common.model_facts import ModelFacts
from common.model_location import INSTRUCT
from common.runs.artifacts import task_activation, temperature_dataset, temperature_name
from common.runs.best_layers import find_best_layers
from common.runs.compatibility import refuse_other
from common.runs.discovery import PhaseOutput, run_command
from common.runs.interruption import StopRequest
from common.runs.metadata import OutputFile
from common.runs.slices import Span
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_runner import GenerationRunner
from common_simplified.generation_work import Arm
from common_simplified.sae_fit_work import SaeFitWork
from phase7_3.base_run import base_run, in_words, pass_rates

GREEDY = Arm(temperature_name(0.0), 0.0, 1)
SAE_NOTE = "no SAEs were trained on this model: the base model's SAEs read its stream"
NOT_MEASURED = "none of the split's first positions has been run"
_log = get_logger(__name__)


class InstructBaselineRunner(GenerationRunner):
    """Generates the validation split once, greedily, with the instruction-tuned sibling."""

    phase = "7.3"
    split = "validation"
    role = INSTRUCT

    def prepare(self) -> None:
        """Finds what every generating phase needs; refuses features of other SAEs than those that read the stream."""
        super().prepare()
        this = PhaseOutput(self.phase, self.paths, self.setup.as_record())
        for ranking in self.best.sources:
            refuse_other(self.phase, ranking, this, f"{run_command(self.config, ranking.phase)} --fresh")

    def find_inputs(self) -> None:
        """Finds the features whose layers are captured, and the base model's run, whose form of prompt is taken."""
        self.best = find_best_layers(self)
        output = self.find_optional("3.5")
        self.base = None if output is None else base_run(output)
        if self.base is not None and not self.options.prompt_format_given:
            self.config = replace(self.config, prompt_format=self.base.prompt_format)

    def capture_layers(self, facts: ModelFacts) -> list[int]:
        """Returns the layers of the best features, or all with `capture_layers=all`."""
        return self.best.chosen(self.config, facts)

    def arms(self) -> list[Arm]:
        """One greedy sample a problem."""
        return [GREEDY]

    def dataset_name(self, arm: Arm) -> str:
        """`dataset_instruct_temp_0_0.parquet`."""
        return temperature_dataset(arm.temperature, self.role)

    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """`task_activations/task_007_layer_3.npz`."""
        return task_activation(row["task_id"], layer)

    @cached_property
    def fit(self) -> SaeFitWork:
        """The measurement of the base model's SAEs on this model's stream."""
        return SaeFitWork(self)

    def describe(self) -> None:
        """Says what a run would do, with which prompts."""
        super().describe()
        self._say_prompts()

    def execute(self) -> None:
        """Says which prompts are used, then generates and publishes."""
        self._say_prompts()
        super().execute()

    def extra_work(self, stop: StopRequest) -> None:
        """Measures the SAEs' fit on this model, on the first positions of the split."""
        self.fit.work(stop)

    def extra_gaps(self) -> list[Span]:
        """Returns the positions whose prompts the SAEs' fit is still to be measured on."""
        return self.fit.gaps()

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:
        """Writes the SAEs' fit and the features, and sets the pass rate beside the base model's."""
        model = self.setup.model
        fit = self.fit.write({"model": model.name, "role": self.role, "note": f"{SAE_NOTE}; reported, never a gate"})
        rates = pass_rates(written.datasets[GREEDY.name], self.base)
        own, base = in_words(rates.instruct), in_words(rates.base)
        _log.info("phase 7.3: pass rate of %s %s, of the base model %s", model.name, own, base)
        return [self.best.write(self.paths), *fit], {
            **self.best.as_record(),
            "predictor_note": self.best.note,
            "sae_note": SAE_NOTE,
            "sae_fit": self._fit_summary(),
            "fit_fingerprint": self.fit.fingerprint(),
            "pass_rates": rates._asdict(),
            "base": None if self.base is None else self.base.as_record(),
            "prompt_format_given": self.options.prompt_format_given,
        }

    def _fit_summary(self) -> dict[str, Any]:
        report = self.fit.published()
        if report is None:
            return {"n_problems": 0, "layers": None, "reason": NOT_MEASURED}
        names = ("layer", "hook_name", "n_tokens", "fraction_unexplained", "mean_l0", "dead_share")
        layers = [{name: entry[name] for name in names} for entry in report["layers"]]
        return {"n_problems": report["n_problems"], "layers": layers, "reason": None}

    def _say_prompts(self) -> None:
        form, base = self.config.prompt_format, self.base
        asked = "as asked" if self.options.prompt_format_given else "as configured" if base is None else "as phase 3.5"
        _log.info("phase 7.3: prompt format %s, %s", form, asked)
        if self.best.note:
            _log.info("phase 7.3: %s", self.best.note)
        if base is not None and form != base.prompt_format:
            _log.info("phase 7.3: phase 3.5's prompt format was %s: another token is captured", base.prompt_format)
        if base is not None and base.fingerprint == self.setup.model.fingerprint():
            _log.warning("phase 7.3: %s is the base model of phase 3.5 itself, not its sibling", self.setup.model.name)
