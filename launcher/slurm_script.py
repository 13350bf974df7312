"""`--script-only`: the job array as one script for people who submit by hand; needs neither submitit nor a launcher."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from common.runs.artifacts import PhasePaths
from common.runs.files import ensure_directory, write_bytes
from launcher.engine import Work
from launcher.slurm_array import submission_folder
from launcher.slurm_options import SlurmOptions, script_path


def write_script(paths: PhasePaths, phase: str, works: Sequence[Work], options: SlurmOptions, merge: str) -> Path:
    """Writes the script and returns where it lies; `merge` is the command that publishes when every task is done."""
    path = script_path(paths.slices)
    ensure_directory(submission_folder(paths))
    text = script_text(path, phase, works, options, merge, submission_folder(paths) / "%A_%a.log")
    write_bytes(path, text.encode())
    path.chmod(0o755)
    return path


def how_to_use(path: Path, merge: str) -> str:
    """Returns what to do with the script."""
    return (
        f"wrote {path}; submit it with: sbatch {shlex.quote(str(path))}\n"
        f"when every task is done (squeue --me), merge with: {merge}"
    )


def script_text(path: Path, phase: str, works: Sequence[Work], options: SlurmOptions, merge: str, output: Path) -> str:
    """Returns the script: the options as `#SBATCH` lines, and the worker of each index."""
    step = "" if options.cpus_per_task is None else f" --cpus-per-task={options.cpus_per_task}"
    return "\n".join(
        [
            "#!/bin/bash",
            *_instructions(path, phase, works, merge),
            *_sbatch_lines(phase, works, options, output),
            "",
            *options.setup,
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            'case "$SLURM_ARRAY_TASK_ID" in',
            *(line for index, work in enumerate(works) for line in _case(index, work)),
            '*) echo "this array has tasks 0 to ' + str(len(works) - 1) + '" >&2; exit 2 ;;',
            "esac",
            f'exec srun{step} --unbuffered --output="$log" --open-mode=append "$@"',
            "",
        ]
    )


def _instructions(path: Path, phase: str, works: Sequence[Work], merge: str) -> list[str]:
    first, last, many = works[0].span.start, works[-1].span.end, len(works)
    return [
        f"# Phase {phase}, positions {first} to {last}, in {many} slice{'s' if many > 1 else ''}, a task each.",
        f"#   submit:  sbatch {shlex.quote(str(path))}",
        "#   watch:   squeue --me",
        "#   again:   the same sbatch, after a failure or a time limit: what was finished is kept and not done twice",
        "#   merge, when every task is done (and only then is there an output):",
        f"#     cd {shlex.quote(str(Path.cwd()))} && {merge}",
    ]


def _sbatch_lines(phase: str, works: Sequence[Work], options: SlurmOptions, output: Path) -> list[str]:
    parallel = "" if options.array_parallelism is None else f"%{options.array_parallelism}"
    lines = {
        "job-name": f"phase{phase}",
        "array": f"0-{len(works) - 1}{parallel}",
        **options.settings(),
        "signal": f"TERM@{options.warning_seconds}",
        "output": str(output),
        "open-mode": "append",
    }
    return [f"#SBATCH --{key}" + ("" if value is None else f"={shlex.quote(value)}") for key, value in lines.items()]


def _case(index: int, work: Work) -> list[str]:
    exports = [f"   export {name}={shlex.quote(value)}" for name, value in work.environment.items()]
    return [
        f"{index})",
        *exports,
        f"   log={shlex.quote(str(work.log.absolute()))}",
        f"   set -- {shlex.join(work.command)} ;;",
    ]
