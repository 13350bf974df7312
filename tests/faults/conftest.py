"""A tiny random model with everything that is disturbed, and what undisturbed runs of it publish."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.helpers import PROFILE, logging_left_as_found, run
from tests.cli.steering_place import make_place
from tests.common_simplified.fixtures import mbpp_rows, write_jsonl, write_model, write_sae_lens
from tests.faults.harness import Site, Undisturbed, run_undisturbed

Figure = Callable[[str], None]
WARM = ("--set", "phase3_5_temperatures=0,0.8", "--set", "phase3_5_samples=2")
SMALL = ("--batch-size", 2, "--set", "snapshot_every=4")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Returns what takes a line about something measured, to be shown at the end."""
    return lambda line: record_property("figure", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows the figures that the tests of this directory measured."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    ours = [report for report in reports if report.nodeid.startswith("tests/faults") and report.when == "call"]
    lines = [str(value) for report in ours for name, value in report.user_properties if name == "figure"]
    if lines:
        terminalreporter.section("figures of disturbed runs")
        for line in sorted(lines):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    """Gives back what a command sets up for its own process."""
    with logging_left_as_found():
        yield


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of 3 MB, or of as many as a test asks for."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', 3)}m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs can be mounted by root only")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def building(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Phase 1.0 of 16 problems, to be done: the cheapest of all."""
    root = tmp_path_factory.mktemp("building")
    write_model(root / "model")
    write_sae_lens(root / "saes")
    write_jsonl(root / "problems.jsonl", mbpp_rows(26))
    profile = root / "tiny.toml"
    profile.write_text(PROFILE.format(root=root), encoding="utf-8")
    for phase in ("0", "0.1"):
        answer = run("phase", phase, "--profile", profile)
        assert answer.code == 0, answer
    return Site(profile, root / "data", "1.0", SMALL)


@pytest.fixture(scope="session")
def built(building: Site, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What phase 1.0 publishes undisturbed."""
    return run_undisturbed(building.copied(tmp_path_factory.mktemp("built") / "data"))


@pytest.fixture(scope="session")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a place in which everything up to phase 4.5 has run."""
    return make_place(tmp_path_factory.mktemp("steered"))


@pytest.fixture(scope="session")
def sampling(steered: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Phase 3.5 of 24 problems at two temperatures, to be done."""
    data = tmp_path_factory.mktemp("sampling") / "data"
    for phase in ("0", "0_1", "2_5"):
        shutil.copytree(steered.parent / "data" / f"phase{phase}", data / f"phase{phase}")
    return Site(steered, data, "3.5", WARM)


@pytest.fixture(scope="session")
def sampled(sampling: Site, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What phase 3.5 publishes undisturbed."""
    return run_undisturbed(sampling.copied(tmp_path_factory.mktemp("sampled") / "data"))


@pytest.fixture(scope="session")
def steering(steered: Path) -> Site:
    """Phase 4.8 of 24 problems under seven conditions, to be done."""
    return Site(steered, steered.parent / "data", "4.8", ())


@pytest.fixture(scope="session")
def steered_through(steering: Site, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What phase 4.8 publishes undisturbed."""
    return run_undisturbed(steering.copied(tmp_path_factory.mktemp("through") / "data"))
