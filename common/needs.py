"""What each phase of a run needs of this machine, and what of that it cannot hold, each in one line with its cure.

`plan` says it for all phases; a phase asks for itself before it loads weights, and so does the pathway analysis. The
ceilings (`ram_ceiling_gb`, `gpu_ceiling_gb`) are promises and hold for the whole batch. A CUDA device that is too small
for a batch makes the engine halve it, so a phase is refused there only for what one problem needs; in RAM nothing gives
way, so the whole batch counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from common.batch_size import WITHOUT_GPU
from common.capacity import BYTES_PER_GB, Gpu, free_disk
from common.config import Config
from common.disk_needs import phase_disk
from common.errors import UsageError
from common.footprint import (
    CUDA_CONTEXT,
    FIT_PHASES,
    RUNTIME_RAM,
    RUNTIME_RAM_WITHOUT_MODEL,
    Memory,
    batch_of,
    fit_streams,
    phase_memory,
)
from common.model_location import BASE, INSTRUCT, model_size
from common.model_shape import ModelSize
from common.phases import PHASES, PhaseSpec
from common.profiles import Profile

ON_GPU = (128, 64)  # no more: the 489 problems of a split then still make four cells, for four devices
ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Place(NamedTuple):
    """Where models compute: `kind` is cuda, cpu or mps, `itemsize` the bytes of a number, `gpu_memory` where known."""

    kind: str
    itemsize: int
    gpu_memory: int | None = None


class Need(NamedTuple):
    """What some work needs: its parts on the device that computes, and the totals in RAM and in GPU memory, in bytes.

    `what` begins a sentence about it: `phase 1.0`.
    """

    what: str
    memory: Memory
    ram: int
    gpu: int


class Limit(NamedTuple):
    """One thing that bounds a need: in which memory, how many bytes, and how it is called in a sentence."""

    field: str
    size: int
    words: str
    is_ceiling: bool = False


def planned_place(config: Config, gpus: Sequence[Gpu]) -> Place:
    """Returns where a run would compute, from the settings and the CUDA devices that there are."""
    wanted = config.device if config.device != "auto" else ("cuda" if gpus else "cpu")
    kind, _, number = wanted.partition(":")
    index = int(number) if number.isdigit() else 0
    gpu = gpus[index] if kind == "cuda" and index < len(gpus) else None
    native = kind == "cuda" and (gpu is None or gpu.bfloat16)
    dtype = config.dtype if config.dtype != "auto" else ("bfloat16" if native else "float32")
    return Place(kind, ITEM_SIZES[dtype], gpu.memory if gpu else None)


def role_of(spec: PhaseSpec) -> str:
    """Returns which of a profile's models a phase loads."""
    return INSTRUCT if spec.model_field == "phase7_3_model_name" else BASE


def phase_need(spec: PhaseSpec, config: Config, profile: Profile, size: ModelSize, place: Place) -> Need:
    """Returns what a phase needs at its peak at `place`."""
    if not config.batch_size:
        config = replace(config, batch_size=automatic_batch(spec, config, profile, size, place))
    on_gpu = place.kind == "cuda" and spec.needs == "model"
    memory = phase_memory(spec, config, size, profile.sae.width, place.itemsize, in_ram=not on_gpu)
    what = f"phase {spec.id}"
    if spec.needs != "model":
        return Need(what, memory, memory.total + RUNTIME_RAM_WITHOUT_MODEL, 0)
    streams = 2 * fit_streams(batch_of(spec, config), size) if spec.id in FIT_PHASES else 0
    return need_at(what, memory, size, place, beside=streams)


def automatic_batch(spec: PhaseSpec, config: Config, profile: Profile, size: ModelSize, place: Place) -> int:
    """Returns how many problems a batch has where `batch_size` is 0: the most that fit, on a CPU 32.

    A batch is also the unit in which a split is cut and work is kept, so the number follows from what stays the same
    from run to run: the device's memory, the ceilings and the model's shape, not what happens to be free. Where less is
    free, the engine halves a batch that fails.
    """
    if place.kind != "cuda":
        return WITHOUT_GPU
    limits = [limit for limit in [*ceilings(config, place), *capacities(place, None)] if limit.field == "gpu"]
    for count in ON_GPU:
        need = phase_need(spec, replace(config, batch_size=count), profile, size, place)
        if all(need.gpu <= limit.size for limit in limits):
            return count
    return WITHOUT_GPU


def need_at(what: str, memory: Memory, size: ModelSize, place: Place, *, beside: int = 0) -> Need:
    """Returns what work with a model needs at `place`; `beside` is what it holds in RAM while a GPU computes.

    The weights go through RAM on their way to a GPU.
    """
    if place.kind == "cuda":
        return Need(what, memory, max(memory.weights, beside) + RUNTIME_RAM, memory.total + CUDA_CONTEXT)
    return Need(what, memory, memory.total + _repacked(size, place) + RUNTIME_RAM, 0)


def phase_needs(config: Config, profile: Profile, place: Place, specs: Iterable[PhaseSpec] = PHASES) -> dict[str, Need]:
    """Returns what each phase needs, by its id; those of a model whose size nobody knows are left out."""
    sizes = {role: known_size(config, profile, role) for role in (BASE, INSTRUCT)}
    known = ((spec, sizes[role_of(spec)]) for spec in specs)
    return {spec.id: phase_need(spec, config, profile, size, place) for spec, size in known if size is not None}


def memory_blocks(config: Config, profile: Profile, place: Place, ram: int | None) -> list[str]:
    """Returns one line for each limit that a phase would exceed, about the phase that exceeds it most."""
    lines = []
    for limit in [*ceilings(config, place), *capacities(place, ram)]:
        needs = phase_needs(config, profile, place).values()
        worst = max(needs, key=lambda need: getattr(need, limit.field), default=None)
        if worst is not None and getattr(worst, limit.field) > limit.size:
            lines.append(line_of(worst, limit, cure_for(config, profile, place, limit)))
    return lines


def refuse_over_limits(
    spec: PhaseSpec, config: Config, profile: Profile, size: ModelSize, place: Place, ram: int | None
) -> None:
    """Raises `UsageError`, in one line, where a phase needs more than a ceiling allows or the machine has free."""
    whole = phase_need(spec, config, profile, size, place)
    one = phase_need(spec, replace(config, batch_size=1), profile, size, place)
    limits = [*ceilings(config, place), *capacities(place, ram)]
    for line in excesses(whole, one, limits, lambda limit: cure_for(config, profile, place, limit, (spec,))):
        raise UsageError(line)


def excesses(whole: Need, one: Need, limits: Iterable[Limit], cure: Callable[[Limit], str]) -> Iterator[str]:
    """Yields a line for each limit that a need exceeds; `one` is what it shrinks to where a full GPU halves batches."""
    for limit in limits:
        can_halve = limit.field == "gpu" and not limit.is_ceiling
        need = one if can_halve else whole
        if getattr(need, limit.field) > limit.size:
            yield line_of(need, limit, cure(limit))


# Estimates are upper bounds: less than this is left to the disk itself, which ends a run with nothing lost.
NEGLIGIBLE = BYTES_PER_GB / 10


def refuse_full_disk(spec: PhaseSpec, config: Config, profile: Profile) -> None:
    """Raises `UsageError` where the disk cannot hold what a phase still writes; what it has written counts as done."""
    refuse_disk(f"phase {spec.id}", phase_disk(spec, config, profile), config.phase_dir(spec.id))


def refuse_disk(what: str, size: int, *roots: Path) -> None:
    """Raises `UsageError` where the disk of the first of `roots` cannot hold what of `size` is not yet in them."""
    files = (path for root in roots if root.is_dir() for path in root.rglob("*") if path.is_file())
    needed = size - sum(path.stat().st_size for path in files)
    place, free = free_disk(roots[0])
    if needed > max(free, NEGLIGIBLE):
        raise UsageError(
            f"{what} still writes up to {needed / BYTES_PER_GB:.1f} GB, but {place} has "
            f"{free / BYTES_PER_GB:.1f} GB free; free some, or name another --data-dir"
        )


def ceilings(config: Config, place: Place) -> list[Limit]:
    """Returns the limits that the user has set."""
    set_by_user = {"ram": config.ram_ceiling_gb, **({"gpu": config.gpu_ceiling_gb} if place.kind == "cuda" else {})}
    return [
        Limit(name, int(value * BYTES_PER_GB), f"{name}_ceiling_gb = {value:g} allows", is_ceiling=True)
        for name, value in set_by_user.items()
    ]


def capacities(place: Place, ram: int | None) -> list[Limit]:
    """Returns the limits that the machine sets; what is not known sets none."""
    limits = [] if ram is None else [Limit("ram", ram, f"the {ram / BYTES_PER_GB:.1f} GB that are free")]
    if place.gpu_memory is not None:
        limits.append(Limit("gpu", place.gpu_memory, f"the {place.gpu_memory / BYTES_PER_GB:.1f} GB of the device"))
    return limits


def line_of(need: Need, limit: Limit, cure: str) -> str:
    """Returns the line that says what needs more of which memory than a limit, and what to do."""
    place = "RAM" if limit.field == "ram" else "GPU memory"
    size = getattr(need, limit.field) / BYTES_PER_GB
    return f"{need.what} needs {size:.1f} GB of {place} ({need.memory.words()}), more than {limit.words}; {cure}"


def cure_for(config: Config, profile: Profile, place: Place, limit: Limit, specs: Sequence[PhaseSpec] = PHASES) -> str:
    """Returns what keeps phases within a limit: a batch size that does, or what else."""

    def needs(count: int) -> Iterable[Need]:
        return phase_needs(replace(config, batch_size=count), profile, place, specs).values()

    return cure_by_batch(config.batch_size or WITHOUT_GPU, needs, place, limit)


def cure_by_batch(size: int, needs: Callable[[int], Iterable[Need]], place: Place, limit: Limit) -> str:
    """Returns the batch size that keeps `needs` within a limit, `size` halved as often as needed, or what else does."""
    while (size := size // 2) >= 1:
        if all(getattr(need, limit.field) <= limit.size for need in needs(size)):
            return f"--batch-size {size} stays within it"
    return f"no batch size is small enough: use {other_places(place)}"


def other_places(place: Place) -> str:
    """Returns what else a user can do where memory does not suffice."""
    smaller = "--set dtype=bfloat16, " if place.itemsize > 2 else ""
    return f"{smaller}another device or a smaller model"


def known_size(config: Config, profile: Profile, role: str) -> ModelSize | None:
    """Returns a model's size; one that is not named, or whose files are damaged, is blocked by another line."""
    try:
        return model_size(config, profile, role)
    except UsageError:
        return None


def _repacked(size: ModelSize, place: Place) -> int:
    """Returns what oneDNN's copy of the largest matrix takes while it multiplies in bfloat16 on a CPU."""
    return 2 * size.shape.vocab_size * size.d_model * place.itemsize if place.itemsize < 4 else 0
