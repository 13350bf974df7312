from __future__ import annotations

import pytest

from common.config import Config
from common.errors import PipelineError
from common.execution.enclosure import Isolation
from common.execution.ladder import Choice
from common.runs import labelling
from common.runs.labelling import evaluation_fingerprint, sandbox_record, standing_rung

pytestmark = pytest.mark.unit
STORED = [{"sandbox_rung": 1}, {"sandbox_rung": 3}]


@pytest.mark.parametrize(
    ("sandbox", "stored", "rung"),
    [
        ("auto", STORED, 1),
        ("strict", STORED, 3),
        ("4", STORED, 4),
        ("0", [], 0),
        ("auto", [], None),
        ("strict", [], None),
    ],
)
def test_labels_that_stand_say_their_rung_unless_one_is_asked_for(
    sandbox: str, stored: list[dict[str, int]], rung: int | None
) -> None:
    assert standing_rung(Config(sandbox=sandbox), stored) == rung


def test_a_process_that_tests_nothing_takes_the_rung_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "choose_isolation", lambda sandbox: Choice(Isolation(1), ("the network",), ()))
    assert evaluation_fingerprint(Config(), "data")["sandbox_rung"] == 1
    assert evaluation_fingerprint(Config(), "data", 4)["sandbox_rung"] == 4
    own = {"isolation": Isolation(1).describe(), "open": ["the network"]}
    assert sandbox_record(Config()) == own and sandbox_record(Config(), 1) == own
    assert sandbox_record(Config(), 4)["isolation"] == "rung 4" and sandbox_record(Config(), 4)["open"] is None


def test_where_the_isolation_cannot_be_had_only_what_is_made_here_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sandbox: str) -> Choice:
        raise PipelineError("not reached")

    monkeypatch.setattr(labelling, "choose_isolation", refuse)
    assert sandbox_record(Config(sandbox="4"), 4)["isolation"] == "rung 4"
    with pytest.raises(PipelineError, match="not reached"):
        sandbox_record(Config(sandbox="4"))
