"""The launcher's command line, and the command lines of the processes that it starts.

The launcher takes every option of `run.py phase` and passes it on: to the process that opens the phase, to each worker
and to the merge, less what means nothing to each of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from cli.parser import EPILOG, Parser, pathway_options, phase_options
from cli.pathway_options import analysis_options
from common.errors import UsageError
from common.phases import PATHWAY, PhaseSpec
from common.profiles import REPOSITORY
from common.runs.slices import Span
from launcher import local, slurm

ENGINES = {"local": local, "slurm": slurm}
# What the launcher settles itself, or says anew to each process.
_OWN = frozenset({"device", "dry_run"})
_NOT_FOR_WORKERS = frozenset({*_OWN, "start", "end", "fresh", "select", "batch_size"})
_NOT_FOR_MERGING = frozenset({*_OWN, "fresh"})


def build_parser() -> argparse.ArgumentParser:
    """Returns the launcher's parser."""
    parser = Parser(
        prog="multi_gpu_launcher.py",
        description="Runs one phase in contiguous slices, one a device, and merges them.",
        epilog=f"A phase that cannot be sliced runs as one process on the first device. {EPILOG}",
    )
    parser.add_argument("--verbose", action="store_true", help="say more while working")
    what = f"the phase's id, as text: 2.10 is not 2.1; or {PATHWAY.id}: step 3 of the pathway analysis, in its targets"
    parser.add_argument("--phase", required=True, metavar="N", help=what)
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what runs workers (default: local)")
    phase_options(parser)
    analysis_options(parser.add_argument_group(f"the pathway analysis (--phase {PATHWAY.id})"))
    for engine in ENGINES.values():
        engine.add_options(parser)
    return parser


class Commands:
    """The command lines of one launch; `go_on` is the launcher's own, which goes on after any interruption."""

    def __init__(self, spec: PhaseSpec, parsed: argparse.Namespace) -> None:
        self.spec, self.parsed = spec, parsed
        self.go_on = shlex.join(
            ["python3", Path(sys.argv[0]).name, *(word for word in sys.argv[1:] if word != "--fresh")]
        )

    @property
    def on_this_machine(self) -> bool:
        """Whether workers share this machine's cores."""
        return self.parsed.engine == "local"

    def whole(self, device: str) -> tuple[str, ...]:
        """Returns the command of a phase that runs as one process."""
        return self._of(_OWN, device, *self._dry())

    def opening(self, device: str) -> tuple[str, ...]:
        """Returns the command that settles what stands and says what is left."""
        return self._of(_OWN, device, "--open", *self._dry())

    def worker(self, device: str, span: Span, batch_size: int, *more: str) -> tuple[str, ...]:
        """Returns the command of the worker on positions `span`."""
        words = ["--start", str(span.start), "--end", str(span.end), "--worker"]
        if self.spec is PATHWAY:  # its batches are of targets, and a setting of its own
            return self._of(_NOT_FOR_WORKERS - {"batch_size"}, device, *words, *more)
        return self._of(_NOT_FOR_WORKERS, device, *words, "--batch-size", str(batch_size), *more)

    def merging(self, device: str) -> tuple[str, ...]:
        """Returns the command that publishes what the workers made."""
        return self._of(_NOT_FOR_MERGING, device, "--merge")

    def _of(self, without: Collection[str], device: str, *more: str) -> tuple[str, ...]:
        verbose = ["--verbose"] if self.parsed.verbose else []
        known = _discovery_options if self.spec is PATHWAY else phase_options
        words = [*passed_on(self.parsed, without, known), "--device", device, *more, "--go-on", self.go_on]
        return (sys.executable, str(REPOSITORY / "run.py"), *verbose, *self.spec.words, *words)

    def _dry(self) -> list[str]:
        return ["--dry-run"] if self.parsed.dry_run else []


def passed_on(
    parsed: argparse.Namespace,
    without: Collection[str],
    options: Callable[[argparse.ArgumentParser], None] = phase_options,
) -> Iterator[str]:
    """Yields those of a phase's `options` that were given, as words of a command line."""
    for action in _actions(options):
        value, option = getattr(parsed, action.dest), action.option_strings[0]
        if action.dest in without or value is None or value is False:
            continue
        if value is True:
            yield option
        elif action.nargs == "+":
            yield from (option, *map(str, value))
        else:
            for item in value if isinstance(value, list) else [value]:
                yield f"{option}={item}"


def refuse_options_of_others(parsed: argparse.Namespace) -> None:
    """Raises `UsageError` for an option that means something to phases alone, or to the pathway analysis alone."""
    phases, analysis = ({item.dest: item for item in _actions(known)} for known in (phase_options, _discovery_options))
    foreign = phases.keys() - analysis.keys() if parsed.phase == PATHWAY.id else analysis.keys() - phases.keys()
    known = {**phases, **analysis}
    given = sorted(known[name].option_strings[0] for name in foreign if getattr(parsed, name) not in (None, False))
    if given:
        what = "nothing to the pathway analysis" if parsed.phase == PATHWAY.id else "something to --phase pathway alone"
        raise UsageError(f"{', '.join(given)}: it means {what}; leave it out")


def _discovery_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of step 3 of the pathway analysis."""
    command.add_argument("--start", type=int)
    command.add_argument("--end", type=int)
    for mode in ("--fresh", "--dry-run"):
        command.add_argument(mode, action="store_true")
    pathway_options(command)


def _actions(options: Callable[[argparse.ArgumentParser], None]) -> list[argparse.Action]:
    known = Parser(add_help=False)
    options(known)
    return known._actions
