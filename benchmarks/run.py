"""`make bench`: every benchmark that this machine can run, as one table and as `benchmarks/results/latest.json`.

With `--only P8,P9` the named rows alone, written to `benchmarks/results/P8-P9.json`. `benchmarks.report` makes
`docs/performance.md` from such files.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.sandbox_rows import MBPP_VARIABLE
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


def _of(module: str, *, repeats: bool = True) -> Callable[[int], list[Row]]:
    """Returns the module's function of its name, imported when it is needed: torch is not for every row."""

    def measure(times: int) -> list[Row]:
        function = getattr(importlib.import_module(f"benchmarks.{module}"), module)
        return function(times) if repeats else function()

    return measure


BENCHMARKS = (
    Benchmark(("P9",), _of("command_rows")),
    Benchmark(("P7",), _of("ranking_rows")),
    Benchmark(("P1",), _of("procedure_rows")),
    Benchmark(("P3", "P4"), _of("generation_rows")),
    Benchmark(("P5", "P6"), _of("steering_rows")),
    Benchmark(("P1", "P2", "P4", "P5", "P6"), _of("cuda_rows")),
    Benchmark(("P8",), _of("sandbox_rows", repeats=False)),
    Benchmark(("P10",), _of("worker_rows")),
    Benchmark(("P11",), _of("demo_rows", repeats=False)),
    Benchmark(("P12",), _of("audit_rows", repeats=False)),
    Benchmark(("C11",), _of("durability_rows", repeats=False)),
)
NAMES = tuple(sorted({name for benchmark in BENCHMARKS for name in benchmark.names}, key=lambda n: (n[0], int(n[1:]))))


def main(arguments: list[str]) -> int:
    """Runs the benchmarks, prints the table and writes the JSON."""
    options = _parser().parse_args(arguments)
    if options.mbpp:
        os.environ[MBPP_VARIABLE] = options.mbpp
    machine = machine_facts()
    try:
        rows = measured_rows(options.only or NAMES, options.repeats)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    results = RESULTS / f"{'-'.join(options.only or ('latest',))}.json"
    write_json(results, {**_record(machine), "rows": [row._asdict() for row in rows]})
    say(table(rows))
    say(f"\n{machine['cores']} cores, load {machine['load']:.1f} before; written to {results}")
    return 0


def measured_rows(only: tuple[str, ...], repeats: int) -> list[Row]:
    """Runs the benchmarks that measure a row of `only`, and returns the rows of these names, each with the load."""
    rows: list[Row] = []
    for benchmark in BENCHMARKS:
        if set(only) & set(benchmark.names):
            measured = [row for row in benchmark.measure(repeats) if row.name in only]
            load = round(os.getloadavg()[0], 2)
            rows += [row._replace(load=load) for row in measured]
    return sorted(rows, key=lambda row: NAMES.index(row.name))


def table(rows: list[Row]) -> str:
    """Returns the rows as text."""
    cells = [(row.name, row.what, figure(row), row.goal, reached(row)) for row in rows]
    return text_table(cells, ("row", "what", "measured", "goal", "reached"))


def figure(row: Row) -> str:
    """Returns what was measured in words."""
    return f"not measured: {row.not_measured}" if row.value is None else f"{row.value:.3g} {row.unit}"


def reached(row: Row) -> str:
    """Returns whether the goal was reached; nothing where there is none."""
    return "" if row.reached is None else "yes" if row.reached else "no"


def machine_facts() -> dict[str, Any]:
    """Returns what the figures depend on: processor, cores, memory, accelerator, load."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        **{"cores": os.cpu_count(), "machine": platform.machine(), "processor": _processor()},
        **{"memory_gb": round(pages / 1e9, 1), "system": platform.system(), "accelerator": _accelerator()},
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _accelerator() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each pair (P8 has three of its own)")
    parser.add_argument("--only", type=_row_names, metavar="ROW[,ROW]", help=f"rows to measure, of {', '.join(NAMES)}")
    words = "MBPP's file, for P8 and for scripted lengths (default: what BENCH_MBPP names)"
    parser.add_argument("--mbpp", metavar="FILE", help=words)
    return parser


def _row_names(text: str) -> tuple[str, ...]:
    names = tuple(sorted(set(text.upper().split(",")), key=lambda name: NAMES.index(name) if name in NAMES else -1))
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
