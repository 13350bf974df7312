"""Which isolation this machine allows: the rungs of the ladder, tried from the top, and why not a higher one.

4 namespaces (bubblewrap, or our own) with files, processes and network of their own; 3 another user, for root without
namespaces; 2 landlock and seccomp, for an ordinary user; 1 seccomp alone; 0 limits alone. Containers and clusters
refuse different things, so every rung is tried with a real worker (`self_check`), never assumed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from common.errors import PipelineError, UsageError
from common.execution.enclosure import OWN_NAMESPACES, Isolation
from common.execution.landlock import landlock_abi
from common.execution.results import EvaluationResult
from common.execution.self_check import CheckFailedError, check_honest_programs, check_reach, check_verdicts
from common.execution.verdict import EvaluationPlan, judge
from common.execution.worker_process import WorkerDiedError, WorkerProcess, sandbox_broken

STRICT_RUNG = 2
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_EFAULT = 14


class Refusal(NamedTuple):
    """A way of isolating that this machine does not allow, and why."""

    what: str
    why: str


class Choice(NamedTuple):
    """The isolation that is used, what it leaves open to a sample, and the ways above it that failed."""

    isolation: Isolation
    open: tuple[str, ...]
    refusals: tuple[Refusal, ...]


class Way(NamedTuple):
    """One way of isolating: what it is called and, where it need not be tried, why."""

    name: str
    isolation: Isolation
    impossible: str | None = None


@cache
def choose_isolation(sandbox: str = "auto") -> Choice:
    """Returns the isolation for `sandbox`: auto (the best there is), strict (rung 2 or above), or one rung's number.

    Raises `PipelineError` where the machine does not reach it, `UsageError` for another word. Takes about 0.3 s, once.
    """
    wanted = _wanted(sandbox)
    refusals: list[Refusal] = []
    for way in ways():
        if way.isolation.rung in wanted:
            found = try_way(way)
            if not isinstance(found, Refusal):
                return Choice(way.isolation, found, tuple(refusals))
            refusals.append(found)
    raise _unreached(sandbox, refusals)


def try_way(way: Way) -> tuple[str, ...] | Refusal:
    """Returns what a sample still reaches in a way of isolating, or why this machine does not allow it."""
    if way.impossible is not None:
        return Refusal(way.name, way.impossible)
    try:
        try:
            return _try(way.isolation)
        except (CheckFailedError, WorkerDiedError, OSError):  # once more: a passing fault must not lower the rung
            return _try(way.isolation)
    except (CheckFailedError, WorkerDiedError, OSError) as error:
        unreadable = way.isolation.other_user and "ModuleNotFoundError" in str(error)
        return Refusal(way.name, f"another user cannot read this Python: {error}" if unreadable else str(error))


def _wanted(sandbox: str) -> range:
    if sandbox == "auto":
        return range(5)
    if sandbox == "strict":
        return range(STRICT_RUNG, 5)
    if sandbox in ("0", "1", "2", "3", "4"):
        return range(int(sandbox), int(sandbox) + 1)
    raise UsageError(f"sandbox {sandbox!r} is unknown; it is auto, strict, or a rung from 0 to 4")


def _unreached(sandbox: str, refusals: list[Refusal]) -> PipelineError:
    reasons = "; ".join(f"{what}: {why}" for what, why in refusals)
    if sandbox in ("auto", "0"):
        return sandbox_broken(reasons)
    asked = f"rung {STRICT_RUNG} or above" if sandbox == "strict" else f"rung {sandbox}"
    return PipelineError(
        f"the sandbox does not reach {asked} on this machine ({reasons}); install bubblewrap, use a kernel with "
        "landlock, or accept less with --sandbox auto"
    )


def ways() -> Iterator[Way]:
    """Yields every way of isolating, the strongest first."""
    linux, root = sys.platform.startswith("linux"), os.geteuid() == 0
    not_linux = None if linux else "needs Linux"
    seccomp, abi = linux and _takes_filters(), landlock_abi() if linux else 0
    bubblewrap = shutil.which("bwrap")
    missing = not_linux or (None if bubblewrap else "bwrap is not installed (Debian, Ubuntu, Fedora: bubblewrap)")
    filters = None if seccomp else "the kernel takes no seccomp filter here"
    locks = None if abi else "the kernel offers no landlock here"
    users = (True, False) if root else (False,)
    for name, program, why in (("bubblewrap", bubblewrap, missing), ("namespaces", OWN_NAMESPACES, not_linux)):
        for other_user in users:
            # A sample of the worker's own user could change the worker's limits, but for the filter.
            reason = why or (None if other_user else filters)
            yield Way(_named(name, other_user), Isolation(4, program, other_user, seccomp=seccomp), reason)
            if why is not None:
                break
    both = not_linux or " and ".join(filter(None, (filters, locks))) or None
    yield Way(
        "another user", Isolation(3, None, True, abi, seccomp), not_linux or (None if root else "needs root") or both
    )
    yield Way("landlock", Isolation(2, None, False, abi, seccomp), both)
    for other_user in users:
        yield Way(_named("seccomp", other_user), Isolation(1, None, other_user, seccomp=seccomp), not_linux or filters)
    for other_user in users if linux else (False,):
        yield Way(_named("limits", other_user), Isolation(0, None, other_user))


def _named(name: str, other_user: bool) -> str:
    return f"{name} with another user" if other_user else name


def _takes_filters() -> bool:
    """Tells whether seccomp filters can be installed: the call with no filter fails for want of one, and only so."""
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = ctypes.c_ulong(0)
    libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(_MODE_FILTER), nothing, nothing, nothing)
    return ctypes.get_errno() == _EFAULT


def _try(isolation: Isolation) -> tuple[str, ...]:
    """Starts a worker and tries it; returns what a sample reaches. Raises where the isolation does not hold."""
    worker = WorkerProcess(isolation)

    def evaluate(plan: EvaluationPlan) -> EvaluationResult:
        return judge(plan, worker.evaluate(plan))

    try:
        check_verdicts(evaluate)
        check_honest_programs(evaluate)
        return check_reach(evaluate, isolation.rung, enclosed=isolation.namespaces is not None).names
    except WorkerDiedError as error:
        words = worker.last_words()
        raise WorkerDiedError(f"{error}: {words}" if words else str(error)) from None
    finally:
        worker.close()
