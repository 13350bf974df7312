"""How strongly to steer: what each coefficient did, which was taken and why (phase 4.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.runs.artifacts import COEFFICIENT_EXAMPLES, COEFFICIENT_PLOTS, COEFFICIENT_SUMMARY
from common.statistics.steering import FLIP_RATE_LOOKED_FOR, PARSING_LOOKED_FOR
from common.wording import counted, percent, signed
from report.blocks import Block, Cell, Change, Changes, Facts, Figure, Missing, Section, Text
from report.coefficient_tables import final_table, grid_table, merit, others_mean, plain, screening_table, shape_tables
from report.examples import change, fitting, flips_first, is_compared, shown_of
from report.figures import published
from report.run import Run
from report.steering_words import figure, place_words
from report.wording import listed, partial_notes, rate

ID, TITLE = "coefficients", "How strongly should one steer?"
PHASE = "4.5"
OTHERS = "_other_problems"

Report = Mapping[str, Any]


def section(run: Run) -> Section | Missing | None:
    """Returns the grid of coefficients, the choice with its reason, and what it did on other problems."""
    missing = run.missing(ID, TITLE, PHASE)
    if missing is not None:
        return missing
    notes = partial_notes(run, PHASE)
    if not run.has(PHASE, COEFFICIENT_SUMMARY):
        return Section(
            ID, TITLE, "No position that is done so far holds a problem on which coefficients are tried.", notes
        )
    summary = run.json(PHASE, COEFFICIENT_SUMMARY)
    directions = summary["directions"]
    lead = f"{_taken(directions)} {_on_others(summary['final_evaluation'])}"
    blocks: list[Block] = [*notes, Text(_grid_words(summary)), Facts(_choices(directions)), *_figure(run, summary)]
    blocks += [grid_table(name, of) for name, of in directions.items()]
    blocks += [screening_table(name, of) for name, of in directions.items() if of["screening"] is not None]
    if summary["final_evaluation"]["directions"]:
        blocks.append(final_table(summary["final_evaluation"]))
    blocks += [shape_tables(directions), *_examples(run, directions)]
    return Section(ID, TITLE, lead, tuple(blocks))


def _taken(directions: Mapping[str, Report]) -> str:
    """Returns which coefficients were taken, and whether the grid speaks for them."""
    if any(of["chosen"] is None for of in directions.values()):
        return "No coefficient is chosen yet: part of the grid has been run."
    chosen = {name: of["chosen"] for name, of in directions.items()}
    words = [
        f"coefficient {figure(choice['coefficient'])} was {_HOW[choice['how']]} for the {name}-preferring direction"
        for name, choice in chosen.items()
    ]
    norms = f"{listed(_norms(of) for of in directions.values())} of the residual stream's mean norm"
    none = [name for name, of in directions.items() if not any(merit(name, one) > 0 for one in of["coefficients"])]
    doubt = f", though in the grid {_no_better(none)}" if none else ""
    sentence = listed(words)
    return f"{sentence[0].upper()}{sentence[1:]} ({norms}){doubt}."


def _no_better(directions: Sequence[str]) -> str:
    """Returns in words that directions did no better than what they are judged against."""
    return listed(f"the {name} one was no better than {_AGAINST[name]}" for name in directions)


_AGAINST = {"correct": "no steering", "incorrect": "random directions"}


_HOW = {"suggested": "suggested", "by hand": "chosen by hand"}


def _norms(of: Report) -> str:
    return figure(of["chosen"]["coefficient"] * of["decoder_norm"] / of["residual_norm"], ".2f")


def _on_others(final: Report) -> str:
    """Returns what the coefficients taken did on problems that were not used for choosing them."""
    reports: Mapping[str, Report] = final["directions"]
    if not reports:
        return f"There is no evaluation on other problems: {final['reason']}."
    words = [_did_on_others(name, report) for name, report in reports.items()]
    none = [name for name, report in reports.items() if merit(name, report) <= 0]
    doubt = f" There {_no_better(none)}." if none else ""
    return f"On {counted(final['n_problems'], 'problem')} not used for choosing, {'; '.join(words)}.{doubt}"


def _did_on_others(direction: str, report: Report) -> str:
    effect, others = report["effect"], others_mean(direction, report)
    did = f"broke {_rate_of(effect['corruption'])} of the passing"
    if direction == "correct":
        did = f"fixed {_rate_of(effect['correction'])} of the failing and {did}, net {signed(effect['net'], 0)}"
    else:
        did = f"{did}, {effect['breaks_that_parse']} of which still parse"
    beside = "" if others is None else f" (random directions of equal norm: {plain(others)})"
    return f"the {direction} one {did}{beside}"


def _grid_words(summary: Report) -> str:
    floor, left_out = summary["noise_floor"], summary["not_drawn"]
    effects = [one["effect"] for of in summary["directions"].values() for one in of["coefficients"]]
    before = f" ({effects[0]['n_failing']} failing, {effects[0]['n_passing']} passing before)" if effects else ""
    parts = [
        f"Every coefficient was tried on the same {counted(len(summary['problems']), 'problem')} of the "
        f"{summary['split']} split{before}, with at most {summary['max_new_tokens']} new tokens."
    ]
    if floor is not None:
        parts.append(f"Noise floor: coefficient 0 flips {rate(floor['fixes'] + floor['breaks'], floor['n'])}.")
    if left_out:
        parts.append(f"Never drawn: {'; '.join(f'{n} ({reason})' for reason, n in left_out.items())}.")
    return " ".join(parts)


def _choices(directions: Mapping[str, Report]) -> tuple[tuple[str, Cell], ...]:
    low, high = FLIP_RATE_LOOKED_FOR
    rows: list[tuple[str, Cell]] = []
    for name, of in directions.items():
        chosen = of["chosen"]
        if chosen is not None:
            words = (
                f"{place_words(chosen['feature'])}, coefficient {figure(chosen['coefficient'])}, {_HOW[chosen['how']]}"
            )
            rows += [(f"{name.capitalize()} direction", words), ("Why", chosen["rationale"])]
    looked_for = (
        f"flip rate {percent(low, 0)} to {percent(high, 0)}, at least {percent(PARSING_LOOKED_FOR, 0)} that parse"
    )
    return (*rows, ("Ranges looked for", f"{looked_for} (said beside each coefficient; they decide nothing)"))


def _figure(run: Run, summary: Report) -> tuple[Figure | Text, ...]:
    caption = (
        f"Shares of {counted(len(summary['problems']), 'problem')} by coefficient, which is also given in mean norms "
        "of the residual stream; bars: 95 % Wilson intervals."
    )
    return published(run, PHASE, COEFFICIENT_PLOTS, caption, f"{caption} The figures stand in the tables below.")


def _examples(run: Run, directions: Mapping[str, Report]) -> tuple[Block, ...]:
    items: list[Change] = []
    for name in run.names(PHASE, f"{COEFFICIENT_EXAMPLES}/", ".json"):
        stem = name.removeprefix(f"{COEFFICIENT_EXAMPLES}/").removesuffix(".json")
        others = ", other problems" if stem.endswith(OTHERS) else ""
        for one in run.json(PHASE, name):
            if is_compared(one):
                items.append(change(one, f"{_condition(stem.partition('_')[0], one['coefficient'])}{others}"))
    taken = {
        _condition(name, of["chosen"]["coefficient"]) for name, of in directions.items() if of["chosen"] is not None
    }
    kept = fitting(flips_first(items, lambda one: one.condition.partition(",")[0] in taken))
    if not kept:
        return ()
    rule = "those at the coefficients taken first, then fixes and breaks"
    where = f"{run.root(PHASE).name}/{COEFFICIENT_EXAMPLES}/"
    return (Changes(f"Baseline and steered solutions. {shown_of(len(kept), len(items), rule, where)}", kept),)


def _condition(direction: str, coefficient: float) -> str:
    return f"{direction} direction × {figure(coefficient)}"


def _rate_of(share: Report) -> str:
    return rate(share["numerator"], share["denominator"])
