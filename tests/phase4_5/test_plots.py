from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common import plotting
from common.statistics.permutation import Direction
from common.statistics.steering import flips, share
from phase4_5.plots import ROWS, coefficient_analysis, scale_for
from tests.common.figures import bars, caption_of, crowded, points

pytestmark = pytest.mark.unit

N_FAILING, N_PASSING = 6, 4
CASES = {
    "seven": [1, 3, 10, 30, 100, 300, 1000],
    "twelve": [1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 1000],
    "one": [30.0],
    "symmetric": [-1, -0.5, 0, 0.5, 1],
    "both signs": [-1000, -100, -10, -1, 0, 1, 10, 100, 1000],
    "negative": [-1000, -100, -10],
    "tiny": [1e-5, 1e-4, 1e-3],
}


def effect(fixes: int, breaks: int, unparsed: int = 0, failing: int = N_FAILING, passing: int = N_PASSING) -> Any:
    baseline = np.arange(failing + passing) >= failing
    steered = baseline.copy()
    steered[:fixes] = True
    steered[failing : failing + breaks] = False
    return flips(baseline, steered, np.arange(failing + passing) >= unparsed).as_dict()


def report(coefficient: float, fixes: int, breaks: int, draws: int = 1, **sizes: int) -> dict[str, Any]:
    n = sum(sizes.values()) if sizes else N_FAILING + N_PASSING
    others = [
        {"draw": draw, "effect": effect(0, min(1, breaks), **sizes), "defines_function": share(n, n).as_dict()}
        for draw in range(draws)
    ]
    return {
        "coefficient": coefficient,
        "in_residual_norms": coefficient / 250,
        "effect": effect(fixes, breaks, min(1, n), **sizes),
        "defines_function": share(max(n - 2, 0), n).as_dict(),
        "mean_token_similarity": 0.75 if n else None,
        "mean_char_similarity": 0.5 if n else None,
        "mean_length_ratio": 1.5 if n else None,
        "failure_modes": {},
        "left_out": {},
        "random_directions": others,
    }


def panels(
    coefficients: Sequence[float], chosen: float | None = None, draws: int = 1, **sizes: int
) -> dict[Direction, dict[str, Any]]:
    """Reports in which the last coefficient fixes two problems and breaks one."""
    fixes = [0] * (len(coefficients) - 1) + [min(2, sizes.get("failing", 2))]
    broken = min(1, sizes.get("passing", 1))
    reports = [report(one, of, broken * (of > 0), draws, **sizes) for one, of in zip(coefficients, fixes, strict=True)]
    of = {
        "feature": {"layer": 3, "index": 12345},
        "residual_norm": 250.0,
        "chosen": None if chosen is None else {"coefficient": chosen, "how": "by hand", "rationale": ""},
        "coefficients": reports,
        "noise_floor": effect(1, 0),
    }
    return {"correct": of, "incorrect": {**of, "chosen": None, "noise_floor": None}}


def column(made: Figure, place: int = 0) -> dict[str, Axes]:
    return dict(zip(ROWS, np.array(made.axes).reshape(len(ROWS), 2)[:, place], strict=True))


def test_every_rate_of_the_feature_stands_at_its_coefficient_with_its_interval() -> None:
    made = coefficient_analysis(panels([10, 1, 100], chosen=10))
    axes = column(made)
    # In order of size 1, 10, 100: only the last flips anything, 2 of 6 failing, 1 of 4 passing.
    for name, last in (("correction", 2 / 6), ("corruption", 1 / 4), ("flip_rate", 3 / 10)):
        series = points(axes[name], plotting.CORRECT, marker="o")
        assert series == [[(1, 0), (10, 0), (100, last)]], name
    solid, dashed = (points(axes["parsing"], plotting.CORRECT, marker="o", fillstyle=one) for one in ("full", "none"))
    assert solid == [[(1, 0.9), (10, 0.9), (100, 0.9)]] and dashed == [[(1, 0.8), (10, 0.8), (100, 0.8)]]
    similar = points(axes["similarity"], plotting.CORRECT, marker="o")
    assert [{y for _, y in series} for series in similar] == [{0.75}, {0.5}]
    # Wilson's interval of 2 of 6 is 0.0968 to 0.7000 (statsmodels, proportion_confint).
    assert (100, pytest.approx(0.0968, abs=1e-4), pytest.approx(0.7000, abs=1e-4)) in bars(axes["correction"])
    assert len(bars(axes["correction"])) == 6  # of the feature and of the random direction


def test_random_directions_have_the_colour_of_controls_and_one_line_each() -> None:
    made = coefficient_analysis(panels([1, 10, 100], draws=3))
    corruption = column(made)["corruption"]
    lines = points(corruption, plotting.CONTROL)
    assert lines == [[(1, 0), (10, 0), (100, 1 / 4)]] * 3
    assert len(bars(corruption)) == 3, "with several draws only the feature has bars"
    none = column(coefficient_analysis(panels([1, 10, 100], draws=0)))
    assert all(points(axes, plotting.CONTROL) == [] for axes in none.values())


def test_noise_floor_ranges_and_the_coefficient_taken_are_marked_where_they_are_known() -> None:
    made = coefficient_analysis(panels([1, 10, 100], chosen=10))
    left, right = column(made), column(made, 1)
    for name, height in (("correction", 1 / 6), ("corruption", 0.0), ("flip_rate", 0.1), ("parsing", 1.0)):
        (floor,) = points(left[name], plotting.BASELINE)
        assert {y for _, y in floor} == {height}, name
        assert points(right[name], plotting.BASELINE) == []
    for name, (low, high) in {"flip_rate": (0.2, 0.6), "parsing": (0.8, 1.0)}.items():
        for axes in (left[name], right[name]):
            (band,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
            assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))
    for axes in left.values():
        (taken,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert set(taken.get_xdata()) == {10}
    assert not [line for axes in right.values() for line in axes.lines if line.get_linestyle() == ":"]
    assert left["correction"].get_title(loc="left").endswith("layer 3, feature 12,345\ntaken: 10 (by hand)")
    assert right["correction"].get_title(loc="left").endswith("no coefficient taken yet")


def test_the_coefficients_stand_below_in_norms_of_the_residual_stream_and_n_in_the_caption() -> None:
    made = coefficient_analysis(panels([1, 10, 100], chosen=10))
    axes = column(made)["similarity"]
    made.canvas.draw()
    labels = {label.get_text() for label in axes.get_xticklabels()}
    assert labels == {"1\n(0.004)", "10\n(0.04)", "100\n(0.4)"}
    caption = caption_of(made)
    assert caption.startswith("n = 10 problems at each coefficient, 6 failing and 4 passing before")
    assert "mean norm of the residual stream 250" in caption


def test_the_caption_gives_a_range_where_coefficients_lose_problems_and_both_directions_where_they_differ() -> None:
    of = panels([1, 10])
    of["correct"]["coefficients"] = [report(1, 0, 0, failing=5, passing=4), report(10, 0, 0)]
    caption = caption_of(coefficient_analysis(of))
    assert "Correct direction: n = 9–10 problems at each coefficient, 5–6 failing and 4 passing before" in caption
    assert "; incorrect direction: n = 10 problems" in caption


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("seven", None),
        ("twelve", 300),
        ("twelve", 320),
        ("one", 30.0),
        ("one", 90.0),
        ("symmetric", 0.5),
        ("both signs", 0),
        ("negative", -100),
        ("tiny", 1e-5),
    ],
)
def test_any_list_of_coefficients_can_be_drawn_without_crowding(name: str, taken: float | None) -> None:
    coefficients = CASES[name]
    made = coefficient_analysis(panels(coefficients, chosen=taken))
    assert crowded(made) == []
    axes = column(made)["similarity"]
    assert axes.get_xscale() == scale_for([*coefficients, *([] if taken is None else [taken])])["value"]
    low, high = axes.get_xlim()
    wanted = {*coefficients, *([] if taken is None else [taken])}
    assert all(low < one < high for one in wanted)
    ticks = [*axes.get_xticks(), *axes.get_xticks(minor=True)]
    assert {float(tick) for tick in ticks} == {float(one) for one in wanted}
    if taken is not None:
        assert taken in axes.get_xticks(), "the coefficient that is taken is always labelled"


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("seven", "log"),
        ("twelve", "log"),
        ("one", "linear"),
        ("symmetric", "linear"),
        ("both signs", "symlog"),
        ("negative", "symlog"),
    ],
)
def test_the_axis_suits_the_list(name: str, scale: str) -> None:
    assert scale_for(CASES[name])["value"] == scale


@pytest.mark.parametrize(
    ("sizes", "silent"),
    [
        ({"failing": 0, "passing": 4}, {"correction": "no initially failing problems"}),
        ({"failing": 6, "passing": 0}, {"corruption": "no initially passing problems"}),
        (
            {"failing": 0, "passing": 0},
            {
                "correction": "no initially failing problems",
                "corruption": "no initially passing problems",
                "flip_rate": "no problems",
                "parsing": "no problems",
                "similarity": "no pair of solutions",
            },
        ),
    ],
)
def test_rates_of_nothing_are_sentences(sizes: dict[str, int], silent: dict[str, str]) -> None:
    made = coefficient_analysis(panels([1, 10], chosen=1, **sizes))
    assert {name: axes.texts[0].get_text() for name, axes in column(made).items() if axes.texts} == silent


def test_a_missing_value_leaves_a_gap() -> None:
    of = panels([1, 10, 100])
    of["correct"]["coefficients"][1] = report(10, 0, 0, failing=0, passing=4)
    of["correct"]["coefficients"][1]["mean_char_similarity"] = None
    axes = column(coefficient_analysis(of))
    (series,) = points(axes["correction"], plotting.CORRECT, marker="o")
    assert [y for _, y in series] == pytest.approx([0, np.nan, 1 / 3], nan_ok=True)
    characters = points(axes["similarity"], plotting.CORRECT, fillstyle="none")[0]
    assert [y for _, y in characters] == pytest.approx([0.5, np.nan, 0.5], nan_ok=True)


def test_a_direction_without_any_coefficient_says_so(tmp_path: Path) -> None:
    of = panels([1, 10])
    of["incorrect"]["coefficients"] = []
    made = coefficient_analysis(of)
    assert column(made, 1)["correction"].texts[0].get_text() == "no coefficient was tried"
    assert "incorrect direction: no coefficient was tried" in caption_of(made)
    plotting.save(made, tmp_path / "plot")
