"""Results of two settings are never mixed (C7): each setting changed alone, in every phase that keeps segments.

A setting that changes what is generated is refused with the name of what differs. One that changes only what is made of
it is followed without generating. Any other leaves every file as it is, to the byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from common.config import Config, show
from tests.cli.helpers import Answer, tree
from tests.cli.steering_place import quietly
from tests.faults.conftest import WARM, Figure
from tests.faults.harness import Site

MODEL = {"model_name": "model", "dtype": "dtype", "batch_size": "batch_size"}
CAPTURING = {**MODEL, "prompt_format": "prompt_format", "max_new_tokens": "max_new_tokens", "site": "points"}
ANOTHER = "was run with another"  # than the phase whose solutions are steered: refused before fingerprints are compared
STEERING = {**MODEL, "model_name": f"{ANOTHER} model", "site": f"{ANOTHER} site", "steer_bos": "steer_bos"}
OF_GRID = (
    *("phase4_5_coefficients", "phase4_5_coefficient_unit", "phase4_5_problems_per_coeff"),
    *("phase4_5_random_directions", "phase4_5_max_new_tokens"),
)
OF_CONTROLS = ("phase4_8_controls", "phase4_8_control_problems")
# What each phase refuses: the setting, and the words by which the refusal names the difference.
REFUSED: dict[str, Mapping[str, str]] = {
    "1.0": {**CAPTURING, "activation_layers": "points"},
    "2.2": {
        **{**MODEL, "site": "points", "activation_layers": "points", "seed": "seed"},
        **{"phase2_2_texts": "data", "phase2_2_max_tokens": "max_tokens"},
    },
    "3.5": {
        **{**CAPTURING, "seed": "seed", "capture_layers": "points"},
        **{"phase3_5_temperatures": "arms", "phase3_5_samples": "samples"},
    },
    "3.6": CAPTURING,
    # The seed decides which problems the grid is tried on.
    "4.5": {**STEERING, "seed": "positions", **{name: name for name in OF_GRID}},
    "4.8": {**STEERING, "seed": "seed", **{name: name for name in OF_CONTROLS}},
    "7.3": {
        **{name: words for name, words in CAPTURING.items() if name != "model_name"},
        **{"phase7_3_model_name": "model", "capture_layers": "points"},
    },
}
LABELS = ("evaluation_timeout_seconds", "evaluation_memory_mb", "sandbox")
# What each phase follows: labels, or figures, are made again from the same text.
FOLLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("1.0", "3.5", "3.6", "7.3"), LABELS),
    "2.2": (),
    "4.5": (*LABELS, "phase4_5_final_eval_problems"),
    "4.8": (
        *(*LABELS, "phase4_8_selective", "phase4_8_examples"),
        *("phase3_8_bootstrap_draws", "phase3_8_random_rivals"),
    ),
}
GENERATES = ("phase4_5_final_eval_problems",)  # an evaluation beside the grid, on more problems
# Another value, where the next number or the other truth value will not do.
OTHER = {
    "dtype": "bfloat16",
    "prompt_format": "signature",
    "site": "resid_pre",
    "activation_layers": "0,2",
    "capture_layers": "all",
    "sandbox": "0",
    "phase3_5_temperatures": "0,0.5",
    "phase4_5_coefficients": "2,5",
    "phase4_5_coefficient_unit": "residual_norm",
    "phase4_8_control_problems": "20",
    "evaluation_workers": "2",
    "phase0_1_ratios": "4,2,4",
    "phase7_3_model_revision": "abc",
    "ram_warning_share": "0.7",
    "general_text_max_frequency": "0.5",
    "max_excluded_share": "0.5",
    "phase2_2_texts": "50",
}
# Names of places and devices, and the commit of a model on the hub, which a local directory does not have.
NOT_VARIED = {"profile", "data_dir", "device", "full", "model_revision", "phase7_3_model_revision"}


def varied() -> list[str]:
    """Returns every setting that is varied."""
    names = [item.name for item in fields(Config)]
    return [name for name in names if name not in NOT_VARIED and not name.endswith("_output_dir")]


def other_value(name: str, current: Any, site: Site) -> str:
    """Returns a value of a setting that is not the current one."""
    models = {"model_name": "sibling", "phase7_3_model_name": "third"}
    if name in models:
        return str(site.profile.parent / models[name])
    if name in OTHER:
        return OTHER[name]
    assert isinstance(current, int | float), f"say in OTHER what else {name} = {current!r} could be"
    return show(not current if isinstance(current, bool) else current + 1)


def what_happened(site: Site, name: str, before: Mapping[str, str]) -> str:
    """Runs a finished phase with one setting changed, says what came of it, and puts everything back."""
    settings = json.loads((site.root / "metadata.json").read_text())["config"]
    answer = quietly(*site.words("--set", f"{name}={other_value(name, settings[name], site)}"))
    if tree(site.data) == before:
        return "untouched" if answer.code == 0 else _refusal(answer)
    shutil.rmtree(site.root)
    shutil.copytree(site.data.parent / "kept" / site.root.name, site.root)
    generated = " loading " in answer.err and name not in GENERATES
    return "followed" if answer.code == 0 and not generated else f"changed something: {answer}"


def _refusal(answer: Answer) -> str:
    """Returns the words of a refusal that name the difference."""
    line = answer.err.splitlines()[-1]
    if "made under other settings (" in line:
        return "refused: " + line.partition("made under other settings (")[2].partition(":")[0]
    found = line.partition(ANOTHER)
    return f"refused: {ANOTHER} {found[2].split()[0]}" if found[1] else f"code {answer.code}: {line}"


@pytest.fixture(scope="module")
def all_done(steering: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A place in which every phase that keeps segments has run, and a copy of it."""
    from tests.common_simplified.fixtures import write_model

    root = tmp_path_factory.mktemp("all")
    write_model(steering.profile.parent / "third", seed=9)
    site = steering.copied(root / "data")
    shutil.rmtree(site._replace(phase="3.5").root)
    for phase in ("1.0", "2.2", "3.5", "3.6", "4.5", "4.8", "7.3"):
        words = site._replace(phase=phase, options=WARM).words(*(("--fresh",) if phase in ("3.6", "4.5") else ()))
        answer = quietly(*words, *(("--select", "correct=4", "incorrect=2") if phase == "4.5" else ()))
        assert answer.code == 0, answer
    shutil.copytree(site.data, root / "kept")
    return site._replace(options=WARM)


@pytest.mark.fault
@pytest.mark.parametrize("phase", REFUSED)
def test_what_changes_results_is_refused_by_name_and_nothing_else_is(
    all_done: Site, phase: str, figure: Figure
) -> None:
    site = all_done._replace(phase=phase)
    assert quietly(*site.words()).code == 0
    before = tree(site.data)
    found = {name: what_happened(site, name, before) for name in varied()}
    expected = dict.fromkeys(varied(), "untouched")
    expected |= dict.fromkeys(FOLLOWED[phase], "followed")
    expected |= {name: f"refused: {words}" for name, words in REFUSED[phase].items()}
    assert {name: words for name, words in found.items() if words != expected[name]} == {}
    kinds = (len(REFUSED[phase]), len(FOLLOWED[phase]))
    figure(
        f"C7: phase {phase}: of {len(found)} settings, each changed alone, {kinds[0]} refused by name, {kinds[1]} "
        f"followed without generating, {len(found) - sum(kinds)} change no byte"
    )


@pytest.mark.smoke
def test_another_setting_is_refused_by_name_in_an_unfinished_phase_too(building: Site, tmp_path: Path) -> None:
    site = building.copied(tmp_path / "data")
    assert quietly(*site.words("--end", 3)).code == 0
    before = tree(site.root)
    for setting, difference in (("max_new_tokens=8", "max_new_tokens: 24 → 8"), ("batch_size=4", "batch_size: 2 → 4")):
        answer = quietly(*site.words("--set", setting))
        assert answer.code == 2
        assert f"holds results made under other settings ({difference}" in answer.err
        assert "use --fresh to put them aside and start again" in answer.err
    assert tree(site.root) == before
