from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.config import Config
from common.runs.artifacts import PhasePaths
from common.runs.files import write_json
from common.runs.metadata import Extent, sealed
from report.blocks import Code, Details, Facts, Missing
from report.run import Run
from report.sections.provenance import section
from tests.report.helpers import publish
from tests.report.sections.artifacts import config_in, model_details, publish_difficulty, publish_splits
from tests.report.sections.looking import column, every_block, plain, shown, table, tables, texts
from tests.report.sections.saying import sound

pytestmark = pytest.mark.unit


def rewrite(config: Config, phase: str, **changes: Any) -> None:
    """Writes a phase's record again with other values, sealed as if they had been recorded."""
    paths = PhasePaths(config.phase_dir(phase))
    record = json.loads(paths.metadata.read_text())
    write_json(paths.metadata, sealed({**record, **changes}))


def publish_run(config: Config) -> None:
    """Publishes phases 0, 0.1 and 1.0 of one commit, with times."""
    publish_difficulty(config)
    publish_splits(config)
    publish(config, "1.0", {}, Extent(20, 20), model_details("sae"))
    for phase, seconds in (("0", {"loading": 1.5}), ("0.1", {}), ("1.0", {"loading": 2.0, "generation": 60.5})):
        rewrite(config, phase, commit="c0ffee00" * 5, dirty=False, wall_seconds=seconds)


def facts(config: Config) -> dict[str, str]:
    (block,) = [block for block in sound(section(Run(config))).blocks if isinstance(block, Facts)]
    return {name: plain(str(value)) for name, value in block.rows}


def test_without_any_phase_the_section_names_the_first_ones_command(tmp_path: Path) -> None:
    missing = section(Run(config_in(tmp_path)))
    assert isinstance(missing, Missing)
    assert missing.command == f"python3 run.py phase 0 --data-dir {tmp_path}"


# 1.5 + 2.0 + 60.5 seconds.
def test_the_lead_counts_phases_and_computing_time(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    assert sound(section(Run(config))).lead == (
        "3 of 13 phases are complete, made with tiny/base in float32 on cpu, in 1 min 4 s of computing."
    )


def test_what_ran_is_named_with_what_identifies_it(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    found = facts(config)
    assert found["model"] == "tiny/base (weights 01234567), float32 on cpu"
    assert found["SAEs"] == "tiny/saes; 2 layers: 0 to 1"
    assert found["site"] == "resid_post (blocks.0.hook_resid_post, …)"
    assert found["problems"] == "problems.jsonl (SHA-256 abababab), 40 problems"
    assert found["splits"] == "sae 20, hyperparams 4, validation 16"
    assert found["code"] == "c0ffee00"
    assert found["solutions ran in"] == "rung 4 (bubblewrap, another user, seccomp)"


def test_a_pinned_model_is_named_by_its_revision_and_open_doors_of_the_sandbox_are_named(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    details = model_details("sae", sandbox={"isolation": "rung 1", "open": ["files", "network"]})
    details["model"]["revision"] = "abc123"
    details["saes"][0]["revision"] = "def456"
    publish(config, "1.0", {}, Extent(20, 20), details)
    found = facts(config)
    assert found["model"].startswith("tiny/base (revision abc123)")
    assert found["SAEs"] == "tiny/saes, revision def456; 2 layers: 0 to 1"
    assert found["solutions ran in"] == "rung 1; still open: files and network"


def test_every_phase_has_its_row_also_those_not_run(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    rewrite(config, "1.0", created="2026-01-02T03:04:05+00:00", excluded=1)
    phases = table(sound(section(Run(config))), "All 13 phases")
    rows = {row[0]: shown(row) for row in phases.rows}
    assert rows["1.0"][2:] == ["complete", "20 of 20", "1", "2026-01-02 03:04", "62.5", "cpu", "c0ffee00"]
    assert rows["0"][7] == "–"
    assert rows["4.8"] == ["4.8", "steering effects", "not run", "–", "–", "–", "–", "–", "–"]


def test_phases_of_one_commit_and_one_environment_need_no_warning(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    assert texts(sound(section(Run(config))), "warning") == []


def test_what_differs_between_phases_is_named_with_the_phases(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    publish(config, "3.6", {}, Extent(4, 4), model_details("hyperparams", site_given=True))
    versions = json.loads(PhasePaths(config.phase_dir("1.0")).metadata.read_text())["versions"]
    model = {**model_details("sae")["model"], "digest": "sha256:fedcba9876543210"}
    rewrite(
        config,
        "3.6",
        **{"commit": "deadbeef" * 5, "dirty": True, "seed": 7, "prompt_format": "chat", "model": model},
        versions={**versions, "torch": "0.0.1"},
    )
    found = sound(section(Run(config)))
    warnings = texts(found, "warning")
    of_package = {row[0]: shown(row)[1] for row in table(found, "Python and the packages").rows}
    assert of_package["torch"].endswith("(phase 0, 0.1 and 1.0); 0.0.1 (phase 3.6)")
    assert warnings == [
        "The code held changes that no commit has when phases 3.6 were made.",
        "Phases were made with different commits: c0ffee00 (phase 0, 0.1 and 1.0); deadbeef (phase 3.6).",
        "Phases were made with different seeds: 42 (phase 0, 0.1 and 1.0); 7 (phase 3.6).",
        "Phases were made with different prompt formats: solution_marker (phase 1.0); chat (phase 3.6).",
        "Phases were made with different weights of the model: 01234567 (phase 1.0); fedcba98 (phase 3.6).",
        "Phases were made with different versions of torch (see Package versions).",
        "The site was given by hand, not taken from the SAEs' own metadata, in phases 3.6.",
    ]


def test_partial_and_stale_phases_are_warned_about(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    publish(config, "3.6", {}, Extent(97, 4), model_details("hyperparams"))
    rewrite(config, "3.6", commit="c0ffee00" * 5, dirty=False)
    old = {"phase": "0", "path": str(tmp_path / "phase0/x"), "sha256": "00" * 32, "rows": 1, "record_id": "1"}
    rewrite(config, "0.1", inputs=[old])
    warnings = texts(sound(section(Run(config))), "warning")
    assert warnings == [
        "Phase 0.1 (problem splitting) is stale: phase 0 has changed since.",
        "Phase 3.6 (hyperparameter split) is partial: the rest has not been run.",
    ]


def test_a_damaged_record_is_named_and_the_rest_still_shown(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    metadata = PhasePaths(config.phase_dir("0.1")).metadata
    metadata.write_text(metadata.read_text().replace("hyperparams", "hyperparam_"))
    found = sound(section(Run(config)))
    (warning,) = texts(found, "warning")
    assert warning.startswith("Phase 0.1 (problem splitting) is unreadable: ") and "is damaged" in warning
    assert "2 of 13 phases are complete" in found.lead


def test_a_run_at_its_defaults_says_so(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    publish_difficulty(config)
    assert "Every setting that can change a result is at its default." in texts(sound(section(Run(config))), "plain")


def test_settings_that_are_not_at_their_defaults_stand_with_who_set_them(tmp_path: Path) -> None:
    config = config_in(tmp_path, batch_size=7, max_new_tokens=99)
    publish(config, "1.0", {}, Extent(20, 20), model_details("sae"))
    changed = table(sound(section(Run(config))), "Settings that can change a result and are not at their defaults.")
    rows = {row[0]: shown(row) for row in changed.rows}
    assert rows["max_new_tokens"][1:4] == ["99", str(Config().max_new_tokens), "given by the user"]
    assert set(rows) == {"batch_size", "max_new_tokens"}


def test_a_setting_that_phases_do_not_share_names_the_phases_of_each_value(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish(config, "1.0", {}, Extent(20, 20), model_details("sae"))
    publish(replace(config, max_new_tokens=99), "3.6", {}, Extent(4, 4), model_details("hyperparams"))
    changed = table(sound(section(Run(config))), "Settings that can change a result and are not")
    assert shown(column(changed, "value")) == [str(Config().max_new_tokens), "99"]
    assert shown(column(changed, "phases")) == ["1.0", "3.6"]


def test_what_a_profile_lowers_to_be_quick_is_warned_about(tmp_path: Path) -> None:
    config = config_in(tmp_path, profile="organism", phase3_5_samples=2, full=False)
    publish(config, "3.5", {}, Extent(16, 16), model_details("validation"))
    warnings = texts(sound(section(Run(config))), "warning")
    assert "To be quick, the profile lowers phase3_5_samples 2 (default 5); --full leaves that out." in warnings


def test_packages_times_commands_and_workers_are_folded_away(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_run(config)
    workers = [{"span": [0, 9], "host": "one", "device": "cuda:0", "state": "done"}] * 2
    rewrite(config, "1.0", workers=workers)
    rewrite(config, "0", command="run.py phase 0 --x")
    found = sound(section(Run(config)))
    assert shown(table(found, "Slices of phases").rows[0]) == ["1.0", "0 to 9", "one", "cuda:0", "done"]
    assert ["1.0", "generation", "60.50"] in [shown(row) for row in table(found, "Wall time of each stage").rows]
    assert table(found, "Python and the packages").rows
    assert shown(column(table(found, "All 13 phases"), "device"))[2] == "2 × cuda:0"
    (code,) = [block for block in every_block(found.blocks) if isinstance(block, Code)]
    assert code.text.startswith("run.py phase 0 --x\n  phase 0\n")
    assert [block.summary for block in found.blocks if isinstance(block, Details)][0] == "All settings"
    assert len(tables(found)) >= 6


def test_code_outside_git_says_why_it_has_no_commit(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    publish_difficulty(config)
    rewrite(config, "0", commit=None, dirty=None, commit_reason="not a git checkout")
    assert facts(config)["code"] == "not a git checkout"
