from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from scipy import stats

from common import plotting, steering_plots
from common.conditions import RANDOM_DIRECTION, RANDOM_FEATURE, TARGET, ZERO
from common.statistics.permutation import Direction
from common.steering_effects import SteeredArm, direction_effects, noise_floor
from tests.common.figures import bars, caption_of, crowded, points

pytestmark = pytest.mark.unit

# Ten problems: the first four pass at baseline.
PASSING = (0, 1, 2, 3)
COMPLEXITY = np.array([1, 1, 2, 3, 1, 2, 2, 3, 4, 9])
SUBSET = (0, 1, 4, 5)


def arm(
    kind: str,
    direction: Direction,
    flipped: Sequence[int],
    draw: int | None = None,
    unparsed: Sequence[int] = (),
    positions: Sequence[int] = range(10),
    passing: Sequence[int] = PASSING,
) -> SteeredArm:
    """An arm in which exactly the problems in `flipped` change their label."""
    at = np.array(positions, dtype=np.int64)
    baseline, parses = np.isin(at, passing), ~np.isin(at, unparsed)
    condition = {
        "condition": f"{direction}_{kind}_{draw}",
        "kind": kind,
        "direction": direction,
        "layer": 3,
        "feature_idx": 1234,
        "draw": draw,
        "coefficient": 30.0,
    }
    steered = baseline ^ np.isin(at, flipped)
    modes = ["passed" if one else "wrong_answer" for one in steered]
    stops = ["function_end"] * len(at)
    return SteeredArm(
        condition, at, at, COMPLEXITY[at], baseline, steered, parses, baseline, parses, parses, modes, stops, {}
    )


def effects(controls: Sequence[int] = range(10), *, with_controls: bool = True, **passing: Any) -> dict[Direction, Any]:
    arms = [
        arm(TARGET, "correct", [4, 5, 8, 0], **passing),  # 3 fixes of 6, 1 break of 4
        arm(TARGET, "incorrect", [9, 0, 1, 2], unparsed=[2], **passing),  # 1 fix, 3 breaks, 2 of them parse
    ]
    if with_controls:
        given = {"positions": controls, **passing}
        flips = ([4], [1], [4, 5])
        arms += [arm(RANDOM_FEATURE, "correct", flipped, draw, **given) for draw, flipped in enumerate(flips)]
        arms += [arm(RANDOM_DIRECTION, "correct", [], 0, **given), arm(RANDOM_FEATURE, "incorrect", [0], 0, **given)]
    return {"correct": direction_effects(arms, "correct"), "incorrect": direction_effects(arms, "incorrect")}


FLOOR = noise_floor([arm(ZERO, "correct", [0])])  # one break of four


def wilson(successes: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def titles(made_axes: Sequence[Axes]) -> list[str]:
    return [axes.get_title(loc="left") for axes in made_axes]


def test_each_share_of_the_target_stands_with_its_interval_beside_the_noise_floor(tmp_path: Path) -> None:
    made = steering_plots.effects_figure(effects(), FLOOR)
    expected = [
        [("correction", 3, 6, 0.0), ("corruption", 1, 4, 0.25), ("breaks that still parse", 1, 4, 0.25)],
        [("correction", 1, 6, 0.0), ("corruption", 3, 4, 0.25), ("breaks that still parse", 2, 4, 0.25)],
    ]
    rows = np.array(made.axes).reshape(2, 3)
    for row, figures, colour in zip(rows, expected, (plotting.CORRECT, plotting.INCORRECT), strict=True):
        for axes, (name, numerator, denominator, floor) in zip(row, figures, strict=True):
            assert axes.get_ylabel().startswith(f"{name}\n({numerator} of {denominator} initially ")
            assert points(axes, colour) == [[(0, numerator / denominator)]]
            assert bars(axes) == [pytest.approx((0, *wilson(numerator, denominator)))]
            (line,) = [one for one in axes.lines if one.get_color() == plotting.BASELINE]
            assert set(line.get_ydata()) == {floor}
    assert titles(rows[1]) == ["incorrect-preferring: layer 3, feature 1,234, coefficient 30", "", ""]
    assert crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_every_control_is_a_dot_of_its_kind() -> None:
    made = steering_plots.effects_figure(effects(), FLOOR)
    correction, corruption = made.axes[:2]
    (features,) = points(correction, plotting.CONTROL, marker=plotting.FEATURES_MARKER)
    (directions,) = points(correction, plotting.CONTROL, marker="^")
    assert [y for _, y in features] == [1 / 6, 0, 2 / 6] and [y for _, y in directions] == [0]
    assert [y for _, y in points(corruption, plotting.CONTROL, marker=plotting.FEATURES_MARKER)[0]] == [0, 1 / 4, 0]
    places = {round(x) for x, _ in features}, {round(x) for x, _ in directions}
    assert places == ({1}, {2})
    names = [text.get_text() for text in made.legends[0].get_texts()]
    assert names == ["feature, all problems", "random features", "random directions", "coefficient 0 (noise floor)"]
    assert "4 controls on n = 10 problems (smallest reachable p 0.25)" in caption_of(made)


def test_preservation_is_the_other_side_of_corruption() -> None:
    corruption = steering_plots.effects_figure(effects(), FLOOR).axes[1]
    (right,) = corruption.child_axes
    assert right.get_ylabel() == "preservation"
    corruption.figure.canvas.draw()
    assert sorted(right.get_ylim()) == pytest.approx(sorted(1 - end for end in corruption.get_ylim()))


def test_where_controls_ran_on_fewer_problems_the_target_is_shown_on_those_too() -> None:
    made = steering_plots.effects_figure(effects(SUBSET), None)
    correction, corruption = made.axes[:2]
    # Of the problems 0, 1, 4 and 5 the target fixes 4 and 5 and breaks 0.
    assert points(correction, plotting.CORRECT, fillstyle="none") == [[(1, 1.0)]]
    assert points(corruption, plotting.CORRECT, fillstyle="none") == [[(1, 0.5)]]
    assert points(correction, plotting.CORRECT, fillstyle="full") == [[(0, 0.5)]]
    assert bars(corruption) == [pytest.approx((0, *wilson(1, 4))), pytest.approx((1, *wilson(1, 2)))]
    assert "feature, the controls' problems" in [text.get_text() for text in made.legends[0].get_texts()]
    assert "n = 10 problems. Correct direction: 4 controls on n = 4 problems" in caption_of(made)


@pytest.mark.parametrize(
    ("passing", "sentence", "silent"),
    [(range(10), "no initially failing problems", [0]), ((), "no initially passing problems", [1, 2])],
)
def test_a_share_of_nothing_is_a_sentence(passing: Sequence[int], sentence: str, silent: list[int]) -> None:
    of = effects(passing=passing)
    made = steering_plots.effects_figure(of, FLOOR)
    for place, axes in enumerate(made.axes[:3]):
        said = [text.get_text() for text in axes.texts]
        assert said == ([sentence] if place in silent else [])
        assert bool(axes.lines) == (place not in silent)
    assert crowded(made) == []
    missing = steering_plots.difficulty_figure(of)
    series = points(missing.axes[0], plotting.CORRECT if silent == [0] else plotting.INCORRECT)
    assert np.isnan([y for _, y in series[0]]).all()


def test_the_controls_outcomes_stand_on_both_sides_of_the_targets_line(tmp_path: Path) -> None:
    made = steering_plots.controls_figure(effects())
    correct, incorrect = made.axes
    (features,) = points(correct, plotting.CONTROL, marker=plotting.FEATURES_MARKER)
    (directions,) = points(correct, plotting.CONTROL, marker="^")
    assert [x for x, _ in features] == [1, -1, 2] and [y for _, y in features] == [0, 0, 0]
    assert directions == [(0, 1)]
    (line,) = points(correct, plotting.CORRECT)
    assert {x for x, _ in line} == {2}
    assert titles([correct]) == [
        "correct-preferring: layer 3, feature 1,234, coefficient 30\n"
        "fixes minus breaks: 2; rank p = 0.5, the worse of both kinds"
    ]
    lanes = [label.get_text() for label in correct.get_yticklabels()]
    assert lanes == [
        "random features\n1 of 3 at least as good, p = 0.5",
        "random directions\n0 of 1 at least as good, p = 0.5",
    ]
    assert [label.get_text() for label in incorrect.get_yticklabels()][1] == "random directions\nnone were run"
    assert {x for x, _ in points(incorrect, plotting.INCORRECT)[0]} == {2}
    assert crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_without_controls_the_panels_say_so() -> None:
    of = effects(with_controls=False)
    made = steering_plots.controls_figure(of)
    assert [axes.texts[0].get_text() for axes in made.axes] == ["no controls were run"] * 2
    assert all(len(axes.lines) == 0 for axes in made.axes)
    assert crowded(made) == []
    alone = steering_plots.effects_figure(of, None)
    assert points(alone.axes[0], plotting.CONTROL) == []
    assert caption_of(alone).startswith("n = 10 problems. No controls.")


def test_thirty_nine_controls_of_either_kind_do_not_crowd() -> None:
    arms = [arm(TARGET, "correct", [4, 5]), arm(TARGET, "incorrect", [0])]
    for kind in (RANDOM_FEATURE, RANDOM_DIRECTION):
        for direction in ("correct", "incorrect"):
            arms += [arm(kind, direction, [draw % 10] if draw % 3 else [], draw) for draw in range(39)]
    of: dict[Direction, Any] = {"correct": direction_effects(arms, "correct")}
    of["incorrect"] = direction_effects(arms, "incorrect")
    for made in (steering_plots.effects_figure(of, FLOOR), steering_plots.controls_figure(of)):
        assert crowded(made) == []
        dots = [point for axes in made.axes[:1] for line in points(axes, plotting.CONTROL) for point in line]
        assert len(dots) == 78 == len(set(dots))


def test_correction_and_corruption_stand_by_complexity_with_their_problems(tmp_path: Path) -> None:
    made = steering_plots.difficulty_figure(effects())
    axes = made.axes[0]
    # Complexity 1: problems 0, 1, 4; 2-3: 2, 3, 5, 6, 7; above: 8, 9. Fixed are 4, 5, 8, broken is 0.
    (correction,), (corruption,) = points(axes, plotting.CORRECT), points(axes, plotting.INCORRECT)
    assert [y for _, y in correction] == [1, 1 / 3, 1 / 2]
    assert [y for _, y in corruption] == pytest.approx([1 / 2, 0, np.nan], nan_ok=True)
    drawn = [(low, high) for _, low, high in bars(axes)]
    assert drawn[:3] == [pytest.approx(wilson(*of)) for of in ((1, 1), (1, 3), (1, 2))]
    assert drawn[3:5] == [pytest.approx(wilson(*of)) for of in ((1, 2), (0, 2))]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["1\n1 failing\n2 passing", "2–3\n3 failing\n2 passing", "4+\n2 failing\n0 passing"]
    assert caption_of(made).startswith("n = 10 problems.")
    assert crowded(made) == []
    plotting.save(made, tmp_path / "plot")


def test_dots_of_equal_height_stand_apart_and_inside_their_lane() -> None:
    assert steering_plots.spread([0.1, 0.5, 0.1, 0.1], 0.05) == pytest.approx([-0.09, 0, 0, 0.09])
    many = steering_plots.spread([3.0] * 200, 1)
    assert len(set(many)) == 200 and max(many) == -min(many) <= steering_plots.LANE / 2
    assert steering_plots.spread([], 1) == []


def test_dots_too_close_to_be_counted_have_their_number_beside_them() -> None:
    values = [0.5] * steering_plots.COUNTABLE + [3.0] * 13 + [3.01] * 2
    (height, n), *others = steering_plots.tallies(values, 0.1).items()
    assert (height, n, others) == (pytest.approx((13 * 3 + 2 * 3.01) / 15), 15, [])
    arms = [arm(TARGET, "correct", [4, 5])]
    arms += [arm(RANDOM_FEATURE, "correct", [4] if draw < 30 else [0], draw) for draw in range(39)]
    of: dict[Direction, Any] = {"correct": direction_effects(arms, "correct")}
    for made in (steering_plots.controls_figure(of), steering_plots.effects_figure(of, None)):
        assert [text.get_text() for text in made.axes[0].texts] == ["30"]
        assert caption_of(made).endswith("Numbers: how many controls lie there.")
        assert crowded(made) == []


def test_the_search_for_crowding_finds_it() -> None:
    made = steering_plots.difficulty_figure(effects())
    made.axes[0].text(0.5, 0.5, "one beside")
    made.axes[0].text(0.51, 0.5, "another")
    made.axes[0].text(-9, 0.5, "far out").set_in_layout(False)
    assert crowded(made) == ["'far out' leaves the figure", "'one beside' overlaps 'another'"]
