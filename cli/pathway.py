"""`run.py pathway`: the pathway and token analysis, steps 0 to 5."""

from __future__ import annotations

import argparse
import dataclasses

from cli.console import say
from cli.parser import resolved_config
from cli.plan import missing_models
from common.batch_size import sized
from common.errors import UsageError
from common.phases import get_phase
from common.runs.files import canonical_json
from common.runs.slices import refuse_reversed
from experiment_pathway_token_analysis.src.closing import closing_table
from experiment_pathway_token_analysis.src.discovery_parts import discovery_part, refuse_unready_discovery
from experiment_pathway_token_analysis.src.dry_run import blocks, describe
from experiment_pathway_token_analysis.src.orchestrator import Orchestrator, step_range
from experiment_pathway_token_analysis.src.paths import PathwayPaths, pathway_root
from experiment_pathway_token_analysis.src.settings import CONFIG_FILE, Settings, load_settings
from experiment_pathway_token_analysis.src.steps import Run

# Settings of the analysis that belong to no section of it; `seed` here is the analysis's own.
_WITHOUT_SECTION = tuple(item.name for item in dataclasses.fields(Settings) if item.type in ("int", "float"))


def pathway(parsed: argparse.Namespace) -> int:
    """Runs the steps from `--from` to `--to`, and ends with a table of what was found."""
    run = pathway_run(parsed)
    refuse_reversed(parsed.start, parsed.end)
    if parsed.worker or parsed.open or parsed.merge:
        return _part(run, parsed)
    if parsed.only_produce and (parsed.first is not None or parsed.last is not None):
        raise UsageError("--only-produce runs no step: leave --from and --to out")
    steps = () if parsed.only_produce else step_range(parsed.first, parsed.last)
    if parsed.dry_run:
        return _dry_run(run, steps, produce=not parsed.no_produce)
    orchestrator = Orchestrator(run, fresh=parsed.fresh)
    if parsed.only_produce:
        orchestrator.only_produce()
        return 0
    code = orchestrator.go(steps, produce=not parsed.no_produce)
    say(closing_table(run))
    return code


def pathway_run(parsed: argparse.Namespace) -> Run:
    """Returns the run that the parsed options ask for; a setting with a point in its name is the analysis's own."""
    given = parsed.set or []
    own = [pair for pair in given if _is_own(pair)]
    plain = argparse.Namespace(**{**vars(parsed), "phase": None, "set": [pair for pair in given if pair not in own]})
    resolved = resolved_config(plain)
    if parsed.limit is not None and parsed.limit < 1:
        raise UsageError(f"--limit {parsed.limit}: give a number from 1")
    settings = load_settings(resolved.profile.name, own, parsed.pathway_config or CONFIG_FILE)
    return Run(
        sized(resolved.config, get_phase("4.8")),  # its rows are steered ones, as this phase's are
        resolved.profile,
        settings,
        PathwayPaths(pathway_root(resolved.config)),
        limit=parsed.limit,
        force=parsed.force,
        strict=getattr(parsed, "strict", False),
        dry_run=parsed.dry_run,
    )


def ready_for_discovery(parsed: argparse.Namespace) -> Run:
    """Returns the run whose step 3 is to be cut into slices; refuses what it stands on where that is not there."""
    run = pathway_run(parsed)
    refuse_reversed(parsed.start, parsed.end)
    refuse_unready_discovery(run)
    return run


def _is_own(pair: str) -> bool:
    name = pair.partition("=")[0].strip()
    return "." in name or name in _WITHOUT_SECTION


def _dry_run(run: Run, steps: range | tuple[()], *, produce: bool) -> int:
    say(describe(run, steps, produce=produce))
    found = [*blocks(run, steps, produce=produce), *missing_models(run.profile, run.config, instruct=False)]
    say("\n".join(f"blocked: {line}" for line in found) if found else "nothing blocks it")
    return 0


def _part(run: Run, parsed: argparse.Namespace) -> int:
    """Does one process's part of step 3 in slices; a process that only opens it says what is left."""
    mode = "open" if parsed.open else "merge" if parsed.merge else "work"
    opened = discovery_part(run, mode, parsed.start, parsed.end, fresh=parsed.fresh, go_on=parsed.go_on)
    if opened is not None:
        say(canonical_json(opened._asdict()))
    return 0
