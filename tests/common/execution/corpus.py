"""The corpus of hostile and odd programs: reading it, and running one of it with an eye on what it may do besides.

A row has `id`, `category`, `code`, `test_list`, `expected` (fail, timeout or pass), `why`; sometimes `also_ok` (other
right outcomes), `open_below` (the rung from which the expected outcome must hold) and `side` (what must hold
afterwards). `@CANARY@` stands for a directory outside the sandbox, `@VICTIM@` for the id of another process.
Imports only the standard library and the sandbox, so that any Python can run it as any user.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from common.execution import EvaluationPool, EvaluationResult
from tests.common.execution.processes import forget_peak_memory, marked, memory_mb
from tests.common.execution.surroundings import (
    SYSTEM_V_KEY,
    Canary,
    Service,
    SharedMemory,
    TemporaryPlace,
    Victim,
    remove,
    remove_system_v,
)

CATEGORIES = frozenset(
    {"fake_success", "fake_success_targeted", "hang", "crash", "containment", "exfiltration", "tamper", "resource"}
    | {"syntax", "no_code", "exception", "benign", "isolation"}
)
SIDES = frozenset(
    {"file_intact", "max_detail", "max_eval_cpu", "max_eval_rss_mb", "max_wall", "no_ipc", "no_litter", "no_process"}
    | {"opaque_if_failed", "quiet", "same_worker", "victim_alive"}
)
# Programs that take longer than two seconds though their category does not say so.
SLOW = frozenset(
    {"bomb_of_zeros", "memory_of_children_together", "trickle_into_the_verdict", "worker_stopped_again_and_again"}
)
# What the corpus that comes with the design leaves to be said.
_OPEN_BELOW = {"network_loopback": 1, "delete_files": 2, "kill_parent": 0, "stop_parent": 0}
_KEY = "s3cret-9a1"
_SECONDS, _RESCUES = 50.0, 10
_MAX_WALL, _MAX_CPU, _MAX_GROWTH_MB, _MAX_ERROR = 30.0, 2.0, 64.0, 300
_APPEARING_SECONDS, _ENDING_SECONDS = 0.3, 1.0

Program = dict[str, Any]


def load_corpus(path: Path) -> list[Program]:
    """Returns the programs of a corpus; raises `ValueError` for a row that this runner would not understand."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for row in rows:
        unknown = set(row.get("side", {})) - SIDES
        if row["category"] not in CATEGORIES or unknown or row["expected"] not in ("fail", "timeout", "pass"):
            raise ValueError(f"{path.name}: {row['id']}: category, expected outcome or sides {sorted(unknown)} unknown")
    return rows


def is_slow(program: Program) -> bool:
    """Tells whether a program takes more than about two seconds."""
    return program["category"] == "hang" or program["id"] in SLOW


def open_below(program: Program) -> int:
    """Returns the rung from which the expected outcome must hold."""
    return program.get("open_below", _OPEN_BELOW.get(program["id"], 0))


class Verdict(NamedTuple):
    """How a program ended, and what it did besides.

    `ended` is pass, timeout or fail; raised or silent where the pool gave no result.
    """

    ended: str
    right: bool
    problems: list[str]
    result: EvaluationResult | None
    wall_seconds: float


class Runner:
    """Runs programs of the corpus through a pool that is made inside this context."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(_variable("ATTACK_CANARY_KEY", _KEY))
            self.place = TemporaryPlace()
            stack.callback(self.place.close)
            self.canary = Canary(self.place.directory)
            self.victim = Victim()
            stack.callback(lambda: self.victim.close())
            self._shared = SharedMemory(f"s3cret-shm {self.canary.directory}")
            stack.callback(self._shared.close)
            service = Service(self.canary.socket_path, f"\0sandbox{self.canary.directory}")
            stack.callback(service.close)
            self.canary.problems()
            self._entries = self._first = Counter[str]()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, pool: EvaluationPool, program: Program) -> Verdict:
        """Returns how a program ended, whether that is right, and everything else that it did and must not do."""
        program = self._placed(program)
        side = program.get("side", {})
        if not self._first:
            self._entries = self._first = self.place.entries()
        worker = _worker(pool) if "same_worker" in side else None
        spent = _Spent(side)
        with _output() as output:
            ended, result, problems = self._ask(pool, program)
        problems += spent.problems() + self._disturbed()
        if "quiet" in side and output:
            problems.append(f"on standard output or error: {output[0][:80]!r}")
        if "same_worker" in side and worker != _worker(pool):
            problems.append("the worker is another one")
        if result is not None:
            problems += _about(result, side, failed=ended != "pass")
        problems += _left(side) + (remove_system_v(SYSTEM_V_KEY + self.victim.pid) if "no_ipc" in side else [])
        right = ended in (program["expected"], *program.get("also_ok", ()))
        return Verdict(ended, right, problems, result, spent.wall_seconds)

    def _placed(self, program: Program) -> Program:
        """Returns the program with its placeholders filled, so that runners beside this one are left alone."""
        text = json.dumps(program)
        for mark, value in (("@CANARY@", str(self.canary.directory)), ("@VICTIM@", str(self.victim.pid))):
            text = text.replace(mark, value)
        return json.loads(text)

    def _ask(self, pool: EvaluationPool, program: Program) -> tuple[str, EvaluationResult | None, list[str]]:
        future = pool.submit(program["code"], program["test_list"])
        problems = self._wait(future)
        try:
            result = future.result(timeout=0)
        except concurrent.futures.TimeoutError:
            return "silent", None, problems
        except Exception as error:
            return "raised", None, [*problems, f"the pool raised {type(error).__name__}: {str(error)[:200]}"]
        return "pass" if result else "timeout" if result.outcome == "timeout" else "fail", result, problems

    def _wait(self, future: concurrent.futures.Future[EvaluationResult]) -> list[str]:
        """Waits for a result, and frees whoever waits for it in a trap; returns what was wrong."""
        if not concurrent.futures.wait([future], _SECONDS).not_done:
            return []
        problems = [f"no verdict within {_SECONDS:g} s"]
        for _ in range(_RESCUES):
            problems += self._release_readers()
            if not concurrent.futures.wait([future], 3.0).not_done:
                break
        return problems

    def _release_readers(self) -> list[str]:
        """Opens named pipes for whoever waits to read them."""
        told = []
        for path in self.place.pipes():
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                told.append(f"somebody waited to read {os.path.basename(path)}")
        return told

    def _disturbed(self) -> list[str]:
        """Returns what has become of everything around the sandbox, and puts it right."""
        problems = self.canary.problems() + self._shared.problems()
        if found := self.victim.problems():
            problems += found
            self.victim.close()
            self.victim = Victim()
        entries = self.place.entries()
        new = sorted(name for name, count in entries.items() if count > max(self._first[name], self._entries[name]))
        self._entries = entries
        return problems + ([f"left: {', '.join(new[:5])} ({len(new)} in all)"] if new else [])


class _Spent:
    """What one evaluation costs this process."""

    def __init__(self, side: dict[str, Any]) -> None:
        self._side = side
        self.wall_seconds = 0.0
        forget_peak_memory()
        self._memory = memory_mb()
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def problems(self) -> list[str]:
        """Returns which costs are above what is allowed."""
        cpu, self.wall_seconds = time.process_time() - self._cpu, time.monotonic() - self._wall
        grown = memory_mb(what="VmHWM") - self._memory
        limits = (
            (self.wall_seconds, self._side.get("max_wall", _MAX_WALL), "took {:.1f} s"),
            (cpu, self._side.get("max_eval_cpu", _MAX_CPU), "made this process compute for {:.1f} s"),
            (grown, self._side.get("max_eval_rss_mb", _MAX_GROWTH_MB), "made this process grow by {:.0f} MB"),
        )
        return [words.format(value) for value, limit, words in limits if value > limit]


def _about(result: EvaluationResult, side: dict[str, Any], *, failed: bool) -> list[str]:
    """Returns what is wrong with a result apart from its outcome."""
    problems = []
    text = result.error_message
    if len(text) > min(_MAX_ERROR, side.get("max_detail", _MAX_ERROR)):
        problems.append(f"an error text of {len(text)} characters")
    if text.encode("utf-8", "replace").decode("utf-8") != text:
        problems.append(f"an error text that cannot be written: {text[:80]!a}")
    if side.get("opaque_if_failed") and failed and not result.opaque:
        problems.append("failed without being marked as opaque")
    return problems


def _left(side: dict[str, Any]) -> list[str]:
    """Returns what was left behind of the things that `side` names, and removes it."""
    problems = []
    litter = side.get("no_litter", [])
    for path in [litter] if isinstance(litter, str) else litter:
        if os.path.lexists(path):
            problems.append(f"left: {path}")
            remove(path)
    if "file_intact" in side and not Path(side["file_intact"]).is_file():
        problems.append(f"{side['file_intact']} is gone")
    if "no_process" in side:
        problems += _survivors(side["no_process"])
    return problems


def _survivors(command: str) -> list[str]:
    """Returns whether processes with the last word of `command` are there after a moment, and ends them."""
    time.sleep(_APPEARING_SECONDS)
    mark, end = command.split()[-1], time.monotonic() + _ENDING_SECONDS
    while (found := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in found:
        with suppress(OSError):
            os.kill(pid, 9)
    return [f"{len(found)} processes survive: {command}"] if found else []


def _worker(pool: EvaluationPool) -> list[int]:
    """Returns the processes that the pool's slots have started."""
    return [slot._worker._process.pid for slot in pool._slots if slot._worker is not None]


@contextmanager
def _output() -> Iterator[list[bytes]]:
    """Keeps what this process and its children write to standard output and error; it is there when this is left."""
    words: list[bytes] = []
    with tempfile.TemporaryFile(dir="..") as file:
        with ExitStack() as stack:
            for descriptor in (1, 2):
                before = os.dup(descriptor)
                stack.callback(os.close, before)
                stack.callback(os.dup2, before, descriptor)
                os.dup2(file.fileno(), descriptor)
            yield words
        file.seek(0)
        if kept := file.read(1_000_000):
            words.append(kept)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    kept = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if kept is None:
            del os.environ[name]
        else:
            os.environ[name] = kept
