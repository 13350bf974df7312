from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from common.errors import UsageError
from common.runs.artifacts import PhasePaths
from common.runs.compatibility import refuse_other, refuse_other_model
from common.runs.discovery import PhaseOutput

pytestmark = pytest.mark.unit
COMMAND = "python3 run.py phase 3.5"


def sae(layer: int, **changes: Any) -> dict[str, Any]:
    identity = {
        **{"sae_layer": layer, "release": "saes", "sae_id": f"layer_{layer}", "revision": None, "digest": f"d{layer}"},
        **{"hook_name": f"blocks.{layer}.hook_resid_post", "site": "resid_post", "layer": layer},
    }
    return {**identity, "neuronpedia_id": None, **changes}


def record(*layers: int) -> dict[str, Any]:
    return {
        "model": {
            **{"name": "tiny", "role": "base", "revision": "abc", "digest": None},
            **{"dtype": "float32", "device_type": "cpu"},
        },
        "saes": [sae(layer) for layer in layers],
        "points": {str(layer): f"blocks.{layer}.hook_resid_post" for layer in layers},
    }


def refused(output: dict[str, Any], setup: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        check(output, setup)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"give both the same --model, --site and profile, here or in: {COMMAND} --fresh")
    return str(caught.value)


def check(output: dict[str, Any], setup: dict[str, Any]) -> None:
    refuse_other_model("4.8", PhaseOutput("3.5", PhasePaths(Path("nowhere")), output), setup, COMMAND)


def changed(place: str, name: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(record(1, 2))
    part = made["saes"][1] if place == "saes" else made[place]
    assert part[name] != value
    part[name] = value
    return made


def test_the_same_model_saes_and_site_belong_together() -> None:
    check(record(1, 2), record(1, 2))


@pytest.mark.parametrize(
    ("place", "name", "value", "said"),
    [
        ("model", "name", "other", "another model than this phase would use (name: tiny and other)"),
        ("model", "revision", "def", "another model than this phase would use (revision: abc and def)"),
        ("model", "digest", "sha256:0", "another model than this phase would use (digest: None and sha256:0)"),
        ("saes", "release", "others", "another SAE than this phase would use (layer 2 release: saes and others)"),
        ("saes", "sae_id", "x", "another SAE than this phase would use (layer 2 sae_id: layer_2 and x)"),
        ("saes", "revision", "abc", "another SAE than this phase would use (layer 2 revision: None and abc)"),
        ("saes", "digest", "d9", "another SAE than this phase would use (layer 2 digest: d2 and d9)"),
        ("saes", "site", "resid_pre", "another SAE than this phase would use (layer 2 site: resid_post and resid_pre)"),
        (
            "points",
            "2",
            "blocks.2.hook_resid_pre",
            "another site than this phase would use (layer 2: blocks.2.hook_resid_",
        ),
    ],
)
def test_each_difference_is_refused_by_name(place: str, name: str, value: Any, said: str) -> None:
    assert said in refused(record(1, 2), changed(place, name, value))
    assert "phase 4.8: phase 3.5 was run with another" in refused(changed(place, name, value), record(1, 2))


@pytest.mark.parametrize(("name", "value"), [("dtype", "bfloat16"), ("device_type", "cuda"), ("role", "instruct")])
def test_where_and_in_what_it_was_computed_is_not_compared(name: str, value: Any) -> None:
    check(record(1, 2), changed("model", name, value))


def test_only_layers_that_both_have_are_compared() -> None:
    check(record(0, 1, 2, 3), record(2))
    check(record(2), record(0, 1, 2, 3))
    other = record(0, 2)
    other["saes"][0] = sae(0, digest="else")
    check(record(1, 2), other)
    assert "layer 0 digest" in refused(record(0), other)


def test_what_a_record_does_not_hold_or_was_not_asked_for_is_not_compared() -> None:
    output = PhaseOutput("4.5", PhasePaths(Path("nowhere")), changed("points", "2", "else"))
    refuse_other_model("4.8", output, record(1, 2), COMMAND, ("model", "saes"))
    with pytest.raises(UsageError):
        refuse_other_model("4.8", output, record(1, 2), COMMAND, ("saes", "points"))
    check({"saes": record(1, 2)["saes"]}, changed("model", "name", "other"))


def test_the_order_of_layers_does_not_matter() -> None:
    check(record(1, 2), record(2, 1))


def test_two_outputs_are_compared_alike_but_for_what_one_does_not_hold() -> None:
    def output(phase: str, content: dict[str, Any]) -> PhaseOutput:
        return PhaseOutput(phase, PhasePaths(Path("nowhere")), content)

    refuse_other("3.8", output("3.5", record(1)), output("3.6", {"model": record(1)["model"]}), COMMAND)
    with pytest.raises(UsageError, match="phases 3.5 and 3.6 do not belong together, their points differ"):
        refuse_other("3.8", output("3.5", record(1, 2)), output("3.6", changed("points", "1", "else")), COMMAND)
