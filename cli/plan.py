"""`run.py plan`: what a pipeline run would do, how large it is, and what blocks it."""

from __future__ import annotations

import argparse
from pathlib import Path

from cli.console import say
from cli.parser import resolved_config
from common.batch_size import sized
from common.capacity import BYTES_PER_GB, available_ram, free_disk, visible_gpus
from common.config import Config, Resolved
from common.disk_needs import phase_disk, sae_bytes
from common.errors import UsageError
from common.model_location import BASE, INSTRUCT, hub_cache, lacking_files, model_directory, model_size
from common.needs import Need, Place, memory_blocks, phase_needs, planned_place
from common.phases import PHASES, PhaseSpec
from common.profiles import Profile, resolve_local
from common.runs.discovery import run_command
from common.runs.slices import grid_cells, requested_span
from common.runs.status import COMPLETE, PhaseState, all_states
from common.text_table import text_table
from common.work_sizes import STEERED, captured_layers, phase_problems

COLUMNS = ("phase", "name", "would", "memory", "disk", "size")


def plan(parsed: argparse.Namespace) -> int:
    """Prints one line a phase and what stands in the way."""
    resolved = resolved_config(parsed)
    config, profile = resolved.config, resolved.profile
    place = planned_place(config, visible_gpus())
    needs = phase_needs(config, profile, place)
    states = all_states(config)
    changed = [state for state in states if state.has_other_settings]
    rows = [_row(state, resolved, needs.get(state.spec.id)) for state in states]
    disk = sum(phase_disk(spec, config, profile) for spec in _phases(config))
    say(text_table([*rows, ("all", "", "", _most(list(needs.values())), _gb(disk), "")], COLUMNS))
    say(_planned_with(place))
    blocks = [
        *missing_models(profile, config),
        *memory_blocks(config, profile, place, available_ram()),
        *_disk_blocks(resolved, disk),
    ]
    say("\n".join(f"blocked: {line}" for line in blocks) if blocks else "nothing blocks it")
    for state in changed:
        made = state.why.rpartition("; ")[2]
        replace = run_command(config, state.spec.id)
        say(
            f"note: phase {state.spec.id} was {made}; where they change it, pipeline stops: {replace} --fresh redoes it"
        )
    return 0


def missing_models(profile: Profile, config: Config, *, instruct: bool = True) -> list[str]:
    """Returns what of a profile's models is not at hand whole; the instruction-tuned one counts where `instruct`."""
    found = [_missing_model(profile, config, role) for role in ((BASE, INSTRUCT) if instruct else (BASE,))]
    return [line for line in found if line is not None]


def _phases(config: Config) -> list[PhaseSpec]:
    return [spec for spec in PHASES if getattr(config, spec.model_field) is not None]


def _row(state: PhaseState, resolved: Resolved, need: Need | None) -> tuple[str, ...]:
    spec = state.spec
    disk = _gb(phase_disk(spec, resolved.config, resolved.profile))
    memory = "?" if need is None else _gb(need.gpu or need.ram)
    return spec.id, spec.name, _action(state, resolved.config), memory, disk, _size(spec, resolved)


def _gb(size: int) -> str:
    return f"{size / BYTES_PER_GB:.1f} GB" if size >= 1e8 else "< 0.1 GB"


def _most(needs: list[Need]) -> str:
    return _gb(max(need.gpu or need.ram for need in needs)) if needs else "?"


def _planned_with(place: Place) -> str:
    memory = "memory of the GPU" if place.kind == "cuda" else "RAM"
    return f"memory: {memory} at a phase's peak, with {place.itemsize} bytes a number, of one process on {place.kind}"


def _action(state: PhaseState, config: Config) -> str:
    if getattr(config, state.spec.model_field) is None:
        return "be skipped (no instruct model)"
    if state.has_other_settings:
        return "see whether other settings change it"
    if state.state == COMPLETE:
        return "be skipped (complete)"
    count = f", {state.done} of {state.expected} done" if state.expected else ""
    return f"run ({state.state}{count})"


def _size(spec: PhaseSpec, resolved: Resolved) -> str:
    if spec.split is None:
        return ""
    if spec.id in STEERED:
        return f"{STEERED[spec.id](resolved.config):,} steered solutions"
    problems, layers = phase_problems(spec, resolved.config), captured_layers(resolved.config, resolved.profile)
    vectors = problems * layers * resolved.profile.d_model * 4 / BYTES_PER_GB
    batches = len(grid_cells(requested_span(None, None, problems), sized(resolved.config, spec).batch_size))
    return f"{problems} problems in {batches} batches, {layers} layers, {vectors:.2f} GB of activations"


def _missing_model(profile: Profile, config: Config, role: str) -> str | None:
    name = config.model_name if role == BASE else config.phase7_3_model_name
    own = profile.model if role == BASE else profile.instruct_model
    if name is None:
        return None
    try:
        directory = model_directory(config, profile, role)
        lacking = lacking_files(directory) if directory is not None else None
        if lacking == []:
            model_size(config, profile, role)
            return None
    except UsageError as error:
        return str(error)
    return _how_to_get(profile, name, directory, lacking, is_own=name == own)


def _how_to_get(profile: Profile, name: str, directory: Path | None, lacking: list[str] | None, *, is_own: bool) -> str:
    if is_own and profile.model_local:
        place = resolve_local(name)
        return f"{place} holds no model; make it with: python3 run.py organism train --seed 0 --out DIR"
    fetch = f"run: python3 run.py fetch --profile {profile.name}" if is_own else "check the name, or fetch it"
    if directory is None:
        return f"{name} is not in the hub's cache; {fetch}"
    return f"{name} is incomplete in {directory}: no {', '.join((lacking or [])[:3])}; {fetch}"


def _disk_blocks(resolved: Resolved, needed: int) -> list[str]:
    """Returns a line for each disk that cannot hold what is written to it: results, or files to be fetched."""
    cache = hub_cache()
    wanted = [("results", Path(resolved.config.data_dir), needed), ("files to fetch", cache, _to_fetch(resolved))]
    lines = []
    for what, directory, size in wanted:
        place, free = free_disk(directory)
        if size > free:
            has = f"{place} has {free / BYTES_PER_GB:.1f} GB free"
            lines.append(f"{has}, {size / BYTES_PER_GB:.1f} GB are needed for {what}; free some, or name another disk")
    return lines


def _to_fetch(resolved: Resolved) -> int:
    """Returns the bytes of models and SAEs that the hub's cache lacks; nothing for local ones."""
    config, profile = resolved.config, resolved.profile
    size = 0 if profile.model_local else int((profile.model_size_gb or 0) * BYTES_PER_GB)
    roles = [BASE, *([INSTRUCT] if config.phase7_3_model_name is not None else [])]
    models = sum(size for role in roles if model_directory(config, profile, role) is None)
    return models + (0 if profile.sae.local or models == 0 else sae_bytes(profile))
