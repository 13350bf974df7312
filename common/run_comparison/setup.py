"""What two runs were made with, and how far either is: model, SAEs, site, prompts, settings, data, code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from common.config import Config
from common.errors import PipelineError
from common.phases import get_phase, phase_ids
from common.run_comparison.sides import Pair, Side, failure
from common.runs.status import COMPLETE, PARTIAL, concerns

NOT_RECORDED = "not recorded"
COMMIT_LETTERS = 12
_MODEL = ("name", "revision", "digest", "dtype", "device_type")
_PLAIN = {"prompt_format": "prompt format", "split": "split", "batch_size": "batch size", "steer_bos": "BOS steered"}
# Settings that a record states as what became of them.
_STATED = ("model_name", "model_revision", "phase7_3_model_name", "phase7_3_model_revision", "dtype", "site")
_SETTINGS = [item.name for item in fields(Config) if item.metadata["decides"] and item.name not in (*_PLAIN, *_STATED)]


class Different(NamedTuple):
    """Something that is not the same in both runs, and the phases whose records say so."""

    what: str
    a: Any
    b: Any
    phases: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns every field by name, ready for JSON."""
        return {"what": self.what, "a": self.a, "b": self.b, "phases": list(self.phases)}


def differences(pair: Pair) -> list[Different]:
    """Returns what differs, each once with all of its phases; a record that cannot be read says nothing here."""
    found: dict[tuple[str, str, str], tuple[Any, Any, list[str]]] = {}
    for phase in (phase for phase in pair.shared() if phase in phase_ids()):
        try:
            a, b = (dict(facts(output.record)) for output in pair.outputs(phase))
        except PipelineError:
            continue
        for what in [*a, *(name for name in b if name not in a)]:
            ours, theirs = a.get(what, NOT_RECORDED), b.get(what, NOT_RECORDED)
            if ours != theirs:
                found.setdefault((what, repr(ours), repr(theirs)), (ours, theirs, []))[2].append(phase)
    return [Different(what, ours, theirs, tuple(at)) for (what, *_), (ours, theirs, at) in found.items()]


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields what a record says about how its phase was made, each fact under a name."""
    for key in _MODEL:
        if record.get("model"):
            yield f"model {key.replace('_', ' ')}", record["model"].get(key)
    yield from _saes(record)
    for key, name in _PLAIN.items():
        if key in record:
            yield name, record[key]
    spec = get_phase(record["phase"])
    for name in _SETTINGS:
        if name in record["config"] and concerns(name, spec):
            yield f"setting {name}", record["config"][name]
    yield from _origins(record)


def _saes(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    saes = record.get("saes") or []
    if saes:
        yield "SAE release", ", ".join(sorted({str(sae["release"]) for sae in saes}))
    for sae in saes:
        yield f"SAE of layer {sae['sae_layer']}", {key: sae.get(key) for key in ("sae_id", "revision", "digest")}
    if record.get("points"):
        yield "site", ", ".join(sorted({point.rpartition("hook_")[2] for point in record["points"].values()}))
        yield "layers read", sorted(map(int, record["points"]))


def _origins(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("dataset", "corpus"):
        if isinstance(record.get(key), Mapping):
            yield f"{key} content", record[key].get("content_sha256")
    commit = (record["commit"] or "no commit")[:COMMIT_LETTERS]
    yield "code", f"{commit} with changes" if record["dirty"] else commit
    for name, version in record["versions"].items():
        yield f"version of {name}", version


def progress(pair: Pair) -> list[dict[str, Any]]:
    """Returns the state of every phase in both runs; what one has and the other lacks shows here."""
    return [
        {"phase": phase, "a": a, "b": b}
        for phase, a, b in zip(phase_ids(), _states(pair.a), _states(pair.b), strict=True)
    ]


def _states(side: Side) -> list[str]:
    words = []
    for state in side.states:
        count = f" ({state.done} of {state.expected})" if state.state == PARTIAL and state.expected else ""
        why = f": {failure(PipelineError(state.why))}" if state.state not in (COMPLETE, PARTIAL) and state.why else ""
        words.append(f"{state.state}{count}{why}")
    return words
