"""Which devices of this machine workers compute on, found without torch, and what each worker is given.

CUDA's own library is asked (cuDeviceGetCount of its driver API), which obeys CUDA_VISIBLE_DEVICES. A worker sees one
GPU alone, as `cuda:0`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections.abc import Mapping, Sequence

from common.config import Config
from common.errors import UsageError, suggest
from launcher.engine import Device

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
KNOWN = ("cpu", "mps", "cuda:0", "cuda:1", "cuda:2", "cuda:3")
MOST_EVALUATION_WORKERS = 8


def chosen_devices(parsed: argparse.Namespace, config: Config, environment: Mapping[str, str]) -> list[Device]:
    """Returns a device for each worker: those asked for, else every visible GPU, else one CPU worker."""
    names = _asked(parsed)
    if names is None:
        names = [config.device] if config.device != "auto" else None
    if names is None:
        names = [f"cuda:{index}" for index in range(len(visible_gpus(environment)))] or ["cpu"]
    _refuse_mixed(names)
    devices = [_device(name, names, environment) for name in names]
    if len({device.name for device in devices}) < len(devices):
        return [device._replace(name=f"{device.name} {place}") for place, device in enumerate(devices, 1)]
    return devices


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Returns the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    count = cuda_device_count()
    named = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return (named or [str(index) for index in range(count)])[:count]


def cuda_device_count() -> int:
    """Returns how many CUDA devices the driver shows this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def alone(device: Device) -> dict[str, str]:
    """Returns the variables of a process that has the machine to itself."""
    return {name: value for name, value in device.environment.items() if name != THREADS}


def evaluation_workers(asked: int | None, workers: int) -> int | None:
    """Returns how many processes each of `workers` tests solutions with; None where a single one decides itself."""
    if workers < 2:
        return asked
    return min(asked or MOST_EVALUATION_WORKERS, max(1, cores() // workers))


def _asked(parsed: argparse.Namespace) -> list[str] | None:
    given = {f"--{name}": getattr(parsed, name) for name in ("gpus", "devices", "device") if getattr(parsed, name)}
    empty = [
        name for name in ("gpus", "devices") if getattr(parsed, name) is not None and not getattr(parsed, name).strip()
    ]
    if empty:
        raise UsageError(f"--{empty[0]} is empty; write --gpus 0,1 or --devices cpu,cpu")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both say where to compute; give one of them")
    for option, text in given.items():
        items = [item.strip() for item in text.split(",")]
        if not all(items):
            raise UsageError(f"{option} {text}: an entry is empty; write {option} with commas between, such as 0,1")
        return [_gpu(item, text) for item in items] if option == "--gpus" else items
    return None


def _gpu(item: str, text: str) -> str:
    if not item.isdigit():
        raise UsageError(f"--gpus {text}: write the numbers of GPUs, such as --gpus 0,1 (else --devices)")
    return f"cuda:{int(item)}"


def _refuse_mixed(names: Sequence[str]) -> None:
    for name in names:
        kind, _, number = name.partition(":")
        if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdigit())):
            raise UsageError(f"device {name!r} is unknown (known: cpu, cuda:N, mps){suggest(name, KNOWN)}")
    numbered = ["cuda:0" if name == "cuda" else name for name in names]
    twice = [name for name in numbered if numbered.count(name) > 1 and name != "cpu"]
    if twice:
        raise UsageError(f"device {twice[0]} is named twice: a worker needs one of its own (only cpu may be repeated)")
    kinds = sorted({name.partition(":")[0] for name in names})
    if len(kinds) > 1:
        raise UsageError(f"devices of kinds {' and '.join(kinds)}: their results differ and are never mixed; take one")


def _device(name: str, names: Sequence[str], environment: Mapping[str, str]) -> Device:
    kind, _, number = name.partition(":")
    if kind == "cuda":
        gpus, index = visible_gpus(environment), int(number or 0)
        if index >= len(gpus):
            shown = ", ".join(f"cuda:{place}" for place in range(len(gpus))) or "no CUDA device; try --devices cpu,cpu"
            raise UsageError(f"cuda:{index} does not exist: this machine shows {shown}")
        return Device(f"cuda:{index}", "cuda:0", {VISIBLE: gpus[index]})
    share = {} if THREADS in environment or len(names) < 2 else {THREADS: str(max(1, cores() // len(names)))}
    return Device(name, name, share if kind == "cpu" else {})
