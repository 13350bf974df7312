"""What the sampling temperature does to the solutions, and to what a feature knows of them beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.runs.artifacts import EVALUATION_RESULTS
from common.statistics.permutation import DIRECTIONS
from common.wording import counted
from report.blocks import Block, Missing, Number, Section, Table, Text
from report.figures import published
from report.run import Run
from report.sections.solutions import Arm, arms_of, pass_rate
from report.wording import because, count_cell, estimate_cell, numeric, partial_notes

ID, TITLE = "temperature", "What does the sampling temperature change?"
Reports = dict[str, dict[float, Mapping[str, Any]]]


def section(run: Run) -> Section | Missing | None:
    """Returns pass rates of phase 3.5 by temperature, with phase 3.8's detection where it has been run."""
    missing = run.missing(ID, TITLE, "3.5")
    if missing is not None:
        return missing
    arms = list(arms_of(run, "3.5"))
    rates = {arm.temperature: pass_rate(run, arm) for arm in arms}
    reports = _reports(run)
    blocks: list[Block] = [*partial_notes(run, "3.5", *(["3.8"] if reports else []))]
    blocks += published(run, "3.5", "by_temperature", _caption(run, arms), _alternative(arms, rates))
    blocks.append(_table(arms, rates, reports))
    if not reports:
        blocks.append(Text(f"For detection by temperature run: {run.command('3.8')}", "note"))
    return Section(ID, TITLE, _lead(arms, rates, reports), tuple(blocks))


def _reports(run: Run) -> Reports:
    if run.record("3.8") is None:
        return {}
    found = run.json("3.8", EVALUATION_RESULTS)["directions"]
    return {name: {item["group"]: item for item in found[name]["by_temperature"]} for name in DIRECTIONS}


def _lead(arms: list[Arm], rates: Mapping[float, Number], reports: Reports) -> str:
    first, last = arms[0].temperature, arms[-1].temperature
    if first == last:
        return f"Only temperature {first:g} was sampled: {rates[first].text} of the solutions pass."
    text = f"From temperature {first:g} to {last:g} the pass rate goes from {rates[first].text} to {rates[last].text}."
    parts = []
    for direction, by_temperature in reports.items():
        ends = [by_temperature[value]["auroc"] for value in (first, last) if value in by_temperature]
        if len(ends) == 2:
            parts.append(f"the AUROC of the {direction}-preferring feature goes {_change(*ends)}")
    if not parts:
        return text
    sentence = "; ".join(parts)
    return f"{text} {sentence[0].upper()}{sentence[1:]}."


def _change(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Returns how an estimate changes, and that it may not where the intervals overlap."""
    words = f"from {estimate_cell(one).text} to {estimate_cell(other).text}"
    if one["low"] is None or other["low"] is None:
        return words
    overlap = one["low"] <= other["high"] and other["low"] <= one["high"]
    return f"{words}, intervals that overlap" if overlap else words


def _caption(run: Run, arms: list[Arm]) -> str:
    n = counted(run.output("3.5").record["done"], "problem")
    above = f" at temperature 0, {arms[-1].samples} above it" if len(arms) > 1 else ""
    sizes = f"{n}, one sample of each{above}"
    return f"Pass rate and AUROC of the predictor features by sampling temperature; {sizes}; bars: 95\u00a0% intervals."


def _alternative(arms: list[Arm], rates: Mapping[float, Number]) -> str:
    values = ", ".join(f"{rates[arm.temperature].text} at {arm.temperature:g}" for arm in arms)
    return f"Two line plots by temperature. Pass rates: {values}."


def _table(arms: list[Arm], rates: Mapping[float, Number], reports: Reports) -> Table:
    columns = (
        numeric("temperature"),
        numeric("samples", "of each problem"),
        numeric("solutions", "with a label"),
        numeric("pass rate", "95 % interval: Wilson's for one sample a problem, else over problems"),
        *(numeric(f"AUROC, {name}-preferring", "95 % interval over problems; chance: 0.5") for name in reports),
    )
    rows = tuple(
        (
            Number(arm.temperature, f"{arm.temperature:g}"),
            count_cell(arm.samples),
            count_cell(arm.counts["judged"]),
            rates[arm.temperature],
            *(_auroc(by_temperature.get(arm.temperature)) for by_temperature in reports.values()),
        )
        for arm in arms
    )
    return Table("Validation split by sampling temperature.", columns, rows)


def _auroc(report: Mapping[str, Any] | None) -> Number:
    if report is None:
        return Number(None, because("phase 3.8 saw no solution at this temperature"))
    return estimate_cell(report["auroc"])
