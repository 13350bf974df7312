"""What a user says about a Slurm job, under the names that Slurm gives it."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import NamedTuple

from common.errors import UsageError

SLICES = 4
MINUTES = 240
# Slurm sends its warning this long before the end, so that a worker has time to save.
WARNING_SECONDS = 90
# What the engine itself settles, with what a user would want instead.
_OWN = {
    "array": "--slices and --array-parallelism",
    "ntasks": "--slices: a task is one process",
    "output": "nothing: the logs lie in the phase's directory",
    "error": "nothing: the logs lie in the phase's directory",
    "job-name": "nothing: the array is found again by its name",
    "open-mode": "nothing: logs are appended to",
    "chdir": "the directory from which you start",
    "signal": "nothing: workers are warned before the time limit",
    "no-requeue": "nothing: a requeued slice goes on where it was",
    "wrap": "--setup",
}


class SlurmOptions(NamedTuple):
    """The settings of a job array; None leaves a setting to the cluster."""

    minutes: int = MINUTES
    partition: str | None = None
    account: str | None = None
    mem: str | None = None
    gpus_per_task: str | None = None
    cpus_per_task: int | None = None
    array_parallelism: int | None = None
    extra: tuple[tuple[str, str | None], ...] = ()
    setup: tuple[str, ...] = ()

    @property
    def warning_seconds(self) -> int:
        """How long before its time limit a task is told to save: of a short one, a quarter."""
        return min(WARNING_SECONDS, self.minutes * 15)

    def asks_for_gpus(self) -> bool:
        """Says whether a task gets a GPU."""
        if self.gpus_per_task is not None:
            return True
        return any(key.startswith("gpus") or (value or "").startswith("gpu") for key, value in self.extra)

    def settings(self) -> dict[str, str | None]:
        """Returns the options of `sbatch` that these are, with their values (None: an option without one)."""
        given = {
            "partition": self.partition,
            "account": self.account,
            "time": str(self.minutes),
            "nodes": "1",
            "ntasks": "1",
            "mem": self.mem,
            "gpus-per-task": self.gpus_per_task,
            "cpus-per-task": None if self.cpus_per_task is None else str(self.cpus_per_task),
        }
        settings: dict[str, str | None] = {key: value for key, value in given.items() if value is not None}
        return {**settings, "requeue": None, **dict(self.extra)}


def add_slurm_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `--engine slurm` to a command line."""
    group = parser.add_argument_group("Slurm (--engine slurm)")
    group.add_argument("--slices", type=int, metavar="N", help=f"tasks of the array, a slice each (default: {SLICES})")
    group.add_argument("--partition", metavar="NAME", help="the partition to queue in (default: the cluster's)")
    group.add_argument("--account", metavar="NAME", help="the account that is charged (default: yours)")
    group.add_argument(
        "--time",
        metavar="TIME",
        help="time limit of a task: minutes, HH:MM:SS or D-HH:MM:SS; a task that meets it is saved, requeued and goes "
        f"on (default: {MINUTES} minutes)",
    )
    group.add_argument("--mem", metavar="SIZE", help="memory of a task: 32G (default: the cluster's)")
    group.add_argument("--gpus-per-task", metavar="[TYPE:]N", help="GPUs of a task, normally 1")
    group.add_argument("--cpus-per-task", type=int, metavar="N", help="cores of a task (default: the cluster's)")
    group.add_argument("--array-parallelism", type=int, metavar="N", help="tasks that may run at the same time")
    group.add_argument(
        "--slurm-extra",
        action="append",
        metavar="KEY[=VALUE]",
        help="any other option of sbatch: qos=high, constraint=a100, exclusive (repeatable)",
    )
    group.add_argument(
        "--setup",
        action="append",
        metavar="COMMAND",
        help='a shell command to run before the worker: "module load cuda" (repeatable)',
    )
    group.add_argument("--script-only", action="store_true", help="write the array's script for sbatch; submit nothing")
    group.add_argument("--cancel", action="store_true", help="cancel this phase's array; what was finished is kept")


def slurm_options(parsed: argparse.Namespace) -> SlurmOptions:
    """Returns the settings that were given; raises `UsageError` for one that Slurm could not understand."""
    return SlurmOptions(
        minutes=MINUTES if parsed.time is None else minutes_of(parsed.time),
        partition=parsed.partition,
        account=parsed.account,
        mem=_memory(parsed.mem),
        gpus_per_task=_gpus(parsed.gpus_per_task),
        cpus_per_task=_positive("--cpus-per-task", parsed.cpus_per_task),
        array_parallelism=_positive("--array-parallelism", parsed.array_parallelism),
        extra=tuple(_extra(text) for text in parsed.slurm_extra or []),
        setup=tuple(parsed.setup or []),
    )


def slices_asked(parsed: argparse.Namespace) -> int:
    """Returns how many tasks the array shall have."""
    return _positive("--slices", parsed.slices) or SLICES


def minutes_of(text: str) -> int:
    """Returns a time limit in minutes, rounded up, from any form that `sbatch --time` knows but no limit at all."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        raise UsageError(f"--time {text}: write minutes (90), HH:MM:SS (01:30:00) or D-HH:MM:SS (1-12:00:00)")
    days, first, second, third = (int(part or 0) for part in match.groups())
    if match[1] is None and match[4] is None:
        seconds = first * 60 + second  # minutes, or minutes:seconds
    else:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    if seconds < 60:
        raise UsageError(f"--time {text}: a task needs at least a minute")
    return math.ceil(seconds / 60)


def cut_off(parsed: argparse.Namespace) -> list[str]:
    """Returns the options of Slurm's that were given, for a refusal where another engine runs."""
    names = ("slices", "partition", "account", "time", "mem", "gpus_per_task", "cpus_per_task", "array_parallelism")
    names += ("slurm_extra", "setup", "script_only", "cancel")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(parsed, name, None)]


def script_path(slices: Path) -> Path:
    """Returns where the script of `--script-only` lies."""
    return slices / "slurm_array.sh"


def _positive(option: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise UsageError(f"{option} {value}: give a number from 1")
    return value


def _memory(text: str | None) -> str | None:
    if text is not None and re.fullmatch(r"[1-9]\d*[KMGT]?B?", text, re.IGNORECASE) is None:
        raise UsageError(f"--mem {text}: write a size such as 32G (a number alone is megabytes)")
    return text


def _gpus(text: str | None) -> str | None:
    if text is not None and re.fullmatch(r"(?:[\w.-]+:)?[1-9]\d*", text) is None:
        raise UsageError(f"--gpus-per-task {text}: write a number, or a type and a number such as a100:1")
    return text


def _extra(text: str) -> tuple[str, str | None]:
    key, equals, value = text.strip().partition("=")
    key = key.lstrip("-").replace("_", "-")
    if re.fullmatch(r"[a-z][a-z0-9-]*", key) is None or (equals and not value):
        raise UsageError(f"--slurm-extra {text}: write KEY=VALUE as sbatch knows it (qos=high), or KEY (exclusive)")
    if key in _OWN:
        raise UsageError(f"--slurm-extra {text}: the launcher settles {key} itself; use {_OWN[key]}")
    return key, value if equals else None
