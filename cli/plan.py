"""`run.py plan`: what a pipeline run would do, how large it is, and what blocks it."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from cli.console import say
from cli.parser import resolved_config
from common.config import Config, Resolved
from common.phases import PHASES, PhaseSpec, get_phase
from common.profiles import Profile, resolve_local
from common.runs.artifacts import PhasePaths
from common.runs.metadata import read_record
from common.runs.slices import grid_cells, requested_span
from common.runs.status import COMPLETE, PhaseState, all_states
from common.text_table import text_table

SPLIT_TENTHS = {"sae": 0, "hyperparams": 1, "validation": 2}
MBPP_PROBLEMS = 974
BYTES_PER_GB = 1e9


def plan(parsed: argparse.Namespace) -> int:
    """Prints one line a phase and what stands in the way."""
    resolved = resolved_config(parsed)
    states = all_states(resolved.config)
    rows = [
        (state.spec.id, state.spec.name, _action(state, resolved.config), _size(state.spec, resolved))
        for state in states
    ]
    say(text_table(rows, ("phase", "name", "would", "size")))
    blocks = [*model_blocks(resolved.profile, resolved.config), *_disk_blocks(resolved)]
    say("\n".join(f"blocked: {line}" for line in blocks) if blocks else "nothing blocks it")
    return 0


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
    problems, layers = _problems(spec, resolved.config), _layers(resolved)
    vectors = problems * layers * resolved.profile.d_model * 4 / BYTES_PER_GB
    batches = len(grid_cells(requested_span(None, None, problems), resolved.config.batch_size))
    return f"{problems} problems in {batches} batches, {layers} layers, {vectors:.2f} GB of activations"


def _coefficient_solutions(config: Config) -> int:
    screened = config.phase4_5_candidates if config.phase4_5_candidates > 1 else 0
    cells = screened + len(config.phase4_5_coefficients)
    tried = 1 + 2 * cells * (1 + config.phase4_5_random_directions)
    problems = _problems(get_phase("4.5"), config)
    few = min(config.phase4_5_problems_per_coeff, problems)
    final = min(config.phase4_5_final_eval_problems, problems - few)
    return few * tried + final * (1 + 2 * (1 + config.phase4_5_random_directions))


def _effect_solutions(config: Config) -> int:
    problems = _problems(get_phase("4.8"), config)
    controlled = problems if config.phase4_8_control_problems is None else config.phase4_8_control_problems
    return 3 * problems + 4 * config.phase4_8_controls * min(controlled, problems)


STEERED = {"4.5": _coefficient_solutions, "4.8": _effect_solutions, "7.6": _effect_solutions}


def _problems(spec: PhaseSpec, config: Config) -> int:
    record = read_record(PhasePaths(config.phase_dir("0.1")))
    if record is not None and spec.split is not None:
        return int(record["sizes"][spec.split])
    ratios, total = config.phase0_1_ratios, MBPP_PROBLEMS
    extra = total % 10 if spec.split == "sae" else 0
    return total // 10 * ratios[SPLIT_TENTHS[spec.split or "sae"]] + extra


def _layers(resolved: Resolved) -> int:
    chosen = resolved.config.activation_layers
    return resolved.profile.n_layers if chosen is None else len(chosen)


def model_blocks(profile: Profile, config: Config, *, instruct: bool = True) -> list[str]:
    """Returns what of a profile's models is missing or too large; the instruction-tuned one counts where `instruct`."""
    blocks = []
    if profile.model_local:
        path = resolve_local(profile.model)
        if not (path / "config.json").is_file():
            blocks.append(f"{path} holds no model; make it with: python3 run.py organism train --seed 0 --out DIR")
    else:
        wanted: list[tuple[str | None, str | None, str | None]] = [
            (config.model_name, profile.model, profile.model_revision),
            (config.phase7_3_model_name, profile.instruct_model, profile.instruct_revision),
        ]
        for asked, name, revision in wanted if instruct else wanted[:1]:
            if name is not None and asked == name and not _cached(name, revision):
                blocks.append(f"{name} is not in the hub's cache; run: python3 run.py fetch --profile {profile.name}")
    size = profile.model_size_gb
    ceilings = {"ram_ceiling_gb": config.ram_ceiling_gb}
    if config.device not in ("cpu", "mps"):
        ceilings["gpu_ceiling_gb"] = config.gpu_ceiling_gb
    for name, ceiling in ceilings.items():
        if size is not None and size > ceiling:
            blocks.append(f"{profile.model} takes {size:g} GB, more than {name} = {ceiling:g} (--set {name}=…)")
    return blocks


def _disk_blocks(resolved: Resolved) -> list[str]:
    place = Path(resolved.config.data_dir).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / BYTES_PER_GB
    layers, width = _layers(resolved), resolved.profile.d_model
    problems = sum(_problems(spec, resolved.config) for spec in PHASES if spec.split is not None)
    needed = 2 * problems * layers * width * 4 / BYTES_PER_GB
    return [f"{place} has {free:.1f} GB free, {needed:.1f} GB are needed"] if needed > free else []


def _cached(name: str, revision: str | None) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    return (snapshots / revision).is_dir() if revision else any(snapshots.glob("*"))
