from __future__ import annotations

import json
import signal
import sys
import threading
import time

import pytest

from common.errors import Interrupted, PipelineError
from common.runs.interruption import StopRequest
from common.runs.merging import Lack, Opened
from common.runs.slices import Span
from launcher.steps import StepFailed, Steps

pytestmark = pytest.mark.smoke
OPENED = Opened("3.6", Span(0, 9), 97, 4, 2, True, [Lack(0, 3, 8)])
GO_ON = "python3 multi_gpu_launcher.py --phase 3.6"


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def steps(stop: StopRequest | None = None, **environment: str) -> Steps:
    return Steps(environment, stop or StopRequest(), GO_ON)


def stopping(seconds: float = 0.5) -> StopRequest:
    """A request that comes a little later."""
    stop = StopRequest()

    def ask() -> None:
        time.sleep(seconds)
        stop.handle(signal.SIGINT, None)

    threading.Thread(target=ask, daemon=True).start()
    return stop


def test_opening_reads_the_answer_and_lets_the_rest_be_seen(capfd: pytest.CaptureFixture[str]) -> None:
    program = f"import sys; print('noise'); print({json.dumps(OPENED._asdict())!r}); print('said', file=sys.stderr)"
    assert steps().open(python(program)) == OPENED
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "said\n"


def test_a_large_answer_is_read_while_the_step_runs() -> None:
    few = json.dumps(OPENED._asdict() | {"lacks": []})
    program = f"import json; print(json.dumps({few} | dict(lacks=[[place, place, 1] for place in range(20_000)])))"
    many = OPENED._replace(lacks=[Lack(place, place, 1) for place in range(20_000)])
    assert steps().open(python(program.replace("true", "True"))) == many


def test_a_step_sees_its_variables_and_answers_for_itself(capfd: pytest.CaptureFixture[str]) -> None:
    steps(SHARE="7").run(python("import os; print(os.environ['SHARE'])"))
    assert capfd.readouterr().out == "7\n"


@pytest.mark.parametrize("code", [1, 2, 130])
def test_a_step_that_refuses_passes_its_exit_code_on(code: int) -> None:
    with pytest.raises(StepFailed) as told:
        steps().run(python(f"import sys; sys.exit({code})"))
    assert told.value.exit_code == code


def test_a_step_that_is_killed_is_told_of() -> None:
    with pytest.raises(PipelineError, match=r"a process was ended by signal 9 .* to go on: python3 multi_gpu") as told:
        steps().run(python("import os; os.kill(os.getpid(), 9)"))
    assert told.value.exit_code == 1


def test_a_request_to_stop_reaches_the_step(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(130)); time.sleep(300)"
    with pytest.raises(StepFailed) as told:
        steps(stopping()).run(python(program))
    assert told.value.exit_code == 130


def test_a_step_that_ends_well_after_a_request_ends_the_launch_all_the_same() -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(300)"
    with pytest.raises(Interrupted, match=f"^stopped; what was finished is kept; to go on: {GO_ON}$"):
        steps(stopping()).run(python(program))


def test_a_step_that_dies_of_the_request_is_one_that_was_stopped() -> None:
    with pytest.raises(Interrupted, match="^stopped: ended by signal 15; what was finished is kept"):
        steps(stopping()).run(python("import time; time.sleep(300)"))
