"""What durability costs (C11): the share of a run that goes into writing, verifying, snapshots and publishing.

Phase 1.0 runs on the bundled tiny model in a fresh process in which the functions that make results durable are timed.
Its batches take a fraction of a second, those of a real model many seconds, so the share is an upper bound. Beside it
stand the seconds of one durable batch, and of the published tree, in a real model's shape.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import Row, seconds
from cli.console import say
from common.errors import PipelineError
from common.profiles import REPOSITORY

GOAL = 0.01
PROBLEMS = 160
REAL_BATCH, REAL_LAYERS, REAL_WIDTH = 32, 26, 2304


def durability_rows() -> list[Row]:
    """Returns row C11: durable seconds over all seconds of a run of phase 1.0."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.durability_rows", directory]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise PipelineError("phase 1.0 could not be timed on the tiny model; mend what the lines above name")
    details: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    share = details["share"]
    what = f"durable writes / phase 1.0 of {PROBLEMS} problems on the tiny model"
    return [Row("C11", what, 100 * share, "%", f"≤ {GOAL:.0%}", share <= GOAL, details)]


def measure(directory: Path) -> dict[str, Any]:
    """Runs phases 0, 0.1 and 1.0 in `directory` and returns how long the durable functions of the last one took."""
    options = ["--profile", "organism", "--data-dir", str(directory)]
    for phase in ("0", "0.1"):
        _run("phase", phase, *options)
    spent = _timed_functions()
    whole = seconds(lambda: _run("phase", "1.0", *options, "--end", str(PROBLEMS - 1)))
    found = {name: round(value, 4) for name, value in spent.items()}
    durable = sum(spent.values())
    return {"seconds": whole, "durable_seconds": durable, "share": durable / whole, **found, **_real_shape(directory)}


def _run(*words: str) -> None:
    from cli.main import main

    if main(list(words)):
        raise PipelineError(f"run.py {' '.join(words)} failed")


def _timed_functions() -> dict[str, float]:
    """Times what makes a phase's results durable from now on; returns the seconds, which grow as it is called."""
    from common.runs.publishing import Snapshots
    from common.runs.records import StageStore
    from common_simplified.generation_runner import GenerationRunner

    spent: dict[str, float] = {}
    for owner, names in (
        (StageStore, ("open", "verify", "write", "clear")),
        (Snapshots, ("write",)),
        (GenerationRunner, ("publish_files",)),
    ):
        for name in names:
            setattr(owner, name, _timed(getattr(owner, name), f"{owner.__name__}.{name}", spent))
    return spent


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - started

    return timed


def _real_shape(directory: Path) -> dict[str, float]:
    """Returns the seconds of one batch's durable segment in a real model's shape."""
    import numpy as np
    import pyarrow as pa

    from common.runs.records import StageStore
    from common.runs.slices import Span
    from common.runs.tables import VECTOR_PREFIX, vector_column

    rng = np.random.default_rng(0)
    columns = {
        f"{VECTOR_PREFIX}{layer}": vector_column(rng.standard_normal((REAL_BATCH, REAL_WIDTH)).astype(np.float32))
        for layer in range(REAL_LAYERS)
    }
    store, table = StageStore(directory / "real" / "generation" / "greedy"), pa.table(columns)
    store.open({})
    took = [seconds(lambda number=number: store.write(Span(number, number), table)) for number in range(5)]
    return {"real_batch_seconds": sorted(took)[2]}


if __name__ == "__main__":
    say(json.dumps(measure(Path(sys.argv[1]))))
