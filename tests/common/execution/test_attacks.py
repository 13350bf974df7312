"""The shared corpus of hostile and odd programs, each with the outcomes that are right at this rung."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.execution import EvaluationPool
from common.execution.isolation import RUNG

ATTACKS = Path(__file__).resolve().parents[4] / "shared" / "data" / "attacks.jsonl"

# What limits alone cannot keep from a sample: the network, and the files of the user who runs it.
OPEN_AT_RUNG_0 = {"network_loopback", "delete_files"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not ATTACKS.is_file(), reason=f"{ATTACKS} is absent")]


def programs() -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in ATTACKS.read_text("utf-8").splitlines()] if ATTACKS.is_file() else []
    return [row for row in rows if RUNG >= 2 or row["id"] not in OPEN_AT_RUNG_0]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvaluationPool]:
    os.environ["ATTACK_CANARY_KEY"] = "s3cret-9a1"
    try:
        with EvaluationPool(workers=1, timeout=1.0) as running:
            yield running
    finally:
        del os.environ["ATTACK_CANARY_KEY"]


@pytest.mark.parametrize("program", programs(), ids=lambda program: program["id"])
def test_the_program_ends_as_it_must(pool: EvaluationPool, tmp_path: Path, program: dict[str, Any]) -> None:
    keep = tmp_path / "keep.txt"
    keep.write_text("keep")
    side = program.get("side", {})
    started = time.monotonic()
    result = pool.submit(program["code"].replace("@CANARY@", str(tmp_path)), program["test_list"]).result(timeout=120)
    seconds = time.monotonic() - started
    ended = "pass" if result else "timeout" if result.outcome == "timeout" else "fail"
    assert ended in (program["expected"], *program.get("also_ok", ())), (result, program["why"])
    assert keep.read_text() == "keep"
    assert len(result.error_message) <= 300
    assert seconds < side.get("max_wall", 60)
    assert not Path(side.get("no_litter", "/nonexistent")).exists()
    assert side.get("no_process", "\0") not in running_commands()


def running_commands() -> str:
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        try:
            found.append((entry / "cmdline").read_text().replace("\0", " "))
        except (OSError, UnicodeDecodeError):
            continue
    return "\n".join(found)
