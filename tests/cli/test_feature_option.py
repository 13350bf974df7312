from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.parser import build_parser, resolved_config, run_options
from common.config import resolve_config
from common.errors import UsageError
from common.runs.artifacts import PhasePaths
from common.runs.features import Feature
from common.runs.metadata import Extent, write_record
from common.runs.options import RunOptions
from tests.cli.conftest import Workspace
from tests.cli.helpers import Here, refusal

pytestmark = pytest.mark.smoke

BEST = {"correct": 0, "incorrect": 2, "correct_feature_idx": 5, "incorrect_feature_idx": 6}


def options(*words: str) -> RunOptions:
    parsed = build_parser().parse_args(["phase", "3.8", *words])
    return run_options(parsed, resolved_config(parsed))


def test_one_option_names_a_feature_for_either_direction() -> None:
    found = options("--feature", "correct=16:123", "incorrect=19:456", "--fresh")
    assert dict(found.features) == {"correct": Feature(16, 123), "incorrect": Feature(19, 456)}
    assert dict(options("--feature", "incorrect=0:0").features) == {"incorrect": Feature(0, 0)}
    assert options().features == ()


@pytest.mark.parametrize(
    "text", ["correct=16", "correct:16:3", "right=1:2", "correct=-1:2", "correct=1:2:3", "correct=a:b", "=1:2", "1:2"]
)
def test_what_is_no_feature_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="write --feature correct=LAYER:INDEX incorrect=LAYER:INDEX"):
        options("--feature", text)


def test_the_option_may_be_given_once_a_direction() -> None:
    found = options("--feature", "correct=16:123", "--feature", "incorrect=19:456")
    assert dict(found.features) == {"correct": Feature(16, 123), "incorrect": Feature(19, 456)}


def test_two_features_for_one_direction_are_refused() -> None:
    with pytest.raises(UsageError, match="correct"):
        options("--feature", "correct=1:2", "correct=1:3")


@pytest.fixture
def published(workspace: Workspace, tmp_path: Path) -> tuple[str, ...]:
    """Records of phases 1.0 (three layers), 3.5 and 3.6 (layers 0 and 2)."""
    words = ("--profile", str(workspace.profile), "--data-dir", str(tmp_path / "data"))
    publish(words, "1.0", [0, 1, 2])
    publish(words, "3.5", [0, 2], best_layers=BEST)
    publish(words, "3.6", [0, 2], best_layers=BEST)
    return words


def publish(words: tuple[str, ...], phase: str, layers: list[int], **details: Any) -> None:
    config = resolve_config({"profile": words[1], "data_dir": words[3]}, environment={}).config
    write_record(
        PhasePaths(config.phase_dir(phase)),
        phase=phase,
        config=config,
        extent=Extent(4, 4),
        inputs=[],
        outputs=[],
        wall_seconds={},
        details={"layers": layers, "model": {"name": "tiny"}, "saes": [], "points": {}, "site_given": False, **details},
    )


def test_a_layer_that_was_not_captured_is_refused(published: tuple[str, ...], here: Here) -> None:
    said = refusal(here("phase", "3.8", *published, "--feature", "correct=1:3"))
    assert "layer 1 was not captured in" in said and "phase3_5" in said and "only 0, 2" in said
    assert "phase 3.5" in said and "--set capture_layers=all" in said
    assert not Path(published[3], "phase3_8", "metadata.json").exists()


def test_a_feature_that_the_sae_does_not_have_is_refused(published: tuple[str, ...], here: Here) -> None:
    said = refusal(here("phase", "3.8", *published, "--feature", "incorrect=2:24"))
    assert "feature 2:24 does not exist" in said and "0 to 23" in said


def test_splits_that_were_run_for_different_features_are_refused(published: tuple[str, ...], here: Here) -> None:
    publish(published, "3.6", [0, 2], best_layers={**BEST, "correct_feature_idx": 9})
    said = refusal(here("phase", "3.8", *published))
    assert "phases 3.5 and 3.6 were run for different features" in said and "phase 3.6" in said


@pytest.mark.parametrize("changed", [{"points": {"0": "blocks.0.hook_resid_pre"}}, {"model": {"name": "another"}}])
def test_splits_that_were_read_at_another_site_or_model_are_refused(
    published: tuple[str, ...], here: Here, changed: dict[str, Any]
) -> None:
    publish(published, "1.0", [0, 1, 2], points={"0": "blocks.0.hook_resid_post"})
    publish(published, "3.5", [0, 2], best_layers=BEST, **changed)
    publish(published, "3.6", [0, 2], best_layers=BEST, **changed)
    said = refusal(here("phase", "3.8", *published))
    assert next(iter(changed)) in said or "site" in said


def test_a_phase_that_uses_no_feature_refuses_one(published: tuple[str, ...], here: Here) -> None:
    assert "--feature" in refusal(here("phase", "0", *published, "--feature", "correct=0:1"))
