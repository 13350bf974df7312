"""Slices merge exactly (C8): any split on the grid, in any order, publishes the bytes of a single run."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from common.runs.slices import Span
from tests.cli.helpers import refusal
from tests.cli.steering_place import quietly
from tests.faults.conftest import Figure
from tests.faults.harness import Site, Undisturbed, assert_undisturbed

MOST_PARTS = 7


def random_split(rng: random.Random, total: int, batch: int) -> list[Span]:
    """Returns a split of `total` positions into up to seven parts on the grid, in random order."""
    cuts = range(batch, total, batch)
    chosen = sorted(rng.sample(cuts, min(rng.randrange(MOST_PARTS), len(cuts))))
    parts = [Span(start, end - 1) for start, end in zip([0, *chosen], [*chosen, total], strict=True)]
    rng.shuffle(parts)
    return parts


def run_parts(site: Site, parts: list[Span]) -> None:
    for number, part in enumerate(parts):
        answer = quietly(*site.words("--start", part.start, "--end", part.end))
        assert answer.code == 0, answer
        record = json.loads((site.root / "metadata.json").read_text())
        assert record["done"] == sum(map(len, parts[: number + 1]))
        assert record["complete"] == (number == len(parts) - 1)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("work", "whole", "total", "batch", "splits"),
    [
        ("building", "built", 16, 2, 30),
        ("sampling", "sampled", 24, 4, 8),
        ("steering", "steered_through", 24, 4, 4),
    ],
)
def test_any_split_on_the_grid_in_any_order_gives_the_same_bytes(
    work: str,
    whole: str,
    total: int,
    batch: int,
    splits: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    figure: Figure,
) -> None:
    site, expected = request.getfixturevalue(work), request.getfixturevalue(whole)
    rng, counts = random.Random(8), []
    for number in range(splits):
        parts = random_split(rng, total, batch)
        copy = site.copied(tmp_path / f"data{number}")
        run_parts(copy, parts)
        record = {**expected.record, "slices": json.loads((copy.root / "metadata.json").read_text())["slices"]}
        assert_undisturbed(copy, expected._replace(record=record))
        counts.append(len(parts))
    figure(f"C8: phase {site.phase}: {splits} splits into {min(counts)} to {max(counts)} parts: byte-identical")


@pytest.mark.smoke
def test_three_parts_in_another_order_give_the_same_bytes(building: Site, built: Undisturbed, tmp_path: Path) -> None:
    site = building.copied(tmp_path / "data")
    run_parts(site, [Span(10, 15), Span(0, 5), Span(6, 9)])
    assert_undisturbed(site, built)


@pytest.mark.fault
def test_a_gap_is_partial_an_overlap_is_computed_once_and_a_foreign_slice_is_refused(
    building: Site, built: Undisturbed, tmp_path: Path
) -> None:
    site = building.copied(tmp_path / "data")
    for options in (("--end", 5), ("--start", 8)):
        assert quietly(*site.words(*options)).code == 0
    reader = quietly("phase", "2.5", "--profile", site.profile, "--data-dir", site.data)
    assert "partial" in refusal(reader) and "14 of 16 problems" in reader.err
    foreign = quietly(*site.words("--start", 6, "--end", 7, "--set", "max_new_tokens=8"))
    assert "made under other settings (max_new_tokens: 24 → 8)" in foreign.err
    assert foreign.code == 2
    assert quietly(*site.words("--start", 4, "--end", 9)).code == 0
    assert_undisturbed(site, built)
