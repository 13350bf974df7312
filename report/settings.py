"""Which settings the published phases were made under, where they differ from the defaults, and who set them.

A phase's record holds the whole configuration, but only some settings concern it: a phase run again with another
setting leaves the others as they were, and each setting is shown with the phases that it holds for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple

from common.config import Config, parse_value, show
from common.errors import UsageError
from common.phases import PHASES
from common.profiles import Profile, load_profile
from common.runs.status import concerns, read_back


class Setting(NamedTuple):
    """A setting's value for some phases, the default, who set it, and what it means."""

    name: str
    value: str
    default: str
    origin: str
    phases: tuple[str, ...]
    meaning: str


def decisive_settings(records: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    """Returns every setting that can change a result, once for each value that a phase it concerns was made under."""
    found: list[Setting] = []
    for item in fields(Config):
        if item.metadata["decides"]:
            for (value, origin), phases in _values(item.name, records).items():
                shown = _shown(_defaults()[item.name])
                found.append(Setting(item.name, value, shown, origin, tuple(phases), item.metadata["doc"]))
    return found


def set_otherwise(settings: list[Setting]) -> list[Setting]:
    """Returns those that are not at their default, and those that differ between phases."""
    names = [setting.name for setting in settings]
    return [item for item in settings if item.value != item.default or names.count(item.name) > 1]


def reductions(records: Mapping[str, Mapping[str, Any]]) -> list[Setting]:
    """Returns the settings that a profile lowers to be quick and that `--full` would leave out."""
    return [item for item in decisive_settings(records) if item.origin.endswith(_REDUCED)]


_REDUCED = "to be quick"


@cache
def _defaults() -> Mapping[str, Any]:
    return read_back(Config())


def _values(name: str, records: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for spec in PHASES:
        record = records.get(spec.id)
        if record is not None and name in record["config"] and concerns(name, spec):
            value = record["config"][name]
            found.setdefault((_shown(value), _origin(name, value, record)), []).append(spec.id)
    return found


def _origin(name: str, value: Any, record: Mapping[str, Any]) -> str:
    if value == _defaults()[name]:
        return "default"
    for source, given in _sources(record["profile"], full=record["config"]["full"]):
        if name in given and _shown(value) == _shown(parse_value(name, given[name])):
            return source
    return "given by the user"


@cache
def _sources(name: str, *, full: bool) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Returns what a profile sets: to be quick, where that holds, and in any case."""
    try:
        profile: Profile = load_profile(name)
    except UsageError:  # a profile of the user's own that has gone since
        return ()
    models = {
        "model_name": profile.model,
        "model_revision": profile.model_revision,
        "phase7_3_model_name": profile.instruct_model,
        "phase7_3_model_revision": profile.instruct_revision,
    }
    quick = {} if full else profile.quick
    return (
        (f"profile {profile.name}, {_REDUCED}", quick),
        (f"profile {profile.name}", {**models, **profile.settings}),
    )


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return show(value)
