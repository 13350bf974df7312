from __future__ import annotations

import pyarrow as pa
import pytest
from scipy.stats import binomtest

from phase7_3.base_run import NOT_RUN, BaseRun, in_words, pass_rates, share

pytestmark = pytest.mark.numeric

BASE = BaseRun("base", "sha256:b", "solution_marker", {1: True, 2: True, 3: False, 4: None, 5: False, 6: True})


def dataset(labels: dict[int, bool | None]) -> pa.Table:
    return pa.table({"task_id": list(labels), "test_passed": pa.array(list(labels.values()), pa.bool_())})


@pytest.mark.parametrize(("passed", "n"), [(187, 388), (0, 5), (5, 5), (1, 3)])
def test_a_share_has_scipys_wilson_interval(passed: int, n: int) -> None:
    found = share([True] * passed + [False] * (n - passed) + [None, None])
    interval = binomtest(passed, n).proportion_ci(0.95, method="wilson")
    assert (found["passed"], found["judged"], found["pass_rate"]) == (passed, n, passed / n)
    assert (found["low"], found["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found["reason"] is None


def test_the_base_model_is_counted_over_the_same_problems_only() -> None:
    rates = pass_rates(dataset({2: False, 3: True, 4: True, 9: None}), BASE)
    assert (rates.instruct["passed"], rates.instruct["judged"]) == (2, 3)
    assert (rates.base["passed"], rates.base["judged"]) == (1, 2)


def test_what_was_not_run_is_null_with_a_reason_and_never_zero() -> None:
    rates = pass_rates(dataset({1: True}), None)
    assert rates.base == {
        **{"passed": None, "judged": 0, "pass_rate": None, "low": None, "high": None},
        "reason": NOT_RUN,
    }
    assert in_words(rates.base) == f"not known ({NOT_RUN})"


def test_a_run_of_other_problems_gives_no_rate() -> None:
    rates = pass_rates(dataset({8: True}), BASE)
    assert rates.base["pass_rate"] is None and rates.base["reason"]


def test_a_rate_is_said_with_its_interval_and_its_n() -> None:
    assert in_words(share([True, False])) == "50.0 % [9.5, 90.5] of 2"
