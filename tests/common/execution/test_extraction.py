"""The solution is found in whatever a model writes around it."""

from __future__ import annotations

import textwrap

import pytest

from common.errors import UsageError
from common.execution.extraction import (
    entry_point_from_tests,
    extract_code,
    names_used_by_tests,
    solution_finished,
)
from common.problems import Problem
from common.prompt_utils import PromptBuilder

pytestmark = pytest.mark.unit

PLAIN = "def f(x):\n    return x + 1"


def code_of(text: str, entry_point: str = "f", also_needed: tuple[str, ...] = ()) -> str:
    return extract_code(textwrap.dedent(text), entry_point=entry_point, also_needed=also_needed)


@pytest.mark.parametrize(
    ("tests", "name"),
    [
        (["assert f(1) == 2", "assert f(2) == 3"], "f"),
        (["assert set(f([1])) == {1}"], "f"),
        (["assert abs(f(2) - 1.5) < 1e-6"], "f"),
        (["assert math.isclose(f(2), 1.5, rel_tol=0.001)"], "f"),
        (["assert isclose(f(2), 1.5)", "assert isclose(f(3), 2)"], "f"),
        (["assert not f(3)", "assert f(4)"], "f"),
        (["assert f(3).strip().upper() == 'A'"], "f"),
        (["assert 3 == f(1)"], "f"),
        (["assert (f(1)) == 2 "], "f"),
        (["assert f(2) in [1, 2] and len(g(1)) == 3", "assert f(3)"], "f"),
        (["assert chain_length([Pair(1, 2), Pair(3, 4)], 2) == 2"], "chain_length"),
        (["assert Counter(f('aab')) == Counter(a=2, b=1)"], "f"),
        (["assert sum(10, 15) == 6", "assert sum(4, 6) == 3"], "sum"),
        (["assert f(g(1)) == 2", "assert g(f(2)) == 3"], "f"),
        (["result = f(3)\r\nassert result == 4"], "f"),
    ],
)
def test_the_entry_point_is_the_function_that_all_assertions_call(tests: list[str], name: str) -> None:
    assert entry_point_from_tests(tests) == name


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ([], "no assertions"),
        (["assert x == 3"], "calls no function"),
        (["assert x.f() == 3"], "calls no function"),
        (["assert f(1) == 2", "assert g(1) == 2"], "share no function"),
        (["assert f(1) = 2"], "not valid Python"),
    ],
)
def test_tests_without_an_entry_point_are_refused_by_name(tests: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        entry_point_from_tests(tests)


def test_names_that_only_the_tests_use_are_found() -> None:
    setup = "root = Node(1)\r\nroot.left = Node(2)"
    assert names_used_by_tests(["assert f(root, sys.maxsize) == len([2])"], setup) == {"Node", "sys"}


def test_a_bare_completion_is_returned_without_blank_lines_around_it() -> None:
    assert extract_code(f"\n\n{PLAIN}\n\n\n", entry_point="f") == PLAIN


@pytest.mark.parametrize(
    "tail",
    [
        "\n```\nThat's it.",
        "\n\nprint(f(3))\n",
        "\n\nassert f(1) == 2\nassert f(2) == 3",
        '\n\nif __name__ == "__main__":\n    import sys\n    print(f(1))\n',
        "\n\ndef f(x):\n    return 0\n",
        "\n# Another way\n@cache\ndef f(x):\n    return 0\n",
        "\nf = lambda x: 0\n",
        "\n    # done\n\n# Test cases\nx = f(1)\n",
        "\nThis function adds one. It doesn't fail.\n",
        '\n"""\ndef f(x):\n    return 0\n"""\n',
        "\n<end_of_turn>\n",
        "\n```python\ndef g(x):\n    return f(x)\n```",
        "\n\nclass Test(unittest.TestCase):\n    def test(self):\n        f(1)\n",
    ],
)
def test_nothing_after_the_solution_is_kept(tail: str) -> None:
    assert extract_code(f"\n{PLAIN}{tail}", entry_point="f") == PLAIN


@pytest.mark.parametrize(
    "head",
    [
        "",
        " \n",
        "Here's the function (it isn't hard:\n\n```python\n",
        "Sure! We don't need much.\n\n```\n",
        "print(1)\n",
        '"""\nWrite f.\n\ndef f(x):\n    return 0\n"""\n',
        "def other(y):\n    return 1\n\n\n",
        "x = 3\n",
        "result = f(3)\n",
        "def f(x):\n\n",
        "def f(x) takes one number\ndef f(x):  # header only\n",
        "<start_of_turn>model\n",
        "class Solution:\n    def f(self, x):\n        return 0\n",
    ],
)
def test_nothing_foreign_before_the_solution_is_kept(head: str) -> None:
    assert extract_code(f"{head}{PLAIN}\n", entry_point="f") == PLAIN


@pytest.mark.parametrize("prompt_format", ["solution_marker", "signature"])
def test_a_completion_that_carries_its_prompt_gives_the_same_code(prompt_format: str) -> None:
    code = "import re\n\ndef f(x):\n    return re.sub('a', 'b', x)"
    problem = Problem(1, 'Write f that isn\'t "hard".', code, ("assert f('a') == 'b'", "assert f('') == ''"))
    prompt = PromptBuilder(prompt_format).build(problem)
    if prompt_format == "signature":
        assert extract_code(prompt + "    return x\n\nprint(1)", entry_point="f") == "def f(x):\n    return x"
    else:
        assert extract_code(f"{prompt}\n{code}\n\nassert f('c')", entry_point="f") == code


def test_what_the_function_needs_is_kept_and_the_rest_is_not() -> None:
    text = """
        import math, sys
        from typing import List
        LIMIT = 10
        UNUSED = 11
        table = {}
        table[1] = LIMIT
        sys.setrecursionlimit(10000)
        try:
            import numpy as np
        except ImportError:
            np = None
        for i in range(3):
            table[i] = i

        class Node:
            pass

        def unused(): return 2

        @cache
        def helper(x: int) -> List[int]:
            return other(Node(), table)

        print(helper(1))

        def f(x):
            return helper(x) + math.pi + bool(np)

        def unused_after(): return 3

        def other(a, b): return cache(a)

        from functools import cache
        import late
    """
    code = code_of(text)
    for kept in (
        "import math, sys",
        "List",
        "LIMIT = 10",
        "table[1]",
        "sys.set",
        "numpy",
        "for i",
        "Node",
        "import cache",
    ):
        assert kept in code, kept
    for dropped in ("UNUSED", "unused", "print", "late"):
        assert dropped not in code, dropped
    assert code.index("class Node") < code.index("def helper") < code.index("def f(") < code.index("def other")


def test_a_helper_given_twice_before_the_function_is_kept_twice_but_never_replaced_after_it() -> None:
    helpers = "def g(x):\n    return 1\ndef g(x):\n    return 2\n"
    function = "def f(x):\n    return g(x) + h(x)\n"
    late = "def h(x):\n    return 1"
    assert extract_code(helpers + function + "def g(x):\n    return 3\n" + late, entry_point="f") == (
        helpers + function + late
    )


@pytest.mark.parametrize(
    "code",
    [
        "async def f(x):\n    return x",
        "@cache\n# why\n@other(1,\n  2)\ndef f(x):\n    return x",
        "def f(x):\n#a column-0 comment\n\n    y = x\n# another\n    return y",
        "def f(x):\n\tif x:\n\t\treturn 1\n\treturn 2",
        "def f(x,\ny=[\n1]):\n    return (x +\ny[0])",
        "def f(x):\n    return x + \\\n1",
        'def f(x):\n    """\nText at column 0.\ndef f(y): return 0\n"""\n    return x',
        "def f(x):\n    return '''\nimport os\n''' + 'it\\'s (' + \"[\"",
        "def f(x): return x",
        "f = lambda x: (x +\n1)",
        "def fünf(x):\n    ä = 'ß'\n    return ä",
        "def f(x):\n    return r'\\' + x",
        "def f(x):\n    s = 'a\\\ndef b'\n    return s",
        "def f(x):\n    return {'a': [1, (2, 3)],\n}",
    ],
)
def test_a_definition_of_any_shape_is_kept_whole(code: str) -> None:
    entry_point = "fünf" if "fünf" in code else "f"
    for tail in ("", "\n", "\n\nprint(1)\n", "\n```\n"):
        assert extract_code(f"\n{code}{tail}", entry_point=entry_point) == code


def test_every_kind_of_newline_ends_a_line() -> None:
    for newline in ("\n", "\r\n", "\r"):
        assert extract_code(newline.join(["", *PLAIN.split("\n"), "print(1)"]), entry_point="f") == PLAIN


def test_a_function_named_like_a_builtin_is_found() -> None:
    code = "def sum(a, b):\n    return max(a, b)"
    assert extract_code(f"\n{code}\nprint(sum(1, 2))", entry_point="sum") == code


def test_a_class_that_the_tests_need_is_kept_before_and_after_the_function() -> None:
    pair = "class Pair:\n    def __init__(self, a):\n        self.a = a"
    for text in (f"{pair}\n{PLAIN}", f"{PLAIN}\n{pair}"):
        assert extract_code(text + "\nprint(1)", entry_point="f", also_needed=["Pair"]) == text
        assert extract_code(text + "\nprint(1)", entry_point="f") == PLAIN


def test_an_indented_fence_is_read_without_its_indentation() -> None:
    text = "1. Do this:\n\n   ```python\n   def f(x):\n       return x\n   ```\n\n   Then stop."
    assert extract_code(text, entry_point="f") == "def f(x):\n    return x"


@pytest.mark.parametrize("cut", ["def f(x):\n    return (x +", "def f(x):\n    s = '''abc", "def f(x", "def f(x):"])
def test_a_function_cut_off_by_the_end_is_returned_as_far_as_it_goes(cut: str) -> None:
    assert extract_code(f"\n{cut}", entry_point="f") == cut


def test_an_unclosed_bracket_does_not_swallow_the_next_attempt() -> None:
    broken = "def f(x):\n    return (x"
    assert extract_code(f"{broken}\n\ndef f(x):\n    return x\n", entry_point="f") == broken


@pytest.mark.parametrize("text", ["", "No code here.", "def g(x):\n    return 1", "f(3)", "# def f(x): return 1"])
def test_text_without_the_function_gives_nothing(text: str) -> None:
    assert extract_code(text, entry_point="f") == ""


def test_an_import_counts_as_the_function_only_where_no_definition_follows() -> None:
    assert extract_code("from math import f\nprint(f(1))", entry_point="f") == "from math import f"
    assert extract_code(f"from math import f\n{PLAIN}\n", entry_point="f").endswith(PLAIN)


@pytest.mark.parametrize(
    ("text", "finished"),
    [
        (f"\n{PLAIN}", False),
        (f"\n{PLAIN}\n", False),
        (f"\n{PLAIN}\n\n", False),
        (f"\n{PLAIN}\n\n#", False),
        (f"\n{PLAIN}\n ", False),
        (f"\n{PLAIN}\n\nd", True),
        (f"\n{PLAIN}\n`", True),
        ("def f(x):\n    return g(x)\ni", False),
        ("def f(x):\n    return g(x)\nimport math\n", False),
        ("def f(x):\n    return g(x)\nfrom m import g", False),
        ("def f(x):\n    return g(x)\nfrom m import g\n", True),
        ("def f(x):\n    return g(x)\nprint(f(1))", False),
        ("def f(x):\n    return g(x)\nprint(f(1))\n", True),
        ("def f(x):\n    return g(x)\ndef g(x):\n    return h(x)\ndef h(x):\n    return 1\n", False),
        ("def f(x):\n    return g(x)\ndef g(x):\n    return h(x)\ndef h(x):\n    return 1\nx", True),
        ("def f(x):\n    return g(x)\ndef f(x):\n", True),
        ("def f(x):\n    return [1,\nprint", False),
        ("def f(x):\n    '''\nprint", False),
        ("def f(x):\n    return \\\nprint", False),
        ("def f(x):\nprint", False),
        ("@cache\n", False),
        ("f = lambda x: x\n", True),
        ("f = lambda x: (x\n", False),
    ],
)
def test_a_solution_is_finished_once_nothing_can_change_it(text: str, finished: bool) -> None:
    assert solution_finished(text, entry_point="f") is finished


def test_a_name_that_the_tests_need_is_waited_for() -> None:
    text = f"\n{PLAIN}\n\nclass Pair:\n    pass\n"
    assert not solution_finished(text, entry_point="f", also_needed=["Pair"])
    assert solution_finished(text + "x", entry_point="f", also_needed=["Pair"])
