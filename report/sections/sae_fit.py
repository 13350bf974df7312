"""Whether each layer's SAE reads the place in the block that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.runs.artifacts import SAE_FIT_PLOT, PhasePaths
from common.runs.fit_gate import NEIGHBOURS
from common.wording import counted, percent
from report.blocks import Block, Cell, Column, Details, Figure, Missing, Number, Section, Table, Text
from report.figures import published
from report.run import Run
from report.wording import count_cell, listed, number_cell, numeric

ID, TITLE = "sae_fit", "Do the SAEs fit the place that was read?"
FILE = PhasePaths(Path()).sae_fit.name
Report = Mapping[str, Any]


def section(run: Run) -> Section | Missing | None:
    """Returns the variance that each SAE leaves unexplained at its own site and one block away."""
    missing = run.missing(ID, TITLE, "1.0")
    if missing is not None:
        return missing
    if not run.has("1.0", FILE):
        why = "Phase 1.0 has not measured the SAEs' fit: it does so on the first problems of the split."
        return Missing(ID, TITLE, why, run.command("1.0"))
    base = run.json("1.0", FILE)
    sibling = run.json("7.3", FILE) if run.has("7.3", FILE) else None
    blocks: list[Block] = [*_reach(run, "1.0", base), *_figure(run, "1.0", base), _table("base model", base, sibling)]
    if sibling is not None:
        blocks += [*_reach(run, "7.3", sibling), Text(f"Instruction-tuned model: {sibling['note']}.", "note")]
        more = (*_figure(run, "7.3", sibling), _table("instruction-tuned model", sibling, None))
        blocks.append(Details("Fit on the instruction-tuned model", more))
    return Section(ID, TITLE, _lead(base, sibling), tuple(blocks))


def _reach(run: Run, phase: str, report: Report) -> tuple[Text, ...]:
    """Returns a warning where fewer problems were read than the fit is to be measured on, whatever else is partial."""
    record = run.output(phase).record
    wanted = min(record["config"]["sae_fit_positions"], record["expected"])
    read = report["n_problems"] + (report.get("n_problems_left_out") or 0)
    if read >= wanted:
        return ()
    words = f"Phase {phase} is partial: the fit was measured on {read:,} of the first {wanted:,} problems."
    return (Text(words, "warning"),)


def misfits(report: Report) -> list[int]:
    """Returns the layers where a neighbouring site fits at least as well as the declared one, or nothing is known."""
    return [entry["layer"] for entry in report["layers"] if not _fits(entry)]


def _fits(entry: Report) -> bool:
    own = entry["fraction_unexplained"]
    beside = [item["fraction_unexplained"] for item in entry["neighbours"]]
    return own is not None and all(other is None or other > own for other in beside)


def _lead(report: Report, sibling: Report | None) -> str:
    wrong, layers = misfits(report), report["layers"]
    if not layers:
        return f"It is not known: no layer could be measured ({_sizes(report)})."
    figures = f"{_shares(report)} ({_sizes(report)})."
    figures += _sibling_words(sibling)
    if wrong:
        which = f"layer{'' if len(wrong) == 1 else 's'} {listed(map(str, wrong))} of {len(layers)}"
        return f"Not everywhere: in {which} a neighbouring site fits as well, or the fit is not known. {figures}"
    return f"Yes: in {_all(len(layers))} the declared site fits better than each neighbour that exists. {figures}"


def _shares(report: Report) -> str:
    own, beside = _range(_own(report)), _range(_beside(report["layers"]))
    return f"At the declared site the SAEs leave {own} of the variance unexplained, one block away {beside}"


def _sizes(report: Report) -> str:
    """Returns how many prompt tokens of how many problems were measured, and how many problems were left out."""
    n_tokens = max((entry["n_tokens"] for entry in report["layers"]), default=0)
    left_out = report.get("n_problems_left_out") or 0  # runs from before this was counted left none out
    besides = f", {counted(left_out, 'problem')} left out" if left_out else ""
    return f"{n_tokens:,} prompt tokens (all but BOS) of {counted(report['n_problems'], 'problem')}{besides}"


def _sibling_words(report: Report | None) -> str:
    """Returns how the same SAEs fit the instruction-tuned model, which they were not trained on."""
    return "" if report is None else f" On the instruction-tuned model they leave {_range(_own(report))}."


def _figure(run: Run, phase: str, report: Report) -> tuple[Figure | Text, ...]:
    caption = (
        "Share of the variance that each layer's SAE leaves unexplained, at the declared site and one block to either "
        f"side (lower is better), features that fire on a token, and dead features; {_sizes(report)}."
    )
    return published(run, phase, f"{SAE_FIT_PLOT}.svg", caption, f"Line plots by layer. {_shares(report)}.", suffix="")


def _table(name: str, report: Report, sibling: Report | None) -> Table:
    """Returns one row a layer; `sibling` is the same of the instruction-tuned model, to stand beside it."""
    beside = () if sibling is None else (numeric("instruction-tuned", "unexplained there, at the declared site"),)
    columns = (
        numeric("layer"),
        Column("declared site"),
        numeric("unexplained", "share of the variance, at the declared site"),
        *(numeric(words, "the same, one block away") for words in NEIGHBOURS.values()),
        *beside,
        numeric("L0", "features that fire on a token, on average"),
        numeric("dead", "features that fire on none of the tokens"),
        Column("fits", "better than each neighbour that exists"),
    )
    of_sibling = {entry["layer"]: entry for entry in (sibling or {"layers": []})["layers"]}
    rows = tuple(_row(entry, of_sibling, shows_sibling=bool(beside)) for entry in report["layers"])
    return Table(f"Fit of the SAEs by layer, {name}; {_sizes(report)}.", columns, rows)


def _row(entry: Report, of_sibling: Mapping[int, Report], *, shows_sibling: bool) -> tuple[Cell, ...]:
    around = {item["offset"]: item for item in entry["neighbours"]}
    return (
        count_cell(entry["layer"]),
        entry["hook_name"],
        _unexplained(entry),
        *(_unexplained(around[offset]) if offset in around else Number(None, "no such block") for offset in NEIGHBOURS),
        *([_of_sibling(of_sibling.get(entry["layer"]))] if shows_sibling else []),
        number_cell(entry["mean_l0"], 1, "no token"),
        Number(entry["dead_share"], f"{percent(entry['dead_share'])} of {entry['d_sae']:,}"),
        "yes" if _fits(entry) else "no",
    )


def _unexplained(item: Report) -> Number:
    return number_cell(item["fraction_unexplained"], 3, item["reason"])


def _of_sibling(entry: Report | None) -> Number:
    return Number(None, "not measured") if entry is None else _unexplained(entry)


def _own(report: Report) -> list[float]:
    return [entry["fraction_unexplained"] for entry in report["layers"] if entry["fraction_unexplained"] is not None]


def _beside(layers: list[Report]) -> list[float]:
    found = [item["fraction_unexplained"] for entry in layers for item in entry["neighbours"]]
    return [value for value in found if value is not None]


def _range(values: list[float]) -> str:
    if not values:
        return "a share that could not be computed"
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low} to {high}"


def _all(n: int) -> str:
    return "the one layer" if n == 1 else f"all {n} layers"
