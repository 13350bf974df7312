"""How much disk a phase needs, from the settings, and how much the files that are still to be fetched.

While a phase publishes, its captured vectors stand twice: as segments and as one npz file a problem and layer, which
takes whole blocks of the file system. Nothing is subtracted for what a phase removes at its end.
"""

from __future__ import annotations

from common.config import Config
from common.phases import PhaseSpec
from common.profiles import Profile
from common.work_sizes import STEERED, captured_layers, phase_problems

BLOCK = 4096
NPZ_OVERHEAD = 300
# A solution in both stages, in the data set, in timings, and in the copies that can be read on the way.
ROW_BYTES = 12_000
SMALL = 4_000_000
_SCORE_COLUMNS = 13
_BEST_LAYERS = 4


def phase_disk(spec: PhaseSpec, config: Config, profile: Profile) -> int:
    """Returns the bytes that a phase writes at most, its segments beside what it publishes."""
    if spec.id in STEERED:
        return SMALL + STEERED[spec.id](config) * ROW_BYTES
    if spec.split is not None:
        return SMALL + _generated(spec, config) * ROW_BYTES + _vectors(spec, config, profile)
    layers = captured_layers(config, profile)
    if spec.id == "2.2":
        return SMALL + layers * (config.phase2_2_texts * profile.d_model * 4 + profile.sae.width * 8)
    if spec.id in ("2.5", "2.10"):
        return SMALL + layers * profile.sae.width * _SCORE_COLUMNS * 8
    return SMALL


def sae_bytes(profile: Profile) -> int:
    """Returns the size of all layers' SAEs as they lie on the hub, in float32."""
    return profile.n_layers * 2 * profile.d_model * profile.sae.width * 4


def npz_bytes_on_disk(d_model: int) -> int:
    """Returns what one activation file takes, in whole blocks."""
    return -(-(d_model * 4 + NPZ_OVERHEAD) // BLOCK) * BLOCK


def _generated(spec: PhaseSpec, config: Config) -> int:
    problems = phase_problems(spec, config)
    if spec.id != "3.5":
        return problems
    return sum(problems * (config.phase3_5_samples if value > 0 else 1) for value in config.phase3_5_temperatures)


def _vectors(spec: PhaseSpec, config: Config, profile: Profile) -> int:
    every = spec.id == "1.0" or config.capture_layers == "all"
    layers = captured_layers(config, profile) if every else min(_BEST_LAYERS, profile.n_layers)
    return phase_problems(spec, config) * layers * (profile.d_model * 4 + npz_bytes_on_disk(profile.d_model))
