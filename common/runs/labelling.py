"""The evaluating stage: from generated text to code, and from code to a label.

Extraction belongs to this stage, so that a better extractor or another limit re-scores what was generated instead of
generating it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import pyarrow as pa

from common.config import Config
from common.errors import PipelineError
from common.execution import EvaluationPool, EvaluationResult
from common.execution.extraction import entry_point_from_tests, extract_code, names_used_by_tests
from common.execution.ladder import STRICT_RUNG, choose_isolation
from common.logging import get_logger
from common.problems import Problem
from common.runs.slices import Span
from common.runs.tables import EVALUATION_SCHEMA, KEYS

_log = get_logger(__name__)
_verdicts: WeakKeyDictionary[EvaluationPool, dict[tuple[int, str], Future[EvaluationResult]]] = WeakKeyDictionary()
EXTRACTION_VERSION = 1
EVALUATION_VERSION = 2
MOST_WORKERS = 8


class Pending(NamedTuple):
    """A batch whose solutions are being tested."""

    span: Span
    rows: Sequence[Mapping[str, Any]]
    codes: list[str]
    results: list[Future[EvaluationResult] | None]

    @property
    def done(self) -> bool:
        """Whether every result is there."""
        return all(future is None or future.done() for future in self.results)


def evaluation_pool(config: Config) -> EvaluationPool:
    """Returns the pool that tests solutions under the configuration's limits."""
    workers = config.evaluation_workers or min(os.cpu_count() or 1, MOST_WORKERS)
    return EvaluationPool(workers, config.evaluation_timeout_seconds, config.evaluation_memory_mb, config.sandbox)


def check_sandbox(config: Config) -> None:
    """Raises `PipelineError` where this machine does not allow the isolation that is asked for."""
    choose_isolation(config.sandbox)


def announce_sandbox(config: Config) -> None:
    """Logs how solutions are isolated, as a warning where it is below what `strict` accepts."""
    chosen = choose_isolation(config.sandbox)
    if chosen.isolation.rung >= STRICT_RUNG:
        _log.info("solutions are tested at %s", chosen.isolation.describe())
        return
    _log.warning(
        "solutions are tested at %s, which leaves open to them: %s (run.py test-sandbox says why not better)",
        *(chosen.isolation.describe(), ", ".join(chosen.open)),
    )


def sandbox_record(config: Config, rung: int | None = None) -> dict[str, Any]:
    """Returns how solutions are isolated, for a phase's record; `rung` is that of labels that were made elsewhere."""
    try:
        chosen = choose_isolation(config.sandbox)
    except PipelineError:
        if rung is None:
            raise
        chosen = None
    if chosen is None or rung not in (None, chosen.isolation.rung):
        return {"isolation": f"rung {rung}", "open": None, "open_reason": "tested on other machines"}
    return {"isolation": chosen.isolation.describe(), "open": list(chosen.open)}


def standing_rung(config: Config, stored: Iterable[Mapping[str, Any]]) -> int | None:
    """Returns the rung that labels stand under, for a process that makes none: the one asked for, else a stored one.

    `stored` are fingerprints of labels; None where the rung is for this machine to say.
    """
    if config.sandbox.isdigit():
        return int(config.sandbox)
    least = STRICT_RUNG if config.sandbox == "strict" else 0
    return next((item["sandbox_rung"] for item in stored if item["sandbox_rung"] >= least), None)


def evaluation_fingerprint(config: Config, data_hash: str, rung: int | None = None) -> dict[str, Any]:
    """Returns what changes labels: the tests, the limits, and the versions of extraction and evaluation.

    The rung is this machine's own unless it is given.
    """
    return {
        "data": data_hash,
        "timeout_seconds": config.evaluation_timeout_seconds,
        "memory_mb": config.evaluation_memory_mb,
        "sandbox_rung": choose_isolation(config.sandbox).isolation.rung if rung is None else rung,
        "extraction_version": EXTRACTION_VERSION,
        "evaluation_version": EVALUATION_VERSION,
    }


def extract_solution(text: str, tests: Sequence[str], setup_code: str) -> str:
    """Returns the solution in `text` to the problem that the tests test, with what the tests need beside it."""
    needed = names_used_by_tests(tests, setup_code)
    return extract_code(text, entry_point=entry_point_from_tests(tests), also_needed=needed)


def submit(pool: EvaluationPool, problems: Sequence[Problem], span: Span, rows: Sequence[Mapping[str, Any]]) -> Pending:
    """Extracts the code of each row and hands it to the pool; excluded rows are not tested."""
    codes: list[str] = []
    results: list[Future[EvaluationResult] | None] = []
    for row in rows:
        problem = problems[row["position"]]
        if row["excluded_reason"] is not None:
            codes.append("")
            results.append(None)
            continue
        code = extract_solution(row["generated_text"], problem.test_list, problem.test_setup_code)
        codes.append(code)
        results.append(verdict(pool, problem, code))
    return Pending(span, rows, codes, results)


def verdict(pool: EvaluationPool, problem: Problem, code: str) -> Future[EvaluationResult]:
    """Has a program tested on its problem, once a pool however often it is written, and returns its result's future.

    Under steering most programs are written again and again: of 61,692 of a full run on the bundled model 4,979 differ.
    """
    known = _verdicts.setdefault(pool, {})
    key = (problem.task_id, code)
    if key not in known:
        known[key] = pool.submit(code, problem.test_list, problem.test_setup_code)
    return known[key]


def collect(pending: Pending) -> pa.Table:
    """Waits for a batch's results and returns them as a table of the evaluating stage."""
    rows = []
    for row, code, future in zip(pending.rows, pending.codes, pending.results, strict=True):
        result = future.result() if future is not None else None
        rows.append({**{key: row[key] for key in KEYS}, **({} if result is None else verdict_columns(code, result))})
    return pa.Table.from_pylist(rows, schema=EVALUATION_SCHEMA)


def verdict_columns(code: str, result: EvaluationResult) -> dict[str, Any]:
    """Returns a verdict on `code` as columns of the evaluating stage."""
    return {
        "generated_code": code,
        "test_passed": result.passed,
        "outcome": result.outcome,
        "sandbox_rung": result.rung,
        "opaque": result.opaque,
        "error_message": result.error_message or None,
        "tests_passed": result.tests_passed,
        "tests_total": result.tests_total,
        "cpu_seconds": result.cpu_seconds,
        "wall_seconds": result.wall_seconds,
        "peak_memory_mb": result.peak_memory_mb,
    }
