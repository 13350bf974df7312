from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from phase0.complexity import cyclomatic_complexity, summarise

pytestmark = pytest.mark.unit

MBPP = Path(__file__).resolve().parents[3] / "shared" / "data" / "mbpp.jsonl"


def complexity_of(code: str) -> int:
    return cyclomatic_complexity(dedent(code))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return x", 1),
        ("return x if x else 0", 2),
        ("if x:\n        return 1\n    elif y:\n        return 2\n    return 3", 3),
        ("for i in x:\n        pass\n    else:\n        pass", 3),
        ("while x and y or x:\n        pass", 4),
        ("return [i for i in x if i if y]", 4),
        ("try:\n        pass\n    except ValueError:\n        pass\n    except KeyError:\n        pass", 3),
        ("assert x", 2),
    ],
)
def test_each_decision_adds_one(body: str, expected: int) -> None:
    assert cyclomatic_complexity(f"def f(x, y):\n    {body}\n") == expected


def test_code_without_a_function_has_complexity_one() -> None:
    assert cyclomatic_complexity("") == 1
    assert cyclomatic_complexity("if a:\n    b = 1\nelif c:\n    b = 2\nf = lambda x: x if x else 0\n") == 1


def test_the_highest_of_all_functions_counts_not_their_sum() -> None:
    code = """
    def helper(x):
        return x if x else 0
    def main(x):
        if x: return 1
        if not x: return 2
        return helper(x)
    """
    assert complexity_of(code) == 3


def test_a_nested_function_counts_for_itself() -> None:
    code = """
    def outer(x):
        def inner(y):
            if y: return 1
            if not y: return 2
            return [z for z in y if z]
        return inner(x)
    """
    assert complexity_of(code) == 5


@pytest.mark.parametrize("prefix", ["", "async "])
def test_methods_count_wherever_their_class_stands(prefix: str) -> None:
    code = f"""
    def make():
        class Outer:
            class Inner:
                {prefix}def method(self, x):
                    return 1 if x else 2 if self else 3
        return Outer
    """
    assert complexity_of(code) == 3


def test_code_that_does_not_parse_is_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        cyclomatic_complexity("def f(:\n")


def test_an_odd_escape_in_a_solution_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cyclomatic_complexity("import re\r\ndef f(x):\r\n\treturn re.sub('\\d', '', x)\r\n") == 1


def test_mbpp_has_the_published_counts_by_complexity() -> None:
    if not MBPP.is_file():
        pytest.skip(f"{MBPP} is absent")
    rows = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()]
    counts = Counter(cyclomatic_complexity(row["code"]) for row in rows)
    assert len(rows) == 974
    assert [counts[value] for value in (1, 2, 3, 4)] == [268, 250, 193, 121]
    assert max(counts) == 16


def test_the_summary_holds_counts_and_quantiles_as_json() -> None:
    summary = summarise([1, 1, 2, 3, 8])
    assert json.loads(json.dumps(summary)) == summary
    assert summary["n"] == 5
    assert summary["counts"] == {"1": 2, "2": 1, "3": 1, "8": 1}
    assert summary["mean"] == 3.0
    # Squared distances from 3: 4, 4, 1, 0, 25; their sum over n - 1 is 8.5.
    assert summary["standard_deviation"] == pytest.approx(8.5**0.5)
    assert (summary["minimum"], summary["maximum"]) == (1, 8)
    assert summary["quantiles"]["0.25"] == 1.0
    assert summary["quantiles"]["0.5"] == 2.0
    assert summary["quantiles"]["0.95"] == pytest.approx(3 + 0.8 * 5)


def test_the_summary_of_nothing_is_missing_not_zero() -> None:
    summary = summarise(np.array([], dtype=np.int64).tolist())
    assert summary["n"] == 0 and summary["counts"] == {}
    assert summary["mean"] is None and summary["maximum"] is None and summary["quantiles"]["0.5"] is None
    assert summarise([4])["standard_deviation"] is None
