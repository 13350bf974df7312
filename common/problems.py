"""Problems: one MBPP task each (Austin et al. 2021, arXiv 2108.07732)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Problem:
    """One task: its wording, its reference solution and the assertions that a solution must pass.

    `test_setup_code` runs after the solution and before the tests (two MBPP problems use the solution's classes there).
    """

    task_id: int
    text: str
    code: str
    test_list: tuple[str, ...]
    test_setup_code: str = ""
    cyclomatic_complexity: int | None = None

    @cached_property
    def entry_point(self) -> str:
        """Name of the function that the assertions call."""
        from common.execution.extraction import entry_point_from_tests

        return entry_point_from_tests(self.test_list)
