"""What `pipeline` does with a phase that cannot go on with what stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import pipeline
from common.config import Config
from common.errors import OtherSettingsError
from common.phases import get_phase
from common.runs.options import RunOptions
from common.runs.status import COMPLETE, PARTIAL, STALE, PhaseState

pytestmark = pytest.mark.unit


def started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, *, has_other_settings: bool = False
) -> list[bool]:
    """Runs phase 1.0 in `state`, whose output was made under other settings; returns the `fresh` of each start."""
    spec, tries = get_phase("1.0"), []

    def run_phase(_: object, __: Config, options: RunOptions) -> None:
        tries.append(options.fresh)
        if not options.fresh:
            raise OtherSettingsError("data: a → b")

    monkeypatch.setattr(pipeline, "run_phase", run_phase)
    found = PhaseState(spec, state, "why", has_other_settings=has_other_settings)
    monkeypatch.setattr(pipeline, "_state_of", lambda *_: found)
    pipeline._run_one(spec, Config(data_dir=str(tmp_path)), RunOptions())
    return tries


def test_output_of_a_changed_input_is_put_aside_and_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert started(monkeypatch, tmp_path, STALE) == [False, True]


def test_output_of_other_settings_is_refused_as_by_the_phase(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OtherSettingsError, match="data: a → b"):
        started(monkeypatch, tmp_path, PARTIAL)


def test_a_complete_phase_is_skipped_only_where_it_was_made_under_these_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert started(monkeypatch, tmp_path, COMPLETE) == []
    cure = "to replace them: python3 run.py phase 1.0 --data-dir .* --fresh; to keep them, give pipeline their settings"
    with pytest.raises(OtherSettingsError, match=f"data: a → b; {cure}"):
        started(monkeypatch, tmp_path, COMPLETE, has_other_settings=True)


def test_a_feature_given_by_hand_is_known_from_the_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = "run.py phase 3.8 --feature correct=2:208 incorrect=1:3 --profile organism"
    config, spec = Config(data_dir=str(tmp_path)), get_phase("3.8")
    monkeypatch.setattr(pipeline, "read_record", lambda paths: {"command": command})
    assert pipeline._given_by_hand(spec, config) == "--feature correct=2:208 incorrect=1:3"
    assert pipeline._given_by_hand(get_phase("3.5"), config) == ""
    monkeypatch.setattr(pipeline, "read_record", lambda paths: None)
    assert pipeline._given_by_hand(spec, config) == ""
