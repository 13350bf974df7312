"""The names that researchers' scripts import."""

from __future__ import annotations

from pathlib import Path

import pytest

from common_simplified.helpers import evaluate_code, extract_code, format_time, load_json, save_json

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (61, "1m 01s"), (3723, "1h 02m 03s"), (59.6, "1m 00s")])
def test_a_time_is_written_without_leading_zero_units(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_json_round_trips_and_knows_no_nan(tmp_path: Path) -> None:
    save_json({"a": float("nan"), "b": [1, None]}, tmp_path / "x.json")
    assert load_json(tmp_path / "x.json") == {"a": None, "b": [1, None]}


def test_a_completion_becomes_code_that_is_judged_by_its_tests() -> None:
    code = extract_code("\ndef double(x):\n    return 2 * x\n\nprint(double(2))\n", entry_point="double")
    assert evaluate_code(code, ["assert double(4) == 8"])
    assert not evaluate_code(code, ["assert double(4) == 9"])
