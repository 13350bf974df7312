"""What the base model did on the same split (phase 3.5), beside which the instruction-tuned sibling is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from common.errors import UsageError
from common.model_location import fingerprint_of
from common.runs.artifacts import temperature_name
from common.runs.discovery import PhaseOutput
from common.statistics.summaries import wilson_interval

NOT_RUN = "phase 3.5 has not been run"
NO_PROBLEM = "no problem of both runs was judged"


class BaseRun(NamedTuple):
    """The base model's greedy run: which model, its identity, in which form it was asked, and each problem's label."""

    model: str
    fingerprint: str
    prompt_format: str
    labels: Mapping[int, bool | None]

    def as_record(self) -> dict[str, Any]:
        """Returns the model and its form of prompt as they stand in a record."""
        return {"model": self.model, "prompt_format": self.prompt_format}


class PassRates(NamedTuple):
    """Pass rates of the sibling and of the base model, with 95 % Wilson intervals; `base` is null with a reason."""

    instruct: dict[str, Any]
    base: dict[str, Any]


def base_run(output: PhaseOutput) -> BaseRun:
    """Reads the base model's greedy labels from phase 3.5; raises `UsageError` where it has no greedy data set."""
    name = output.record["datasets"].get(temperature_name(0.0))
    if name is None:
        raise UsageError(f"phase 3.5 in {output.paths.root} has no data set of temperature 0; run it with --fresh")
    table = output.table(name)
    model = output.record["model"]
    identity = fingerprint_of(model["name"], model["revision"], model["digest"])
    return BaseRun(model["name"], identity, output.record["prompt_format"], _labels(table))


def pass_rates(dataset: pa.Table, base: BaseRun | None) -> PassRates:
    """Returns both models' pass rates; the base model's over the problems of `dataset` alone, so that they compare."""
    own = _labels(dataset)
    if base is None:
        return PassRates(share(list(own.values())), {**share([]), "reason": NOT_RUN})
    return PassRates(share(list(own.values())), share([base.labels.get(task_id) for task_id in own]))


def share(labels: list[bool | None]) -> dict[str, Any]:
    """Returns how many of the judged problems pass, with a 95 % Wilson interval; null with a reason where none was."""
    judged = [label for label in labels if label is not None]
    interval = wilson_interval(sum(judged), len(judged))
    return {
        "passed": sum(judged) if judged else None,
        "judged": len(judged),
        "pass_rate": sum(judged) / len(judged) if judged else None,
        "low": interval.low,
        "high": interval.high,
        "reason": None if judged else NO_PROBLEM,
    }


def in_words(rate: Mapping[str, Any]) -> str:
    """Returns a pass rate in words, `48.7 % [43.8, 53.7] of 388`."""
    if rate["pass_rate"] is None:
        return f"not known ({rate['reason']})"
    return f"{100 * rate['pass_rate']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}] of {rate['judged']}"


def _labels(table: pa.Table) -> dict[int, bool | None]:
    return dict(zip(table["task_id"].to_pylist(), table["test_passed"].to_pylist(), strict=True))
