"""`make bench`: every benchmark that this machine can run, as one table and as `benchmarks/results/latest.json`.

With `--only P8,P9` the named rows alone, written to `benchmarks/results/P8-P9.json`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.audit_rows import audit_rows
from benchmarks.command_rows import command_rows
from benchmarks.durability_rows import durability_rows
from benchmarks.generation_rows import generation_rows
from benchmarks.ranking_rows import ranking_rows
from benchmarks.sandbox_rows import sandbox_rows
from benchmarks.timing import Row
from cli.console import say
from common.errors import PipelineError, suggest
from common.runs.files import write_json
from common.runs.metadata import code_version, package_versions
from common.text_table import text_table

RESULTS = Path(__file__).parent / "results"


class Benchmark(NamedTuple):
    """The rows that one function measures, given how often each pair is timed."""

    names: tuple[str, ...]
    measure: Callable[[int], list[Row]]


BENCHMARKS = (
    Benchmark(("P9",), command_rows),
    Benchmark(("P7",), lambda _: ranking_rows()),
    Benchmark(("P3", "P4"), generation_rows),
    Benchmark(("P8",), lambda _: sandbox_rows()),
    Benchmark(("C11",), lambda _: durability_rows()),
    Benchmark(("P12",), lambda _: audit_rows()),
)
NAMES = tuple(sorted(name for benchmark in BENCHMARKS for name in benchmark.names))


def main(arguments: list[str]) -> int:
    """Runs the benchmarks, prints the table and writes the JSON."""
    options = _parser().parse_args(arguments)
    try:
        rows = measured_rows(options.only or NAMES, options.repeats)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    results = RESULTS / f"{'-'.join(options.only or ('latest',))}.json"
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
    write_json(results, {**_record(machine), "rows": [row._asdict() for row in rows]})
    cells = [(r.name, r.what, f"{r.value:.3g} {r.unit}", r.goal, "yes" if r.reached else "no") for r in rows]
    say(text_table(cells, ("row", "what", "measured", "goal", "reached")))
    say(f"\n{machine['cores']} cores, load {machine['load']:.1f}; written to {results}")
    return 0


def measured_rows(only: tuple[str, ...], repeats: int) -> list[Row]:
    """Runs the benchmarks that measure a row of `only`, and returns the rows of these names."""
    wanted = [benchmark for benchmark in BENCHMARKS if set(only) & set(benchmark.names)]
    return [row for benchmark in wanted for row in benchmark.measure(repeats) if row.name in only]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each pair (P8 has three of its own)")
    parser.add_argument("--only", type=_row_names, metavar="ROW[,ROW]", help=f"rows to measure, of {', '.join(NAMES)}")
    return parser


def _row_names(text: str) -> tuple[str, ...]:
    names = tuple(sorted(set(text.upper().split(","))))
    unknown = next((name for name in names if name not in NAMES), None)
    if unknown is not None:
        near = suggest(unknown, NAMES)
        raise argparse.ArgumentTypeError(f"no row {unknown!r}; the rows are {', '.join(NAMES)}{near}")
    return names


def _record(machine: dict[str, Any]) -> dict[str, Any]:
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {"created": when, **code_version(), "versions": package_versions(), "machine": machine}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
