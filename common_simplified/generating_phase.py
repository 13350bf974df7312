"""What a generating phase declares: its split, its arms, its files, and what it does besides generating.

The runner that does the generating is `generation_runner`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from common.model_facts import ModelFacts
from common.model_location import chosen_layers
from common.runs.interruption import StopRequest
from common.runs.metadata import OutputFile
from common.runs.phase_runner import PhaseRunner
from common.runs.slices import Span
from common_simplified.generation_files import WrittenFiles
from common_simplified.generation_work import Arm


class GeneratingPhase(PhaseRunner):
    """The declarations of a phase that generates a split, with what most phases declare."""

    split: ClassVar[str]
    role: ClassVar[str] = "base"

    @abstractmethod
    def arms(self) -> list[Arm]:
        """Returns the ways in which every problem is generated; the first one captures."""

    def arm_settings(self) -> dict[str, Any]:
        """Returns the settings that decide which arms there are, so that a refusal can name them."""
        return {}

    @abstractmethod
    def dataset_name(self, arm: Arm) -> str:
        """Returns the name of an arm's data set."""

    @abstractmethod
    def activation_name(self, row: Mapping[str, Any], layer: int) -> str:
        """Returns the name of a row's activation file; `row` has the row's keys and `passed`."""

    def find_inputs(self) -> None:
        """Finds what the phase reads besides its split (nothing by default)."""

    def capture_layers(self, facts: ModelFacts) -> list[int]:
        """Returns the layers whose stream is captured, by default every one that the configuration asks for."""
        return chosen_layers(self.config, facts)

    def extra_work(self, stop: StopRequest) -> None:
        """Does what a phase does besides generating (nothing by default)."""

    def extra_gaps(self) -> list[Span]:
        """Returns the positions at which that work is still to be done."""
        return []

    def extra_files(self, written: WrittenFiles) -> tuple[list[OutputFile], dict[str, Any]]:  # noqa: ARG002
        """Writes what a phase publishes besides data sets and activations; returns entries and record details."""
        return [], {}

    def decide_arms(self) -> bool:
        """Does what must be known before the arms are (nothing by default); returns whether they are known now."""
        return True

    def before_publishing(self) -> None:
        """Does what a phase does between generating and publishing (nothing by default)."""
