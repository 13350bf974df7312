"""The stored baseline that steered solutions are compared with: never generated again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common.errors import UsageError
from common.problems import Problem
from common.runs.discovery import PhaseOutput
from common_simplified.feature_scores import task_vectors

TOO_LONG = "the baseline's solution is longer than the steered limit"


class BaselineRow(NamedTuple):
    """One problem's unsteered greedy solution; `passed` is None where its generation failed."""

    task_id: int
    prompt: str | None
    passed: bool | None
    code: str | None
    n_new_tokens: int | None

    def left_out(self, limit: int) -> str | None:
        """Returns why the problem cannot enter a rate under a limit of `limit` new tokens, None where it can."""
        if self.passed is None:
            return "the baseline's generation failed"
        assert self.n_new_tokens is not None
        return TOO_LONG if self.n_new_tokens > limit else None


def read_baseline(output: PhaseOutput, dataset: str, problems: Sequence[Problem]) -> list[BaselineRow]:
    """Returns the stored solution of each problem, in the split's order; refuses one that covers other problems.

    Problems that a partial baseline lacks count as not generated.
    """
    table = output.table(dataset)
    columns = ("task_id", "prompt", "test_passed", "generated_code", "n_new_tokens")
    stored = {row["task_id"]: row for row in table.select(columns).to_pylist()}
    foreign = sorted(set(stored) - {problem.task_id for problem in problems})
    if foreign:
        raise UsageError(
            f"{output.paths.root / dataset} holds problem {foreign[0]}, which is not in the split; run phase "
            f"{output.phase} again with --fresh"
        )
    rows = []
    for problem in problems:
        row = stored.get(problem.task_id)
        if row is None:
            rows.append(BaselineRow(problem.task_id, None, None, None, None))
        else:
            rows.append(BaselineRow(*(row[name] for name in columns)))
    return rows


def mean_residual_norm(output: PhaseOutput, baseline: Sequence[BaselineRow], layer: int, d_model: int) -> float:
    """Returns the mean Euclidean norm of the residual stream at the last prompt token, at the layer's own site."""
    ids = [row.task_id for row in baseline if row.passed is not None]
    return float(np.linalg.norm(task_vectors(output, ids, layer, d_model).astype(np.float64), axis=1).mean())
