"""A real Slurm of one node on loopback, run by the present user out of a temporary directory.

Its daemons (munged, slurmctld, slurmd) come from Debian's `slurm-wlm` and `munge`. No accounting, no cgroups: `sacct`
knows nothing, processes are followed through `/proc`. Only processes that were started here are ended, by their ids.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
SBIN = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/sbin"))
START_SECONDS = 60.0
GPUS = 2
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
PlugStackConfig={root}/plugstack.conf
JobRequeue=1
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=60
KillWait=15
MinJobAge={remembered_seconds}
InactiveLimit=0
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=200000,batch_sched_delay=1,bf_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=tests Nodes={host} Default=YES MaxTime=120 DefaultTime=10 DefMemPerCPU=100 State=UP OverSubscribe=NO
"""


class NoCluster(Exception):
    """Slurm is not to be had here, or does not start; the message says why."""


class SlurmCluster:
    """One node, started on entering and ended on leaving; raises `NoCluster` where that is impossible.

    `cpus` may exceed this machine's; finished jobs are forgotten by `scontrol` after `remembered_seconds`.
    """

    def __init__(self, cpus: int = 4, remembered_seconds: int = 300) -> None:
        self.cpus, self.remembered_seconds = cpus, remembered_seconds
        self.host = socket.gethostname().split(".")[0]
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        missing = [name for name in BINARIES if _which(name) is None]
        if missing:
            raise NoCluster(f"no Slurm here: {', '.join(missing)} not found (Debian: slurm-wlm, munge)")
        # A short name: the path of munge's socket may have 107 characters.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))
        try:
            self._configure()
            self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):
            self.ask("scancel", "--user", getpass.getuser(), check=False)
            _until(lambda: not self.ask("squeue", "--noheader", check=False).strip(), 20)
        for daemon in reversed(self._daemons):
            _end(daemon)
        self._daemons.clear()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs to find this cluster."""
        return {"SLURM_CONF": str(self.root / "slurm.conf")}

    def ask(self, *command: str, check: bool = True) -> str:
        """Runs one of Slurm's commands and returns what it printed."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def node(self, state: str) -> None:
        """Sets the node's state, as an administrator does: down, resume, drain."""
        self.ask("scontrol", "update", f"NodeName={self.host}", f"State={state}", "Reason=test")

    def is_on_the_node(self, job: str) -> bool:
        """Says whether the node still has a step of the job with this number in hand: one that ended takes a while."""
        return any((self.root / "spool").glob(f"{self.host}_{job}.*"))

    def queue(self, form: str = "%i|%T|%r") -> list[str]:
        """Returns the lines of `squeue`, one an array task."""
        return self.ask("squeue", "--noheader", "--array", f"--format={form}").split("\n")[:-1]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits until `condition` holds; fails with the state of the cluster after `seconds`."""
        if not _until(condition, seconds):
            raise AssertionError(f"it never came to that: {self.queue()}\n{self.logs()}")

    def logs(self) -> str:
        """Returns the end of the daemons' logs."""
        return "\n".join(f"{path.name}:\n{_tail(path)}" for path in sorted(self.root.glob("*.log")))

    def _configure(self) -> None:
        for name in ("munge", "state", "spool"):
            (self.root / name).mkdir(mode=0o700)
        controller_port, node_port = _free_ports(2)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        text = CONFIGURATION.format(
            root=self.root,
            host=self.host,
            user=getpass.getuser(),
            controller_port=controller_port,
            node_port=node_port,
            cpus=self.cpus,
            gpus=GPUS,
            memory=memory * 9 // 10,
            remembered_seconds=self.remembered_seconds,
        )
        (self.root / "slurm.conf").write_text(text, encoding="utf-8")
        (self.root / "plugstack.conf").write_text("", encoding="utf-8")
        devices = [self.root / f"gpu{index}" for index in range(GPUS)]
        for device in devices:
            device.symlink_to("/dev/null")  # a character device is all that Slurm asks of a GPU
        lines = [f"NodeName={self.host} Name=gpu File={device}\n" for device in devices]
        (self.root / "gres.conf").write_text("".join(lines), encoding="utf-8")
        key = self.root / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def _start_daemons(self) -> None:
        munge = self.root / "munge"
        options = [f"--socket={munge}/socket", f"--key-file={munge}/key", f"--pid-file={munge}/pid"]
        options += [f"--seed-file={munge}/seed", f"--log-file={self.root}/munged.log"]
        self._start("munged", "--foreground", "--force", *options)
        self._ready(lambda: (munge / "socket").exists(), "munged")
        configuration = str(self.root / "slurm.conf")
        self._start("slurmctld", "-D", "-i", "-f", configuration)
        self._ready(lambda: "UP" in self.ask("scontrol", "ping", check=False), "slurmctld")
        self._start("slurmd", "-D", "-f", configuration, "-N", self.host)
        self._ready(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T", check=False).split(), "slurmd")

    def _start(self, name: str, *options: str) -> None:
        with open(self.root / f"{name}.out.log", "wb") as log:
            command = [str(_which(name)), *options]
            environment = {**os.environ, **self.environment}
            self._daemons.append(
                subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _ready(self, condition: Callable[[], bool], name: str) -> None:
        daemon = self._daemons[-1]
        if not _until(lambda: daemon.poll() is not None or condition(), START_SECONDS) or daemon.poll() is not None:
            raise NoCluster(f"{name} does not start here: {self.logs()}")


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=SBIN)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(timeout=15)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _free_ports(count: int) -> Sequence[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def cluster(cpus: int = 4, remembered_seconds: int = 300) -> Iterator[SlurmCluster]:
    """Runs a cluster for a fixture; skips its tests, saying why, where there is none to be had."""
    made = SlurmCluster(cpus, remembered_seconds)
    try:
        made.__enter__()
    except NoCluster as reason:
        pytest.skip(str(reason))
    try:
        yield made
    finally:
        made.__exit__()
