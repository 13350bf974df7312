from __future__ import annotations

from pathlib import Path

import pytest

from common.runs.metadata import Extent
from common.statistics.bootstrap import bootstrap_share
from report.blocks import Missing
from report.run import Run
from report.sections.solutions import OUTCOMES, SHOWN_EXCLUSIONS, STOPS, section
from tests.report.sections.artifacts import config_in, publish_greedy, publish_temperatures, solutions
from tests.report.sections.looking import column, plain, shown, table, tables, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit


def test_without_any_generating_phase_the_section_names_the_first_ones_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 1.0 --data-dir {tmp_path}"


# 3 of 8: Wilson's interval by hand, with z² = 3.8415: centre (0.375 + 0.2401) / 1.4802 = 0.41555, half-width
# 1.95996 / 1.4802 · sqrt(0.375 · 0.625 / 8 + 0.015006) = 0.27883.
def test_the_lead_says_the_pass_rate_with_its_interval_and_the_most_frequent_failure(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    outcomes = ["passed"] * 3 + ["wrong_answer"] * 4 + ["syntax_error"]
    publish_greedy(config, "1.0", "sae", solutions(outcomes))
    found = sound(section(Run(config)))
    assert plain(found.lead) == (
        "On the sae split 37.5 % (3 of 8; 95 % interval 13.7 % to 69.4 %) of the greedy solutions pass all of their "
        "tests. Of the 5 that fail, 4 (80.0 %) are of the kind “wrong answer”: it runs, and a test gets another value."
    )
    assert len(texts(found, "note")) == 3  # of the phases that have not been run


def test_each_outcome_that_occurs_is_a_column_with_its_share_and_what_it_means(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "timeout", None, "timeout"]))
    publish_greedy(config, "3.6", "hyperparams", solutions(["passed", "exception"]))
    found = sound(section(Run(config)))
    outcomes = table(found, "What became of the solutions")
    assert [one.title for one in outcomes.columns] == ["solutions of", "n", "passed", "exception", "timeout"]
    assert outcomes.columns[-1].meaning == OUTCOMES["timeout"]
    assert shown(outcomes.rows[0]) == [
        *("phase 1.0, sae split, temperature 0", "3", "1 (33.3 %)", "0 (0.0 %)", "2 (66.7 %)")
    ]
    kinds = table(found, "Exceptions of 1 solution.")
    assert [shown(row) for row in kinds.rows] == [["NameError", "1"]]


def test_an_error_message_that_names_no_class_is_not_taken_for_one(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    data = solutions(["exception", "passed"])
    messages = data.set_column(5, "error_message", [["<b>boo</b> happened: twice", None]])
    publish_greedy(config, "1.0", "sae", messages)
    kinds = table(sound(section(Run(config))), "Exceptions of")
    assert [shown(row) for row in kinds.rows] == [["of no known kind", "1"]]


def test_pass_rates_stand_by_difficulty(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "passed", "wrong_answer", "wrong_answer"] * 2))
    by = table(sound(section(Run(config))), "Pass rate by cyclomatic complexity")
    assert [text.rpartition(" ")[2] for text in shown(by.rows[0][1:])] == ["(2/2)", "(2/4)", "(0/2)"]


def test_a_complexity_that_no_problem_has_shows_that_and_not_zero(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "wrong_answer"]))
    by = table(sound(section(Run(config))), "Pass rate by cyclomatic complexity")
    assert shown(by.rows[0])[3] == "not defined (no such problem)"


# Two samples a problem: the interval is over problems, and so wider than Wilson's over solutions.
def test_several_samples_of_a_problem_stay_together_in_the_interval(tmp_path: Path) -> None:
    config = config_in(tmp_path, phase3_5_samples=2)
    greedy = solutions(["passed", "wrong_answer"] * 8)
    alike = solutions((["passed"] * 2 + ["wrong_answer"] * 2) * 8, samples=2, temperature=0.6)
    publish_temperatures(config, {0.0: greedy, 0.6: alike})
    rates = table(sound(section(Run(config))), "Share of solutions")
    own = bootstrap_share(
        alike["test_passed"].to_numpy(zero_copy_only=False), alike["task_id"].to_numpy(), config.seed, 2000
    )
    assert own.low is not None and own.high is not None
    text = shown(column(rates, "pass rate"))[1]
    assert text == f"50.0 % [{100 * own.low:.1f} %, {100 * own.high:.1f} %] (16/32)"
    assert own.high - own.low > 0.4  # Wilson's over 32 solutions is 0.33 wide
    assert shown(column(rates, "samples")) == ["1", "2"]


@pytest.mark.parametrize(("outcome", "word"), [("passed", "passes"), ("wrong_answer", "fails")])
def test_a_phase_with_one_class_only_is_warned_about(tmp_path: Path, outcome: str, word: str) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions([outcome] * 4))
    found = sound(section(Run(config)))
    (warning,) = texts(found, "warning")
    assert warning.startswith(f"Every solution {word} in phase 1.0")
    assert ("Not one fails." in found.lead) == (outcome == "passed")


def test_a_phase_whose_every_solution_is_excluded_has_no_rate_and_no_zero(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions([None, None]))
    found = sound(section(Run(config)))
    assert "not defined (0 of 0)" in found.lead
    assert shown(column(table(found, "Share of solutions"), "pass rate")) == ["not defined (no solution has a label)"]


def test_why_generation_stopped_stands_with_its_meaning(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "wrong_answer"]))
    stops = table(sound(section(Run(config))), "Why generation stopped")
    assert [one.title for one in stops.columns] == ["solutions of", "n", "function end"]
    assert stops.columns[2].meaning == STOPS["function_end"]


def excluded(n: int) -> dict[str, object]:
    rows = [
        {"task_id": number, "temperature": 0.0, "sample": 0, "excluded_reason": "out of memory", "tries": 3}
        for number in range(1, n + 1)
    ]
    return {"excluded": rows, "n_excluded": n, "n_expected": 1000, "share": n / 1000}


def test_excluded_problems_are_listed_with_their_reasons_and_the_list_is_capped(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    n = SHOWN_EXCLUSIONS + 10
    files = {"excluded_tasks.json": excluded(n)}
    publish_greedy(config, "1.0", "sae", solutions(["passed", "wrong_answer"]), files)
    given_up = table(sound(section(Run(config))), "Given up in phase 1.0")
    assert len(given_up.rows) == SHOWN_EXCLUSIONS
    assert plain(given_up.caption) == (
        "Given up in phase 1.0 (dataset building): 60 of 1,000 problems (6.0 %); the first 50 rows. They count in no "
        "rate."
    )
    assert shown(given_up.rows[0]) == ["1", "0", "0", "out of memory", "3"]


def test_that_nothing_was_excluded_is_said(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "wrong_answer"]))
    found = sound(section(Run(config)))
    assert "No problem was excluded: all 2 of these phases have their solutions." in texts(found, "plain")
    assert not [one for one in tables(found) if one.caption.startswith("Given up")]


def test_a_partial_phase_is_called_partial(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_greedy(config, "1.0", "sae", solutions(["passed", "wrong_answer"]), extent=Extent(489, 2))
    (warning,) = texts(sound(section(Run(config))), "warning")
    assert warning.startswith("Partial: phase 1.0 covers 2 of 489 problems.")
