"""`run.py evaluate`: tests stored solutions again, without generating anything."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import say
from cli.parser import resolved_config
from cli.places import refuse_unwritable
from common.config import Config
from common.errors import Interrupted, UsageError
from common.execution.ladder import choose_isolation
from common.execution.results import OUTCOMES
from common.runs.stored_solutions import SUFFIXES, StoredSolutions, read_rows, record_naming
from common.text_table import text_table

if TYPE_CHECKING:
    from common.runs.rescoring import Rescoring


def evaluate(parsed: argparse.Namespace) -> int:
    """Says which verdicts of the input changed and why, and writes the new ones where asked to."""
    config = resolved_config(parsed).config
    _check_input(parsed.input)
    if parsed.output is not None:
        _check_output(parsed.output, parsed.input)
    try:
        _evaluate(config, parsed.input, parsed.output, extract=parsed.extract)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {parsed.input} is as it was, run the same command again") from None
    return 0


def _evaluate(config: Config, path: Path, output: Path | None, *, extract: bool) -> None:
    from common.runs.rescoring import OutputFile, rescore

    rows = read_rows(path)
    written = None if output is None else OutputFile(output, rows)
    solutions = StoredSolutions(rows.narrowed(), config, extract)
    count = solutions.check()
    say(f"{path}: {_settings(config)}")
    found = rescore(solutions, count, keep=written is not None)
    for line in _report(found):
        say(line)
    if written is not None:
        written.write(found.verdicts)
        say(f"written: {output}")


def _settings(config: Config) -> str:
    chosen = choose_isolation(config.sandbox)
    left_open = f", which leaves open: {', '.join(chosen.open)}" if chosen.open else ""
    limits = f"{config.evaluation_timeout_seconds:g} s of CPU time, {config.evaluation_memory_mb} MB"
    return f"tested at {chosen.isolation.describe()}{left_open}; limits: {limits}"


def _report(found: Rescoring) -> Iterator[str]:
    """Yields the counts, the table of outcomes, and a line for each changed verdict."""
    yield _counts(found)
    if found.tested:
        order = {outcome: place for place, outcome in enumerate(OUTCOMES)}
        pairs = sorted(found.transitions, key=lambda pair: [(order.get(one, len(order)), one) for one in pair])
        yield text_table([(*pair, str(found.transitions[pair])) for pair in pairs], ("before", "now", "solutions"))
    yield from found.lines
    if found.changed > len(found.lines):
        yield f"and {found.changed - len(found.lines)} more"


def _counts(found: Rescoring) -> str:
    judged = found.tested - found.without_verdict
    before = f"{found.passing(0)} passed before" if judged else "no earlier verdicts"
    words = [f"{found.tested} solutions: {before}, {found.passing(1)} pass now"]
    if judged:
        words.append(f"{found.changed} verdicts changed")
        if found.changed:
            words[-1] += f", {found.flipped} of them between passing and failing"
            words.append(f"a second evaluation agrees with {found.agreeing} of {found.changed}")
    if judged and found.without_verdict:
        words.append(f"{found.without_verdict} carried no earlier verdict")
    if found.excluded:
        words.append(f"excluded and left as they are: {found.excluded}")
    return "; ".join(words)


def _check_input(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--input {path} is neither .parquet nor .jsonl; give a data set or JSON lines")
    if not path.is_file():
        raise UsageError(f"--input {path}: {'not a file' if path.exists() else 'no such file'}; check the path")


def _check_output(path: Path, read: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--output {path} is neither .parquet nor .jsonl; choose one of the two")
    if path.exists() and (not path.is_file() or path.samefile(read)):
        what = "is the input" if path.is_file() else "is not a file"
        raise UsageError(f"--output {path} {what}; choose another name")
    record = record_naming(path)
    if record is not None:
        raise UsageError(f"--output {path} is a result of phase {record['phase']}; choose another name")
    refuse_unwritable("--output", path)
