"""Tables of what steering did, from an analysis of phase 4.8 or 7.6.

A row of coefficient 0 stands beside the directions as the trivial baseline, and every direction beside its controls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from common.code_survival import FAILURE_MODES
from common.conditions import CONTROLS
from report.blocks import Cell, Column, Details, Number, Table
from report.steering_words import (
    FLIPS,
    KINDS,
    ONE,
    OUTCOME_WORDS,
    brief_cell,
    figure,
    flip_cells,
    median_cell,
    net_cell,
    span_words,
    whole,
)
from report.wording import count_cell, number_cell, p_cell, percent_cell, share_cell

MODE_WORDS = {mode: mode.replace("_", " ") for mode in FAILURE_MODES}

Analysis = Mapping[str, Any]


def effects_table(analysis: Analysis) -> Table:
    """Returns both directions beside coefficient 0: fixes, breaks, net change, paired test, what is left as code."""
    directions, floor = analysis["directions"], analysis["noise_floor"]
    arms = [{**entry["effect"], **{name: entry[name] for name in _SURVIVAL}} for entry in directions.values()]
    titles = [f"{name}: {figure(entry['coefficient'])}" for name, entry in directions.items()]
    if floor is not None:
        arms, titles = [*arms, floor], [*titles, "coefficient 0"]
    rows = tuple((name, *(cell(arm) for arm in arms)) for name, cell in _MEASURES.items())
    columns = (Column("of the solutions", MEANINGS), *(Column(title, _arm_meaning(title), True) for title in titles))
    caption = f"What steering did to {analysis['n_problems']:,} problems of the {analysis['split']} split, against the"
    return Table(f"{caption} stored solutions. Brackets: 95 % Wilson intervals.", columns, rows)


MEANINGS = (
    "fixed: failing before, passing after; broken: passing before, failing after; net: fixes − breaks; McNemar's test "
    "is the exact, two-sided one of fixes against breaks on paired problems; the last three are what is left as code"
)
_SURVIVAL = ("defines_function", "keeps_signature")


def _arm_meaning(title: str) -> str:
    if title == "coefficient 0":
        return "the trivial baseline and noise floor: the same code, nothing added"
    return "the direction and its coefficient"


def _net_of(arm: Analysis) -> Number:
    return net_cell(arm["net"])


def _survival(name: str) -> Callable[[Analysis], Number]:
    return lambda arm: share_cell(arm[name]) if name in arm else Number(None, "not recorded")


_MEASURES: dict[str, Callable[[Analysis], Number]] = {
    "n": lambda arm: count_cell(arm["n"]),
    "fixed, of failing": lambda arm: share_cell(arm["correction"]),
    "broken, of passing": lambda arm: share_cell(arm["corruption"]),
    "kept, of passing": lambda arm: share_cell(arm["preservation"]),
    "net change in solved problems": _net_of,
    "McNemar p": lambda arm: p_cell(arm["mcnemar_p"], "no problem"),
    "broken, and still parse": lambda arm: count_cell(arm["breaks_that_parse"]),
    "parse, of all": lambda arm: share_cell(arm["parsing"]),
    "define the function, of all": _survival("defines_function"),
    "keep its signature, of all": _survival("keeps_signature"),
}


def controls_table(directions: Mapping[str, Analysis]) -> Table:
    """Returns every direction's primary outcome beside each kind of its controls, with its rank and p."""
    rows = tuple(
        (f"{direction}: {OUTCOME_WORDS[direction]}", KINDS[kind], *_rank_cells(entry["controls"], kind))
        for direction, entry in directions.items()
        for kind in CONTROLS
    )
    columns = (
        Column("direction: outcome", "the primary outcome, named before anything was steered"),
        Column("beside", "same layer and coefficient; features matched in firing rate, directions of equal norm"),
        Column("n", "problems on which every control was run", True),
        Column("reaches", "the direction itself, on these problems", True),
        Column("controls", "how many were run", True),
        Column("their median", "of the controls, on the same outcome", True),
        Column("least to most", "of the controls"),
        Column("as good", "controls that do at least as well; ties count against the direction", True),
        Column("rank p", "(1 + as good) / (1 + controls); the one marked * is reported", True),
        Column("smallest p", "what so many controls can reach at best", True),
    )
    return Table("Each direction beside its controls, on the outcome named beforehand.", columns, rows)


def _rank_cells(controls: Analysis, kind: str) -> tuple[Cell, ...]:
    rank = controls[kind]["rank"]
    reported = "*" if kind == controls["rank_kind"] and rank["p"] is not None else ""
    p = p_cell(rank["p"], rank["reason"])
    return (
        count_cell(controls["n_problems"]),
        Number(controls["outcome"], whole(controls["outcome"])),
        count_cell(rank["n_controls"]),
        median_cell(rank),
        span_words(rank),
        count_cell(rank["n_at_least"]),
        Number(p.value, f"{p.text}{reported}"),
        number_cell(rank["smallest_p"]),
    )


def every_control(directions: Mapping[str, Analysis]) -> Details | None:
    """Returns each control's own figures, folded away; None where no controls were run."""
    rows = tuple(row for direction, entry in directions.items() for row in _control_rows(direction, entry))
    if not rows:
        return None
    columns = (
        Column("direction"),
        Column("control"),
        Column("feature", "layer and index; directions have none"),
        Column("fires", "share of the problems of the sae split on which it fires", True),
        Column("outcome", "fixes − breaks, or breaks that still parse", True),
        *FLIPS,
        Column("broken, parse", "breaks whose code is still Python", True),
        Column("parse", "steered solutions that are still Python", True),
    )
    n = sorted({entry["controls"]["n_problems"] for entry in directions.values()})
    caption = f"{len(rows)} controls, each on n = {' or '.join(f'{one:,}' for one in n)} problems."
    return Details(f"All {len(rows)} controls", (Table(caption, columns, rows, searchable=True),))


def _control_rows(direction: str, entry: Analysis) -> Iterator[tuple[Cell, ...]]:
    for kind in CONTROLS:
        for one in entry["controls"][kind]["conditions"]:
            feature, fires = one["feature_idx"], one.get("firing_rate")
            yield (
                direction,
                f"{ONE[kind]} {one['draw'] + 1}",
                Number(None, "–") if feature is None else Number(feature, f"{entry['feature']['layer']}:{feature}"),
                Number(None, "–") if fires is None else percent_cell(fires),
                Number(one["outcome"], whole(one["outcome"])),
                *flip_cells(one["effect"]),
                count_cell(one["effect"]["breaks_that_parse"]),
                brief_cell(one["effect"]["parsing"]),
            )


def selective_table(directions: Mapping[str, Analysis]) -> Table | None:
    """Returns what steering only where a predictor fires did, beside steering everywhere; None where there is none."""
    found = {name: entry for name, entry in directions.items() if _is_selective(entry)}
    rows = tuple(_selective_row(direction, entry) for direction, entry in found.items())
    columns = (
        Column("direction"),
        Column("steered", "problems steered, of all", True),
        *FLIPS,
        Column("net everywhere", "steering every problem, for comparison", True),
        Column("McNemar p", "exact, two-sided", True),
        Column("rank p", "among the same controls, steered on the same problems only", True),
    )
    where = "; ".join(
        f"{name}: where {entry['selective']['steered_where']} of {entry['selective']['threshold']:.3g}"
        for name, entry in found.items()
    )
    return (
        Table(f"Steering only some problems ({where}); every other keeps its baseline.", columns, rows)
        if rows
        else None
    )


def _is_selective(entry: Analysis) -> bool:
    return entry["selective"] is not None and "effect" in entry["selective"]


def _selective_row(direction: str, entry: Analysis) -> tuple[Cell, ...]:
    found = entry["selective"]
    effect, rank = found["effect"], found["controls"]["rank"]
    note = f" ({found['note']})" if found["note"] else ""
    return (
        direction,
        Number(found["n_steered"], f"{found['n_steered']:,} of {found['n']:,}{note}"),
        *flip_cells(effect),
        net_cell(entry["effect"]["net"]),
        p_cell(effect["mcnemar_p"], "no problem"),
        p_cell(rank["p"], rank["reason"]),
    )


def selective_reasons(directions: Mapping[str, Analysis]) -> list[str]:
    """Returns why there is no selective steering, where there is none."""
    reasons = []
    for direction, entry in directions.items():
        found = entry["selective"]
        if found is None:
            reasons.append(f"{direction}: not done (phase 3.8 had not been run, or phase4_8_selective is off)")
        elif "effect" not in found:
            reasons.append(f"{direction}: not done ({found['reason']})")
    return reasons


def difficulty_table(directions: Mapping[str, Analysis]) -> Table:
    """Returns fixes and breaks by cyclomatic complexity of the reference solution."""
    rows = tuple(
        (
            direction,
            group["group"].replace("-", "–"),
            count_cell(group["n"]),
            *flip_cells(group),
            p_cell(group["mcnemar_p"], "no problem"),
        )
        for direction, entry in directions.items()
        for group in entry["by_difficulty"]
    )
    columns = (
        *(Column("direction"), Column("complexity", "cyclomatic, of the reference solution")),
        *(Column("n", "problems", True), *FLIPS, Column("McNemar p", "exact, two-sided", True)),
    )
    return Table("By difficulty. Brackets: 95 % Wilson intervals.", columns, rows)


def failure_table(directions: Mapping[str, Analysis]) -> Table:
    """Returns how the steered solutions end, of those that failed before and of those that passed."""
    counts = [
        (direction, before, entry["failure_modes"][key])
        for direction, entry in directions.items()
        for key, before in BASELINES.items()
    ]
    modes = modes_of(counts)
    rows = tuple(
        (direction, before, count_cell(sum(of.values())), *(count_cell(of.get(mode, 0)) for mode in modes))
        for direction, before, of in counts
    )
    columns = (Column("direction"), Column("baseline"), Column("n", "problems", True), *mode_columns(modes))
    return Table("How the steered solutions end (problems).", columns, rows)


BASELINES = {"initially_failing": "failing before", "initially_passing": "passing before"}


def modes_of(counts: Iterable[tuple[Any, ...]]) -> list[str]:
    """Returns the ways of ending that occur in the last item of any of `counts`."""
    found = [of for *_, of in counts]
    return [mode for mode in FAILURE_MODES if any(of.get(mode) for of in found)]


def mode_columns(modes: Sequence[str]) -> tuple[Column, ...]:
    """Returns a column for each way in which a solution ends."""
    return tuple(Column(MODE_WORDS[mode], _MODES[mode], True) for mode in modes)


_MODES = {
    "passed": "all tests pass",
    "no_code": "nothing in the output defines the asked-for function",
    "syntax_broken": "the code is not Python",
    "signature_broken": "the function cannot be called as asked",
    "exception": "it raises",
    "wrong_answer": "a test fails",
    "limit": "it ran into a limit of time or memory, or crashed",
}
