"""Job arrays: how one is submitted through submitit, and the durable note by which it is found again.

The note, `slices/slurm.json` in the phase's directory, is written before the submission with the array's unique name,
and completed with its id: a launcher that dies in between finds the array by name and does not submit it twice.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import NamedTuple

from common.errors import PipelineError, UsageError
from common.profiles import REPOSITORY
from common.runs.artifacts import PhasePaths
from common.runs.files import ensure_directory, read_json, write_json
from common.runs.slices import Span
from launcher.engine import Work
from launcher.slurm_options import SlurmOptions
from launcher.slurm_queue import ask, find_job
from launcher.slurm_task import SlurmTask

# How often a task that met its time limit is requeued. Preemptions and lost nodes do not count.
REQUEUES = 20
_INSIDE_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_KEPT_INSIDE_A_JOB = ("SLURM_CONF", "SLURM_CLUSTERS")


class ArrayNote(NamedTuple):
    """A job array: its name, its id ("" before Slurm has given one), its slices in order of index, their logs."""

    name: str
    job: str
    slices: tuple[Span, ...]
    logs: tuple[str, ...]


def note_path(paths: PhasePaths) -> Path:
    """Returns where the note of the phase's array lies."""
    return paths.slices / "slurm.json"


def submission_folder(paths: PhasePaths) -> Path:
    """Returns where submitit keeps what it hands to the nodes, and what Slurm says around a worker's own log."""
    return paths.slices / "slurm"


def read_note(paths: PhasePaths) -> ArrayNote | None:
    """Returns the note of the array that was submitted last, with its id from the queue where the note lacks it."""
    path = note_path(paths)
    if not path.is_file():
        return None
    try:
        found = read_json(path)
        slices = tuple(Span(*span) for span in found["slices"])
        note = ArrayNote(str(found["name"]), str(found["job"]), slices, tuple(found["logs"]))
    except (KeyError, TypeError):
        raise PipelineError(f"{path} is damaged; look for its jobs in squeue, cancel them, and delete it") from None
    return note if note.job else note._replace(job=find_job(note.name) or "")


def write_note(paths: PhasePaths, note: ArrayNote) -> None:
    """Keeps the note of an array."""
    write_json(note_path(paths), {**note._asdict(), "slices": [list(span) for span in note.slices]})


def submit(paths: PhasePaths, phase: str, works: Sequence[Work], options: SlurmOptions) -> ArrayNote:
    """Submits one array with a task for each piece of work, and returns its note, which is kept."""
    name = f"phase{phase}-{secrets.token_hex(4)}"
    note = ArrayNote(name, "", tuple(work.span for work in works), tuple(str(work.log) for work in works))
    ensure_directory(submission_folder(paths))
    write_note(paths, note)
    try:
        note = note._replace(job=_submitted(paths, name, works, options))
    except BaseException:
        with suppress(PipelineError):
            if find_job(name) is None:
                note_path(paths).unlink(missing_ok=True)
        raise
    write_note(paths, note)
    return note


def slurm_log(paths: PhasePaths, job: str, index: int, tasks: int) -> Path:
    """Returns where Slurm's own log of a task lies: what was said before its worker began and after it ended."""
    task = f"{job}_{index}" if tasks > 1 else job
    return submission_folder(paths) / f"{task}_0_log.out"


def _submitted(paths: PhasePaths, name: str, works: Sequence[Work], options: SlurmOptions) -> str:
    try:
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError:
        raise UsageError("--engine slurm needs submitit: python3 -m pip install -r requirements.txt") from None
    executor = submitit.AutoExecutor(submission_folder(paths), cluster="slurm", slurm_max_num_timeout=REQUEUES)
    executor.update_parameters(**_parameters(name, options))
    reach = _signals_reach_every_process()
    tasks = [_task(paths, work, reach) for work in works]
    try:
        # submitit prints what sbatch complains of besides raising it
        with _outside_of_a_job(), redirect_stderr(io.StringIO()):
            jobs = executor.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(f"sbatch refused the array: {refusal(str(error))}; see --help, under Slurm") from None
    return jobs[0].job_id.partition("_")[0]


def refusal(text: str) -> str:
    """Returns what `sbatch` complained of, without its own name in front of every line, its conclusion once."""
    lines = [re.sub(r"^sbatch: (?:error|fatal): ", "", line).strip() for line in text.splitlines()]
    said = [re.sub(r"^Batch job submission failed: ", "", line) for line in lines if line]
    return "; ".join(dict.fromkeys(said)) or "it does not say why"


def _parameters(name: str, options: SlurmOptions) -> dict[str, object]:
    """Returns the settings as submitit names them; those that it does not know pass as they are."""
    settings = {key: True if value is None else value for key, value in options.settings().items()}
    del settings["time"], settings["nodes"]
    step = [] if options.cpus_per_task is None else [f"--cpus-per-task={options.cpus_per_task}"]
    parallel = {} if options.array_parallelism is None else {"slurm_array_parallelism": options.array_parallelism}
    return {
        "name": name,
        "timeout_min": options.minutes,
        "nodes": 1,
        "stderr_to_stdout": True,
        "slurm_signal_delay_s": options.warning_seconds,
        "slurm_setup": list(options.setup) or None,
        # Since Slurm 22.05 srun does not take the number of cores over from sbatch.
        "slurm_srun_args": step,
        # submitit's own module and ours are found from the directory of the project.
        "slurm_additional_parameters": {**settings, "chdir": str(REPOSITORY)},
        **parallel,
    }


def _task(paths: PhasePaths, work: Work, signals_reach_worker: bool) -> SlurmTask:
    return SlurmTask(
        work.span,
        work.command,
        work.log.absolute(),
        work.environment,
        directory=Path.cwd(),
        locks=paths.locks.absolute(),
        signals_reach_worker=signals_reach_worker,
    )


def _signals_reach_every_process() -> bool:
    """Says whether Slurm signals every process of a job (linuxproc) or only the one that it started."""
    return (
        re.search(r"^ProctrackType\s*=\s*proctrack/linuxproc", ask("scontrol", "show", "config"), re.MULTILINE)
        is not None
    )


@contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hides the variables of the Slurm job in which the launcher itself may run: `sbatch` takes some for options."""
    hidden = {}
    if "SLURM_JOB_ID" in os.environ:
        names = [name for name in os.environ if name.startswith(_INSIDE_A_JOB) and name not in _KEPT_INSIDE_A_JOB]
        hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)
