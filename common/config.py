"""The configuration: one frozen record of every setting, resolved once.

Precedence, highest first: command line, environment (`PVA_SAE_<FIELD>`), a TOML file (`--config`), the profile, the
defaults below. Building a `Config` touches no disk, no device and no network; `resolve_config` reads the profile and
the configuration file.
"""

from __future__ import annotations

import math
import os
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from common import DEFAULT_MODEL_NAME, MAX_NEW_TOKENS
from common.errors import UsageError, suggest
from common.profiles import DEFAULT_PROFILE, Profile, load_profile
from common.prompt_formats import PROMPT_FORMATS

ENVIRONMENT_PREFIX = "PVA_SAE_"
SITES = ("resid_pre", "resid_mid", "resid_post")
SANDBOX_CHOICES = ("auto", "strict", "4", "3", "2", "1", "0")

Check = Callable[[Any], str | None]


def _setting(default: Any, doc: str, check: Check | None = None, *, decides: bool = True) -> Any:
    """A field; `decides` says whether its value can change a result, and not only where or how it is computed."""
    return field(default=default, metadata={"doc": doc, "check": check, "decides": decides})


def at_least(low: float) -> Check:
    """Returns a check that refuses numbers below `low`."""
    return lambda value: None if value is None or value >= low else f"must be at least {low}"


def between(low: float, high: float) -> Check:
    """Returns a check that refuses numbers outside [`low`, `high`]."""
    return lambda value: None if value is None or low <= value <= high else f"must lie between {low} and {high}"


def one_of(*names: str) -> Check:
    """Returns a check that refuses names other than `names`."""
    return lambda value: None if value is None or value in names else f"must be one of {', '.join(names)}"


def layer_list(value: Any) -> str | None:
    """Refuses an empty list of layers, a repeated one, or a negative one."""
    if value is None:
        return None
    if not value or len(set(value)) != len(value) or min(value) < 0:
        return "must be distinct layer numbers from 0"
    return None


def temperatures(value: Any) -> str | None:
    """Refuses temperatures below 0, repeated ones, and lists without 0."""
    if 0.0 not in value or min(value) < 0 or len(set(value)) != len(value):
        return "must be distinct temperatures from 0, with 0 among them"
    return None


def distinct_numbers(value: Any) -> str | None:
    """Refuses an empty list of numbers and a repeated one."""
    return None if value and len(set(value)) == len(value) else "must be distinct numbers, at least one"


@dataclass(frozen=True)
class Config:
    """Every setting of the pipeline, with its default."""

    profile: str = _setting(DEFAULT_PROFILE, "profile: model, SAEs, data set, corpus and data directory together")
    data_dir: str = _setting("data", "root of all phase directories", decides=False)
    full: bool = _setting(
        False, "leave out the profile's reductions (results lie apart, in DATA_DIR-full)", decides=False
    )
    seed: int = _setting(42, "seed of every random draw, together with the draw's purpose", at_least(0))

    model_name: str = _setting(DEFAULT_MODEL_NAME, "model: a Hugging Face name or a local directory")
    model_revision: str | None = _setting(None, "commit of the model on the hub")
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N or mps", decides=False)
    dtype: str = _setting(
        "auto",
        "auto (bfloat16 on CUDA that supports it, else float32), float32, bfloat16",
        one_of("auto", "float32", "bfloat16"),
    )
    decoding: str = _setting(
        "auto",
        "auto (graphs on CUDA, else eager), eager, graphs (a decoding step is captured once and replayed)",
        one_of("auto", "eager", "graphs"),
    )
    batch_size: int = _setting(
        0,
        "problems a batch; also the grid on which a split is cut; 0: what the GPU holds (128 or 64), 32 without one",
        between(0, 4096),
    )
    prompt_format: str = _setting("solution_marker", "form of the prompt", one_of(*PROMPT_FORMATS))
    site: str | None = _setting(
        None, "where in a block the residual stream is read; default: the SAE's own", one_of(*SITES)
    )
    activation_layers: tuple[int, ...] | None = _setting(None, "layers captured by phase 1.0; default: all", layer_list)
    max_new_tokens: int = _setting(MAX_NEW_TOKENS, "limit of generated tokens", between(1, 100_000))
    generation_timeout_seconds: float = _setting(
        3600.0, "wall-clock limit of one batch's generation", at_least(0.001), decides=False
    )

    evaluation_timeout_seconds: float = _setting(5.0, "CPU seconds that a solution may use", between(0.05, 3600))
    evaluation_memory_mb: int = _setting(2048, "memory that a solution may use, MiB", between(64, 1_000_000))
    sandbox: str = _setting(
        "auto", "isolation of solutions: auto, strict (rung 2 or above), or one rung", one_of(*SANDBOX_CHOICES)
    )
    evaluation_workers: int | None = _setting(
        None, "worker processes; default: one a core, at most 8", between(1, 256), decides=False
    )

    snapshot_every: int = _setting(50, "records between two readable snapshots", at_least(1), decides=False)
    snapshots_kept: int = _setting(3, "snapshots that are kept", at_least(1), decides=False)
    max_retries: int = _setting(3, "tries of a generation that another try can help", between(0, 100), decides=False)
    max_excluded_share: float = _setting(
        0.05, "share of excluded problems above which a run fails", between(0, 1), decides=False
    )
    ram_warning_share: float = _setting(
        0.85, "share of memory in use that is warned about", between(0, 1), decides=False
    )
    ram_ceiling_gb: float = _setting(100.0, "memory that a phase may plan for, GB", at_least(0.1), decides=False)
    gpu_ceiling_gb: float = _setting(30.0, "GPU memory that a phase may plan for, GB", at_least(0.1), decides=False)

    sae_fit_positions: int = _setting(
        64, "first positions of the split on which the SAEs' fit is measured", at_least(1)
    )
    general_text_max_frequency: float = _setting(
        0.02, "features that fire on this share of general text or more are left out", between(0, 1)
    )

    phase0_output_dir: str | None = _setting(None, "directory of phase 0; default: under data_dir", decides=False)
    phase0_1_output_dir: str | None = _setting(None, "directory of phase 0.1; default: under data_dir", decides=False)
    phase0_1_ratios: tuple[int, ...] = _setting(
        (5, 1, 4),
        "tenths of the problems for sae, hyperparams, validation",
        lambda value: (
            None if len(value) == 3 and sum(value) == 10 and min(value) >= 1 else "must be three tenths that sum to 10"
        ),
    )
    phase1_0_output_dir: str | None = _setting(None, "directory of phase 1.0; default: under data_dir", decides=False)
    phase2_2_output_dir: str | None = _setting(None, "directory of phase 2.2; default: under data_dir", decides=False)
    phase2_2_texts: int = _setting(10_000, "general texts that are read, one token each", at_least(1))
    phase2_2_max_tokens: int = _setting(128, "tokens of a general text that are read", at_least(2))
    phase2_5_output_dir: str | None = _setting(None, "directory of phase 2.5; default: under data_dir", decides=False)
    phase2_5_top_k: int = _setting(20, "features kept a class", between(1, 10_000))
    phase2_5_permutations: int = _setting(1000, "label shuffles of the permutation null", between(19, 1_000_000))
    phase2_10_output_dir: str | None = _setting(None, "directory of phase 2.10; default: under data_dir", decides=False)
    phase2_10_top_k: int = _setting(20, "features kept a class", between(1, 10_000))
    phase2_10_permutations: int = _setting(1000, "label shuffles of the permutation null", between(19, 1_000_000))
    phase3_5_output_dir: str | None = _setting(None, "directory of phase 3.5; default: under data_dir", decides=False)
    phase3_5_temperatures: tuple[float, ...] = _setting(
        (0.0, 0.3, 0.6, 0.9, 1.2), "temperatures, 0 among them: its run captures", temperatures
    )
    phase3_5_samples: int = _setting(5, "samples of a problem at each temperature above 0", between(1, 1000))
    capture_layers: str = _setting("best", "layers that phases 3.5, 3.6, 7.3 capture: best, all", one_of("best", "all"))
    phase3_6_output_dir: str | None = _setting(None, "directory of phase 3.6; default: under data_dir", decides=False)
    phase3_8_output_dir: str | None = _setting(None, "directory of phase 3.8; default: under data_dir", decides=False)
    phase3_8_bootstrap_draws: int = _setting(10_000, "bootstrap draws over problems", between(100, 10_000_000))
    phase3_8_random_rivals: int = _setting(100, "random directions, and random features, as rivals", between(1, 10_000))

    steer_bos: bool = _setting(True, "whether the beginning-of-text token is steered as every other position is")
    phase4_5_output_dir: str | None = _setting(None, "directory of phase 4.5; default: under data_dir", decides=False)
    phase4_5_coefficients: tuple[float, ...] = _setting(
        (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), "steering coefficients that are tried", distinct_numbers
    )
    phase4_5_coefficient_unit: str = _setting(
        "absolute",
        "what coefficients count: absolute, or residual_norm (the stream's mean norm at the feature's layer)",
        one_of("absolute", "residual_norm"),
    )
    phase4_5_candidates: int = _setting(
        1, "best features a direction that are tried; the one that steers best is taken", between(1, 100)
    )
    phase4_5_problems_per_coeff: int = _setting(10, "problems on which each coefficient is tried", at_least(1))
    phase4_5_final_eval_problems: int = _setting(100, "other problems on which the chosen ones are tried", at_least(0))
    phase4_5_random_directions: int = _setting(1, "random directions of equal norm a coefficient", between(1, 1000))
    phase4_5_max_new_tokens: int = _setting(500, "limit of generated tokens under steering", between(1, 100_000))
    phase4_8_output_dir: str | None = _setting(None, "directory of phase 4.8; default: under data_dir", decides=False)
    phase4_8_controls: int = _setting(39, "random features, and random directions, a direction", between(0, 10_000))
    phase4_8_control_problems: int | None = _setting(None, "problems on which controls run; default: all", at_least(2))
    phase4_8_selective: bool = _setting(True, "also report steering only where the predictor fires (needs phase 3.8)")
    phase4_8_examples: int = _setting(10, "examples of each kind that are written out", at_least(0))
    phase7_3_output_dir: str | None = _setting(None, "directory of phase 7.3; default: under data_dir", decides=False)
    phase7_3_model_name: str | None = _setting(None, "instruction-tuned model; default: the profile's sibling")
    phase7_3_model_revision: str | None = _setting(None, "commit of the instruction-tuned model on the hub")
    phase7_6_output_dir: str | None = _setting(None, "directory of phase 7.6; default: under data_dir", decides=False)

    def __post_init__(self) -> None:
        for item in fields(self):
            check: Check | None = item.metadata["check"]
            problem = check(getattr(self, item.name)) if check else None
            if problem:
                raise UsageError(f"{item.name} = {show(getattr(self, item.name))}: {problem}")

    def phase_dir(self, phase: str) -> Path:
        """Returns the directory of phase `phase` ("2.5" → `{data_dir}/phase2_5`)."""
        name = phase.replace(".", "_")
        override = getattr(self, f"phase{name}_output_dir", None)
        return Path(override) if override else Path(self.data_dir) / f"phase{name}"


class Resolved(NamedTuple):
    """A configuration, its profile, and where each value came from."""

    config: Config
    profile: Profile
    sources: dict[str, str]


def resolve_config(
    command_line: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Resolved:
    """Resolves every setting; `command_line` values may be text or already typed.

    Raises `UsageError` for an unknown field (with the nearest known one), a value of the wrong type or out of range, an
    unreadable file or an unknown profile.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (f"file {file}", _file_values(file)),
        ("environment", _environment_values(os.environ if environment is None else environment)),
        ("command line", command_line or {}),
    ]
    values: dict[str, Any] = {}
    sources = {item.name: "default" for item in fields(Config)}
    for source, layer in layers:
        for name, raw in layer.items():
            field_name = known_field(name)
            values[field_name] = parse_value(field_name, raw)
            sources[field_name] = source
    profile = load_profile(values.get("profile", DEFAULT_PROFILE))
    for name, raw in _profile_values(profile, full=values.get("full", False)).items():
        if known_field(name) not in values:
            values[name] = parse_value(name, raw)
            sources[name] = f"profile {profile.name}"
    for name, own in (("model_name", profile.model), ("phase7_3_model_name", profile.instruct_model)):
        revision = name.replace("name", "revision")
        if values[name] != own and sources[revision].startswith("profile"):
            values[revision], sources[revision] = None, "default"
    return Resolved(Config(**values), profile, sources)


def known_field(name: str) -> str:
    """Returns `name` if it is a field of the configuration, else raises with the nearest one."""
    names = [item.name for item in fields(Config)]
    if name not in names:
        raise UsageError(f"unknown setting {name!r}{suggest(name, names)} (run.py show-config lists all)")
    return name


def parse_value(name: str, raw: Any) -> Any:
    """Turns text (or TOML's values) into the type of field `name`; lists are written `1,3,10`, none as `none`."""
    kind = _field_types()[name]
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    optional = type(None) in options
    kind = next(option for option in options if option is not type(None))
    if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("none", "null", "")):
        if optional:
            return None
        raise UsageError(f"{name} needs a value ({type_name(kind)})")
    try:
        return _convert(kind, raw)
    except (ValueError, TypeError):
        raise UsageError(f"{name} = {raw!r} is not {type_name(kind)}") from None


def _convert(kind: Any, raw: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        parts = [part for part in raw.split(",") if part.strip()] if isinstance(raw, str) else list(raw)
        return tuple(_convert(item, part) for part in parts)
    if kind is int:
        if isinstance(raw, bool) or (isinstance(raw, float) and not raw.is_integer()):
            raise ValueError(raw)
        return int(raw)
    if kind is float:
        if isinstance(raw, bool) or not math.isfinite(float(raw)):
            raise ValueError(raw)
        return float(raw)
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if isinstance(raw, bool):
            return raw
        if str(raw).strip().lower() not in words:
            raise ValueError(raw)
        return words[str(raw).strip().lower()]
    if not isinstance(raw, str):
        raise ValueError(raw)
    return raw


def type_name(kind: Any) -> str:
    """Returns a field type in words."""
    if typing.get_origin(kind) is tuple:
        return f"a list of {typing.get_args(kind)[0].__name__}, written 1,3,10"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def show(value: Any) -> str:
    """Returns a value the way it is written on the command line."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return "none" if value is None else str(value)


@cache
def _field_types() -> dict[str, Any]:
    return typing.get_type_hints(Config)


def _profile_values(profile: Profile, *, full: bool) -> dict[str, Any]:
    return {
        "model_name": profile.model,
        "model_revision": profile.model_revision,
        "phase7_3_model_name": profile.instruct_model,
        "phase7_3_model_revision": profile.instruct_revision,
        "data_dir": profile.data_dir_of(full=full),
        **profile.settings,
        **({} if full else profile.quick),
    }


def _environment_values(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _file_values(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"configuration file {file} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"configuration file {file} cannot be read: {error}") from None
