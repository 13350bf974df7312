from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common.conditions import Condition, random_direction, target
from common.runs.features import Feature
from phase4_5.choice import (
    all_reports,
    beyond_random,
    by_hand,
    generation_divergence,
    in_range,
    merit,
    suggestion,
)
from tests.common.steering_rows import CORRECT, INCORRECT, results, steered

pytestmark = pytest.mark.unit


def report(
    coefficient: float,
    fixes: int = 0,
    breaks: int = 0,
    *,
    parse: int = 0,
    others: Sequence[int] = (0,),
    n: int = 20,
    flip: float | None = 0.3,
    parsing: float | None = 0.9,
    feature: Feature = CORRECT,
) -> dict[str, Any]:
    """What is judged of a coefficient; `parse` of the breaks still parse, `others` along each random direction."""
    effect = {
        **{"n": n, "fixes": fixes, "breaks": breaks, "net": fixes - breaks, "breaks_that_parse": parse},
        **{"flip_rate": {"value": flip}, "parsing": {"value": parsing}},
    }
    randoms = [{"effect": {"breaks_that_parse": count, "net": -count}} for count in others]
    return {"feature": feature._asdict(), "coefficient": coefficient, "effect": effect, "random_directions": randoms}


# --- the rule


def test_the_correct_direction_takes_the_largest_fixes_minus_breaks() -> None:
    reports = [report(1.0, 2, 0), report(10.0, 9, 5), report(30.0, 8, 3), report(100.0, 20, 19)]
    chosen = suggestion("correct", reports)
    assert (chosen.coefficient, chosen.how) == (30.0, "suggested")
    assert chosen.rationale.startswith("8 fixes − 3 breaks = +5, the most of 4 coefficients on 20 problems")


def test_breaks_that_parse_and_random_directions_say_nothing_of_the_correct_direction() -> None:
    reports = [report(1.0, 3, 0, parse=9, others=[0]), report(10.0, 4, 0, parse=0, others=[9])]
    assert suggestion("correct", reports).coefficient == 10.0


def test_the_incorrect_direction_takes_the_most_parsing_breaks_beyond_random_directions() -> None:
    reports = [
        report(1.0, breaks=4, parse=4, others=[0, 0]),  # 4 beyond
        report(10.0, breaks=9, parse=7, others=[1, 2]),  # 5.5 beyond
        report(30.0, breaks=15, parse=12, others=[8, 6]),  # 5 beyond
        report(100.0, breaks=20, parse=0, others=[0, 0]),  # breaks, but nothing parses
    ]
    chosen = suggestion("incorrect", reports)
    assert chosen.coefficient == 10.0
    assert chosen.rationale.startswith("7 breaks that still parse, 1.5 along random directions of equal norm, ")
    assert [merit("incorrect", item) for item in reports] == [4.0, 5.5, 5.0, 0.0]


@pytest.mark.parametrize("order", [(30.0, 3.0, 10.0), (3.0, 10.0, 30.0), (10.0, 30.0, 3.0)])
def test_of_equally_good_coefficients_the_smallest_is_taken_whatever_their_order(order: Sequence[float]) -> None:
    reports = [report(value, 5, 2, parse=3) for value in order]
    assert suggestion("correct", reports).coefficient == 3.0
    assert suggestion("incorrect", reports).coefficient == 3.0


def test_of_equally_good_negative_coefficients_the_smallest_in_size_is_taken() -> None:
    reports = [report(-30.0, 5, 2), report(-3.0, 5, 2), report(-10.0, 4, 2)]
    assert suggestion("correct", reports).coefficient == -3.0
    assert suggestion("correct", [report(-30.0, 6, 2), *reports]).coefficient == -30.0


def test_ties_are_seen_where_means_of_random_directions_are_no_round_numbers() -> None:
    """Both lie 10/3 beyond: 4 − 2/3 and 5 − 5/3, which are not equal once each mean is rounded by itself."""
    four, five = {"parse": 4, "others": [1, 1, 0]}, {"parse": 5, "others": [2, 2, 1]}
    assert 4 - 2 / 3 != 5 - 5 / 3
    for weak, strong in ((four, five), (five, four)):
        reports = [report(3.0, **weak), report(30.0, **strong)]
        assert suggestion("incorrect", reports).coefficient == 3.0


def test_of_equally_good_coefficients_the_one_farthest_beyond_its_random_directions_is_taken() -> None:
    """The net is 4 at all of them; along random directions it is -1, -3 and -2 (0 and -4) on average."""
    reports = [report(3.0, 5, 1, others=[1]), report(30.0, 5, 1, others=[3]), report(10.0, 6, 2, others=[0, 4])]
    assert [merit("correct", item) for item in reports] == [4.0, 4.0, 4.0]
    assert [beyond_random("correct", item) for item in reports] == [5.0, 7.0, 6.0]
    for order in itertools.permutations(reports):
        assert suggestion("correct", order).coefficient == 30.0


def test_being_far_beyond_random_directions_never_outweighs_a_better_net() -> None:
    reports = [report(3.0, 5, 1, others=[20, 20]), report(30.0, 5, 0, others=[-5, -5])]
    assert suggestion("correct", reports).coefficient == 30.0
    assert beyond_random("correct", reports[0]) == 24.0 and beyond_random("correct", reports[1]) == 0.0


# --- several features


def test_the_best_trial_of_all_features_is_taken_with_its_rank() -> None:
    first, second, third = CORRECT, Feature(0, 1), Feature(2, 1)
    reports = [
        *(report(3.0, 1, 0, feature=first), report(30.0, 2, 0, feature=first)),
        *(report(3.0, 5, 1, feature=second), report(30.0, 1, 0, feature=second), report(3.0, 0, 0, feature=third)),
    ]
    chosen = suggestion("correct", reports)
    assert (chosen.feature, chosen.coefficient, chosen.how) == (second, 3.0, "suggested")
    assert "the most of 5 trials of 3 features (this one ranks 2) on 20 problems" in chosen.rationale


@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_of_equally_good_features_the_better_ranked_is_taken_before_the_smaller_coefficient(direction: Any) -> None:
    same = {"fixes": 5, "breaks": 2, "parse": 3}
    reports = [report(30.0, feature=INCORRECT, **same), report(3.0, feature=CORRECT, **same)]
    assert suggestion(direction, reports).feature == INCORRECT
    assert suggestion(direction, reports[::-1]).feature == CORRECT


def test_a_better_ranked_feature_gives_way_to_one_farther_beyond_its_random_directions() -> None:
    reports = [report(3.0, 5, 2, others=[0], feature=INCORRECT), report(30.0, 5, 2, others=[1], feature=CORRECT)]
    assert suggestion("correct", reports).feature == CORRECT


def test_a_choice_by_hand_is_of_the_suggested_feature_and_what_others_did_there_is_not_said() -> None:
    reports = [report(3.0, 5, 1, flip=0.1), report(30.0, 2, 1, flip=0.9, feature=INCORRECT)]
    choice = by_hand(30.0, suggestion("correct", reports), reports)
    assert choice.feature == CORRECT
    assert choice.rationale == "chosen by hand; suggested was 3. It was not tried in the grid"


# --- by hand


def test_a_choice_by_hand_says_what_the_grid_knows_of_it_and_what_was_suggested() -> None:
    reports = [report(3.0, 5, 1, flip=0.1), report(30.0, 2, 1, flip=0.9)]
    suggested = suggestion("correct", reports)
    for value, known in ((30.0, in_range(reports[1])), (12.5, "It was not tried in the grid")):
        choice = by_hand(value, suggested, reports)
        assert (choice.coefficient, choice.how) == (value, "by hand")
        assert choice.rationale == f"chosen by hand; suggested was 3. {known}"


@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_it_is_said_where_no_coefficient_does_better_than_nothing(direction: Any) -> None:
    doubt = "no coefficient does better than nothing here, so read the examples"
    for reports in ([report(1.0, 1, 3, parse=1, others=[4])], [report(1.0, 2, 2, parse=1, others=[1])]):
        assert doubt in suggestion(direction, reports).rationale
    assert doubt not in suggestion(direction, [report(1.0, 3, 2, parse=2, others=[1])]).rationale


def test_the_least_harmful_coefficient_is_suggested_where_all_harm() -> None:
    reports = [report(1.0, 0, 2), report(10.0, 1, 2), report(30.0, 0, 9)]
    chosen = suggestion("correct", reports)
    assert chosen.coefficient == 10.0 and "1 fixes − 2 breaks = -1" in chosen.rationale


def test_a_coefficient_of_zero_is_never_suggested_where_another_was_tried() -> None:
    still = report(0.0)
    assert suggestion("correct", [still, report(3.0, 1, 0)]).coefficient == 3.0
    assert suggestion("correct", [still, report(3.0, 0, 1)]).coefficient == 3.0
    assert suggestion("correct", [still]).coefficient == 0.0


# --- the range looked for


@pytest.mark.parametrize(
    ("flip", "where"), [(0.19, "below"), (0.20, "inside"), (0.6, "inside"), (0.61, "above"), (0.0, "below")]
)
def test_the_flip_rate_is_held_against_the_range_looked_for(flip: float, where: str) -> None:
    assert in_range(report(1.0, flip=flip)).startswith(
        f"Flip rate {flip:.0%} lies {where} the range looked for (20% to"
    )


@pytest.mark.parametrize(("parsing", "word"), [(0.79, "too few"), (0.8, "enough"), (1.0, "enough")])
def test_parsing_is_held_against_what_is_looked_for(parsing: float, word: str) -> None:
    assert in_range(report(1.0, parsing=parsing)).endswith(f"{parsing:.0%} parse, {word} (80% looked for)")


def test_the_range_decides_nothing() -> None:
    reports = [report(1.0, 3, 0), report(1000.0, 4, 0, flip=1.0, parsing=0.0)]
    assert suggestion("correct", reports).coefficient == 1000.0


@pytest.mark.parametrize("direction", ["correct", "incorrect"])
def test_reports_without_a_figure_are_no_obstacle(direction: Any) -> None:
    chosen = suggestion(
        direction, [report(3.0, n=0, flip=None, parsing=None), report(1.0, n=0, flip=None, parsing=None)]
    )
    assert chosen.coefficient == 1.0
    assert chosen.rationale.endswith("No problem enters a rate")


# --- divergence


def test_equal_code_has_similarity_and_ratio_one() -> None:
    assert generation_divergence(["x = 1", "y"], ["x = 1", "y"]) == (1.0, 1.0, 1.0)


def test_similarities_are_means_of_sequence_matchers_ratios() -> None:
    pairs = [("return x + 1", "return x - 1"), ("abcd", "bcde"), ("a b c", "")]
    found = generation_divergence([one for one, _ in pairs], [other for _, other in pairs])
    chars = [difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() for one, other in pairs]
    assert found.mean_char_similarity == pytest.approx(np.mean(chars))
    assert found.mean_token_similarity == pytest.approx((3 / 4 + 0.0 + 0.0) / 3)
    assert found.mean_length_ratio == pytest.approx((1.0 + 1.0 + 0.0) / 3)


def test_an_empty_baseline_has_no_ratio_and_spoils_no_mean() -> None:
    assert generation_divergence(["", "ab"], ["xyz", "abcd"]).mean_length_ratio == 2.0
    assert generation_divergence([""], ["xyz"]).mean_length_ratio is None


def test_no_solutions_have_no_means() -> None:
    assert generation_divergence([], []) == (None, None, None)


def test_solutions_that_do_not_pair_up_are_an_error() -> None:
    with pytest.raises(ValueError):
        generation_divergence(["a"], ["a", "b"])


# --- reports from rows

CODE = "def add(x):\n    return x + 1"
WEAK, STRONG = target("correct", CORRECT, 1.0), target("correct", CORRECT, 30.0)


def noise(coefficient: float, draw: int) -> Condition:
    return random_direction("correct", CORRECT, coefficient, draw)


ROWS = [
    *steered(WEAK, "wwkk"),
    *steered(STRONG, "fxkb"),
    *steered(noise(30.0, 0), "wfbk"),
    *steered(noise(30.0, 1), "wwkk"),
    *steered(noise(1.0, 0), "ffkk"),
]
OTHER_CODE = "def other(x):\n    return x"


def with_codes(rows: Sequence[dict[str, Any]], kept: Sequence[int] = (0, 2)) -> list[dict[str, Any]]:
    """Adds code: of the strong coefficient only `kept` positions repeat the baseline."""
    made = []
    for row in rows:
        steered_code = CODE if row["condition"] != STRONG.name or row["position"] in kept else OTHER_CODE
        lost = row["test_passed"] is None
        made.append({**row, "baseline_code": CODE, "generated_code": None if lost else steered_code})
    return made


def strong_report(rows: Sequence[dict[str, Any]] = ROWS) -> dict[str, Any]:
    ratios = {CORRECT: 1 / 40}
    found = all_reports(results(with_codes(rows)), lambda feature: ratios[feature])["correct"]
    (report,) = [item for item in found if item["coefficient"] == 30.0]
    return report


def test_a_report_holds_its_own_coefficients_rows_and_random_directions() -> None:
    found = strong_report()
    assert (found["coefficient"], found["in_residual_norms"]) == (30.0, 0.75)
    assert (found["effect"]["n"], found["effect"]["fixes"], found["effect"]["breaks"]) == (3, 1, 1)
    assert [item["draw"] for item in found["random_directions"]] == [0, 1]
    assert [item["effect"]["net"] for item in found["random_directions"]] == [0, 0]
    assert [item["effect"]["fixes"] for item in found["random_directions"]] == [1, 0]


def test_a_lost_problem_is_counted_and_enters_no_figure() -> None:
    found = strong_report()
    assert found["left_out"] == {"generation failed": 1}
    assert found["defines_function"]["denominator"] == 3
    assert found["mean_length_ratio"] == pytest.approx((1 + 1 + len(OTHER_CODE) / len(CODE)) / 3)


def test_keeping_the_function_is_asked_of_each_steered_solution() -> None:
    rows = [{**row, "defines_function": row["condition"] != STRONG.name or row["position"] == 0} for row in ROWS]
    found = strong_report(rows)
    share = found["defines_function"]
    assert (share["numerator"], share["value"]) == (1, pytest.approx(1 / 3))
    assert share["low"] < share["value"] < share["high"]
    assert [item["defines_function"]["numerator"] for item in found["random_directions"]] == [4, 4]


def test_reports_come_for_each_direction_in_order_of_the_table() -> None:
    arms = [
        *ROWS,
        *steered(target("incorrect", INCORRECT, 30.0), "kb"),
        *steered(target("correct", CORRECT, -1.0), "wk"),
    ]
    found = all_reports(results(with_codes(arms)), {CORRECT: 0.1, INCORRECT: 0.2}.__getitem__)
    tried = {name: [item["coefficient"] for item in items] for name, items in found.items()}
    assert tried == {"correct": [1.0, 30.0, -1.0], "incorrect": [30.0]}
    assert [item["in_residual_norms"] for item in found["correct"]] == pytest.approx([0.1, 3.0, -0.1])
    for direction, feature in (("correct", CORRECT), ("incorrect", INCORRECT)):
        for item in found[direction]:  # type: ignore[index]
            assert item["feature"] == {"layer": feature.layer, "index": feature.index}
    assert found["incorrect"][0]["in_residual_norms"] == pytest.approx(6.0)
    assert found["incorrect"][0]["effect"]["breaks"] == 1 and found["incorrect"][0]["random_directions"] == []
    assert found["correct"][0]["effect"]["n"] == 4 and len(found["correct"][0]["random_directions"]) == 1


def test_random_directions_stand_beside_the_candidate_whose_norm_they_have() -> None:
    """Two features of one layer and one of another, all at one coefficient, each with a control of its own."""
    features = [CORRECT, Feature(CORRECT.layer, 21), Feature(1, CORRECT.index)]
    ends = [("ffkk", "wfbk"), ("fwkk", "wwbk"), ("wwkk", "ffkk")]
    rows: list[dict[str, Any]] = []
    for feature, (own, other) in zip(features, ends, strict=True):
        rows += steered(target("correct", feature, 9.0, candidate=True), own)
        rows += steered(random_direction("correct", feature, 9.0, 0, candidate=True), other)
    ratios = {feature: place + 1.0 for place, feature in enumerate(features)}
    found = all_reports(results(with_codes(rows)), ratios.__getitem__)
    assert [item["feature"] for item in found["correct"]] == [feature._asdict() for feature in features]
    assert [item["effect"]["net"] for item in found["correct"]] == [2, 1, 0]
    assert [[one["effect"]["net"] for one in item["random_directions"]] for item in found["correct"]] == [
        [0],
        [-1],
        [2],
    ]
    assert [item["in_residual_norms"] for item in found["correct"]] == [9.0, 18.0, 27.0]
    assert found["incorrect"] == []


def test_a_report_can_be_written_as_json() -> None:
    json.dumps(strong_report())
