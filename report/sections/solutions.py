"""How many problems the model solves, how its other solutions fail, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.phases import get_phase
from common.runs.artifacts import PhasePaths, temperature_name
from common.statistics.bootstrap import bootstrap_share
from common.statistics.detection_report import DIFFICULTY_GROUPS, difficulty_of
from common.wording import counted, percent
from report.blocks import Block, Cell, Column, Details, Missing, Number, Section, Table, Text
from report.run import Run
from report.wording import count_cell, numeric, partial_notes, percent_cell, rate, rate_cell

ID, TITLE = "solutions", "How often does the model solve the problems, and how does it fail?"
PHASES = ("1.0", "3.6", "3.5", "7.3")
DRAWS = 2_000
SHOWN_EXCLUSIONS = 50
SHOWN_KINDS = 20
EXCLUDED = PhasePaths(Path()).excluded.name

OUTCOMES = {
    "passed": "every test passes",
    "wrong_answer": "it runs, and a test gets another value",
    "exception": "it, or a test of it, raises",
    "syntax_error": "it does not parse",
    "no_function": "it does not define the function that the tests call",
    "timeout": "it exceeds the time limit",
    "memory": "it exceeds the memory limit",
    "crashed": "its process ends before the tests do",
}
STOPS = {
    "function_end": "the function is finished, and the text went on after it",
    "eos": "the model ended its text",
    "max_new_tokens": "the limit of tokens cut it off",
}


class Arm(NamedTuple):
    """Solutions of one phase at one temperature, with the counts of its record and its data set."""

    phase: str
    split: str
    model: str
    temperature: float
    samples: int
    counts: Mapping[str, Any]
    dataset: str
    seed: int

    @property
    def name(self) -> str:
        """What it is called in the report."""
        model = "" if self.model == "base" else ", instruction-tuned"
        return f"phase {self.phase}, {self.split} split{model}, temperature {self.temperature:g}"


def section(run: Run) -> Section | Missing | None:
    """Returns pass rates, outcomes, stop reasons and exclusions of every phase that generates without steering."""
    arms = [arm for phase in PHASES for arm in arms_of(run, phase)]
    if not arms:
        return run.missing(ID, TITLE, "1.0")
    blocks: list[Block] = [*partial_notes(run, *PHASES), *_one_class(arms), _pass_rates(run, arms)]
    blocks += [_outcomes(arms), _difficulty(run, arms), *_exceptions(run, arms), _stops(arms), *_exclusions(run)]
    absent = [phase for phase in PHASES if run.record(phase) is None]
    blocks += [Text(f"Not run yet: phase {phase}. To run it: {run.command(phase)}", "note") for phase in absent]
    return Section(ID, TITLE, _lead(arms), tuple(blocks))


def arms_of(run: Run, phase: str) -> Iterator[Arm]:
    """Yields what a published generating phase holds, by rising temperature; nothing where it is not published."""
    record = run.record(phase)
    if record is None:
        return
    temperatures = {temperature_name(value): value for value in record.get("temperatures", [])}
    names = [name for name in temperatures if name in record["results"]] or list(record["results"])
    for name in names:
        temperature = temperatures.get(name, 0.0)
        samples = record["config"]["phase3_5_samples"] if temperature > 0 else 1
        facts = (record["split"], record["model"]["role"], temperature, samples)
        yield Arm(phase, *facts, record["results"][name], record["datasets"][name], record["seed"])


def pass_rate(run: Run, arm: Arm) -> Number:
    """Returns an arm's pass rate: Wilson's interval for one sample a problem, else a bootstrap over problems."""
    passed, judged = arm.counts["passed"], arm.counts["judged"]
    if arm.samples == 1:
        return rate_cell(passed, judged, "no solution has a label")
    return share_over_problems(run, arm)


def share_over_problems(run: Run, arm: Arm) -> Number:
    """Returns the pass rate with an interval over problems, whose samples stay together."""
    table = run.table(arm.phase, arm.dataset).select(["task_id", "test_passed"])
    table = table.filter(table["test_passed"].is_valid())
    passed = table["test_passed"].to_numpy().astype(bool)
    found = bootstrap_share(passed, table["task_id"].to_numpy(), arm.seed, DRAWS)
    if found.value is None or found.low is None:
        return Number(found.value, f"{percent(found.value)} ({found.reason})")
    ends = f"[{percent(found.low)}, {percent(found.high)}]"
    return Number(found.value, f"{percent(found.value)} {ends} ({int(passed.sum()):,}/{len(passed):,})")


def _lead(arms: list[Arm]) -> str:
    first = arms[0]
    passed, judged = first.counts["passed"], first.counts["judged"]
    text = f"On the {first.split} split {rate(passed, judged)} of the greedy solutions pass all of their tests."
    failed = {name: n for name, n in first.counts["outcomes"].items() if name != "passed" and n}
    if not failed:
        return f"{text} Not one fails."
    kind, most = max(failed.items(), key=lambda item: item[1])
    n = sum(failed.values())
    commonest = f"{most:,} ({percent(most / n)}) are of the kind “{_plain(kind)}”: {OUTCOMES[kind]}"
    return f"{text} Of the {n:,} that fail, {commonest}."


def _one_class(arms: list[Arm]) -> Iterator[Text]:
    """Yields a warning where a phase has only right or only wrong solutions, which nothing can be learnt from."""
    for arm in arms:
        passed, judged = arm.counts["passed"], arm.counts["judged"]
        if judged and passed in (0, judged):
            which = "fails" if passed == 0 else "passes"
            yield Text(f"Every solution {which} in {arm.name}: there is no second class to tell it from.", "warning")


def _pass_rates(run: Run, arms: list[Arm]) -> Table:
    columns = (
        Column("phase"),
        Column("split"),
        Column("model"),
        numeric("temperature"),
        numeric("samples", "of each problem"),
        numeric("solutions", "with a label"),
        numeric("pass rate", "with its 95 % interval and its counts"),
        numeric("cut off", "stopped by the limit of tokens"),
    )
    rows = tuple(
        (
            arm.phase,
            arm.split,
            arm.model,
            Number(arm.temperature, f"{arm.temperature:g}"),
            count_cell(arm.samples),
            count_cell(arm.counts["judged"]),
            pass_rate(run, arm),
            count_cell(arm.counts["stop_reasons"].get("max_new_tokens", 0)),
        )
        for arm in arms
    )
    caption = (
        "Share of solutions that pass all of their tests. Intervals: Wilson's for one sample a problem, else a "
        "bootstrap over problems, whose samples resemble each other."
    )
    return Table(caption, columns, rows)


def _outcomes(arms: list[Arm]) -> Table:
    caption = "What became of the solutions: counts, and shares of the solutions with a label."
    return _shares(arms, "outcomes", OUTCOMES, caption)


def _stops(arms: list[Arm]) -> Details:
    caption = "Why generation stopped: counts, and shares of the solutions."
    return Details("Why generation stopped", (_shares(arms, "stop_reasons", STOPS, caption),))


def _shares(arms: list[Arm], key: str, meanings: Mapping[str, str], caption: str) -> Table:
    """Returns one row an arm and one column a kind that occurs, in the order of `meanings`."""
    kinds = [kind for kind in meanings if any(arm.counts[key].get(kind) for arm in arms)]
    columns = (
        Column("solutions of"),
        numeric("n"),
        *(numeric(_plain(kind), meanings[kind]) for kind in kinds),
    )
    rows = []
    for arm in arms:
        n = sum(arm.counts[key].values())
        cells = (_share_cell(arm.counts[key].get(kind, 0), n) for kind in kinds)
        rows.append((arm.name, count_cell(n), *cells))
    return Table(caption, columns, tuple(rows))


def _share_cell(count: int, n: int) -> Number:
    return (
        percent_cell(None, reason="no solution") if n == 0 else Number(count / n, f"{count:,} ({percent(count / n)})")
    )


def _difficulty(run: Run, arms: list[Arm]) -> Table:
    greedy = [arm for arm in arms if arm.temperature == 0]
    columns = (
        Column("solutions of"),
        *(numeric(f"complexity {_dash(name)}") for name in DIFFICULTY_GROUPS),
    )
    rows = tuple((arm.name, *_by_difficulty(run, arm)) for arm in greedy)
    return Table(
        "Pass rate by cyclomatic complexity of the reference solution, greedy, with Wilson's interval.", columns, rows
    )


def _by_difficulty(run: Run, arm: Arm) -> list[Number]:
    table = run.table(arm.phase, arm.dataset).select(["cyclomatic_complexity", "test_passed"])
    table = table.filter(table["test_passed"].is_valid())
    groups = difficulty_of(table["cyclomatic_complexity"].to_numpy())
    passed = table["test_passed"].to_numpy().astype(bool)
    return [
        rate_cell(int(passed[groups == name].sum()), int(np.count_nonzero(groups == name)), "no such problem")
        for name in DIFFICULTY_GROUPS
    ]


def _exceptions(run: Run, arms: list[Arm]) -> Iterator[Details]:
    kinds: Counter[str] = Counter()
    for arm in arms:
        table = run.table(arm.phase, arm.dataset).select(["outcome", "error_message"])
        pairs = zip(table["outcome"].to_pylist(), table["error_message"].to_pylist(), strict=True)
        kinds.update(_kind(message) for outcome, message in pairs if outcome == "exception")
    if kinds:
        rows: tuple[tuple[Cell, ...], ...] = tuple((kind, count_cell(n)) for kind, n in kinds.most_common(SHOWN_KINDS))
        columns = (Column("exception"), numeric("solutions"))
        limit = f"; the {SHOWN_KINDS} most frequent kinds of {len(kinds)}" if len(kinds) > SHOWN_KINDS else ""
        caption = f"Exceptions of {counted(sum(kinds.values()), 'solution')}{limit}."
        yield Details("Which exceptions were raised", (Table(caption, columns, rows),))


def _kind(message: str | None) -> str:
    """Returns the class in `NameError: name 'x' is not defined`; what looks otherwise is of no known kind."""
    head = (message or "").partition(":")[0].strip()
    return head if head.replace(".", "").isidentifier() else "of no known kind"


def _exclusions(run: Run) -> Iterator[Block]:
    with_labels = [phase for phase in PHASES if run.record(phase) is not None]
    held = [phase for phase in with_labels if run.has(phase, EXCLUDED)]
    if not held:
        n = sum(run.output(phase).record["done"] for phase in with_labels)
        yield Text(f"No problem was excluded: all {n:,} of these phases have their solutions.")
    for phase in held:
        yield _excluded(run, phase)


def _excluded(run: Run, phase: str) -> Details:
    found = run.json(phase, EXCLUDED)
    columns = (
        numeric("problem"),
        numeric("temperature"),
        numeric("sample"),
        Column("reason"),
        numeric("tries"),
    )
    rows = tuple(
        (
            count_cell(row["task_id"]),
            Number(row["temperature"], f"{row['temperature']:g}"),
            count_cell(row["sample"]),
            str(row["excluded_reason"]),
            count_cell(row["tries"]),
        )
        for row in found["excluded"][:SHOWN_EXCLUSIONS]
    )
    share = f"{found['n_excluded']:,} of {found['n_expected']:,} problems ({percent(found['share'])})"
    limit = f"; the first {SHOWN_EXCLUSIONS} rows" if len(found["excluded"]) > SHOWN_EXCLUSIONS else ""
    caption = f"Given up in phase {phase} ({get_phase(phase).name}): {share}{limit}. They count in no rate."
    return Details(f"Excluded in phase {phase}: {share}", (Table(caption, columns, rows),))


def _plain(kind: str) -> str:
    return kind.replace("_", " ")


def _dash(group: str) -> str:
    return group.replace("-", "–").replace("4+", "4 and more")
