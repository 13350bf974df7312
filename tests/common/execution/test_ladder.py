"""Which rung is chosen where what is refused, what is said of it, and what a rung leaves open."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from common.errors import PipelineError, UsageError
from common.execution import EvaluationPool
from common.execution.ladder import STRICT_RUNG, choose_isolation
from common.execution.self_check import MAY_STAY_OPEN
from tests.common.execution.elsewhere import (
    AS_ROOT,
    Circumstances,
    Place,
    ask,
    private_python,
    readable_python,
)
from tests.common.execution.hostile import GOOD, TESTS
from tests.common.execution.rungs import available_rungs, pool_at_every_rung

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux"),
]
pool = pool_at_every_rung(timeout=0.3, memory_mb=512)

NAMESPACES = "namespaces"
NO_LOCKS = "namespaces,landlock"
NO_FILTERS = "namespaces,seccomp"
NOTHING = "namespaces,landlock,seccomp"


class Case(NamedTuple):
    """A user under whom the evaluator runs, what the kernel refuses, and the rung that must be found."""

    user: str
    refused: str
    rung: int
    closed_python: bool = False

    def strict_too(self) -> bool:
        """Tells whether the case is tried with the word strict as well."""
        return self.rung < STRICT_RUNG or self.refused == NAMESPACES

    def __str__(self) -> str:
        python = ", a Python that others cannot read" if self.closed_python else ""
        return f"{self.user}, {self.refused or 'nothing'} refused{python}"


CASES = [
    Case("root", "", 4),
    Case("user", "", 4),
    Case("root", NAMESPACES, 3),
    Case("user", NAMESPACES, 2),
    Case("root", NO_LOCKS, 1),
    Case("user", NO_LOCKS, 1),
    Case("root", NO_FILTERS, 0),
    Case("user", NO_FILTERS, 0),
    Case("root", NOTHING, 0),
    Case("user", NOTHING, 0),
    Case("root", "", 4, closed_python=True),
    Case("root", NAMESPACES, 2, closed_python=True),
    Case("root", NO_LOCKS, 1, closed_python=True),
]


@pytest.fixture(scope="module")
def closed_python() -> Iterator[Path]:
    """Yields a virtual environment whose directory, and whose packages, nobody but their owner may enter."""
    with private_python(Place("root", "auto")) as directory:
        (packages,) = directory.glob("lib/python3.*/site-packages")
        packages.chmod(0o700)
        directory.chmod(0o700)
        yield directory / "bin" / "python"


@pytest.fixture(scope="module")
def choices(closed_python: Path) -> dict[tuple[Case, str], Any]:
    """Returns what is chosen in each case, or how finding out ended: all at once, since each takes half a second."""

    def choose(case: Case, sandbox: str) -> Any:
        python = str(closed_python) if case.closed_python else readable_python()
        try:
            return ask(Place(case.user, sandbox), "choose", at=Circumstances(python=python, refused=case.refused))
        except BaseException as error:
            return error

    asked = [(case, sandbox) for case in CASES for sandbox in (("auto", "strict") if case.strict_too() else ("auto",))]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(asked, threads.map(lambda each: choose(*each), asked), strict=True))


@pytest.fixture
def chosen(choices: dict[tuple[Case, str], Any], request: pytest.FixtureRequest) -> Any:
    """Returns what is chosen in the parametrised case; skips where this machine has not got its rung at all."""
    case: Case = request.getfixturevalue("case")
    if case.user == "root" and not AS_ROOT:
        pytest.skip("needs root")
    found = choices[case, "auto"]
    if isinstance(found, BaseException):
        raise found
    if case.rung == 4 and found["rung"] != 4:
        pytest.skip(f"no namespaces here: {found['refusals']}")
    needed = {3: 2, 4: 0}.get(case.rung, case.rung)
    if str(needed) not in available_rungs():
        pytest.skip(f"rung {case.rung} needs what this kernel does not offer")
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_highest_rung_that_is_left_is_chosen_with_the_reasons_against_the_others(case: Case, chosen: Any) -> None:
    assert chosen["rung"] == case.rung, chosen
    assert chosen["used"].startswith(f"rung {case.rung} (")
    expected = {"bubblewrap": WITHOUT_NAMESPACES, "namespaces": WITHOUT_NAMESPACES, "another user": WITHOUT_A_USER}
    expected |= {"landlock": ("no landlock", "no seccomp"), "seccomp": ("no seccomp", *UNREADABLE)}
    expected |= {"limits": UNREADABLE}
    for way, why in chosen["refusals"].items():
        assert "\n" not in why
        assert any(words in why for words in expected[way.removesuffix(" with another user")]), (way, why)
    tried = {"bubblewrap", "namespaces"} if case.rung < 4 else set()
    tried |= {"another user"} if case.rung < 3 else set()
    tried |= {"landlock"} if case.rung < 2 else set()
    tried |= {"seccomp"} if case.rung < 1 else set()
    assert tried <= set(chosen["refusals"])


UNREADABLE = ("another user cannot read this Python",)
WITHOUT_NAMESPACES = ("not permitted", "No permissions", "no seccomp", "not installed", *UNREADABLE)
WITHOUT_A_USER = ("needs root", "no landlock", "no seccomp", *UNREADABLE)


@pytest.mark.parametrize("case", [case for case in CASES if case.strict_too()], ids=str)
def test_strict_takes_rung_two_or_above_and_refuses_the_others_in_one_line(
    case: Case, choices: dict[tuple[Case, str], Any], chosen: Any
) -> None:
    strict = choices[case, "strict"]
    if case.rung >= STRICT_RUNG:
        assert strict["used"] == chosen["used"]
        return
    assert strict["type"] == "PipelineError"
    assert "\n" not in strict["error"]
    assert strict["error"].startswith("the sandbox does not reach rung 2 or above on this machine (")
    tried = [name for name in chosen["refusals"] if not name.startswith("seccomp")]
    assert [words for words in (*tried, "install bubblewrap", "--sandbox auto") if words not in strict["error"]] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_stays_open_is_named_and_only_below_rung_two(case: Case, chosen: Any) -> None:
    reachable = set(chosen["open"])
    files = {"reading files"} if "another user" in chosen["used"] else {"reading files", "changing files"}
    outside = {"the network"}
    if "another user" not in chosen["used"]:
        outside |= {"signalling other processes", "changing other processes' limits"}
    environment = {"reading other processes' environment"} if case.user == "user" else set()
    assert reachable == {1: files | environment, 0: files | outside | environment}.get(case.rung, set())
    assert reachable <= MAY_STAY_OPEN.get(case.rung, set())


@pytest.mark.parametrize("case", [case for case in CASES if case.closed_python], ids=str)
def test_a_python_that_others_cannot_read_is_not_run_under_another_user(case: Case, chosen: Any) -> None:
    assert "another user" not in chosen["used"]
    ways = [name for name in chosen["refusals"] if "another user" in name]
    assert ways
    if not case.refused:
        assert all("another user cannot read this Python" in chosen["refusals"][name] for name in ways), chosen


@pytest.mark.parametrize("refused", ["seccomp", NO_FILTERS, "landlock"])
@pytest.mark.parametrize("user", ["root", "user"])
def test_what_counts_as_strict_keeps_its_worker_and_the_network_from_programs(user: str, refused: str) -> None:
    """Where one of the means is missing, what is left must not be called better than it is."""
    place, at = Place(user, "strict"), Circumstances(refused=refused, python=readable_python())
    if user == "root" and not AS_ROOT:
        pytest.skip("needs root")
    if "error" in ask(place, "choose", at=at):
        pytest.skip("nothing counts as strict here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.2)
        sends = SENDS.replace("PORT", str(listener.getsockname()[1]))
        programs = [(CHANGES_ITS_WORKER, ["assert f() == []"], ""), (sends, ["assert f() is None"], "")]
        answer = ask(place, "evaluate", at=at, programs=programs)
        assert answer["outcomes"] == ["passed", "passed"], (answer["rungs"], answer["messages"])
        with pytest.raises(TimeoutError):
            listener.recv(100)


CHANGES_ITS_WORKER = """
import os, resource
def f():
    worker, changed = os.getppid(), []
    def attempt(name, action, *arguments):
        try: action(*arguments)
        except OSError: return
        changed.append(name)
    attempt('limits', resource.prlimit, worker, resource.RLIMIT_NOFILE, (90, 90))
    attempt('priority', os.setpriority, os.PRIO_PROCESS, worker, 19)
    attempt('processors', os.sched_setaffinity, worker, {min(os.sched_getaffinity(0))})
    return changed
"""
SENDS = """
import socket
def f():
    try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'reached', ('127.0.0.1', PORT))
    except OSError: pass
"""


@pytest.mark.parametrize("word", ["5", "-1", "", "04", "Strict", "none", "2 "])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UsageError, match="auto, strict, or a rung from 0 to 4"):
        choose_isolation(word)


def test_the_rung_of_limits_alone_is_always_there_and_auto_takes_the_highest() -> None:
    rungs = available_rungs()
    assert rungs[-1] == "0"
    assert choose_isolation("auto").isolation.rung == int(rungs[0])


def test_a_rung_that_is_not_there_is_refused_by_its_number() -> None:
    missing = sorted({"1", "2", "3", "4"} - set(available_rungs()))
    if not missing:
        pytest.skip("every rung works here")
    with pytest.raises(PipelineError, match=rf"does not reach rung {missing[0]} on this machine \("):
        EvaluationPool(1, sandbox=missing[0])


def test_every_result_carries_its_rung(pool: EvaluationPool) -> None:
    codes = [GOOD, "def f(x): return x", "", "def f(", "while True: pass", "import os\nos._exit(0)"]
    results = [future.result(timeout=60) for future in [pool.submit(code, TESTS) for code in codes]]
    assert {result.rung for result in results} == {pool.isolation.rung}
    assert [result.outcome for result in results] == [
        *("passed", "wrong_answer", "no_function", "syntax_error", "timeout", "crashed")
    ]
