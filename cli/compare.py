"""`run.py compare`: two runs side by side, with the differences that their figures allow."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.console import say
from cli.places import refuse_unwritable
from common.errors import UsageError
from common.results import reading
from common.runs.stored_solutions import record_naming
from common.text_table import text_table
from common.wording import NOT_DEFINED, signed

if TYPE_CHECKING:
    from common.run_comparison.comparison import Comparison
    from common.run_comparison.rows import Row

LONGEST = 44


def compare(parsed: argparse.Namespace) -> int:
    """Prints what differs between both runs, and the figures that both have; writes them as JSON where asked to."""
    if parsed.json is not None:
        _check_output(parsed.json)
    from common.run_comparison.comparison import compare_runs

    found = compare_runs(parsed.dir_a, parsed.dir_b)
    for line in _lines(found):
        say(line)
    if parsed.json is not None:
        from common.runs.files import write_json

        write_json(parsed.json, found.as_dict())
        say(f"\nwritten: {parsed.json}")
    return 0


def _check_output(path: Path) -> None:
    with reading(path):
        record = record_naming(path)
        if path.is_dir() or path.suffix != ".json":
            raise UsageError(f"--json {path}: give a file that ends in .json")
    if record is not None or path.name in ("metadata.json", "partial.json"):
        raise UsageError(f"--json {path} is a file of a phase; choose another name")
    refuse_unwritable("--json", path)


def _lines(found: Comparison) -> Iterator[str]:
    yield f"A  {found.a}"
    yield f"B  {found.b}"
    yield from _setup(found)
    yield from _progress(found)
    yield f"\nFigures that both have; 95 % intervals, {found.draws.n_draws:,} draws over problems"
    if not found.rows:
        yield "none: no phase that both have makes figures"
    for group, rows in groupby(found.rows, key=lambda row: row.group):
        yield from _table(group, list(rows))


def _table(group: str, rows: list[Row]) -> Iterator[str]:
    cells = [(row.figure, _value(row, "a"), _value(row, "b"), _difference(row), _how(row)) for row in rows]
    yield "\n" + text_table(cells, (group, "A", "B", "B − A", "how"))
    yield from (f"  {row.figure}: {row.remark}" for row in rows if row.remark)


def _setup(found: Comparison) -> Iterator[str]:
    if not found.different:
        yield "\nMade alike: the records of the phases that both have differ in nothing that is compared"
        return
    rows = [(one.what, _short(one.a), _short(one.b), ", ".join(one.phases)) for one in found.different]
    yield "\n" + text_table(rows, ("made differently", "A", "B", "phases"))


def _progress(found: Comparison) -> Iterator[str]:
    complete = [one["phase"] for one in found.progress if one["a"] == one["b"] == "complete"]
    others = [(one["phase"], one["a"], one["b"]) for one in found.progress if one["phase"] not in complete]
    yield f"\nComplete in both: {', '.join(complete) or 'no phase'}"
    if found.same_outputs:
        yield f"The very same output in both (one is a copy): {', '.join(found.same_outputs)}"
    if others:
        yield text_table(others, ("phase", "A", "B"))


def _value(row: Row, side: str) -> str:
    value, n = getattr(row, side), getattr(row, f"n_{side}")
    if isinstance(value, str):
        return value
    of = f" of {n:,}" if n is not None else ""
    if value is None:
        return f"{NOT_DEFINED}{of}"
    if row.kind == "number":
        return f"{value:.4g}"
    # A net change has a sign; any other share is a part of the whole.
    share = f"{signed(100 * value, 1)} %" if "net change" in row.figure else f"{100 * value:.1f} %"
    return f"{share}{of}" if row.kind == "share" else f"{value:.3f}" + (f" (n {n:,})" if n is not None else "")


def _difference(row: Row) -> str:
    if row.difference is None:
        return "" if row.kind == "words" else NOT_DEFINED
    factor, decimals, unit = (100, 1, " points") if row.kind == "share" else (1, 3, "")
    # Rounded first, so that what rounds to nothing is not negative.
    shown = [
        None if figure is None else signed(round(factor * figure, decimals) + 0.0, decimals)
        for figure in (row.difference, row.low, row.high)
    ]
    return f"{shown[0]}{unit}" if shown[1] is None else f"{shown[0]} [{shown[1]}, {shown[2]}]{unit}"


def _how(row: Row) -> str:
    shared = f", {row.n_shared:,} problems in both" if row.n_shared else ""
    return row.reason or f"{row.method}{shared}"


def _short(value: Any) -> str:
    words = "none" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
