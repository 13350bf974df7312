"""Small helpers that researchers' scripts know by these names; torch is imported inside."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from common.config import Config
from common.runs.artifacts import timestamp
from common.runs.files import ensure_directory

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

get_timestamp = timestamp
ensure_directory_exists = ensure_directory


def detect_device() -> str:
    """Returns the device to compute on: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def discover_latest_phase_output(phase: str, config: Config | None = None) -> Path | None:
    """Returns the record of a phase's output under `config`'s data directory, None where there is none."""
    from common.runs.artifacts import PhasePaths

    path = PhasePaths((config or Config()).phase_dir(phase)).metadata
    return path if path.is_file() else None


def torch_memory_cleanup() -> None:
    """Gives memory that nothing uses back to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def torch_no_grad_and_cleanup(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function to run without gradients and to release the device's memory after it."""

    @functools.wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        import torch

        try:
            with torch.no_grad():
                return function(*args, **kwargs)
        finally:
            torch_memory_cleanup()

    return wrapped
