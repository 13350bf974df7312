"""Tables of phase 4.5: what each coefficient did beside random directions of equal norm, and what it did elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from common.statistics.steering import FLIP_RATE_LOOKED_FOR, PARSING_LOOKED_FOR
from common.wording import counted
from report.blocks import Cell, Column, Details, Number, Table
from report.steering_tables import BASELINES, mode_columns, modes_of
from report.steering_words import FLIPS, brief_cell, figure, flip_cells, place_words, whole
from report.wording import count_cell, listed, number_cell, p_cell

Report = Mapping[str, Any]


def outcome_of(direction: str, report: Report) -> int:
    """Returns the figure that a direction is judged by: fixes − breaks, or breaks that still parse."""
    effect = report["effect"]
    return effect["net"] if direction == "correct" else effect["breaks_that_parse"]


def others_mean(direction: str, report: Report) -> float | None:
    """Returns the same figure along random directions of equal norm, their mean."""
    others = [outcome_of(direction, one) for one in report["random_directions"]]
    return fmean(others) if others else None


def merit(direction: str, report: Report) -> float:
    """Returns what the suggestion maximises: fixes − breaks, or breaks that parse beyond random directions' mean."""
    beside = others_mean(direction, report) or 0.0
    return outcome_of(direction, report) - (0.0 if direction == "correct" else beside)


def plain(value: float) -> str:
    """Returns a mean of whole numbers."""
    return figure(value, ".1f").removesuffix(".0")


def grid_table(direction: str, of: Report) -> Table:
    """Returns what every coefficient of one direction did."""
    taken = None if of["chosen"] is None else of["chosen"]["coefficient"]
    rows = tuple(_grid_row(direction, one, taken) for one in of["coefficients"])
    n = sorted({one["effect"]["n"] for one in of["coefficients"]})
    caption = (
        f"{direction.capitalize()}-preferring direction, {place_words(of['feature'])}: what each coefficient did; n = "
        f"{listed(str(one) for one in n) if n else 0} problems. Brackets: 95 % Wilson intervals."
    )
    return Table(caption, (*_GRID, *_OUTCOME_COLUMNS[direction], *_SHAPE), rows)


_GRID = (
    Column("coefficient", "beside it in mean norms of the residual stream at the layer; * marks the one taken", True),
    *FLIPS[:2],
)
_RANDOM = Column("random", "the same along random directions of equal norm, their mean", True)
_OUTCOME_COLUMNS = {
    "correct": (Column("fixes − breaks", "the primary outcome of this direction", True), _RANDOM),
    "incorrect": (Column("broken, parse", "breaks that still parse: the primary outcome", True), _RANDOM),
}
_SHAPE = (
    Column("flip rate", "fixes and breaks, of all", True),
    Column("parse", "steered solutions that are still Python", True),
    Column("in range", "whether flip rate and parsing lie where they are looked for"),
)


def _grid_row(direction: str, one: Report, taken: float | None) -> tuple[Cell, ...]:
    effect, value, others = one["effect"], one["coefficient"], others_mean(direction, one)
    outcome, mark = outcome_of(direction, one), "*" if value == taken else ""
    return (
        Number(value, f"{figure(value)}{mark} ({figure(one['in_residual_norms'], '.2f')})"),
        *flip_cells(effect)[:2],
        Number(outcome, whole(outcome)),
        Number(others, "none" if others is None else plain(others)),
        *(brief_cell(effect[key]) for key in ("flip_rate", "parsing")),
        in_ranges(effect),
    )


def in_ranges(effect: Report) -> str:
    """Returns whether flip rate and parsing lie where they are looked for, and if not, which does not."""
    flip, parsing = effect["flip_rate"]["value"], effect["parsing"]["value"]
    if flip is None or parsing is None:
        return "not defined"
    low, high = FLIP_RATE_LOOKED_FOR
    faults = ["few flips"] * (flip < low) + ["many flips"] * (flip > high)
    faults += ["few parse"] * (parsing < PARSING_LOOKED_FOR)
    return ", ".join(faults) or "yes"


def screening_table(direction: str, of: Report) -> Table:
    """Returns what each candidate feature of a direction did before one of them went into the grid."""
    rows = tuple((place_words(one["feature"]), *_grid_row(direction, one, None)[:-1]) for one in of["screening"])
    caption = (
        f"Screening of {counted(len(of['candidates']), 'candidate')} for the {direction}-preferring direction, in rank "
        f"order, each at one coefficient; {place_words(of['feature'])} went into the grid."
    )
    return Table(caption, (Column("feature"), *_GRID, *_OUTCOME_COLUMNS[direction], *_SHAPE[:-1]), rows)


def final_table(final: Report) -> Table:
    """Returns what the coefficients taken did on problems that were not used for choosing, beside random directions."""
    rows: list[tuple[Cell, ...]] = []
    for direction, report in final["directions"].items():
        rows.append(_final_row(f"{direction}: {figure(report['coefficient'])}", report))
        rows += [
            _final_row(f"{direction}: random direction {one['draw'] + 1}", one) for one in report["random_directions"]
        ]
    columns = (
        *(Column("direction"), Column("n", "problems", True), *FLIPS),
        Column("McNemar p", "exact, two-sided: fixes against breaks", True),
        Column("broken, parse", "breaks whose code is still Python", True),
        *_SHAPE[:2],
    )
    caption = f"The coefficients taken, on {counted(final['n_problems'], 'problem')} that were not used for choosing."
    return Table(caption, columns, tuple(rows))


def _final_row(name: str, report: Report) -> tuple[Cell, ...]:
    effect = report["effect"]
    return (
        name,
        count_cell(effect["n"]),
        *flip_cells(effect),
        p_cell(effect["mcnemar_p"], "no problem"),
        count_cell(effect["breaks_that_parse"]),
        *(brief_cell(effect[key]) for key in ("flip_rate", "parsing")),
    )


def shape_tables(directions: Mapping[str, Report]) -> Details:
    """Returns, folded away, what is left of the code at each coefficient, and how solutions end."""
    summary = "How the solutions change and end at each coefficient"
    return Details(summary, (_survival_table(directions), _failure_table(directions)))


def _survival_table(directions: Mapping[str, Report]) -> Table:
    rows = tuple(
        (
            *(name, Number(one["coefficient"], figure(one["coefficient"]))),
            *(brief_cell(one[key]) for key in ("defines_function", "keeps_signature")),
            *(number_cell(one[f"mean_{key}"], 2, "no pair") for key in _SIMILARITIES),
        )
        for name, of in directions.items()
        for one in of["coefficients"]
    )
    columns = (
        *(Column("direction"), Column("coefficient", "", True)),
        Column("define the function", "steered solutions that define what was asked for", True),
        Column("keep its signature", "and can be called with as many arguments", True),
        Column("tokens alike", "mean similarity to the baseline's code by tokens; 1 is equal", True),
        Column("characters alike", "the same by characters", True),
        Column("length", "steered over baseline, mean ratio", True),
    )
    return Table("What is left of the code. Brackets: 95 % Wilson intervals.", columns, rows)


_SIMILARITIES = ("token_similarity", "char_similarity", "length_ratio")


def _failure_table(directions: Mapping[str, Report]) -> Table:
    found = [
        (name, one["coefficient"], before, one["failure_modes"][key])
        for name, of in directions.items()
        for one in of["coefficients"]
        for key, before in BASELINES.items()
    ]
    modes = modes_of(found)
    rows = tuple(
        (
            *(name, Number(value, figure(value)), before),
            *(count_cell(counts.get(mode, 0)) for mode in modes),
        )
        for name, value, before, counts in found
    )
    columns = (Column("direction"), Column("coefficient", "", True), Column("baseline"), *mode_columns(modes))
    return Table("How the steered solutions end at each coefficient (problems).", columns, rows)
