from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from common.conditions import RANDOM_DIRECTION, RANDOM_FEATURE, TARGET, ZERO
from common.steering_effects import (
    arms_of,
    by_difficulty,
    chosen,
    control_effects,
    direction_effects,
    failure_modes,
    noise_floor,
    selective_effects,
)
from tests.common.steering_rows import (
    DOWN,
    UP,
    ZERO_ARM,
    direction_control,
    feature_control,
    results,
    steered,
)

pytestmark = pytest.mark.unit

# Eight problems: four failed before (0 to 3), four passed (4 to 7).
TARGET_ROWS = steered(UP, "fffwkkbB")  # 3 fixes, 2 breaks (one parses)
EQUAL = steered(direction_control(0), "fwwwkkkk")  # net +1: as good as the target
WORSE = steered(direction_control(1), "wwwWkkkB")  # net -1
BETTER = steered(feature_control(0), "ffwwkkkk")  # net +2
NOTHING = steered(feature_control(1), "wwwwkkkk")  # net 0
NOTHING_EITHER = steered(feature_control(2), "wwwwkkkk")
WORSE_STILL = steered(direction_control(2), "wwwwkbbb")  # net -3


def arms(*parts: list):
    return arms_of(results(*parts))


# --- reading rows


def test_each_condition_becomes_an_arm_in_the_tables_order() -> None:
    found = arms(steered(ZERO_ARM, "wk"), TARGET_ROWS, EQUAL)
    assert [arm.condition["condition"] for arm in found] == ["zero", "correct_9", "correct_9_random_direction_00"]
    assert found[1].condition == {
        **{"condition": "correct_9", "kind": TARGET, "direction": "correct"},
        **{"layer": 2, "feature_idx": 20, "target_idx": 20, "draw": None, "coefficient": 9.0},
    }
    np.testing.assert_array_equal(found[1].baseline, [False] * 4 + [True] * 4)
    np.testing.assert_array_equal(found[1].steered, [True, True, True, False, True, True, False, False])
    np.testing.assert_array_equal(found[1].parses, [True] * 7 + [False])
    np.testing.assert_array_equal(found[1].task_ids, range(100, 108))


def test_rows_left_out_enter_nothing_and_are_counted_by_reason() -> None:
    rows = steered(UP, "fwxkxB")
    rows[5]["left_out"] = "too long"
    (arm,) = arms(rows)
    assert arm.left_out == {"generation failed": 2, "too long": 1}
    assert arm.positions.tolist() == [0, 1, 3]
    assert (arm.flips().n, arm.flips().fixes, arm.flips().breaks) == (3, 1, 0)


def test_an_arm_of_which_nothing_is_left_has_no_rates_but_reasons() -> None:
    (arm,) = arms(steered(UP, "xx"))
    effect = arm.flips().as_dict()
    assert effect["n"] == 0 and effect["mcnemar_p"] is None
    for name in ("flip_rate", "correction", "corruption", "preservation", "parsing"):
        assert effect[name]["value"] is None and effect[name]["reason"], name


def test_arms_are_chosen_by_kind_and_direction() -> None:
    found = arms(steered(ZERO_ARM, "w"), steered(UP, "w"), steered(DOWN, "w"), EQUAL, BETTER)
    assert [arm.condition["condition"] for arm in chosen(found, TARGET)] == ["correct_9", "incorrect_5"]
    assert [arm.condition["condition"] for arm in chosen(found, TARGET, "incorrect")] == ["incorrect_5"]
    assert len(chosen(found, RANDOM_DIRECTION, "correct")) == 1
    assert chosen(found, RANDOM_FEATURE, "incorrect") == []
    assert len(chosen(found, ZERO)) == 1


# --- a direction and its controls


def test_flips_of_a_direction_are_those_counted_by_hand() -> None:
    effect = direction_effects(arms(TARGET_ROWS, EQUAL), "correct")["effect"]
    counts = {name: effect[name] for name in ("n", "n_failing", "n_passing", "fixes", "breaks", "net")}
    assert counts == {"n": 8, "n_failing": 4, "n_passing": 4, "fixes": 3, "breaks": 2, "net": 1}
    assert effect["breaks_that_parse"] == 1
    assert (effect["solved_before"], effect["solved_after"]) == (4, 5)
    assert effect["correction"]["value"] == 3 / 4 and effect["corruption"]["value"] == 2 / 4
    assert effect["preservation"]["value"] == 2 / 4 and effect["flip_rate"]["value"] == 5 / 8


def test_the_correct_direction_is_ranked_by_fixes_minus_breaks_with_ties_against_it() -> None:
    found = arms(TARGET_ROWS, EQUAL, WORSE, steered(direction_control(2), "wwwwkkkb"), BETTER, NOTHING)
    effects = direction_effects(found, "correct")["controls"]
    assert effects["outcome"] == 1 and effects["n_problems"] == 8 and effects["all_problems"] is True
    directions, features = effects[RANDOM_DIRECTION], effects[RANDOM_FEATURE]
    assert [item["outcome"] for item in directions["conditions"]] == [1, -1, -1]
    assert [item["outcome"] for item in features["conditions"]] == [2, 0]
    assert [item["feature_idx"] for item in features["conditions"]] == [40, 41]
    assert [item["draw"] for item in directions["conditions"]] == [0, 1, 2]
    # in each kind one control does at least as well
    assert (directions["rank"]["p"], features["rank"]["p"]) == (2 / 4, 2 / 3)
    assert (directions["rank"]["n_at_least"], directions["rank"]["smallest_p"]) == (1, 1 / 4)


@pytest.mark.parametrize(
    ("features", "kind"), [((BETTER, NOTHING), RANDOM_FEATURE), ((NOTHING, NOTHING_EITHER), RANDOM_DIRECTION)]
)
def test_the_rank_that_is_reported_is_that_of_the_kind_of_control_that_does_better(features: Any, kind: str) -> None:
    effects = direction_effects(arms(TARGET_ROWS, EQUAL, WORSE, WORSE_STILL, *features), "correct")["controls"]
    others = {RANDOM_FEATURE, RANDOM_DIRECTION} - {kind}
    assert effects["rank_kind"] == kind and effects["rank"] == effects[kind]["rank"]
    assert effects["rank"]["p"] > effects[others.pop()]["rank"]["p"]


def test_the_incorrect_direction_is_ranked_by_breaks_that_parse() -> None:
    control = direction_control(0)._replace(name="c", direction="incorrect")
    many = control._replace(name="d", draw=1)
    # the target breaks two that parse; the first control breaks three of which one parses, the second two that parse
    found = arms(steered(DOWN, "wwbbkk"), steered(control, "wwbBBk"), steered(many, "wwbbBk"))
    effects = direction_effects(found, "incorrect")["controls"]
    assert effects["outcome"] == 2
    assert [item["outcome"] for item in effects[RANDOM_DIRECTION]["conditions"]] == [1, 2]
    assert effects["rank"]["p"] == 2 / 3


def test_target_and_controls_are_compared_on_the_problems_that_all_of_them_have() -> None:
    few = steered(direction_control(0), "ff..k.k.")
    fewer = steered(feature_control(0), "wx..k.k.")
    effects = control_effects(found := arms(TARGET_ROWS, few, fewer), found[0], "correct")
    assert effects["n_problems"] == 3 and effects["all_problems"] is False  # positions 0, 4, 6
    assert (effects["target"]["fixes"], effects["target"]["breaks"], effects["outcome"]) == (1, 1, 0)
    assert effects[RANDOM_DIRECTION]["conditions"][0]["outcome"] == 1
    assert effects[RANDOM_FEATURE]["conditions"][0]["effect"]["n"] == 3


def test_a_problem_that_the_target_lost_is_compared_nowhere() -> None:
    found = arms(steered(UP, "xwkk"), steered(direction_control(0), "fwkk"))
    effects = control_effects(found, found[0], "correct")
    assert effects["n_problems"] == 3
    assert effects[RANDOM_DIRECTION]["conditions"][0]["outcome"] == 0


def test_order_of_rows_does_not_matter() -> None:
    rows = [*TARGET_ROWS, *EQUAL, *WORSE, *BETTER]
    shuffled = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    first, second = (direction_effects(arms_of(results(part)), "correct") for part in (rows, shuffled))
    for effects in (first, second):
        for kind in (RANDOM_DIRECTION, RANDOM_FEATURE):
            effects["controls"][kind]["conditions"].sort(key=lambda item: item["condition"])
    assert first == second


def test_without_controls_there_is_no_rank_and_the_reason_is_said() -> None:
    effects = direction_effects(arms(TARGET_ROWS), "correct")["controls"]
    assert effects["rank"]["p"] is None and effects["rank"]["reason"] == "no controls"
    assert (effects["n_problems"], effects["outcome"], effects["rank"]["target"]) == (8, 1, 1.0)
    assert effects[RANDOM_DIRECTION]["conditions"] == effects[RANDOM_FEATURE]["conditions"] == []


def test_controls_that_share_no_problem_with_the_target_are_no_ground_for_a_rank() -> None:
    effects = direction_effects(arms(steered(UP, "fw.."), steered(direction_control(0), "..kk")), "correct")["controls"]
    assert effects["n_problems"] == 0
    assert effects["rank"]["p"] is None and effects[RANDOM_DIRECTION]["rank"]["p"] is None


def test_one_kind_of_controls_alone_is_ranked_and_the_other_has_a_reason() -> None:
    effects = direction_effects(arms(TARGET_ROWS, EQUAL, WORSE), "correct")["controls"]
    assert effects["rank"]["n_controls"] == 2
    assert effects[RANDOM_FEATURE]["rank"]["p"] is None and effects[RANDOM_FEATURE]["rank"]["reason"] == "no controls"


def test_controls_of_the_other_direction_are_not_counted() -> None:
    other = direction_control(5)._replace(name="other", direction="incorrect")
    effects = direction_effects(arms(TARGET_ROWS, EQUAL, steered(other, "fffwkkkk")), "correct")["controls"]
    assert effects["rank"]["n_controls"] == 1


# --- parts of the problems


def test_groups_of_difficulty_add_up_to_the_whole() -> None:
    (arm,) = arms(TARGET_ROWS)  # complexity 1 at positions 0 and 4, 2 to 3 at 1, 2, 5, 6, and 4 at 3 and 7
    parts = {item["group"]: item for item in by_difficulty(arm)}
    counts = [(item["n"], item["fixes"], item["breaks"]) for item in parts.values()]
    assert counts == [(2, 1, 0), (4, 2, 1), (2, 0, 1)]
    assert sum(item["net"] for item in parts.values()) == arm.flips().net


def test_failure_modes_are_counted_apart_for_problems_that_failed_and_passed_before() -> None:
    (arm,) = arms(steered(UP, "fwwWkkbBx"))
    assert failure_modes(arm) == {
        "initially_failing": {"passed": 1, "syntax_broken": 1, "wrong_answer": 2},
        "initially_passing": {"passed": 2, "syntax_broken": 1, "wrong_answer": 1},
    }
    assert list(failure_modes(arm)["initially_failing"]) == ["passed", "syntax_broken", "wrong_answer"]


def test_the_noise_floor_is_the_zero_arms_flips() -> None:
    assert noise_floor(arms(TARGET_ROWS)) is None
    floor = noise_floor(arms(TARGET_ROWS, steered(ZERO_ARM, "wwfkkb")))
    assert floor is not None and (floor["n"], floor["fixes"], floor["breaks"]) == (6, 1, 1)


# --- selective steering


def test_selective_steering_keeps_the_baseline_where_nothing_is_steered() -> None:
    (arm,) = found = arms(TARGET_ROWS)
    selective = selective_effects(found, arm, "correct", [100, 103, 106, 999])
    assert (selective["n_steered"], selective["n"], selective["note"]) == (3, 8, None)
    effect = selective["effect"]
    assert (effect["fixes"], effect["breaks"], effect["breaks_that_parse"]) == (1, 1, 1)
    assert effect["solved_after"] == 4 + 1 - 1


def test_steering_everywhere_and_nowhere_are_the_two_ends_of_selective_steering() -> None:
    (arm,) = found = arms(steered(UP, "fxfwkkbB"))
    everywhere, nowhere = (selective_effects(found, arm, "correct", tasks) for tasks in (range(100, 108), []))
    assert everywhere["effect"] == arm.flips().as_dict() and everywhere["n_steered"] == 7
    assert everywhere["note"] == "the predictor fires on every problem"
    assert nowhere["n_steered"] == 0 and nowhere["effect"]["flip_rate"]["numerator"] == 0
    assert nowhere["note"] == "the predictor fires on no problem" and nowhere["effect"]["parsing"]["value"] == 1.0


def test_whether_an_unsteered_problem_parses_is_asked_of_its_baseline() -> None:
    (arm,) = found = arms(steered(UP, "Wf", baseline_parses=False))
    for task, n in ((101, 1), (100, 0)):
        assert selective_effects(found, arm, "correct", [task])["effect"]["parsing"]["numerator"] == n


def test_controls_of_selective_steering_are_steered_on_the_same_problems_only() -> None:
    found = arms(TARGET_ROWS, EQUAL, WORSE, BETTER)
    controls = selective_effects(found, found[0], "correct", [101, 107])["controls"]
    # of 101 and 107 the target fixes one and breaks one, the controls nothing, one break, one fix
    assert controls["outcome"] == 0 and controls["n_problems"] == 8
    assert [item["outcome"] for item in controls[RANDOM_DIRECTION]["conditions"]] == [0, -1]
    assert [item["outcome"] for item in controls[RANDOM_FEATURE]["conditions"]] == [1]
    assert controls["rank"]["p"] == 1.0 and controls["rank_kind"] == RANDOM_FEATURE


# --- what else is told of an arm


def test_what_survives_and_how_solutions_stop_is_told() -> None:
    effects = direction_effects(arms(steered(UP, "fwwWkkbBx"), steered(direction_control(0), "wwxWkkBBx")), "correct")
    assert (effects["defines_function"]["numerator"], effects["defines_function"]["denominator"]) == (6, 8)
    assert (effects["keeps_signature"]["numerator"], effects["keeps_signature"]["denominator"]) == (3, 8)
    assert effects["stop_reasons"] == {"eos": 6, "max_new_tokens": 2}
    (control,) = effects["controls"][RANDOM_DIRECTION]["conditions"]
    assert control["stopped_at_limit"] == 3 and control["left_out"] == {"generation failed": 2}


def test_everything_can_be_written_as_json() -> None:
    found = arms(steered(ZERO_ARM, "fwwwkkkk"), TARGET_ROWS, EQUAL, BETTER)
    json.dumps(
        [direction_effects(found, "correct"), noise_floor(found), selective_effects(found, found[1], "correct", [100])]
    )
