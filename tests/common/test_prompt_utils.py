from __future__ import annotations

import pytest

from common.errors import UsageError
from common.problems import Problem
from common.prompt_utils import PromptBuilder, definition_line, signature_prompt, solution_marker_prompt

pytestmark = pytest.mark.unit

PROBLEM = Problem(
    task_id=2,
    text="Write a function to find the shared elements from the given two lists.",
    code="def similar_elements(a, b):\n    return set(a) & set(b)",
    test_list=("assert similar_elements((3, 4),(5, 4)) == {4}", "assert similar_elements((1,),(2,)) == set()"),
)

MARKER_PROMPT = (
    "Write a function to find the shared elements from the given two lists.\n"
    "\n"
    "assert similar_elements((3, 4),(5, 4)) == {4}\n"
    "assert similar_elements((1,),(2,)) == set()\n"
    "\n"
    "# Solution:"
)


def test_the_default_prompt_byte_for_byte() -> None:
    assert PromptBuilder().build(PROBLEM).encode() == MARKER_PROMPT.encode()


def test_each_assertion_stands_once_and_exactly_as_given() -> None:
    tests = ("assert f(1)   ==  2", 'assert f("ä\\n") == "x"', "assert f([\n 1]) == 3")
    prompt = solution_marker_prompt("Tëxt  with  spaces ", tests)
    assert prompt == (
        'Tëxt  with  spaces \n\nassert f(1)   ==  2\nassert f("ä\\n") == "x"\nassert f([\n 1]) == 3\n\n# Solution:'
    )


def test_a_data_set_with_one_assertion_gives_one_assertion() -> None:
    prompt = solution_marker_prompt("Add.", ["assert add(1, 2) == 3"])
    assert prompt == "Add.\n\nassert add(1, 2) == 3\n\n# Solution:"


def test_the_word_assert_is_never_added() -> None:
    assert solution_marker_prompt("Add.", ["add(1, 2) == 3"]) == "Add.\n\nadd(1, 2) == 3\n\n# Solution:"


def test_carriage_returns_of_the_data_set_are_kept() -> None:
    assert solution_marker_prompt("A.\r\nB.", ["assert f()\r"]) == "A.\r\nB.\n\nassert f()\r\n\n# Solution:"


def test_the_signature_prompt_byte_for_byte() -> None:
    expected = (
        '"""\n'
        "Write a function to find the shared elements from the given two lists.\n"
        '"""\n'
        "def similar_elements(a, b):\n"
    )
    assert PromptBuilder("signature").build(PROBLEM) == expected


def test_a_docstring_in_the_text_cannot_end_the_prompts_own() -> None:
    problem = Problem(1, 'Say """hi""".', "def f():\n    pass", ("assert f() is None",))
    assert signature_prompt(problem) == "\"\"\"\nSay '''hi'''.\n\"\"\"\ndef f():\n"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def f(x):\n    return x", "def f(x):"),
        ("def f ( x,y ) :\r\n\treturn x", "def f(x, y):"),
        ("def f(x: int, y: list[str] = ['a']) -> bool:\n    pass", "def f(x: int, y: list[str]=['a']) -> bool:"),
        ("def f(a, /, b, *rest, c=1, **named):\n    pass", "def f(a, /, b, *rest, c=1, **named):"),
        ("def f(*, key=(1, 2)): pass", "def f(*, key=(1, 2)):"),
        ("@cache\n@other(1)\ndef f(n):\n    return n", "def f(n):"),
        ("async def f(n):\n    return n", "async def f(n):"),
        ("def f(\n    a,\n    b=2,  # why\n):\n    return a", "def f(a, b=2):"),
        ("import math\ndef helper(): pass\n\ndef f(x): return helper()", "def f(x):"),
        ("def g():\n    def f(inner): pass\ndef f(outer): pass", "def f(outer):"),
    ],
)
def test_the_definition_line_is_the_asked_for_functions(code: str, line: str) -> None:
    assert definition_line(code, "f") == line


def test_a_reference_without_the_function_is_refused() -> None:
    with pytest.raises(UsageError, match="does not define 'g'"):
        definition_line("def f(): pass", "g")


def test_the_chat_prompt_wraps_the_default_one_in_the_template_once() -> None:
    builder = PromptBuilder("chat", chat_template=lambda text: f"<start>user\n{text}<end>\n<start>model\n")
    assert builder.build(PROBLEM) == f"<start>user\n{MARKER_PROMPT}<end>\n<start>model\n"


def test_a_template_does_not_touch_the_other_formats() -> None:
    builder = PromptBuilder("solution_marker", chat_template=lambda text: pytest.fail("not asked for"))
    assert builder.build(PROBLEM) == MARKER_PROMPT


def test_chat_without_a_template_is_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="needs a tokenizer with a chat template; use --prompt-format solution_marker"):
        PromptBuilder("chat")


def test_an_unknown_format_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'signatur' is unknown .*did you mean 'signature'"):
        PromptBuilder("signatur")
