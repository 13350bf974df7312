"""One record for every way in which a patching study has been written.

Checkpoints come in two generations: `is_causal` at the top of a result, or one flag a class inside `causality`
(`is_causal_safe`, `is_causal_risky`; causal is either). Response logs tell the outcome as `parsed.action` or as
`test_passed`. Each reader returns the record, or the fault that keeps it from being one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.errors import suggest
from experiment_pathway_token_analysis.src.settings import Study

FEATURE = re.compile(r"L([0-9]{1,4})-([0-9]{1,9})")
RESULT_FIELDS = ("feature", "layer", "feature_id", "cohen_d")
# numpy's booleans become text where a study was written with `default=str`
_TRUTH: dict[Any, bool] = {True: True, False: False, "True": True, "False": False, "true": True, "false": False}


class Fault(NamedTuple):
    """Why a record cannot be used: a code of findings.KINDS, and what was found."""

    code: str
    detail: str


class FeatureRecord(NamedTuple):
    """One tested feature; `cohen_d` is None where it is not finite, the means where the study does not tell them."""

    feature: str
    layer: int
    feature_id: int
    cohen_d: float | None
    is_causal: bool
    mean_a: float | None
    mean_b: float | None
    prompt_class: str | None
    generation: int


class TrialRecord(NamedTuple):
    """One response; `condition` is a place in Vocabulary.conditions, `outcome` None where it could not be parsed."""

    layer: int
    feature_id: int
    condition: int
    trial: int
    task_id: int | None
    outcome: bool | None
    response: str


@dataclass
class Vocabulary:
    """What names and numbers a study may use: conditions with aliases, classes, dictionary width, layers."""

    study: Study
    width: int
    n_layers: int
    conditions: tuple[str, ...] = field(init=False)
    _places: dict[str, int] = field(init=False)
    _fields: frozenset[str] = field(init=False)
    _features: dict[str, tuple[int, int] | Fault] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.conditions = tuple(self.study.conditions)
        self._places = {found: self.conditions.index(name) for found, name in self.study.canonical().items()}
        task = ("task_id",) if self.needs_task else ()
        self._fields = frozenset(("feature", "condition", "trial", "response", *task))

    @property
    def needs_task(self) -> bool:
        """Whether a trial is one problem's."""
        return self.study.kind == "program_validity"

    def feature(self, name: Any) -> tuple[int, int] | Fault:
        """Returns layer and id of "L{layer}-{id}", or what is wrong with it."""
        if not isinstance(name, str):
            return Fault("wrong_type", f"feature is {name!r}, expected text such as 'L12-345'")
        known = self._features.get(name)
        if known is None:
            known = self._features[name] = self._parsed_feature(name)
        return known

    def _parsed_feature(self, name: str) -> tuple[int, int] | Fault:
        match = FEATURE.fullmatch(name)
        if match is None:
            return Fault("bad_feature", f"feature is {name!r}, expected the form 'L12-345'")
        layer, feature_id = int(match[1]), int(match[2])
        if layer >= self.n_layers:
            return Fault("layer_outside_model", f"{name}: the model has layers 0 to {self.n_layers - 1}")
        if feature_id >= self.width:
            return Fault("id_outside_dictionary", f"{name}: the dictionary has ids 0 to {self.width - 1}")
        if name != f"L{layer}-{feature_id}":
            return Fault("bad_feature", f"feature is {name!r}, expected 'L{layer}-{feature_id}'")
        return layer, feature_id

    def trial(self, raw: Any) -> TrialRecord | Fault:
        """Returns one entry of a response log as a record, or what is wrong with it."""
        if not isinstance(raw, dict):
            return Fault("wrong_type", f"expected an object, found {_short(raw)}")
        if not self._fields <= raw.keys():
            return _missing(self._fields - raw.keys())
        place = self.feature(raw["feature"])
        if isinstance(place, Fault):
            return place
        condition = self._places.get(raw["condition"]) if isinstance(raw["condition"], str) else None
        if condition is None:
            name = raw["condition"]
            return Fault("unknown_condition", f"condition is {name!r}{suggest(str(name), self._places)}")
        trial, response, task = raw["trial"], raw["response"], raw.get("task_id")
        if not _whole(trial) or not isinstance(response, str) or not (task is None or _whole(task)):
            return Fault("wrong_type", f"trial {_short(trial)}, task_id {_short(task)}, response {_short(response)}")
        if task is None and self.needs_task:
            return _missing(["task_id"])
        outcome = self._outcome(raw)
        return outcome if isinstance(outcome, Fault) else TrialRecord(*place, condition, trial, task, outcome, response)

    def _outcome(self, raw: dict[str, Any]) -> bool | None | Fault:
        if self.study.positive_outcome is None:
            return _boolean(raw, "test_passed")
        parsed = raw.get("parsed")
        if not isinstance(parsed, dict):
            return _missing(["parsed"]) if parsed is None else Fault("wrong_type", f"parsed is {_short(parsed)}")
        if _TRUTH.get(parsed.get("valid", True)) is False:  # the parser's fallback action is no outcome
            return None
        if "action" not in parsed:
            return _missing(["parsed.action"])
        if not isinstance(parsed["action"], str):
            return Fault("wrong_type", f"parsed.action is {_short(parsed['action'])}, expected text")
        return parsed["action"] == self.study.positive_outcome

    def result(self, raw: Any) -> FeatureRecord | Fault:
        """Returns one entry of a checkpoint's `results` as a record, or what is wrong with it."""
        if not isinstance(raw, dict):
            return Fault("wrong_type", f"expected an object, found {_short(raw)}")
        missing = [name for name in RESULT_FIELDS if name not in raw]
        if missing:
            return _missing(missing)
        place = self.feature(raw["feature"])
        if isinstance(place, Fault):
            return place
        if (raw["layer"], raw["feature_id"]) != place:
            found = f"layer {_short(raw['layer'])}, feature_id {_short(raw['feature_id'])}"
            return Fault("feature_mismatch", f"{raw['feature']} has {found}")
        causal = self._causal(raw)
        if isinstance(causal, Fault):
            return causal
        if not _number(raw["cohen_d"]):
            return Fault("wrong_type", f"{raw['feature']}: cohen_d is {_short(raw['cohen_d'])}, expected a number")
        own = raw.get("class")
        return FeatureRecord(
            feature=raw["feature"],
            layer=place[0],
            feature_id=place[1],
            cohen_d=float(raw["cohen_d"]) if math.isfinite(raw["cohen_d"]) else None,
            is_causal=causal[0],
            mean_a=_mean(raw, self.study.classes[0]),
            mean_b=_mean(raw, self.study.classes[1]),
            prompt_class=own if own in self.study.classes else None,
            generation=causal[1],
        )

    def _causal(self, raw: dict[str, Any]) -> tuple[bool, int] | Fault:
        """Returns whether a feature is causal, and which generation of the schema says so."""
        if "is_causal" in raw:
            flag = _boolean(raw, "is_causal")
            return flag if isinstance(flag, Fault) else (flag, 1)
        nested = raw.get("causality")
        names = [f"is_causal_{name}" for name in self.study.classes]
        if not isinstance(nested, dict):
            return _missing(["is_causal"])
        if any(name not in nested for name in names):
            return _missing([f"causality.{name}" for name in names if name not in nested])
        flags = [_boolean(nested, name) for name in names]
        fault = next((flag for flag in flags if isinstance(flag, Fault)), None)
        return fault if fault is not None else (any(flags), 2)


def _missing(names: Any) -> Fault:
    return Fault("missing_field", f"it has no {', '.join(sorted(names))}")


def _boolean(raw: dict[str, Any], name: str) -> bool | Fault:
    if name not in raw:
        return _missing([name])
    value = raw[name]
    flag = _TRUTH.get(value) if isinstance(value, bool | int | str) else None
    return flag if flag is not None else Fault("wrong_type", f"{name} is {_short(value)}, expected true or false")


def _mean(raw: dict[str, Any], prompt_class: str) -> float | None:
    """The class's mean activation under any of the names it has had."""
    for name in (f"mean_{prompt_class}", f"{prompt_class}_mean", f"{prompt_class}_mean_activation"):
        if name in raw and _number(raw[name]) and math.isfinite(raw[name]):
            return float(raw[name])
    return None


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
