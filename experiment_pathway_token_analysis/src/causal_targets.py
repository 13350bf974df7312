"""The targets of steps 2 and 3 (step 1's features) and the prompts on which they are read, both checked on reading."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError, UsageError
from common.runs.features import Feature
from common.runs.files import canonical_json, read_json
from experiment_pathway_token_analysis.src.steps import Run

SELECT, VALIDATE = "select", "validate"


class Target(NamedTuple):
    """A causal feature, and its place in the list."""

    position: int
    feature: Feature
    cohen_d: float | None
    prompt_class: str | None

    @property
    def name(self) -> str:
        """`L3-17`."""
        return feature_name(self.feature)


class Prompt(NamedTuple):
    """A prompt: its class as 0 or 1 (the study's classes in order), and whether it selects edges or validates them."""

    id: str
    text: str
    number: int
    selects: bool


class Prompts(NamedTuple):
    """The prompts of both splits, in the file's order, and the digest of all that is used of them."""

    all: list[Prompt]
    digest: str

    def rows(self, *, selects: bool) -> list[int]:
        """Returns the positions of one split's prompts."""
        return [row for row, prompt in enumerate(self.all) if prompt.selects is selects]


def feature_name(feature: Feature) -> str:
    """Returns how files call a feature, `L3-17`."""
    return f"L{feature.layer}-{feature.index}"


def read_targets(run: Run) -> list[Target]:
    """Returns step 1's features in its order, the first `run.limit` of them."""
    path = run.paths.causal_features
    if not path.is_file():
        raise UsageError(f"{path} is missing; run: run.py pathway --profile {run.profile.name} --from 1 --to 1")
    found = read_json(path)
    try:
        targets = [_target(position, item) for position, item in enumerate(found["features"])]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} does not hold features ({error!r}); run step 1 again") from None
    if len({target.feature for target in targets}) < len(targets):
        raise UsageError(f"{path} names a feature twice; run step 1 again")
    return targets if run.limit is None else targets[: run.limit]


def _target(position: int, item: dict[str, Any]) -> Target:
    feature = Feature(int(item["layer"]), int(item["feature_id"]))
    if item["feature"] != feature_name(feature):
        raise ValueError(f"{item['feature']} is not layer {feature.layer}, feature {feature.index}")
    return Target(position, feature, item.get("cohen_d"), item.get("class"))


def read_prompts(run: Run) -> Prompts:
    """Returns the prompts of steps 2 and 3; raises `UsageError` where they cannot be used."""
    path = run.paths.prompts
    if not path.is_file():
        raise UsageError(
            f"{path} is missing: steps 2 and 3 read their prompts there; let make_patching_study.py write it, or give "
            'one: {"schema_version": 1, "prompts": [{"id", "class", "prompt", "split": "select" or "validate"}]}'
        )
    try:
        found = _content(path)["prompts"]
        prompts = [_prompt(number, item, run.settings.study.classes) for number, item in enumerate(found)]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} does not hold prompts ({error}); correct it") from None
    for selects, split in ((True, SELECT), (False, VALIDATE)):
        chosen = {prompt.number for prompt in prompts if prompt.selects is selects}
        lacking = [name for number, name in enumerate(run.settings.study.classes) if number not in chosen]
        if lacking:
            raise UsageError(f"{path} has no prompt of class {lacking[0]!r} in the split {split!r}; add some")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise UsageError(f"{path} names a prompt twice; give each an id of its own")
    if (alike := _alike(prompts)) is not None:
        raise UsageError(f"{path}: prompts {alike[0]!r} and {alike[1]!r} are the same text; keep one of them")
    return Prompts(prompts, hashlib.sha256(canonical_json(prompts).encode()).hexdigest()[:16])


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except PipelineError as error:
        raise ValueError(str(error).partition("(")[2].partition(");")[0] or str(error)) from None


def _alike(prompts: list[Prompt]) -> tuple[str, str] | None:
    """Returns two prompts of one text: what selects an edge must not validate it, and n counts different prompts."""
    seen: dict[str, str] = {}
    for prompt in prompts:
        if prompt.text in seen:
            return seen[prompt.text], prompt.id
        seen[prompt.text] = prompt.id
    return None


def _prompt(number: int, item: Any, classes: tuple[str, ...]) -> Prompt:
    """Returns an entry of the file, counted from 0, as a prompt; raises ValueError for what is wrong with it."""
    lacking = [name for name in ("id", "class", "prompt", "split") if not isinstance(item, dict) or name not in item]
    if lacking:
        raise ValueError(f"entry {number} has no {', '.join(lacking)}")
    if item["class"] not in classes:
        raise ValueError(f"class {item['class']!r} is none of {', '.join(classes)}")
    if item["split"] not in (SELECT, VALIDATE):
        raise ValueError(f"split {item['split']!r} is neither {SELECT!r} nor {VALIDATE!r}")
    if not isinstance(item["prompt"], str) or not item["prompt"].strip():
        raise ValueError(f"prompt {item['id']!r} is empty")
    if any("\ud800" <= character <= "\udfff" for character in item["prompt"]):
        raise ValueError(f"prompt {item['id']!r} holds half a character (a lone surrogate)")
    return Prompt(str(item["id"]), item["prompt"], classes.index(item["class"]), item["split"] == SELECT)
