from __future__ import annotations

import json
from math import sqrt
from typing import Any

import pytest
from scipy.stats import binomtest

from common.steering_comparison import RULE, compare_steering, figure_rows
from common.steering_effects import arms_of, direction_effects
from tests.common.steering_rows import UP, direction_control, results, steered

pytestmark = pytest.mark.unit

FAILING, PASSING = 6, 6
BASE_ROWS, INSTRUCT_ROWS = "fffffw" + "kkkkkb", "ffwwww" + "kkkkkk"


def analysed(letters: str, controls: list[str], norm: float = 40.0) -> dict[str, Any]:
    """One direction of an analysis, as phases 4.8 and 7.6 write it."""
    parts = [steered(direction_control(draw), rows) for draw, rows in enumerate(controls)]
    entry = direction_effects(arms_of(results(steered(UP, letters), *parts)), "correct")
    return {**entry, "in_residual_norms": 9.0 / norm}


def unmoved(n: int) -> list[str]:
    return ["wwwwww" + "kkkkkk"] * n


def compared(base: dict[str, Any], instruct: dict[str, Any]) -> dict[str, Any]:
    return compare_steering("correct", base, instruct, whole=True)


BASE, INSTRUCT = analysed(BASE_ROWS, unmoved(9)), analysed(INSTRUCT_ROWS, unmoved(9), norm=20.0)


def independent_difference(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float, float]:
    """Newcombe's method 10 from scipy's Wilson intervals, first minus second."""
    shares = [successes / n for successes, n in (one, other)]
    bounds = [binomtest(successes, n).proportion_ci(method="wilson") for successes, n in (one, other)]
    (p1, p2), (first, second) = shares, bounds
    low = p1 - p2 - sqrt((p1 - first.low) ** 2 + (second.high - p2) ** 2)
    high = p1 - p2 + sqrt((first.high - p1) ** 2 + (p2 - second.low) ** 2)
    return p1 - p2, low, high


@pytest.mark.parametrize(
    ("name", "instruct", "base"),
    [("correction", (2, 6), (5, 6)), ("corruption", (0, 6), (1, 6)), ("preservation", (6, 6), (5, 6))],
)
def test_differences_are_instruct_minus_base_with_newcombes_interval(
    name: str, instruct: tuple[int, int], base: tuple[int, int]
) -> None:
    found = compared(BASE, INSTRUCT)["differences"][name]
    assert found["of"] == "instruct minus base" and found["reason"] is None
    assert (found["value"], found["low"], found["high"]) == pytest.approx(independent_difference(instruct, base))


def test_both_models_stand_side_by_side_with_their_own_figures() -> None:
    found = compared(BASE, INSTRUCT)
    assert found["feature"] == {"layer": 2, "index": 20} and found["coefficient"] == 9.0
    assert found["in_residual_norms"] == {"base": 9.0 / 40, "instruct": 9.0 / 20}
    assert (found["base"]["effect"]["fixes"], found["instruct"]["effect"]["fixes"]) == (5, 2)
    assert (found["base"]["outcome_on_control_problems"], found["instruct"]["outcome_on_control_problems"]) == (4, 2)
    assert found["instruct"]["n_control_problems"] == 12
    assert found["instruct"]["rank_among_controls"]["p"] == 1 / 10
    assert found["rule"] == RULE and found["primary_outcome"] == "fixes minus breaks"


# --- the verdict


def test_a_direction_that_no_control_reaches_transfers() -> None:
    found = compared(BASE, INSTRUCT)  # nine controls: p = 0.1, the smallest that they allow
    assert found["transferred"] is True and found["holds_on_base"] is True
    assert (
        "correct-preferring direction transferred: 2 of 6 failing solutions fixed, 0 of 6 passing"
        in (found["statement"])
    )
    assert "fixes minus breaks 2 on 12 problems (0 of 9 random directions do as well, p = 0.100)" in found["statement"]


def test_one_control_that_does_as_well_among_few_is_enough_against_it() -> None:
    found = compared(BASE, analysed(INSTRUCT_ROWS, [*unmoved(8), INSTRUCT_ROWS]))
    assert found["transferred"] is False
    assert (
        "did not transfer" in found["statement"]
        and "1 of 9 random directions do as well, p = 0.200" in found["statement"]
    )


@pytest.mark.parametrize(("n_equal", "n_controls", "transferred"), [(0, 39, True), (1, 39, True), (2, 39, False)])
def test_among_many_controls_p_up_to_five_in_a_hundred_is_allowed(
    n_equal: int, n_controls: int, transferred: bool
) -> None:
    controls = [*unmoved(n_controls - n_equal), *[INSTRUCT_ROWS] * n_equal]  # p = (1 + n_equal) / 40
    assert compared(BASE, analysed(INSTRUCT_ROWS, controls))["transferred"] is transferred


def test_an_outcome_that_is_not_above_zero_does_not_transfer_however_bad_the_controls() -> None:
    worse = ["wwwwww" + "bbbbbb"] * 39
    for letters in ("fwwwww" + "kkkkkb", "wwwwww" + "kkkkkk", "wwwwww" + "kkkkbb"):
        found = compared(BASE, analysed(letters, worse))
        assert found["instruct"]["rank_among_controls"]["n_at_least"] == 0
        assert found["transferred"] is False


def test_without_controls_nothing_is_claimed() -> None:
    found = compared(analysed(BASE_ROWS, []), analysed(INSTRUCT_ROWS, []))
    assert found["transferred"] is None and found["holds_on_base"] is None
    assert "cannot be told" in found["statement"] and "no controls" in found["statement"]
    assert "p = " not in found["statement"]


def test_few_controls_can_never_show_enough() -> None:
    for n, told in ((8, None), (9, True)):
        found = compared(BASE, analysed(INSTRUCT_ROWS, unmoved(n)))
        assert found["transferred"] is told and found["holds_on_base"] is True
    assert "cannot be told" in compared(BASE, analysed(INSTRUCT_ROWS, unmoved(8)))["statement"]


def test_part_of_the_split_gets_no_verdict() -> None:
    found = compare_steering("correct", BASE, INSTRUCT, whole=False)
    assert found["transferred"] is None and found["holds_on_base"] is None
    assert "cannot be told" in found["statement"]
    assert found["differences"] == compared(BASE, INSTRUCT)["differences"]


def test_it_is_said_where_the_base_model_itself_does_not_keep_the_rule() -> None:
    weak = analysed(BASE_ROWS, [BASE_ROWS] * 9)
    assert compared(weak, INSTRUCT)["statement"].endswith("; the rule does not hold on the base model itself")
    for base in (BASE, analysed(BASE_ROWS, [])):
        assert "base model" not in compared(base, INSTRUCT)["statement"]


# --- what cannot be computed, and the plot


def test_a_model_that_failed_nothing_has_no_difference_and_the_reason_is_said() -> None:
    found = compared(BASE, analysed("kkkkkb", ["kkkkkk"]))
    assert found["differences"]["correction"]["value"] is None and found["differences"]["correction"]["low"] is None
    assert found["differences"]["correction"]["reason"]
    assert found["differences"]["corruption"]["value"] == pytest.approx(0.0)


def test_every_figure_of_the_plot_is_one_of_the_comparison() -> None:
    steering = {"correct": compared(BASE, INSTRUCT)}
    auroc = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 388}
    detection = {"incorrect": {"base": {"auroc": auroc}, "instruct": {"auroc": {**auroc, "value": 0.7}}}}
    rows = figure_rows(steering, detection)
    assert [(row["what"], row["direction"]) for row in rows] == [
        ("AUROC", "incorrect"),
        ("correction", "correct"),
        ("corruption", "correct"),
        ("preservation", "correct"),
    ]
    assert rows[0]["instruct"] == {"value": 0.7, "low": 0.8, "high": 0.95, "n": 388}
    assert [(row["base"]["value"], row["base"]["n"]) for row in rows[1:]] == [(5 / 6, 6), (1 / 6, 6), (5 / 6, 6)]
    assert [(row["instruct"]["value"], row["instruct"]["n"]) for row in rows[1:]] == [(2 / 6, 6), (0.0, 6), (1.0, 6)]


def test_a_missing_rate_is_missing_in_the_plot_too_with_its_n() -> None:
    steering = {"correct": compared(BASE, analysed("kkkkkb", ["kkkkkk"]))}
    missing = figure_rows(steering, {})[0]
    assert missing["instruct"] == {"value": None, "low": None, "high": None, "n": 0}


def test_a_comparison_can_be_written_as_json() -> None:
    json.dumps(compared(BASE, INSTRUCT))
