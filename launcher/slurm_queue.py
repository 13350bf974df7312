"""What Slurm says of a job array: asked of `scontrol`, and of `sacct` for what `scontrol` has forgotten.

`sacct` knows nothing on a cluster without accounting, so nothing rests on it alone. `scontrol show job` answers for a
whole array in one call: state, reason, exit code, node and restarts of each task, also of tasks that ended in the
last minutes (`MinJobAge`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from common.errors import PipelineError, UsageError

ANSWER_SECONDS = 30.0
# Every other state is one in which a task is still to run, runs, or is being cleaned up.
FORGOTTEN = "FORGOTTEN"
ENDED_STATES = frozenset(
    (FORGOTTEN, "COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "CANCELLED", "PREEMPTED", "BOOT_FAIL")
    + ("DEADLINE", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL")
)
UNKNOWN_JOB = "Invalid job id"
_CAUSES = {
    "TIMEOUT": "its time limit; raise --time",
    "OUT_OF_MEMORY": "out of memory; raise --mem",
    "CANCELLED": "cancelled",
    "PREEMPTED": "preempted by another job",
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "its deadline",
    FORGOTTEN: "ended while nobody waited, and Slurm no longer knows how (no accounting)",
}
_ADVICE = {
    "BeginTime": "Slurm lets a requeued task wait about two minutes",
    "JobHeldUser": "held: scontrol release {job}",
    "JobHeldAdmin": "held by an administrator: ask them, or scontrol release {job}",
    "launch_failed_requeued_held": "could not be launched and is held; when the node is well: scontrol release {job}",
    "PartitionTimeLimit": "--time is more than this partition allows: --cancel, then a shorter --time",
    "PartitionDown": "see sinfo",
    "PartitionInactive": "see sinfo",
    "ReqNodeNotAvail": "see sinfo -R",
    "Nodes_required_for_job_are_DOWN": "see sinfo -R",
    "AssocGrp": "your account's limit is reached",
    "QOS": "the limit of your quality of service is reached",
}


class Task(NamedTuple):
    """One task of an array as Slurm sees it; `code` and `signal` are how its command ended."""

    state: str
    reason: str = ""
    code: int = 0
    signal: int = 0
    node: str = ""
    restarts: int = 0

    @property
    def ended(self) -> bool:
        """Whether the task has ended for good."""
        return self.state in ENDED_STATES

    def cause(self) -> str:
        """Returns why a task that ended badly did, in words."""
        where = f" on {self.node}" if self.node else ""
        if self.state == "NODE_FAIL":
            return f"node failure{where}; its slice is computed by the same command again"
        if self.state in _CAUSES:
            return _CAUSES[self.state]
        signal = self.signal or (self.code - 128 if self.code > 128 else 0)
        if signal == 9:
            return f"signal 9{where}, mostly for want of memory: raise --mem"
        if signal:
            return f"signal {signal}{where}"
        if self.code:
            return f"exit {self.code}{where}"
        return self.state.lower().replace("_", " ") + where


def ask(*command: str) -> str:
    """Runs one of Slurm's commands and returns what it printed; raises `PipelineError` with what it complained of."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except FileNotFoundError:
        raise UsageError(f"{command[0]} is not to be found: no Slurm here; {NO_SLURM}") from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"{command[0]} did not answer within {ANSWER_SECONDS:.0f} s; {TRY_AGAIN}") from None
    if done.returncode:
        complaint = " ".join((done.stderr or done.stdout).split()) or f"exit {done.returncode}"
        raise PipelineError(f"{' '.join(command)}: {complaint}; {TRY_AGAIN}")
    return done.stdout


NO_SLURM = "start from a login node of the cluster, or use --engine local"
TRY_AGAIN = "run the same command again when Slurm answers (`sinfo`)"


def require_slurm() -> None:
    """Raises `UsageError` where Slurm's commands are not to be found."""
    for name in ("sbatch", "srun", "scontrol", "squeue", "scancel"):
        if shutil.which(name) is None:
            raise UsageError(f"--engine slurm: {name} is not to be found: no Slurm here; {NO_SLURM}")


def read_array(job: str, name: str) -> dict[int, Task]:
    """Returns the tasks of job array `job` that Slurm still knows, by index; none where the job is another's now.

    Raises `PipelineError` where Slurm does not answer.
    """
    if not job:
        return {}
    try:
        return parse_jobs(ask("scontrol", "--oneliner", "show", "job", job), name)
    except PipelineError as error:
        if UNKNOWN_JOB in str(error):
            return {}
        raise


def read_accounting(job: str) -> dict[int, Task]:
    """Returns what the accounting knows of an array's tasks; nothing on a cluster without one."""
    fields = "JobID,State,ExitCode,NodeList"
    try:
        return parse_accounting(ask("sacct", "-X", "--noheader", "--parsable2", f"--format={fields}", "-j", job))
    except PipelineError:
        return {}


def find_job(name: str) -> str | None:
    """Returns the id of the array with this name that is in the queue, None where there is none."""
    found = ask("squeue", "--noheader", f"--name={name}", "--format=%F").split()
    return found[0] if found else None


def node_trouble(node: str) -> str:
    """Returns what is wrong with a node ("down: Not responding"), or nothing where it is well or unknown."""
    try:
        lines = ask("sinfo", "--noheader", f"--nodes={node}", "--format=%T|%E").splitlines()
    except PipelineError:
        return ""
    state, _, why = (lines[0] if lines else "").partition("|")
    bad = (
        any(word in state.lower() for word in ("down", "drain", "fail", "no_respond", "not_responding")) or "*" in state
    )
    return f"{state}: {why}" if bad else ""


def parse_jobs(text: str, name: str) -> dict[int, Task]:
    """Reads `scontrol --oneliner show job`: a line a task, tasks that wait together on one line."""
    tasks: dict[int, Task] = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(?:^|\s)([A-Z][\w:/]*)=(\S*)", line))
        if fields.get("JobName") == name:
            tasks.update(dict.fromkeys(indices(fields.get("ArrayTaskId", "0")), _task(fields)))
    return tasks


def parse_accounting(text: str) -> dict[int, Task]:
    """Reads lines `JobID|State|ExitCode|NodeList` of `sacct`; tasks that wait together are left to `scontrol`."""
    tasks = {}
    for line in text.splitlines():
        job, state, exit_code, node = (line.split("|") + ["", "", ""])[:4]
        match = re.fullmatch(r"\d+(?:_(\d+))?", job)
        if match is not None and state:
            code, signal = _exit(exit_code)
            # "CANCELLED by 1000", "CANCELLED+"
            tasks[int(match[1] or 0)] = Task(state.split()[0].rstrip("+"), "", code, signal, _node(node))
    return tasks


def indices(text: str) -> list[int]:
    """Returns the indices that Slurm writes as `3`, `0-3`, `0-9:3`, `1,4-5` or `0-3%2`."""
    found: list[int] = []
    for part in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", part)
        if match is not None:
            found += range(int(match[1]), int(match[2] or match[1]) + 1, int(match[3] or 1))
    return found


def worded(job: str, tasks: Iterable[Task]) -> str:
    """Returns how many tasks run, wait (and why), and are done: "2 running, 1 pending (Resources), 1 done"."""
    counts: dict[str, int] = {}
    for task in tasks:
        counts[_word(job, task)] = counts.get(_word(job, task), 0) + 1
    order = sorted(counts, key=lambda word: (not word.startswith("running"), not word.startswith("pending"), word))
    return ", ".join(f"{counts[word]} {word}" for word in order) or "nothing known yet"


def _word(job: str, task: Task) -> str:
    if task.state == "COMPLETED":
        return "done"
    if task.state != "PENDING":
        return task.state.lower().replace("_", " ")
    advice = next((text for start, text in _ADVICE.items() if task.reason.startswith(start)), "")
    reason = task.reason.replace("_", " ").partition(",")[0]
    return f"pending ({reason}{': ' if advice else ''}{advice.format(job=job)})" if reason else "pending"


def _task(fields: Mapping[str, str]) -> Task:
    code, signal = _exit(fields.get("ExitCode", ""))
    reason = fields.get("Reason", "")
    restarts = int(fields.get("Restarts", "0") or 0)
    return Task(
        fields.get("JobState", "UNKNOWN"),
        "" if reason == "None" else reason,
        *(code, signal),
        _node(fields.get("NodeList", "")),
        restarts,
    )


def _exit(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _node(text: str) -> str:
    return "" if text in ("(null)", "None assigned", "") else text
