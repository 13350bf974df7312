"""The findings of the run at a glance: each of how many, with its interval, beside its control and trivial baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from common.runs.artifacts import EVALUATION_RESULTS, STEERING_ANALYSIS
from common.wording import p_value, signed
from report.blocks import Block, Column, Details, Link, Missing, Section, Table, Text
from report.finding import Finding
from report.findings import findings
from report.run import Run
from report.steering_words import brief_rank
from report.wording import estimated, partial_notes

ID, TITLE = "summary", "What was found"


def section(run: Run) -> Section | Missing | None:
    """Returns every finding of the published phases as a table, the ones to read first unfolded."""
    found = findings(run)
    if not found:
        return Missing(ID, TITLE, "No phase has been run here that found anything.", run.command("0"))
    first, rest = [one for one in found if one.headline], [one for one in found if not one.headline]
    published = [state.spec.id for state in run.states if run.record(state.spec.id) is not None]
    blocks: list[Block] = [*partial_notes(run, *published)]
    if first:
        blocks.append(_table("The findings", first))
    if rest:
        blocks.append(Details(f"{len(rest)} more rows of the closing table", (_table("More figures", rest),)))
    blocks.append(Text(HOW_TO_READ, "note"))
    return Section(ID, TITLE, " ".join(_lead(run)) or NOTHING_YET, tuple(blocks))


NOTHING_YET = "So far the run has problems and solutions, and nothing yet on what the features do."
HOW_TO_READ = (
    "Brackets are 95 % intervals. What stands beside a finding does the same with something chosen at random, or in "
    "another place; a trivial baseline does nothing clever. A finding is worth what it is ahead of them."
)


def _lead(run: Run) -> Iterable[str]:
    if run.has("3.8", EVALUATION_RESULTS):
        yield _detected(run.json("3.8", EVALUATION_RESULTS)["directions"])
    if run.has("4.8", STEERING_ANALYSIS):
        yield _steered(run.json("4.8", STEERING_ANALYSIS)["directions"])


def _detected(directions: Mapping[str, Any]) -> str:
    """Returns what the better of both predictors reaches, beside random directions."""
    known = [report for report in directions.values() if report["validation"]["auroc"]["value"] is not None]
    if not known:
        return "How well the predictor features detect could not be measured."
    best: Mapping[str, Any] = max(known, key=lambda report: report["validation"]["auroc"]["value"])
    random = best["rivals"]["random directions"]["auroc"]["median"]
    probe = best["rivals"]["logistic regression"]["auroc"]["median"]
    rivals = [] if probe is None else [f"a logistic regression on the residual has {probe:.3f}"]
    rivals += [] if random is None else [f"a random direction {random:.3f} in the median"]
    beside = f", where {' and '.join(rivals)}" if rivals else ""
    return (
        f"Before a line is written, one SAE feature tells whether the solution will {_WILL[best['positive']]} with "
        f"AUROC {estimated(best['validation']['auroc'])}, n = {best['validation']['n']:,}{beside}."
    )


_WILL = {"passed": "pass", "failed": "fail"}


def _steered(directions: Mapping[str, Any]) -> str:
    correct, incorrect = directions["correct"], directions["incorrect"]
    up, down = correct["effect"], incorrect["effect"]
    return (
        f"Steering along the correct-preferring feature{_by_hand(correct)} fixes {up['fixes']} and breaks "
        f"{up['breaks']} of {up['n']} solutions (net {signed(up['net'], 0)}, McNemar p {p_value(up['mcnemar_p'])}; "
        f"{brief_rank(correct)}); along the incorrect-preferring one{_by_hand(incorrect)} it breaks "
        f"{down['breaks']} of {down['n']}, {down['breaks_that_parse']} of which still parse ({brief_rank(incorrect)})."
    )


def _by_hand(entry: Mapping[str, Any]) -> str:
    return "" if entry["coefficient_chosen"] == "suggested" else ", at a coefficient set by hand,"


def _beside(one: Finding) -> str:
    trivial = f"trivially: {one.trivial}" if one.trivial else ""
    return "\n".join(part for part in (one.control, one.ahead, trivial) if part) or "–"


def _table(caption: str, found: list[Finding]) -> Table:
    columns = (
        Column("what"),
        Column("found", "with its 95 % interval"),
        Column("of how many"),
        Column("beside it", "what something random, another place or the other model does; what is trivial"),
    )
    rows = tuple((Link(one.what, f"#{one.section}"), one.found, one.n or "–", _beside(one)) for one in found)
    return Table(f"{caption}, {len(found)} rows.", columns, rows)
