"""Row P12 measures the audit in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import audit_rows
from common.errors import PipelineError
from experiment_pathway_token_analysis.synthetic_study import SMALL, write_study

pytestmark = pytest.mark.unit
FOUND = {"peak_memory_gb": 0.3, "seconds": 20.0, "trials_per_second": 90_000.0, "trials": 1_802_340}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study is a small one."""
    counts = [f"study.expected_checkpoints={SMALL.checkpoints}", f"study.expected_response_logs={SMALL.logs}"]
    load = audit_rows.load_settings
    monkeypatch.setattr(audit_rows, "load_settings", lambda profile: load(profile, counts))
    monkeypatch.setattr(audit_rows, "FULL", SMALL)


@pytest.mark.parametrize(("memory", "took", "reached"), [(0.3, 20.0, [True, True]), (1.2, 300.0, [False, False])])
def test_the_rows_tell_memory_and_seconds(memory: float, took: float, reached: list[bool]) -> None:
    rows = audit_rows.rows_of({**FOUND, "peak_memory_gb": memory, "seconds": took})
    assert [(row.name, row.unit, row.value) for row in rows] == [("P12", "GB", memory), ("P12", "s", took)]
    assert [row.reached for row in rows] == reached
    assert "1,802,340 trials" in rows[0].what


def test_the_study_is_written_first_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    seen = []

    def answer(command: list[str], **named: object) -> subprocess.CompletedProcess[str]:
        seen.append(Path(command[-1]))
        assert len(list((seen[0] / "study" / "response_logs").iterdir())) == SMALL.logs
        return subprocess.CompletedProcess(command, 0, stdout="said before\n" + json.dumps(FOUND) + "\n")

    monkeypatch.setattr(subprocess, "run", answer)
    assert len(audit_rows.audit_rows()) == 2
    assert not seen[0].exists()


def test_an_audit_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **named: subprocess.CompletedProcess(command, 1, stdout=""))
    with pytest.raises(PipelineError, match="could not be audited"):
        audit_rows.audit_rows()


def test_the_small_study_is_audited_and_timed(tmp_path: Path, small: None) -> None:
    run = audit_rows._run(tmp_path)
    write_study(run.study_root, run.settings.study, SMALL, width=run.profile.sae.width)
    found = audit_rows.measure(tmp_path)
    assert found["trials"] == SMALL.total_trials and found["seconds"] > 0 and found["peak_memory_gb"] > 0


def test_a_study_that_does_not_pass_is_no_measurement(tmp_path: Path, small: None) -> None:
    with pytest.raises(PipelineError, match="did not pass its audit"):
        audit_rows.measure(tmp_path)
