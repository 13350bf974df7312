"""Parses the command line, runs the command, and turns errors that a user can mend into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 unusable arguments or missing input, 130 interrupted (state kept).
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cli.parser import build_parser
from common.errors import PipelineError
from common.logging import setup_console
from common.profiles import REPOSITORY

INTERRUPTED = 130

# OpenMP's threads spin while they wait; beside other work on the same cores that makes small models ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Generated code is parsed in this process; its odd literals and escapes are no concern of the reader's.
warnings.filterwarnings("ignore", category=SyntaxWarning)


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    return exit_code(lambda: _command(arguments))


def exit_code(command: Callable[[], int]) -> int:
    """Runs a command; returns its exit code, after one line on standard error where it ended in an error."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return command()
    except PipelineError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted; what was finished is kept, run the same command again", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if is_ours(error.name):
            raise
        print(f"error: {how_to_install(error.name)}", file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def is_ours(module: str | None) -> bool:
    """Whether a module that cannot be found belongs to the repository, and is thus no package to be installed."""
    top = (module or "").partition(".")[0]
    return not top or (REPOSITORY / top).exists() or (REPOSITORY / f"{top}.py").exists()


def how_to_install(module: str | None) -> str:
    """Returns in one line that a package is missing, and which Python has it."""
    own = REPOSITORY / ".venv" / "bin" / "python"
    cure = f"use {own}" if own.is_file() and Path(sys.executable) != own else "pip install -r requirements.txt"
    return f"the package {module} is not installed for {sys.executable}; {cure} (make install puts all into .venv)"


def finish(code: int) -> NoReturn:
    """Ends the process with an exit code; a signal that comes as it winds down no longer changes that code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _command(arguments: Sequence[str]) -> int:
    parsed = build_parser().parse_args(list(arguments))
    setup_console(verbose=parsed.verbose)
    return parsed.command(parsed)


def _as_interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
