"""A run's report: its sections, its page, and what could not be shown."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime

from common.config import Config
from common.errors import PipelineError
from common.runs.discovery import command_line
from common.runs.metadata import code_version
from common.runs.status import COMPLETE, MISSING, PARTIAL, PhaseState
from report.blocks import Missing, Section
from report.page import Frame, Gap, page
from report.run import Run
from report.sections import SECTIONS, SectionOf


@dataclass(frozen=True)
class Report:
    """The page, and for the one who asked for it: how many sections it has, what is missing, what is damaged."""

    html: str
    sections: int
    gaps: tuple[Gap, ...]
    damaged: tuple[str, ...]


def build(run: Run, now: datetime | None = None) -> Report:
    """Returns the report of a run; a section whose files are damaged says so in its place and in `damaged`."""
    damaged: list[str] = []
    parts = [part for make in SECTIONS if (part := _part(make, run, damaged)) is not None]
    gaps = tuple(_gap(run, state) for state in run.states if _lacks(run.config, state))
    mend = command_line(run.config, "pipeline")
    frame = Frame(title(run), about(run), gaps, mend, made(now or datetime.now(UTC)))
    shown = sum(isinstance(part, Section) for part in parts)
    return Report(page(frame, parts), shown, gaps, tuple(dict.fromkeys(damaged)))


def _part(make: SectionOf, run: Run, damaged: list[str]) -> Section | Missing | None:
    try:
        return make(run)
    except PipelineError as error:
        said = " ".join(str(error).split())
        damaged.append(said)
        module = sys.modules[make.__module__]
        return Missing(module.ID, module.TITLE, f"This part cannot be shown: {said}", "")


def _lacks(config: Config, state: PhaseState) -> bool:
    """Says whether a phase is to be named as missing; one whose model the profile does not name does not apply."""
    return state.state != COMPLETE and getattr(config, state.spec.model_field) is not None


def _gap(run: Run, state: PhaseState) -> Gap:
    counted = state.state == PARTIAL and state.expected
    done = f", {state.done} of {state.expected} problems" if counted else ""
    what = "not run" if state.state == MISSING else state.state
    why = f" ({state.why})" if state.why else ""
    return Gap(f"Phase {state.spec.id}, {state.spec.name}", f"{what}{done}{why}.", run.command(state.spec.id))


def title(run: Run) -> str:
    """Returns what the page is about: the model whose programs were looked at."""
    return f"Program validity awareness in {run.config.model_name}"


def about(run: Run) -> str:
    """Returns in a line which run this is and how far it came."""
    applying = [state for state in run.states if getattr(run.config, state.spec.model_field) is not None]
    complete = sum(state.state == COMPLETE for state in applying)
    standing = "all" if complete == len(applying) else f"{complete} of"
    reduced = ", without its reductions" if run.config.full else ""
    where = f"Profile {run.config.profile}{reduced}; data directory {run.config.data_dir}"
    return f"{where}; {standing} {len(applying)} phases complete and current."


def made(now: datetime) -> str:
    """Returns by which version of the code, and when, the page was made."""
    version = code_version()
    commit = (
        f"commit {version['commit'][:12]}"
        if version["commit"]
        else f"a version without a commit ({version['commit_reason']})"
    )
    changed = " with uncommitted changes" if version["dirty"] else ""
    return f"Made by run.py report at {commit}{changed}, {now:%Y-%m-%d %H:%M} UTC."
