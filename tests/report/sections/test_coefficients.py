from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.metadata import Extent
from report import examples
from report.blocks import Missing
from report.run import Run
from report.sections.coefficients import section
from tests.report.helpers import publish
from tests.report.sections.looking import plain, table, texts
from tests.report.sections.saying import changes, facts, rows, said, sound
from tests.report.sections.steering_artifacts import (
    CORRECT,
    INCORRECT,
    SVG,
    choice,
    coefficient_summary,
    example,
    final,
    trial,
)

pytestmark = pytest.mark.unit

WHOLE = Extent(8, 8)

UP, DOWN = choice(CORRECT, 9.0), choice(INCORRECT, 5.0, "by hand")


def published(tmp_path: Path, summary: dict[str, Any] | None, extent: Extent = WHOLE, **shown: Any) -> Run:
    config = Config(data_dir=str(tmp_path))
    files: dict[str, Any] = {} if summary is None else {"phase_4_5_summary.json": summary}
    files["coefficient_analysis_plots.svg"] = SVG.encode()
    publish(
        config, "4.5", {**files, **{f"coefficient_examples/{name}.json": one for name, one in shown.items()}}, extent
    )
    return Run(config)


# --- the lead


# Other problems: of "ffww" + "kkkb" 2 of 4 failing fixed, 1 of 4 passing broken, net +1, the random direction 0; of
# "wwww" + "bbBk" 3 of 4 broken, 2 parse, the random direction's "wwww" + "bkkk" 1. Intervals: see test_steering.py; of
# 3 of 4 by hand: centre (0.75 + 0.4802) / 1.9604 = 0.6275, half-width 0.3269.
def test_the_lead_says_what_was_chosen_and_what_it_did_on_other_problems(tmp_path: Path) -> None:
    evaluated = final(("ffwwkkkb", "fwwwkkkb"), ("wwwwbbBk", "wwwwbkkk"))
    lead = plain(sound(section(published(tmp_path, coefficient_summary(UP, DOWN, evaluated)))).lead)
    chosen = (
        "Coefficient 9 was suggested for the correct-preferring direction and coefficient 5 was chosen by hand for the "
        "incorrect-preferring direction (0.23 and 0.12 of the residual stream's mean norm)."
    )
    correct = (
        "the correct one fixed 50.0 % (2 of 4; 95 % interval 15.0 % to 85.0 %) of the failing and broke 25.0 % (1 of "
        "4; 95 % interval 4.6 % to 69.9 %) of the passing, net +1 (random directions of equal norm: 0)"
    )
    incorrect = (
        "the incorrect one broke 75.0 % (3 of 4; 95 % interval 30.1 % to 95.4 %) of the passing, 2 of which still "
        "parse (random directions of equal norm: 1)"
    )
    assert lead == f"{chosen} On 8 problems not used for choosing, {correct}; {incorrect}."


def test_a_choice_that_does_no_good_on_other_problems_is_said_to(tmp_path: Path) -> None:
    evaluated = final(("fwwwkkkb", "wwwwkkkk"), ("wwwwbkkk", "wwwwbkkk"))
    lead = plain(sound(section(published(tmp_path, coefficient_summary(UP, DOWN, evaluated)))).lead)
    assert lead.endswith(
        "There the correct one was no better than no steering and the incorrect one was no better than random "
        "directions."
    )


def test_a_grid_in_which_nothing_helped_is_said_to_be_one(tmp_path: Path) -> None:
    summary = coefficient_summary(UP, DOWN)
    useless = [trial("correct", 9.0, "wwwwkkkb", "wwwwkkkk", CORRECT)]
    summary["directions"]["correct"]["coefficients"] = useless
    lead = plain(sound(section(published(tmp_path, summary))).lead)
    assert "though in the grid the correct one was no better than no steering." in lead


def test_before_the_grid_is_whole_nothing_is_chosen(tmp_path: Path) -> None:
    missing = {"reason": "the grid is not whole", "n_problems": 0, "directions": {}}
    run = published(tmp_path, coefficient_summary(None, None, missing), Extent(8, 5))
    made = sound(section(run))
    assert made.lead == (
        "No coefficient is chosen yet: part of the grid has been run. There is no evaluation on other problems: the "
        "grid is not whole."
    )
    assert texts(made, "warning") == [
        "Partial: phase 4.5 covers 5 of 8 problems. Every figure below is about that part."
    ]
    assert "taken" not in {name for name, _ in facts(made)} and "9 (0.23)" in said(made)


def test_a_slice_without_any_drawn_problem_says_so(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, None, Extent(8, 1))))
    assert made.lead == "No position that is done so far holds a problem on which coefficients are tried."


def test_a_missing_phase_is_named_with_its_command(tmp_path: Path) -> None:
    found = section(Run(Config(data_dir=str(tmp_path))))
    assert isinstance(found, Missing) and "run.py phase 4.5" in found.command


# --- the grid


def test_every_coefficient_stands_beside_its_random_direction_and_the_ranges(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, coefficient_summary(UP, DOWN))))
    correct = rows(table(made, "Correct-preferring direction, layer 2, feature 20"))
    assert [row["coefficient"] for row in correct] == ["9* (0.23)", "20 (0.50)"]
    assert [(row["fixes − breaks"], row["random"]) for row in correct] == [("1", "−1"), ("−1", "−1")]
    assert correct[0]["flip rate"] == "38 % [14, 69] 3/8" and [row["in range"] for row in correct] == ["yes", "yes"]
    incorrect = rows(table(made, "Incorrect-preferring direction, layer 1, feature 10"))
    assert [(row["broken, parse"], row["random"]) for row in incorrect] == [("2", "1"), ("0", "0")]
    # 4 of 8 parse, below 80 %; 4 of 8 flip, inside 20 % to 60 %.
    assert [row["in range"] for row in incorrect] == ["yes", "few parse"]


@pytest.mark.parametrize(
    ("letters", "words"), [("wwwwkkkk", "few flips"), ("ffffbkkk", "many flips"), ("ffffBBBB", "many flips, few parse")]
)
def test_what_lies_outside_the_ranges_is_named(tmp_path: Path, letters: str, words: str) -> None:
    summary = coefficient_summary(UP, DOWN)
    summary["directions"]["correct"]["coefficients"] = [trial("correct", 9.0, letters, "wwwwkkkk", CORRECT)]
    made = sound(section(published(tmp_path, summary)))
    assert [row["in range"] for row in rows(table(made, "Correct-preferring"))] == [words]


def test_a_grid_without_problems_in_rates_has_reasons_and_no_figures(tmp_path: Path) -> None:
    summary = coefficient_summary(UP, DOWN)
    summary["directions"]["correct"]["coefficients"] = [trial("correct", 9.0, "xxxx", "xxxx", CORRECT)]
    (row,) = rows(table(sound(section(published(tmp_path, summary))), "Correct-preferring"))
    assert (
        row["fixed, of failing"] == "not defined (no initially failing problems)" and row["in range"] == "not defined"
    )


def test_the_reason_of_the_choice_and_how_it_came_about_are_given(tmp_path: Path) -> None:
    given = facts(sound(section(published(tmp_path, coefficient_summary(UP, DOWN)))))
    assert ("Incorrect direction", "layer 1, feature 10, coefficient 5, chosen by hand") in given
    assert given.count(("Why", "the most of 2 tried")) == 2
    assert dict(given)["Ranges looked for"].startswith("flip rate 20 % to 60 %, at least 80 % that parse")


def test_the_noise_floor_and_what_was_never_drawn_are_said(tmp_path: Path) -> None:
    summary = coefficient_summary(UP, DOWN, not_drawn={"longer than the limit": 2})
    words = said(sound(section(published(tmp_path, summary))))
    assert "the same 8 problems of the hyperparams split (4 failing, 4 passing before), with at most 20 new" in words
    # Of 0 of 8 Wilson's interval ends at z² / (8 + z²) = 0.3244.
    assert "coefficient 0 flips 0.0 % (0 of 8; 95 % interval 0.0 % to 32.4 %)" in words
    assert "Never drawn: 2 (longer than the limit)." in words


def test_a_screening_is_shown_where_there_was_one(tmp_path: Path) -> None:
    summary = coefficient_summary(UP, DOWN)
    other = CORRECT._replace(index=21)
    screened = [
        trial("correct", 9.0, "ffwwkkkb", "wwwwkkkk", CORRECT),
        trial("correct", 9.0, "wwwwkkkk", "wwwwkkkk", other),
    ]
    summary["directions"]["correct"] |= {"screening": screened, "candidates": [CORRECT._asdict(), other._asdict()]}
    made = sound(section(published(tmp_path, summary)))
    shown = rows(table(made, "Screening of 2 candidates for the correct-preferring direction"))
    assert [row["feature"] for row in shown] == ["layer 2, feature 20", "layer 2, feature 21"]
    assert "layer 2, feature 20 went into the grid" in said(made)


def test_the_final_evaluation_has_a_row_for_each_random_direction(tmp_path: Path) -> None:
    evaluated = final(("ffwwkkkb", "fwwwkkkb"), ("wwwwbbBk", "wwwwbkkk"))
    made = sound(section(published(tmp_path, coefficient_summary(UP, DOWN, evaluated))))
    shown = {row["direction"]: row for row in rows(table(made, "The coefficients taken, on 8 problems"))}
    assert list(shown) == ["correct: 9", "correct: random direction 1", "incorrect: 5", "incorrect: random direction 1"]
    assert shown["incorrect: 5"]["broken, parse"] == "2" and shown["incorrect: 5"]["net"] == "−3"
    assert shown["incorrect: 5"]["McNemar p"] == "0.250"


def test_without_a_final_evaluation_the_reason_is_in_the_lead(tmp_path: Path) -> None:
    made = sound(section(published(tmp_path, coefficient_summary(UP, DOWN))))
    assert made.lead.endswith("There is no evaluation on other problems: no problem is left for it.")


# --- solutions side by side


def test_solutions_at_the_coefficients_taken_come_first_then_flips(tmp_path: Path) -> None:
    run = published(
        tmp_path,
        coefficient_summary(UP, DOWN),
        correct_20=[example(1, True, True, coefficient=20.0), example(2, False, True, coefficient=20.0)],
        correct_9=[example(3, True, True), example(4, True, False)],
        incorrect_5_other_problems=[example(5, True, True, coefficient=5.0)],
    )
    (block,) = changes(sound(section(run)))
    assert [(one.problem, one.condition, one.flip) for one in block.items] == [
        (4, "correct direction × 9", "broken"),
        (3, "correct direction × 9", "stayed correct"),
        (5, "incorrect direction × 5, other problems", "stayed correct"),
        (2, "correct direction × 20", "fixed"),
        (1, "correct direction × 20", "stayed correct"),
    ]
    assert "All 5 solutions; the same in phase4_5/coefficient_examples/." in block.caption


def test_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [example(number, True, True) for number in range(examples.MOST + 3)]
    (block,) = changes(sound(section(published(tmp_path, coefficient_summary(UP, DOWN), correct_9=many))))
    assert len(block.items) == examples.MOST
    words = f"The first {examples.MOST} of {examples.MOST + 3} solutions (those at the coefficients taken first, then"
    assert words in block.caption and "all in phase4_5/coefficient_examples/" in block.caption


def test_what_was_not_judged_is_not_compared(tmp_path: Path) -> None:
    shown = [example(1, True, None), example(2, True, True, left_out="longer than the limit"), example(3, False, False)]
    (block,) = changes(sound(section(published(tmp_path, coefficient_summary(UP, DOWN), correct_9=shown))))
    assert [one.problem for one in block.items] == [3]


def test_model_output_stays_plain_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    run = published(
        tmp_path, coefficient_summary(UP, DOWN), correct_9=[example(1, False, True, generated_code=hostile)]
    )
    made = sound(section(run))
    assert changes(made)[0].items[0].steered == hostile and "<script" not in said(made)
