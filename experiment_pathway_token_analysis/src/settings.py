"""Settings of the pathway analysis: `config.yaml`, read strictly.

Precedence, highest first: `--set SECTION.KEY=VALUE`, the profile's own tables, the general tables of the file. There
are no defaults here: every value stands in the file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import UsageError, suggest
from common.typed_tables import typed_table

CONFIG_FILE = Path(__file__).resolve().parent.parent / "config.yaml"
KINDS = ("program_validity", "llama_patching")
SELECTIONS = ("legacy_is_causal", "fdr")


@dataclass(frozen=True)
class Study:
    """What the patching study is called, where it lies, and what is expected of it; `classes` are (a, b)."""

    kind: str
    directory: str
    checkpoints: str
    response_logs: str
    expected_checkpoints: int | None
    expected_response_logs: int | None
    classes: tuple[str, ...]
    conditions: dict[str, list[str]]
    positive_outcome: str | None
    min_trials: int
    min_join_percent: float
    console_warnings: int

    def canonical(self) -> dict[str, str]:
        """Returns every name under which a condition is found, with its canonical one."""
        return {found: name for name, aliases in self.conditions.items() for found in (name, *aliases)}

    def condition(self, prompt_class: str, what: str) -> str:
        """Returns a class's condition: `what` is "baseline", "own" (its own patch) or "opposite" (the other's)."""
        a, b = self.classes
        other = b if prompt_class == a else a
        return {
            "baseline": f"{prompt_class}_baseline",
            "own": f"{prompt_class}_amplification",
            "opposite": f"{prompt_class}_with_{other}_patch",
        }[what]


@dataclass(frozen=True)
class Producer:
    """Size of the study that make_patching_study.py makes, and what it calls causal."""

    features_per_layer: int
    problems_per_class: int
    prompts_per_class: int
    max_new_tokens: int
    alpha: float
    min_rate_difference: float


@dataclass(frozen=True)
class Selection:
    """Which causal features go on (step 1)."""

    select_by: str
    per_layer: int
    first_layer: int
    last_layer: int | None
    alpha: float
    min_rate_difference: float


@dataclass(frozen=True)
class Prototype:
    """The one feature of step 2, and what its self-test tolerates."""

    feature: str | None
    upstream_per_layer: int
    gradient_pairs: int
    gradient_tolerance: float
    max_variance_unexplained: float


@dataclass(frozen=True)
class Gradient:
    """Which sources a target keeps by its gradient (step 3)."""

    min_abs: float
    top_sources: int
    min_attribution: float
    targets_per_batch: int
    persist_skip_share: float
    persist_cosine: float


@dataclass(frozen=True)
class Replay:
    """How edges are measured by patching, and what makes one validated (step 3)."""

    max_edges: int
    min_prompts: int
    small_step: float
    linear_tolerance: float
    alpha: float
    min_sign_agreement: float
    slope_low: float
    slope_high: float
    min_effect: float
    controls_per_layer_pair: int
    bootstrap_draws: int
    sign_flips: int
    max_chains: int
    mediated_share: float


@dataclass(frozen=True)
class Tokens:
    """What makes a token associated with a feature (step 4)."""

    permutations: int
    min_log_odds: float
    alpha: float
    min_occurrences: int
    min_responses: int
    prior_tokens: float
    top_tokens: int
    lens_tokens: int


@dataclass(frozen=True)
class Settings:
    """Every setting of the pathway analysis."""

    study: Study
    producer: Producer
    selection: Selection
    prototype: Prototype
    gradient: Gradient
    replay: Replay
    tokens: Tokens
    memory_ceiling_gb: float
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """Returns every setting, ready for JSON."""
        return asdict(self)


def load_settings(profile: str, given: Sequence[str] = (), file: Path = CONFIG_FILE) -> Settings:
    """Reads the settings for a profile; `given` are `SECTION.KEY=VALUE`. Raises UsageError for what is not right."""
    tables = _read(file)
    own = tables.pop("profiles", None) or {}
    if not isinstance(own, dict):
        raise UsageError(f"{file}: profiles: expected a table, found {own!r}")
    merged = tables
    for name, table in own.items():
        typed_table(Settings, _merged(copy.deepcopy(tables), table, f"{file}: profiles.{name}"), f"{file}: {name}")
    if profile in own:
        merged = _merged(merged, own[profile], f"{file}: profiles.{profile}")
    for pair in given:
        merged = _merged(merged, _from_pair(pair), f"--set {pair}")
    settings = typed_table(Settings, merged, str(file))
    _refuse_nonsense(settings, file)
    return settings


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{file}: expected a table of sections, found {value!r}")
    return value


def _from_pair(pair: str) -> dict[str, Any]:
    import yaml

    name, equals, value = pair.partition("=")
    if not equals:
        raise UsageError(f"--set {pair}: write --set SECTION.KEY=VALUE")
    try:
        table: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {pair}: {value!r} is no value") from None
    for key in reversed(name.strip().split(".")):
        table = {key: table}
    return table


def _merged(tables: dict[str, Any], over: Any, where: str) -> dict[str, Any]:
    """Returns tables with `over` laid on top, table by table; a key that is not there yet is refused."""
    if not isinstance(over, dict):
        raise UsageError(f"{where}: expected a table, found {over!r}")
    result = dict(tables)
    for key, value in over.items():
        if key not in tables:
            raise UsageError(f"{where}: unknown key {key!r}{suggest(str(key), tables)}")
        into = isinstance(tables[key], dict) and key != "conditions"  # a study's conditions are named anew
        result[key] = _merged(tables[key], value, f"{where}.{key}") if into else value
    return result


def _refuse_nonsense(settings: Settings, file: Path) -> None:
    study = settings.study
    if len(study.classes) != 2 or len(set(study.classes)) != 2:
        raise UsageError(f"{file}: study.classes = {list(study.classes)}: expected two names")
    wanted = {study.condition(name, what) for name in study.classes for what in ("baseline", "own", "opposite")}
    shares = ("selection.alpha", "replay.alpha", "tokens.alpha", "producer.alpha", "replay.min_sign_agreement")
    checks = {
        f"study.kind = {study.kind!r}: expected {' or '.join(KINDS)}": study.kind in KINDS,
        f"study.conditions: expected {', '.join(sorted(wanted))}": set(study.conditions) == wanted,
        "study.conditions: one name stands for two conditions": len(study.canonical())
        == sum(1 + len(aliases) for aliases in study.conditions.values()),
        f"selection.select_by = {settings.selection.select_by!r}: expected {' or '.join(SELECTIONS)}": (
            settings.selection.select_by in SELECTIONS
        ),
        **{f"{name}: expected a share between 0 and 1": 0 < _value(settings, name) < 1 for name in shares},
        "replay.slope_low: expected less than replay.slope_high": settings.replay.slope_low
        < settings.replay.slope_high,
        "memory_ceiling_gb: expected more than 0": settings.memory_ceiling_gb > 0,
    }
    for message, holds in checks.items():
        if not holds:
            raise UsageError(f"{file}: {message}")
    for name, value in _numbers(settings):
        least = "0 or more" if name.rpartition(".")[2] in _may_be_0() else "a positive number"
        if not math.isfinite(value) or value < 0 or (value == 0 and least != "0 or more"):
            raise UsageError(f"{file}: {name} = {value}: expected {least}")
    for name in ("checkpoints", "response_logs"):
        pattern = getattr(study, name)
        if not pattern or "*" not in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise UsageError(f"{file}: study.{name} = {pattern!r}: expected names with a * below study.directory")


def _value(settings: Settings, name: str) -> float:
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)


def _numbers(settings: Settings) -> Iterator[tuple[str, float]]:
    for section, table in settings.as_dict().items():
        keyed = table if isinstance(table, dict) else {None: table}
        for key, value in keyed.items():
            name = section if key is None else f"{section}.{key}"
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, value


def _may_be_0() -> set[str]:
    """Returns the settings that may be 0: most of those that are no whole numbers, and few that are."""
    tables = (Study, Producer, Selection, Prototype, Gradient, Replay, Tokens)
    fractions = {item.name for table in tables for item in fields(table) if item.type == "float"}
    return {"first_layer", "last_layer", "max_chains", "seed", *fractions} - {"small_step", "prior_tokens"}
