from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from common.errors import OtherSettingsError, PipelineError
from common.runs.artifacts import PhasePaths
from common.runs.merging import Lack, Opened, refuse_bad_cover, refuse_foreign_slices, settings_digest
from common.runs.records import StageStore
from common.runs.slice_records import SliceKeeper
from common.runs.slices import Span

pytestmark = pytest.mark.unit
DIGEST = settings_digest({"seed": 1})


@pytest.fixture
def paths(tmp_path: Path) -> PhasePaths:
    return PhasePaths(tmp_path / "phase1_0")


def store(paths: PhasePaths, *spans: tuple[int, int], stage: str = "evaluation", arm: str = "greedy") -> None:
    stage_store = StageStore(paths.stage(stage, arm))
    stage_store.open({"seed": 1})
    for start, end in spans:
        stage_store.write(Span(start, end), pa.table({"position": list(range(start, end + 1))}))


def worked(paths: PhasePaths, span: Span, fingerprint: str, phase: str = "1.0") -> None:
    with SliceKeeper(paths, span, phase=phase, device="cpu", arms=1, expected=len(span)) as keeper:
        keeper.begin(0, fingerprint)


def test_slices_that_cover_everything_once_are_merged(paths: PhasePaths) -> None:
    for stage in ("generation", "evaluation"):
        store(paths, (4, 7), (0, 3), (8, 9), stage=stage)
    refuse_bad_cover(paths, Span(0, 9))
    refuse_bad_cover(paths, Span(4, 8))


@pytest.mark.parametrize("stage", ["generation", "evaluation", "vectors"])
def test_a_gap_in_any_stage_is_refused_with_its_positions(paths: PhasePaths, stage: str) -> None:
    store(paths, (0, 9), stage="generation", arm="whole")
    store(paths, (0, 3), (8, 9), stage=stage, arm="torn")
    with pytest.raises(
        PipelineError, match=rf"not merged: positions 4 to 7 are missing in .*{stage}/torn; run the same"
    ):
        refuse_bad_cover(paths, Span(0, 9))


def test_a_gap_at_the_end_is_one_too(paths: PhasePaths) -> None:
    store(paths, (0, 3), (4, 7))
    with pytest.raises(PipelineError, match="positions 8 to 9 are missing"):
        refuse_bad_cover(paths, Span(0, 9))


def test_a_position_that_stands_twice_is_refused(paths: PhasePaths) -> None:
    store(paths, (0, 3), (2, 5), (6, 9))
    with pytest.raises(PipelineError, match="positions 2 to 3 stand twice in"):
        refuse_bad_cover(paths, Span(0, 9))


def test_extra_work_on_the_first_positions_alone_is_no_gap(paths: PhasePaths) -> None:
    store(paths, (0, 9))
    store(paths, (0, 3), stage="sae_fit")
    refuse_bad_cover(paths, Span(0, 9))


def test_a_published_phase_has_no_gaps(paths: PhasePaths) -> None:
    refuse_bad_cover(paths, Span(0, 9))


def test_a_slice_made_under_other_settings_is_refused(paths: PhasePaths) -> None:
    worked(paths, Span(0, 3), DIGEST)
    worked(paths, Span(8, 9), "")  # refused before it looked at anything
    refuse_foreign_slices(paths, "1.0", DIGEST)
    worked(paths, Span(4, 7), settings_digest({"seed": 2}))
    with pytest.raises(
        OtherSettingsError, match="the slice of positions 4 to 7, made on .* under other settings"
    ) as told:
        refuse_foreign_slices(paths, "1.0", DIGEST)
    assert "\n" not in str(told.value) and "--fresh" in str(told.value)


def test_a_slice_of_another_phase_is_refused(paths: PhasePaths) -> None:
    worked(paths, Span(0, 3), DIGEST, phase="3.6")
    with pytest.raises(OtherSettingsError, match=r"is one of phase 3\.6, not of phase 1\.0"):
        refuse_foreign_slices(paths, "1.0", DIGEST)


def test_what_is_left_survives_json() -> None:
    opened = Opened("3.6", Span(0, 9), 97, 4, 2, True, [Lack(0, 3, 8), Lack(8, 9, 1)])
    assert Opened.from_json(json.loads(json.dumps(opened._asdict()))) == opened


def test_the_digest_of_settings_is_their_content_alone() -> None:
    assert settings_digest({"a": 1, "b": [2]}) == settings_digest({"b": [2], "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})
