"""Programs of every kind end with the right outcome, leave nothing behind, and never fake a pass."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from common.execution import OUTCOMES, EvaluationPool, EvaluationResult, evaluate_code

pytestmark = pytest.mark.unit

TESTS = ["assert f(1) == 2", "assert f(2) == 3"]
GOOD = "def f(x):\n    return x + 1\n"
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc and prctl")


@pytest.fixture(scope="module")
def pool() -> Iterator[EvaluationPool]:
    with EvaluationPool(workers=1, timeout=0.4, memory_mb=512) as running:
        yield running


def run(pool: EvaluationPool, code: str, tests: list[str] | None = None, setup: str = "") -> EvaluationResult:
    return pool.submit(code, TESTS if tests is None else tests, setup).result(timeout=60)


OUTCOME_CASES = [
    ("passed", GOOD),
    ("wrong_answer", "def f(x):\n    return x\n"),
    ("exception", "def f(x):\n    return [][x]\n"),
    ("exception", "def f(x):\n    return undefined_name\n"),
    ("exception", "def f(x):\n    raise SystemExit\n"),
    ("exception", f"{GOOD}raise KeyError('at module level')\n"),
    ("exception", f"{GOOD}input()\n"),
    ("exception", "def f(x):\n    return f(x)\n"),
    ("exception", "class E(Exception):\n    def __str__(self): raise OSError\ndef f(x):\n    raise E\n"),
    ("syntax_error", "def f(x:\n    return x + 1\n"),
    ("syntax_error", f"{GOOD}\0"),
    ("syntax_error", f"{GOOD}s = '\ud83d'\n"),
    ("syntax_error", f"{GOOD}x = {'-' * 50_000}1\n"),
    ("syntax_error", f"{GOOD}'''"),
    ("no_function", ""),
    ("no_function", " \n# nothing\n"),
    ("no_function", "def other(x):\n    return x + 1\n"),
    ("timeout", "def f(x):\n    while True: pass\n"),
    ("timeout", "import itertools\ndef f(x):\n    return sum(itertools.repeat(0))\n"),
    ("timeout", "import time\ndef f(x):\n    time.sleep(60)\n"),
    ("timeout", "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n"),
    ("timeout", "def f(x):\n    while True: print('x' * 4096)\n"),
    ("timeout", "class E(Exception):\n    def __str__(self):\n        while True: pass\ndef f(x):\n    raise E\n"),
    ("memory", "def f(x):\n    return len([0] * 10**9)\n"),
    ("memory", "def f(x):\n    kept = []\n    while True: kept.append(bytes(10**8))\n"),
    ("crashed", "import os\ndef f(x):\n    os._exit(0)\n"),
    ("crashed", "import os\nos.kill(os.getpid(), 9)\n"),
    ("crashed", "import os, signal\nos.kill(os.getpid(), signal.SIGXCPU)\n"),
    ("crashed", "import ctypes\ndef f(x):\n    return ctypes.string_at(0)\n"),
    ("crashed", "import os\ndef f(x):\n    os.execv('/bin/true', ['true'])\n"),
]


@pytest.mark.parametrize(("outcome", "code"), OUTCOME_CASES, ids=range(len(OUTCOME_CASES)))
def test_each_kind_of_end_has_its_own_outcome(pool: EvaluationPool, outcome: str, code: str) -> None:
    result = run(pool, code)
    assert (result.outcome, bool(result)) == (outcome, outcome == "passed"), result
    assert len(result.assertions) == result.tests_total == 2
    assert len(result.error_message) <= 300


def test_every_outcome_is_covered_here() -> None:
    assert {outcome for outcome, _ in OUTCOME_CASES} == set(OUTCOMES)


FAKES = {
    "an object that equals everything": "class Y:\n    def __eq__(s, o): return True\ndef f(x): return Y()",
    "a number that equals everything": "class Y(int):\n    def __eq__(s, o): return True\n    __hash__ = None\n"
    "def f(x): return Y(0)",
    "a patched equality": "import math, operator\noperator.eq = math.isclose = lambda *a: True\ndef f(x): return 0",
    "patched builtins": "import builtins\nfor n in ('len', 'isinstance', 'bool', 'type', 'hash'):\n"
    "    setattr(builtins, n, lambda *a: True)\ndef f(x): return 0",
    "a patched encoder": "import json, _json\njson.dumps = _json.encode_basestring_ascii = lambda *a: '2'\n"
    "def f(x): return ''",
    "another AssertionError": "import builtins\nclass AssertionError(BaseException): pass\n"
    "builtins.AssertionError = AssertionError\ndef f(x): return 0",
    "words on every descriptor": "import os\ndef f(x):\n    for d in range(3, 64):\n"
    "        try: os.write(d, b'passed')\n        except OSError: pass\n    return 0",
    "a report on every descriptor": "import os, json\ndef f(x):\n"
    "    m = json.dumps({'stage': 'tests', 'defined': True, 'results': [['value', 2], ['value', 3]]}).encode()\n"
    "    for d in range(3, 64):\n        try: os.write(d, b'%08x' % len(m) + m)\n        except OSError: pass\n"
    "    os._exit(0)",
    "the expected value found in memory": "import gc\ndef f(x):\n"
    "    seen = [o for o in gc.get_objects() if type(o) is dict]\n"
    "    text = repr([d for d in seen if 'expected' in d])\n    return 2 if x == 1 and '== 2' in text else 0",
    "exit status 0 from a thread": "import threading, os, time\nthreading.Timer(0.05, os._exit, (0,)).start()\n"
    "def f(x):\n    time.sleep(0.3)",
    "a trace function that changes frames": "import sys\nclass Y:\n    def __eq__(s, o): return True\n"
    "def t(frame, event, arg):\n    frame.f_locals['value'] = Y()\n    return t\nsys.settrace(t)\ndef f(x): return 0",
    "an unfinished line": "def f(x):\n    return 0\nif False: \\",
}


@pytest.mark.parametrize("fake", FAKES)
def test_no_trick_fakes_a_pass(pool: EvaluationPool, fake: str) -> None:
    result = run(pool, FAKES[fake])
    assert not result
    assert result.tests_passed == 0, result


def test_a_nonce_found_in_frames_does_not_exist_while_the_sample_runs(pool: EvaluationPool) -> None:
    code = """
import sys
def f(x):
    frame, found = sys._getframe(), 0
    while frame:
        found += sum(isinstance(v, bytes) and len(v) in (16, 32) for v in frame.f_locals.values())
        frame = frame.f_back
    return found
"""
    assert run(pool, code, ["assert f(1) == 0"])


BENIGN = {
    "a thread left running": f"import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n{GOOD}",
    "deep recursion": "def f(x):\n    def down(n): return 0 if n == 0 else 1 + down(n - 1)\n"
    "    return x + 1 + down(950) - 950",
    "a raised recursion limit": "import sys\nsys.setrecursionlimit(30000)\n"
    "def f(x):\n    def down(n): return 0 if n == 0 else 1 + down(n - 1)\n    return x + 1 + down(12000) - 12000",
    "a lowered recursion limit": f"import sys\nsys.setrecursionlimit(60)\n{GOOD}",
    "numpy": "import numpy as np\ndef f(x): return np.add(x, 1)",
    "an empty standard input": f"import sys\nassert sys.stdin.read() == ''\n{GOOD}",
    "bytes and surrogates printed": f"import sys\nsys.stdout.buffer.write(b'\\xff')\nprint('\\ud800')\n{GOOD}",
    "a file in the working directory": "def f(x):\n    with open('a.txt', 'w') as file: file.write(str(x))\n"
    "    with open('a.txt') as file: return int(file.read()) + 1",
    "a temporary file": "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile() as file: return x + 1",
    "a dataclass under future annotations": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    "@dataclass\nclass P:\n    x: int\ndef f(x): return P(x).x + 1",
    "a main guard": f"{GOOD}if __name__ == '__main__':\n    f = None",
    "an invalid escape": "def f(x):\n    s = '\\d'\n    return x + 1",
    "a builtin's name": f"len = list = str = None\n{GOOD}",
    "pickling its own class": "import pickle\nclass P: pass\n"
    "def f(x): return x + isinstance(pickle.loads(pickle.dumps(P())), P)",
    "a subprocess": "import subprocess\ndef f(x): return x + 1 + subprocess.run(['true']).returncode",
    "many threads": "import threading\ndef f(x):\n    t = [threading.Thread(target=int) for _ in range(40)]\n"
    "    [i.start() for i in t]\n    [i.join() for i in t]\n    return x + 1",
}


@pytest.mark.parametrize("kind", BENIGN)
def test_honest_programs_pass(pool: EvaluationPool, kind: str) -> None:
    result = pool.submit(BENIGN[kind], TESTS).result(timeout=60)
    assert result, result


def test_assertions_share_one_process_and_run_in_order(pool: EvaluationPool) -> None:
    code = "n = 0\ndef f():\n    global n\n    n += 1\n    return n"
    assert run(pool, code, [f"assert f() == {i}" for i in (1, 2, 3)])


def test_a_value_is_read_before_the_next_assertion_changes_it(pool: EvaluationPool) -> None:
    code = "kept = []\ndef f(x):\n    kept.append(x)\n    return kept"
    assert run(pool, code, ["assert f(1) == [1]", "assert f(2) == [1, 2]"])


def test_setup_runs_after_the_code_and_before_the_tests(pool: EvaluationPool) -> None:
    code = "class Node:\n    def __init__(self, v): self.v = v\ndef f(n): return n.v"
    assert run(pool, code, ["assert f(root) == 4"], "root = Node(4)\r\nroot.next = None")
    assert run(pool, code, ["assert f(root) == 4"], "raise ValueError('setup')").outcome == "exception"


def test_assertions_that_do_not_split_run_beside_the_sample_and_are_counted(pool: EvaluationPool) -> None:
    tests = ["assert f(1) == g(2)", "assert not f(0)", "y = f(3)\nassert y == 3, 'why'", "assert f(1) == 1"]
    result = run(pool, "def f(x): return x\ndef g(x): return x - 1", tests)
    assert result
    assert result.in_child == 3
    result = run(pool, "def f(x): return 2 * x\ndef g(x): return x - 1", tests)
    assert result.assertions == ("wrong_answer", "passed", "wrong_answer", "wrong_answer")


def test_an_own_equality_is_the_price_of_comparing_outside_and_is_marked(pool: EvaluationPool) -> None:
    code = "class P:\n    def __eq__(self, other): return other == (1, 2)\ndef f(): return P()"
    result = run(pool, code, ["assert f() == (1, 2)"])
    assert (result.outcome, result.opaque) == ("wrong_answer", True)


def test_one_program_leaves_no_trace_in_the_next(pool: EvaluationPool) -> None:
    first = (
        f"import math, sys, builtins\nmath.pi = 3\nbuiltins.leak = 1\nsys.path.append('/no')\nopen('x', 'w')\n{GOOD}"
    )
    assert run(pool, first)
    second = "import math, sys, builtins, os\ndef f():\n"
    second += "    return math.pi > 3.1, hasattr(builtins, 'leak'), '/no' in sys.path, os.listdir()"
    assert run(pool, second, ["assert f() == (True, False, False, [])"])


def test_labels_do_not_depend_on_chance(pool: EvaluationPool) -> None:
    code = "import random\ndef f(): return random.random(), hash('a'), list({'a', 'b', 'c', 'd', 'e', 'f'})"
    shown = {run(pool, code, ["assert f() == 0"]).error_message}
    with EvaluationPool(1) as other:
        shown.add(run(other, code, ["assert f() == 0"]).error_message)
    assert len(shown) == 1, shown


def test_the_environment_and_the_arguments_of_the_pipeline_are_out_of_reach(
    pool: EvaluationPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVA_SAE_CANARY", "s3cret")
    with EvaluationPool(1) as fresh:
        code = "import os\ndef f():\n    try: own = open('/proc/self/environ').read()\n    except OSError: own = ''\n"
        code += "    return 's3cret' in own + str(dict(os.environ))"
        assert run(fresh, code, ["assert f() == False"])


@linux_only
def test_the_workers_memory_cannot_be_read(pool: EvaluationPool) -> None:
    code = (
        "import os\ndef f():\n    try:\n        open(f'/proc/{os.getppid()}/mem', 'rb').close()\n        return True\n"
    )
    code += "    except OSError:\n        return False"
    assert run(pool, code, ["assert f() == False"])


def test_a_huge_value_or_message_is_bounded(pool: EvaluationPool) -> None:
    big = run(pool, "def f(x): return 'x' * 50_000_000")
    assert (big.outcome, big.tests_passed) == ("wrong_answer", 0)
    loud = run(pool, "def f(x): raise ValueError('x' * 50_000_000)")
    assert loud.outcome == "exception"
    assert len(loud.error_message) == 300
    assert run(pool, "def f(x): return list(range(10**6))").outcome == "wrong_answer"


def test_a_flood_on_the_verdict_pipe_ends_the_sample(pool: EvaluationPool) -> None:
    code = "import os\ndef f(x):\n    while True:\n        for d in range(3, 64):\n"
    code += "            try: os.write(d, b'x' * 65536)\n"
    code += "            except OSError: pass"
    assert run(pool, code).outcome in ("crashed", "timeout")


def test_the_single_evaluation_takes_limits_of_its_own() -> None:
    assert evaluate_code(GOOD, TESTS)
    assert evaluate_code("def f(x):\n    while True: pass", TESTS, timeout=0.2).outcome == "timeout"
    assert evaluate_code("def f(x): return len(bytes(300 << 20))", TESTS, memory_mb=200).outcome == "memory"
