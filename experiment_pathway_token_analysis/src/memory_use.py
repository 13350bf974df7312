"""How much memory a step takes, and the ceiling that it keeps.

On CUDA the allocator's own peaks (allocated, reserved) count, read before anything resets them; elsewhere the process's
resident set: what it holds now, and its highest so far (`VmHWM`, which belongs to this program alone; where the system
has no /proc, `ru_maxrss`). The ceiling is looked at before each prompt; what would pass it ends as running out of
memory does, so that a smaller batch is tried.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from common.capacity import BYTES_PER_GB as GB
from common.errors import PipelineError
from common_simplified.halving import ran_out_of_memory, reason

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")  # "5" lets the highest resident set begin anew (proc(5))


class Peak(NamedTuple):
    """Highest memory use so far, bytes: of tensors, of what the allocator or the process holds, and where."""

    allocated: int
    reserved: int
    where: str

    def as_gb(self) -> dict[str, float | str]:
        """Returns the figures in GB, as they stand in a file."""
        return {"allocated": self.allocated / GB, "reserved": self.reserved / GB, "where": self.where}


class OverCeiling(PipelineError, MemoryError):
    """More memory is held than the ceiling allows: a smaller batch may do, otherwise the user must."""


class MemoryMeter:
    """Reads the memory that a device (or, on the CPU, this process) holds, against a ceiling in GB."""

    def __init__(self, device: torch.device, ceiling_gb: float) -> None:
        self.device, self.ceiling = device, int(ceiling_gb * GB)
        self._highest = 0

    def peak(self) -> Peak:
        """Returns the highest use since the last `reset`, or since the process began where that resets nothing."""
        if self.device.type == "cuda":
            return Peak(
                torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device), "device"
            )
        # The kernel counts loosely, in pages a processor: its highest may step back by some, this one does not.
        self._highest = max(self._highest, _status_bytes("VmHWM") or _highest_resident())
        return Peak(self._highest, self._highest, "process")

    def reset(self) -> Peak:
        """Returns the peak, read first, then begins a new one where the device can."""
        peak = self.peak()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with suppress(OSError):
                CLEAR.write_text("5", encoding="ascii")
                self._highest = 0
        return peak

    def now(self) -> int:
        """Returns the bytes that are held now."""
        if self.device.type == "cuda":
            return torch.cuda.memory_reserved(self.device)
        return _status_bytes("VmRSS") or _highest_resident()

    def check(self) -> None:
        """Raises `OverCeiling` where more is held than the ceiling allows."""
        held = self.now()
        if held > self.ceiling:
            raise OverCeiling(
                f"{held / GB:.2f} GB are held, memory_ceiling_gb is {self.ceiling / GB:g}; allow more with "
                "--set memory_ceiling_gb=N, or use a smaller dtype"
            )

    def refuse_over(self, what: str) -> None:
        """Raises `PipelineError` where the peak has passed the ceiling."""
        peak = self.peak()
        if peak.reserved > self.ceiling:
            raise PipelineError(
                f"{what} took {peak.reserved / GB:.2f} GB of {peak.where} memory, more than memory_ceiling_gb = "
                f"{self.ceiling / GB:g}; allow more with --set memory_ceiling_gb=N, or use a smaller dtype"
            )


@contextmanager
def lack_of_memory_named(what: str) -> Iterator[None]:
    """Turns running out of memory while `what` is done into one line; an `OverCeiling` is one already."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - all else goes on as it is
        if isinstance(error, PipelineError) or not ran_out_of_memory(error):
            raise
        raise PipelineError(
            f"memory ran out while {what} ({reason(error)}); use a smaller dtype, another device or a smaller model"
        ) from None


def free_cached(device: torch.device) -> None:
    """Gives cached device memory back after it ran out."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _status_bytes(name: str) -> int | None:
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith(f"{name}:")), None)
    return None if found is None else int(found) * 1024


def _highest_resident() -> int:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
