"""The engine `local`: a process a device of this machine, each leading a process group of its own."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from common.config import Config
from common.errors import PipelineError
from common.runs.files import ensure_directory, writing
from common.runs.slices import Span
from launcher.devices import chosen_devices
from launcher.engine import COMMAND_MARK, Device, Ended, Place, Work

SAVING_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose devices."""
    group = parser.add_argument_group("this machine (--engine local)")
    group.add_argument("--gpus", metavar="I,J,…", help="GPUs to compute on, by number (default: all that are visible)")
    group.add_argument("--devices", metavar="D,E,…", help="devices of other kinds: cpu,cpu is two workers on the CPU")


def devices(parsed: argparse.Namespace, config: Config) -> list[Device]:
    """Returns the devices of this machine that are asked for."""
    return chosen_devices(parsed, config, os.environ)


def build(parsed: argparse.Namespace, place: Place) -> LocalEngine:  # noqa: ARG001
    """Returns the engine."""
    return LocalEngine(place.devices)


class LocalEngine:
    """Runs each worker as a process group of this machine; workers end with their launcher."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self.devices = devices
        self._running: dict[Span, subprocess.Popen[bytes]] = {}

    def attach(self) -> tuple[Span, ...]:
        """Returns nothing: workers do not outlive their launcher."""
        return ()

    def start(self, works: Sequence[Work]) -> None:
        """Starts a process for each piece of work; where one cannot be started, those before it are stopped."""
        try:
            for work in works:
                self._start(work)
        except BaseException:
            self.stop()
            raise

    def _start(self, work: Work) -> None:
        ensure_directory(work.log.parent)
        with writing(work.log):
            log = open(work.log, "ab")  # noqa: SIM115
        with log:
            log.write(f"{COMMAND_MARK[log.tell() == 0 :]}{shlex.join(work.command)}\n".encode())
            log.flush()
            self._running[work.span] = start_group(work.command, work.environment, log)

    def poll(self) -> list[Ended]:
        """Returns the workers that ended since the last call."""
        ended = []
        for span, process in list(self._running.items()):
            if has_exited(process):
                del self._running[span]
                signal_group(process, signal.SIGKILL)  # what it may have left behind
                code = process.wait()
                ended.append(Ended(span, code == 0, how_it_ended(code)))
        return ended

    def describe(self) -> str:
        """Returns the devices: "2 devices: cuda:0, cuda:1"."""
        names = ", ".join(device.name for device in self.devices)
        return f"{len(self.devices)} device{'s' if len(self.devices) > 1 else ''}: {names}"

    def stop(self) -> None:
        """Asks every worker to save and stop, and ends the groups that are still there after ten seconds."""
        processes, self._running = list(self._running.values()), {}
        stop_groups(processes)

    def leave(self) -> str | None:
        """Returns nothing: workers end with their launcher."""
        return None


def start_group(
    command: Sequence[str], environment: Mapping[str, str], output: IO[Any] | int | None, **more: Any
) -> Any:
    """Starts a process that leads a group of its own, and is told to stop when this process dies."""
    try:
        return subprocess.Popen(
            list(command),
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=more.pop("stderr", subprocess.STDOUT),
            start_new_session=True,
            preexec_fn=_end_with_parent(),
            **more,
        )
    except OSError as error:
        raise PipelineError(
            f"a process cannot be started: {error.strerror or error}; free processes or memory, then run again"
        ) from error


def stop_groups(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Sends SIGTERM to each process, and SIGKILL to its whole group after ten seconds, or at once when interrupted."""
    try:
        for process in processes:
            # Its group's other processes belong to it: it ends them itself, after it has saved.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        until = time.monotonic() + SAVING_SECONDS
        while time.monotonic() < until and not all(has_exited(process) for process in processes):
            time.sleep(0.05)
    finally:
        for process in processes:
            if process.returncode is None:
                signal_group(process, signal.SIGKILL)
                process.wait()


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Says whether a process has ended, and leaves it unreaped, so that its group's number stays its own."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to what is left of a process's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def how_it_ended(code: int) -> str:
    """Returns in words how a process ended."""
    if code == -signal.SIGKILL:
        return "signal 9 (killed, mostly for want of memory)"
    if code < 0:
        return f"signal {-code}"
    return f"exit {code}" if code else ""


def _end_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask
