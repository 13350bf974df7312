"""Stopping early never changes what extraction returns."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.execution.extraction import extract_code, solution_finished

pytestmark = pytest.mark.unit

LINES = [
    "def f(x):", "def f(x): return x", "async def f(x):", "def g(x):", "def h(", "class A:", "class f(A):",
    "@wraps(f)", "@cache", "import math", "from math import *", "from g import f, h",
    "from __future__ import annotations", "    return g(x) + h(x)", "    return x", "\treturn A(x)", "  '''doc",
    "    \"\"\"doc", "'''", '"""', '"""f"""', "    y = [1,", "2, 3]", ")", "]", "    y = (x", "    z = x \\",
    "  + 1", "g = lambda x: h", "f = lambda x: g(x)", "f = g", "h = 3", "h[0] = f(1)", "h, g = 1, 2", "h += 1",
    "h.append(3)", "h = (", "h = '''", "print(f(3))", 'print("""', "assert f(1) == 2", "if __name__ == '__main__':",
    "if h:", "try:", "except E:", "else:", "    import g", "for i in h:", "    h[i] = g", "# comment",
    "    # comment", "", "   ", "```", "```python", "   ```python", "   def f(x):", "       return g", "   ```",
    "It isn't (so simple", "Write x = y for f.", "\\", "x = 'a\\", "def f(x", "    return 'it\\'s'",
    "    return r'\\'", "    s = 'def f(x):'", "    global h", "\f", "\u00e9 = 1", "def \u00e9(x):",
    "    return \u00e9", "\x00", "pass", "return 1", "with h: pass", "import", "from", "def", "d", "\r", "    \r",
]  # fmt: skip

fragments = st.lists(
    st.one_of(st.sampled_from(LINES), st.text(alphabet="def(x):[]\"'\\\n\r\t #=@`ghreturn1,.", max_size=12)),
    max_size=14,
)
texts = st.builds(
    lambda parts, ends: "".join(part + end for part, end in zip(parts, ends + ["\n"] * len(parts), strict=False)),
    fragments,
    st.lists(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", ""]), max_size=14),
)
names_needed = st.sets(st.sampled_from(["g", "h", "A", "math", "f", "len"]), max_size=2)


def assert_stopping_is_sound(text: str, also_needed: frozenset[str]) -> None:
    """Asserts for every prefix that counts as finished that the whole text gives the same code."""
    whole = extract_code(text, entry_point="f", also_needed=also_needed)
    finished = False
    for end in range(len(text) + 1):
        now = solution_finished(text[:end], entry_point="f", also_needed=also_needed)
        assert now or not finished, f"finished at a shorter text, but not at {text[:end]!r}"
        finished = now
        if now:
            assert extract_code(text[:end], entry_point="f", also_needed=also_needed) == whole, text[:end]


@settings(max_examples=300, deadline=None)
@given(text=texts, also_needed=names_needed)
@example(text="def f(x):\n    return g(x)\ndef g(x):\n    return x\ndef f(y):\n    return 0\n", also_needed=set())
@example(text="f = lambda x: x\n    junk\nprint(1)\n", also_needed=set())
@example(text="@cache\n\n# c\ndef f(x):\n    return x\r\n\rprint", also_needed={"g"})
def test_a_finished_prefix_gives_the_code_of_every_longer_text(text: str, also_needed: set[str]) -> None:
    assert_stopping_is_sound(text, frozenset(also_needed))


@settings(max_examples=200, deadline=None)
@given(
    tail=texts,
    body=st.lists(st.sampled_from(["return x", "return g(x)", "y = [", "]", "'''", "# c", "pass"]), min_size=1),
)
def test_a_function_followed_by_anything_stays_what_it_was_when_finished(tail: str, body: list[str]) -> None:
    assert_stopping_is_sound("\ndef f(x):\n" + "".join(f"    {line}\n" for line in body) + tail, frozenset())
