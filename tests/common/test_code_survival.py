from __future__ import annotations

import ast
import json
import warnings
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.code_survival import (
    FAILURE_MODES,
    MAX_COMPARED,
    char_similarity,
    defines,
    failure_mode,
    keeps_signature,
    length_ratio,
    parses,
    survival_columns,
    token_similarity,
)
from common.execution.extraction import extract_code
from common.execution.results import OUTCOMES

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = "def f(a, b):\n    return a + b\n"
# From some depth on Python itself gives up, with RecursionError or MemoryError.
TOO_DEEP = ["(" * 5_000 + "x" + ")" * 5_000, "-" * 100_000 + "x", "x" + "+x" * 100_000, "x" + ".a" * 100_000]


@pytest.mark.parametrize("code", [REFERENCE, "x", "import m", "f = lambda: 0", 'def f():\n    return "é"'])
def test_python_with_a_statement_parses(code: str) -> None:
    assert parses(code)


@pytest.mark.parametrize(
    "code",
    ["", " \n\t", "# only a comment", "def f(x):", "def f(x):\n    retrun x x", 'x = "\0"', "x = '\ud800'", *TOO_DEEP],
)
def test_nothing_and_what_is_not_python_does_not_parse(code: str) -> None:
    assert not parses(code)


def test_a_warning_of_the_parser_neither_shows_nor_counts_as_an_error() -> None:
    code = 'def f(x):\n    return x + "\\d"\n'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SyntaxError):
            ast.parse(code)
        assert parses(code)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x",
        "async def f(x):\n    return x",
        "class f:\n    pass",
        "f = lambda x: x",
        "f: object = lambda x: x",
        "g = f = max",
        "f = operator.add",
        "f = partial(g, 1)",
        "from m import f",
        "from m import g as f",
        "f = 1\ndef f(x):\n    return x",
    ],
)
def test_top_level_functions_classes_aliases_and_imports_define_a_name(code: str) -> None:
    assert defines(code, "f")


@pytest.mark.parametrize(
    "code",
    [
        "",
        "def g(x):\n    return x",
        "def g(x):\n    def f(y):\n        return y\n    return f",
        "f = 1",
        "f += g",
        "f: object",
        "f.x = lambda: 0",
        "from m import f as g",
        "import m.f",
        "def f(x):\n    return (",
    ],
)
def test_inner_functions_plain_values_and_broken_code_do_not(code: str) -> None:
    assert not defines(code, "f")


@pytest.mark.parametrize(
    "code",
    [
        "def f(x, y): pass",
        "def f(x, y, /): pass",
        "def f(x, y=0): pass",
        "def f(x, y, z=0): pass",
        "def f(*args): pass",
        "def f(x, *rest, key=1, **more): pass",
        "async def f(x, y): pass",
        "f = lambda x, y: x",
        "f = max",
        "f = partial(g, 1)",
        "from m import f",
        "class f:\n    def __init__(self, x, y): pass",
        "class f(tuple): pass",
        "@dataclass\nclass f:\n    x: int\n    y: int",
        "def f(x): pass\ndef f(x, y): pass",
    ],
)
def test_what_can_take_two_arguments_keeps_the_signature_of_two(code: str) -> None:
    assert keeps_signature(code, "f", REFERENCE)


@pytest.mark.parametrize(
    "code",
    [
        "def f(): pass",
        "def f(x): pass",
        "def f(x, y, z): pass",
        "def f(x, y, z, *rest): pass",
        "def f(x, y, *, key): pass",
        "def f(x, *, y): pass",
        "f = lambda x: x",
        "class f: pass",
        "class f:\n    def __init__(self, x): pass",
        "class f:\n    def __init__(): pass",
        "class f:\n    def __init__(self, x, y, *, z): pass",
        "def f(x, y): pass\ndef f(x): pass",
        "def g(x, y): pass",
        "def f(x, y):",
        "",
    ],
)
def test_what_cannot_take_two_arguments_breaks_it(code: str) -> None:
    assert not keeps_signature(code, "f", REFERENCE)


@pytest.mark.parametrize(
    ("reference", "fits", "breaks"),
    [
        ("def f(a, b=0): pass", ["def f(x): pass", "def f(x, y): pass"], ["def f(): pass", "def f(x, y, z): pass"]),
        ("def f(a, *rest): pass", ["def f(x): pass", "def f(x, y, z): pass", "def f(*x): pass"], ["def f(): pass"]),
        ("def f(): pass", ["def f(): pass", "def f(x=1): pass", "class f: pass"], ["def f(x): pass"]),
        ("f = g", ["def f(x, y, z): pass"], ["def f(x, *, key): pass"]),
    ],
)
def test_one_number_of_arguments_that_both_take_is_enough(reference: str, fits: list[str], breaks: list[str]) -> None:
    assert [keeps_signature(code, "f", reference) for code in fits] == [True] * len(fits)
    assert [keeps_signature(code, "f", reference) for code in breaks] == [False] * len(breaks)


@pytest.mark.parametrize(
    ("outcome", "code", "mode"),
    [
        ("passed", REFERENCE, "passed"),
        ("no_function", "", "no_code"),
        ("crashed", " \n", "no_code"),
        ("no_function", "def g(a, b): pass", "no_code"),
        ("syntax_error", "def f(a, b):\n    retrun a a", "syntax_broken"),
        ("syntax_error", "def f(a, b):\n    break", "syntax_broken"),  # the compiler's error, not the parser's
        ("crashed", "def f(a, b:", "syntax_broken"),
        ("exception", "def f(a):\n    return a", "signature_broken"),
        ("exception", "def f(a, b):\n    return a / 0", "exception"),
        ("wrong_answer", "def f(a, b):\n    return a - b", "wrong_answer"),
        ("wrong_answer", "def f(a, b, c):\n    return a", "wrong_answer"),
        ("timeout", "def f(a, b):\n    while True: pass", "limit"),
        ("memory", "def f(a, b):\n    return [0] * 10**12", "limit"),
        ("crashed", "def f(a, b):\n    os.abort()", "limit"),
    ],
)
def test_each_way_of_failing_has_its_name(outcome: str, code: str, mode: str) -> None:
    assert failure_mode(outcome, code, "f", REFERENCE) == mode


def test_a_row_without_a_verdict_says_nothing_of_its_code() -> None:
    names = ["failure_mode", "parses", "defines_function", "keeps_signature"]
    assert survival_columns(None, "", "f", REFERENCE) == dict.fromkeys(names)
    said = survival_columns("exception", "def f(a): pass", "f", REFERENCE)
    assert said == dict(zip(names, ["signature_broken", True, True, False], strict=True))


def test_every_outcome_of_an_evaluation_has_a_mode() -> None:
    modes = {failure_mode(outcome, REFERENCE, "f", REFERENCE) for outcome in OUTCOMES}
    assert modes == set(FAILURE_MODES) - {"signature_broken"}
    with pytest.raises(KeyError):
        failure_mode("unheard of", REFERENCE, "f", REFERENCE)


@pytest.mark.parametrize(
    ("text", "outcome", "mode"),
    [
        ("I am sorry, I cannot.", "no_function", "no_code"),
        ("the the the (((( }}\n", "no_function", "no_code"),
        ("    return a + b\n", "no_function", "no_code"),
        ("def f(a, b):", "syntax_error", "syntax_broken"),
        ("def f(a, b):\n    return (a +", "syntax_error", "syntax_broken"),
        ("def f(a, b:\n    return a\n", "syntax_error", "syntax_broken"),
        ("def f(a, b):\n    a a a a a", "syntax_error", "syntax_broken"),
    ],
)
def test_degenerate_output_is_told_apart_after_extraction(text: str, outcome: str, mode: str) -> None:
    code = extract_code(text, entry_point="f")
    assert (code == "") == (mode == "no_code")
    assert failure_mode(outcome, code, "f", REFERENCE) == mode


def test_every_reference_of_mbpp_parses_defines_its_function_and_keeps_its_own_signature() -> None:
    path = REPOSITORY.parent / "shared" / "data" / "mbpp.jsonl"
    if not path.is_file():
        pytest.skip("needs MBPP in ../shared/data")
    from common.problems import Problem

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    problems = [Problem(row["task_id"], row["text"], row["code"], tuple(row["test_list"])) for row in rows]
    assert len(problems) == 974
    for problem in problems:
        code = extract_code(problem.code, entry_point=problem.entry_point)
        assert parses(code) and defines(code, problem.entry_point), problem.task_id
        assert keeps_signature(code, problem.entry_point, problem.code), problem.task_id


@settings(deadline=None)
@given(st.text("ab(", max_size=40), st.text("ab(", max_size=40))
def test_similarity_of_characters_is_difflibs(first: str, second: str) -> None:
    assert char_similarity(first, second) == SequenceMatcher(None, first, second, autojunk=False).ratio()


@settings(deadline=None)
@given(st.text("ab +\n", max_size=60), st.text("ab +\n", max_size=60))
def test_similarity_of_tokens_is_difflibs_on_words_and_signs(first: str, second: str) -> None:
    # The only sign is the plus, so that words are what white space and plus leave.
    tokens = [text.replace("+", " + ").split() for text in (first, second)]
    assert token_similarity(first, second) == SequenceMatcher(None, *tokens, autojunk=False).ratio()


def test_similarity_of_real_code_is_difflibs() -> None:
    source = (REPOSITORY / "common" / "execution" / "extraction.py").read_text(encoding="utf-8")
    for first, second in [(source[:1_500], source[1_500:3_200]), (source[:1_900], source[300:2_200])]:
        assert char_similarity(first, second) == SequenceMatcher(None, first, second, autojunk=False).ratio()


def test_similarities_by_hand() -> None:
    assert token_similarity("", "") == char_similarity("", "") == 1.0
    assert token_similarity("", "x") == char_similarity("x", "") == 0.0
    assert token_similarity("a + b", "a  +\n  b") == 1.0
    assert char_similarity("abcd", "bcde") == 0.75
    # Four tokens each: return, a and b stand in both. Below, = and 2 of three.
    assert token_similarity("return a*b", "return a+b") == 0.75
    assert token_similarity("x_1 = 2", "x_2 = 2") == pytest.approx(2 / 3)


def test_only_the_first_tokens_and_characters_are_compared() -> None:
    assert char_similarity("a" * MAX_COMPARED, "a" * MAX_COMPARED + "b" * 500) == 1.0
    assert token_similarity("a " * (MAX_COMPARED - 1) + "x", "a " * (MAX_COMPARED - 1) + "y") == pytest.approx(
        1 - 1 / MAX_COMPARED
    )


def test_the_length_ratio_counts_characters_and_is_missing_without_a_baseline() -> None:
    assert length_ratio("abc", "abcdef") == 0.5
    assert length_ratio("", "abc") == 0.0
    assert length_ratio("abc", "") is None
