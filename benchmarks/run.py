"""`make bench`: every benchmark that this machine can run, as one table and as `benchmarks/results/latest.json`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.command_rows import command_rows
from benchmarks.generation_rows import generation_rows
from benchmarks.ranking_rows import ranking_rows
from benchmarks.timing import Row
from cli.console import say
from common.runs.files import write_json
from common.runs.metadata import code_version, package_versions
from common.text_table import text_table

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(arguments: list[str]) -> int:
    """Runs the benchmarks, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each pair")
    repeats = parser.parse_args(arguments).repeats
    rows: list[Row] = [*command_rows(repeats), *ranking_rows(), *generation_rows(repeats)]
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "load": os.getloadavg()[0]}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"created": when, **code_version(), "versions": package_versions(), "machine": machine}
    write_json(RESULTS, {**record, "rows": [row._asdict() for row in rows]})
    cells = [(r.name, r.what, f"{r.value:.3g} {r.unit}", r.goal, "yes" if r.reached else "no") for r in rows]
    say(text_table(cells, ("row", "what", "measured", "goal", "reached")))
    say(f"\n{machine['cores']} cores, load {machine['load']:.1f}; written to {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
