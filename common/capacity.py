"""What this machine can hold: free RAM within the control group, and the CUDA devices as their driver describes them.

Nothing here needs torch: CUDA's own library is asked (libcuda's cuDeviceTotalMem and cuDeviceGetAttribute), so that a
plan can be made in a moment.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import NamedTuple

BYTES_PER_GB = 1e9
_CAPABILITY_MAJOR = 75
_FIRST_BFLOAT16_CAPABILITY = 8


class Gpu(NamedTuple):
    """One CUDA device: its memory in bytes, and whether it computes in bfloat16."""

    memory: int
    bfloat16: bool


def available_ram() -> int | None:
    """Returns the bytes of RAM that this process can still take, within its control group; None where unknown."""
    free: list[int] = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = _control_group_room()
    return min([*free, limit]) if limit is not None else min(free, default=None)


def visible_gpus() -> list[Gpu]:
    """Returns the CUDA devices that the driver shows this process (CUDA_VISIBLE_DEVICES counts); none without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = [_described(driver, index) for index in range(count.value)]
    return [gpu for gpu in found if gpu is not None]


def free_disk(directory: Path) -> tuple[Path, int]:
    """Returns the nearest directory above `directory` that exists, itself included, and the bytes free on its disk."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    return place, shutil.disk_usage(place).free


def _described(driver: ctypes.CDLL, index: int) -> Gpu | None:
    device, memory, major = ctypes.c_int(0), ctypes.c_size_t(0), ctypes.c_int(0)
    if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
        return None
    if driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device) != 0:
        return None
    if driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device) != 0:
        return None
    return Gpu(memory.value, major.value >= _FIRST_BFLOAT16_CAPABILITY)


def _control_group_room() -> int | None:
    root = Path("/sys/fs/cgroup")
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        cache = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return limit - used + int(cache.get("inactive_file", 0))
