"""Killed while it publishes (C12): the record comes last, and who reads refuses a directory without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.helpers import command, refusal
from tests.cli.steering_place import quietly
from tests.faults.conftest import Figure
from tests.faults.harness import Site, Undisturbed, assert_undisturbed, assert_whole, run_words
from tests.faults.strace import Call, calls_under, need_strace, traced

NPZ_KILLS = 2


def publishing(site: Site, log: Path) -> list[Call]:
    """Returns the renames of a run from the first published file on, most of the activation files left out."""
    calls = [call for call in calls_under(site.root, command(*site.words()), log) if call.name == "rename"]
    first = next(place for place, call in enumerate(calls) if "dataset_sae_" in call.line)
    files = [call for call in calls[first:] if ".npz" in call.line]
    return [call for call in calls[first:] if call not in files or call in files[:: len(files) // NPZ_KILLS]]


@pytest.fixture
def unpublished(building: Site, tmp_path: Path) -> Site:
    """Everything generated and tested, nothing published: killed at the first published file."""
    need_strace(tmp_path)
    whole = building.copied(tmp_path / "whole")
    first = publishing(whole, tmp_path / "log")[0]
    site = building.copied(tmp_path / "unpublished")
    assert traced(command(*site.words()), tmp_path / "log", "rename", first.number).returncode == -9
    assert not list(site.root.glob("dataset_*"))
    return site


@pytest.mark.fault
def test_killed_between_any_two_published_files_it_is_no_output_until_its_record_stands(
    unpublished: Site, built: Undisturbed, tmp_path: Path, figure: Figure
) -> None:
    calls = publishing(unpublished.copied(tmp_path / "counted"), tmp_path / "log")
    names = " ".join(call.line for call in calls)
    assert all(name in names for name in ("index.parquet", "timings.parquet", "sae_fit.json", "metadata.json"))
    for place, call in enumerate(calls):
        site = unpublished.copied(tmp_path / f"killed{place}")
        done = traced(command(*site.words()), tmp_path / "log", "rename", call.number)
        assert done.returncode == -9, (call, done.stderr)
        assert_whole(site.root)
        is_recorded = any('/metadata.json"' in before.line for before in calls[:place])
        assert (site.root / "metadata.json").exists() == is_recorded
        reader = quietly("phase", "2.5", "--profile", site.profile, "--data-dir", site.data)
        assert is_recorded or "phase 2.5 reads phase 1.0, which is unfinished" in refusal(reader)
        assert run_words(command(*site.words())).code == 0
        assert_undisturbed(site, built)
    figure(
        f"C12: phase 1.0 killed at {len(calls)} renames of publishing: no output without its record, all ended equal"
    )
