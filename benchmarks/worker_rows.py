"""Two CPU workers of one thread each against one (P10), on the samples of phase 3.5 of the tiny model.

What every process does once (imports, loading the model, starting the sandbox) is left out: a worker's time is that of
its generating and testing, and two workers have taken what the slower one took. Each tests solutions in one process
beside it. Merging is reading and joining what workers stored; publishing follows, as after any run, and stands in the
details with the whole of what the merging process does.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import phases
from benchmarks.apart import answer, measured_apart, measured_together
from benchmarks.timing import Row, paired, seconds
from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.metadata import read_record
from common.runs.options import RunOptions

GOAL, MERGING_GOAL = 1.7, 0.01
SAMPLES, BATCH = 3, 32
PROBLEMS = 388
MODULE = "benchmarks.worker_rows"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_STAGE = "generation and evaluation"


def worker_rows(repeats: int) -> list[Row]:
    """Returns rows P10: one worker's seconds over those of two, and what merging adds."""
    with tempfile.TemporaryDirectory() as directory:
        measured_apart(MODULE, "prepare", directory)
        rounds = [_round(directory) for _ in range(repeats)]
    return rows_of(rounds)


def rows_of(rounds: list[dict[str, Any]]) -> list[Row]:
    """Returns the rows of what each repeat took."""
    timed = paired([(item["one_worker"], item["two_workers"]) for item in rounds])
    shares = tuple(100 * item["merging"] / (item["two_workers"] + item["merging"]) for item in rounds)
    share, rows = statistics.median(shares), rounds[0]["rows"]
    same = all(item["same_files"] for item in rounds)
    details = {
        **{"one_worker_seconds": timed.first, "two_workers_seconds": timed.second, "rows": rows},
        **{f"{name}_seconds": _median(rounds, name) for name in ("merging", "publishing", "merging_process")},
        "same_files": same,
    }
    what = f"the tiny model, phase 3.5, {rows:,} rows"
    return [
        Row(
            *("P10", f"{what}: one worker / two, fixed cost left out", timed.ratio, "×", f"≥ {GOAL:g}×"),
            *(timed.ratio >= GOAL and same, details, timed.ratios),
        ),
        Row(
            *("P10", f"{what}: merging / two workers and merging", share, "%", f"≤ {MERGING_GOAL:.0%}"),
            *(share <= 100 * MERGING_GOAL, details, shares),
        ),
    ]


def _median(rounds: list[dict[str, Any]], name: str) -> float:
    return statistics.median(item[name] for item in rounds)


def halves(problems: int, batch: int) -> list[tuple[int, int]]:
    """Cuts positions into two slices at the grid of batches, as even as can be."""
    middle = round(problems / 2 / batch) * batch
    return [(0, middle - 1), (middle, problems - 1)]


def _round(directory: str) -> dict[str, Any]:
    measured_apart(MODULE, "clear", directory)
    one = measured_together(MODULE, [("work", directory, "0", str(PROBLEMS - 1))], ONE_THREAD)
    merged = measured_apart(MODULE, "merge", directory)
    measured_apart(MODULE, "clear", directory)
    slices = [("work", directory, str(start), str(end)) for start, end in halves(PROBLEMS, BATCH)]
    two = measured_together(MODULE, slices, ONE_THREAD)
    again = measured_apart(MODULE, "merge", directory)
    return {
        **{"one_worker": one[0]["seconds"], "two_workers": max(item["seconds"] for item in two)},
        **{"merging": again["joining"], "publishing": again["publishing"], "merging_process": again["seconds"]},
        **{"rows": again["rows"], "same_files": merged["files"] == again["files"]},
    }


def prepare(directory: Path) -> None:
    """Makes what phase 3.5 reads."""
    phases.prepare(directory, "2.5")


def clear(directory: Path) -> None:
    """Removes what phase 3.5 has made."""
    shutil.rmtree(_configuration(directory).phase_dir("3.5"), ignore_errors=True)


def work(directory: Path, start: int, end: int) -> dict[str, Any]:
    """Generates and tests positions `start` to `end` as a worker, and returns the seconds without any fixed cost."""
    from phase3_5.temperature_runner import TemperatureRobustnessRunner

    options = RunOptions(start=start, end=end, worker=True)
    runner = TemperatureRobustnessRunner(_configuration(directory), options)
    runner.run()
    return {"seconds": runner.wall_seconds[_STAGE]}


def merge(directory: Path) -> dict[str, Any]:
    """Publishes what workers have made; returns the seconds, the rows and the digests of the data sets."""
    from phase3_5.temperature_runner import TemperatureRobustnessRunner

    config = _configuration(directory)
    runner, joining = TemperatureRobustnessRunner(config, RunOptions(merge=True)), _timed_joining()
    took = seconds(runner.run)
    record = read_record(PhasePaths(config.phase_dir("3.5")))
    assert record is not None and record["complete"], "the slices do not cover the split"
    files = {item["path"]: item["sha256"] for item in record["outputs"] if item["path"] != "timings.parquet"}
    named = set(record["datasets"].values())
    rows = sum(item["rows"] for item in record["outputs"] if item["path"] in named)
    stages = {"joining": sum(joining), "publishing": runner.wall_seconds["publishing"]}
    return {"seconds": took, **stages, "rows": rows, "files": files}


def _timed_joining() -> list[float]:
    """Times the joining of each arm's segments from now on; returns the seconds, which grow as it is called."""
    from common_simplified import generation_runner

    spent: list[float] = []
    join = generation_runner.labelled_tables

    def timed(stores: Any) -> Any:
        tables: list[Any] = []
        spent.append(seconds(lambda: tables.append(join(stores))))
        return tables[0]

    generation_runner.labelled_tables = timed  # type: ignore[assignment]
    return spent


def _configuration(directory: Path) -> Config:
    more = (f"phase3_5_samples={SAMPLES}", f"batch_size={BATCH}", "evaluation_workers=1")
    return phases.configuration(directory, "3.5", *more)


def _main(what: str, directory: str, *positions: str) -> int:
    step = {"prepare": prepare, "clear": clear, "work": work, "merge": merge}[what]
    return answer(lambda: step(Path(directory), *map(int, positions)))


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
