"""Names that researchers' scripts know, each at home elsewhere."""

from __future__ import annotations

from pathlib import Path

from common.config import Config
from common.execution import evaluate_code
from common.execution.extraction import extract_code
from common.problems import Problem
from common.runs.artifacts import split_file
from common.runs.discovery import find_output
from common.runs.files import read_json as load_json
from common.runs.files import write_json
from common.runs.options import RunOptions
from common.runs.tables import problems_of

__all__ = ["evaluate_code", "extract_code", "format_time", "load_json", "load_mbpp_from_phase0_1", "save_json"]


def load_mbpp_from_phase0_1(split: str, config: Config | None = None) -> list[Problem]:
    """Returns the problems of one split, in order of task id."""
    output = find_output(config or Config(), RunOptions(), "0.1", "a script")
    return problems_of(output.table(split_file(split)))


def save_json(value: object, path: Path | str) -> None:
    """Writes `value` as JSON without NaN, atomically."""
    write_json(Path(path), value)


def format_time(seconds: float) -> str:
    """Returns seconds as `1h 02m 03s`, without leading zeros' units."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h {minutes:02d}m {rest:02d}s"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
