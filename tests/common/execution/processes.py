"""What the system says of processes, read from /proc: who is below whom, who carries a mark, what they use."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from common.execution import EvaluationPool


class Process(NamedTuple):
    """One process: its id and its parent's, its state (Z for a zombie), and its children's page faults so far."""

    pid: int
    parent: int
    state: str
    faults_of_ended_children: int


def all_processes() -> list[Process]:
    """Returns every process that can be seen."""
    return [found for name in os.listdir("/proc") if name.isdigit() and (found := process(int(name))) is not None]


def process(pid: int) -> Process | None:
    """Returns one process, or None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Process(pid, int(fields[1]), fields[0], int(fields[8]))


def family(pid: int) -> list[Process]:
    """Returns all descendants of a process, zombies among them."""
    below: dict[int, list[Process]] = defaultdict(list)
    for item in all_processes():
        below[item.parent].append(item)
    found, pending = [], [pid]
    while pending:
        children = below[pending.pop()]
        found += children
        pending += [child.pid for child in children]
    return found


def outer_worker(pool: EvaluationPool, slot: int = 0) -> int:
    """Returns the process that a slot of the pool has started: the worker, or what keeps its namespaces."""
    worker = pool._slots[slot]._worker
    assert worker is not None
    return worker._process.pid


def inner_worker(pool: EvaluationPool, slot: int = 0) -> int:
    """Returns the process of a slot that serves samples: in namespaces the one child of what the pool has started."""
    outer = outer_worker(pool, slot)
    if pool.isolation.namespaces is None:
        return outer
    (inner,) = [item.pid for item in all_processes() if item.parent == outer]
    return inner


def worker_directory(pool: EvaluationPool, slot: int = 0) -> str:
    """Returns the private directory of a slot's worker as the pool sees it."""
    worker = pool._slots[slot]._worker
    assert worker is not None
    return worker._directory


def marked(mark: str) -> list[int]:
    """Returns the processes whose command line has `mark` among its words."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark.encode() in words:
                found.append(int(name))
    return found


def memory_mb(pid: int | str = "self", what: str = "VmRSS") -> float:
    """Returns a process's resident memory, or its peak (VmHWM), in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    assert match is not None, status
    return int(match.group(1)) / 1024


def forget_peak_memory() -> None:
    """Makes this process's VmHWM start anew."""
    Path("/proc/self/clear_refs").write_text("5")
