"""Whether two outputs belong together: made with one model, for one set of SAEs, at one site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import UsageError
from common.runs.discovery import PhaseOutput

COMPARED = ("model", "saes", "points")
_NOUN = {"model": "model", "saes": "SAE", "points": "site"}


def refuse_other(reader: str, one: PhaseOutput, other: PhaseOutput, cure: str) -> None:
    """Raises `UsageError` where two outputs differ in model, SAEs or points, for the layers that both have.

    The device and the type of numbers may differ; what a record does not hold is not compared.
    """
    for name in COMPARED:
        ours, theirs = one.record.get(name), other.record.get(name)
        if ours is None or theirs is None:
            continue
        different = _differing(name, ours, theirs)
        if different:
            raise UsageError(
                f"phase {reader}: phases {one.phase} and {other.phase} do not belong together, their {name} differ "
                f"({different}); run: {cure}"
            )


def refuse_other_model(
    reader: str, output: PhaseOutput, setup: Mapping[str, Any], command: str, compared: Sequence[str] = COMPARED
) -> None:
    """Raises `UsageError` where an output was made with another model, for other SAEs or at another site than `setup`.

    `setup` is what the reader itself is about to record; what the output's record does not hold is not compared.
    `command` runs the output's phase.
    """
    for name in compared:
        theirs = output.record.get(name)
        different = None if theirs is None else _differing(name, theirs, setup[name])
        if different:
            raise UsageError(
                f"phase {reader}: phase {output.phase} was run with another {_NOUN[name]} than this phase would use "
                f"({different}); give both the same --model, --site and profile, here or in: {command} --fresh"
            )


def _differing(name: str, ours: Any, theirs: Any) -> str | None:
    """Returns the first difference in words, None where there is none."""
    for key, (mine, yours) in _pairs(name, ours, theirs).items():
        if mine != yours:
            return f"{key}: {mine} and {yours}"
    return None


def _pairs(name: str, ours: Any, theirs: Any) -> Mapping[str, tuple[Any, Any]]:
    if name == "model":
        known = ("name", "revision", "digest")
        return {key: (ours.get(key), theirs.get(key)) for key in known}
    if name == "points":
        return {f"layer {key}": (ours[key], theirs[key]) for key in ours if key in theirs}
    mine = {entry["sae_layer"]: entry for entry in ours}
    yours = {entry["sae_layer"]: entry for entry in theirs}
    return {
        f"layer {layer} {key}": (mine[layer][key], yours[layer].get(key))
        for layer in mine
        if layer in yours
        for key in mine[layer]
    }
