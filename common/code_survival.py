"""What is left of a solution under steering: whether it is still code, how it fails, how far it is from the baseline.

Code is read by `ast` and never run. Similarity is that of Ratcliff & Obershelp as `difflib` defines it (the longest
common block, then the same to its left and right; twice the matches over both lengths), computed from a table of common
extensions: degenerate output repeats itself, and on such texts `SequenceMatcher` takes from half a minute to hours.
Here 2,000 characters of ordinary code against 2,000 take 0.014 s, the worst repetitions 0.8 s, on one core.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FAILURE_MODES = ("passed", "no_code", "syntax_broken", "signature_broken", "exception", "wrong_answer", "limit")
SURVIVAL_COLUMNS = ("failure_mode", "parses", "defines_function", "keeps_signature")
# Tokens, or characters, of either text that are compared: more than 500 tokens of a model usually make.
MAX_COMPARED = 2_000

_TOKEN = re.compile(r"\w+|[^\w\s]")
# The outcomes of `common.execution.results`.
_MODE_OF_OUTCOME = {
    "passed": "passed",
    "no_function": "no_code",
    "syntax_error": "syntax_broken",
    "exception": "exception",
    "wrong_answer": "wrong_answer",
    "timeout": "limit",
    "memory": "limit",
    "crashed": "limit",
}


class _Arity(NamedTuple):
    """The numbers of positional arguments that a call may have; `most` is None where there is no limit."""

    least: int
    most: int | None


_ANY = _Arity(0, None)


def parses(code: str) -> bool:
    """Tells whether `code` is Python with at least one statement."""
    return bool(_statements(code))


def defines(code: str, entry_point: str) -> bool:
    """Tells whether a top-level statement of `code` makes a function, class, alias or import of that name.

    An assignment counts if it assigns a lambda, a name, an attribute or a call (of `partial`, say). Code that does not
    parse defines nothing.
    """
    return _definition(code, entry_point) is not None


def keeps_signature(code: str, entry_point: str, reference: str) -> bool:
    """Tells whether `code` defines `entry_point` so that it takes as many positional arguments as `reference` does.

    Where either takes several numbers of arguments (defaults, `*args`), one number that both take is enough. What
    cannot be read off the text (an alias, an import, the constructor of a base class) fits. Decorators are ignored.
    """
    definition = _definition(code, entry_point)
    if definition is None:
        return False
    own, expected = _arity(definition), _arity(_definition(reference, entry_point))
    if own is None or expected is None:
        return False
    most = [arity.most for arity in (own, expected) if arity.most is not None]
    return not most or max(own.least, expected.least) <= min(most)


def failure_mode(outcome: str, code: str, entry_point: str, reference_code: str) -> str:
    """Returns which of `FAILURE_MODES` an evaluated solution shows; `code` is what `extract_code` returned.

    `no_code`: nothing in the output defines the asked-for function; `syntax_broken`: something does, but it is not
    Python; `signature_broken`: an exception, and the function cannot take the reference's arguments (after a wrong
    answer or a limit it evidently could); `limit`: time, memory, or a program that took its worker down.
    """
    mode = _MODE_OF_OUTCOME[outcome]
    if mode == "passed":
        return "passed"
    if mode == "no_code" or not code.strip():
        return "no_code"
    if not parses(code):
        return "syntax_broken"
    if mode == "exception" and not keeps_signature(code, entry_point, reference_code):
        return "signature_broken"
    return mode


def survival_columns(outcome: str | None, code: str, entry_point: str, reference_code: str) -> dict[str, Any]:
    """Returns what a steered row says of its code beside the verdict; all null where there is none."""
    if outcome is None:
        return dict.fromkeys(SURVIVAL_COLUMNS)
    return {
        "failure_mode": failure_mode(outcome, code, entry_point, reference_code),
        "parses": parses(code),
        "defines_function": defines(code, entry_point),
        "keeps_signature": keeps_signature(code, entry_point, reference_code),
    }


def token_similarity(first: str, second: str) -> float:
    """Returns the similarity, from 0 to 1, of two texts as sequences of words and single signs, without white space.

    The first `MAX_COMPARED` tokens of either are compared. Two empty texts have 1. As in `difflib`, the order of the
    two may matter: pass the baseline first.
    """
    return _similarity(_TOKEN.findall(first), _TOKEN.findall(second))


def char_similarity(first: str, second: str) -> float:
    """Returns the similarity, from 0 to 1, of two texts as sequences of characters (otherwise `token_similarity`)."""
    return _similarity(first, second)


def length_ratio(steered: str, baseline: str) -> float | None:
    """Returns the length of the steered code, in characters, over that of the baseline's; None for an empty one."""
    return len(steered) / len(baseline) if baseline else None


def _statements(code: str) -> list[ast.stmt]:
    """Returns the top-level statements, none where the code does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape warns, and a strict filter would make that an error
        try:
            return ast.parse(code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return []


def _definition(code: str, entry_point: str) -> ast.AST | None:
    """Returns what the last top-level definition of a name binds it to: a function, class, import or value."""
    return next((found for node in reversed(_statements(code)) if (found := _bound(node, entry_point))), None)


def _bound(node: ast.stmt, name: str) -> ast.AST | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node if node.name == name else None
    if isinstance(node, ast.Import | ast.ImportFrom):
        return next((alias for alias in node.names if (alias.asname or alias.name) == name), None)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        assigned = any(isinstance(target, ast.Name) and target.id == name for target in targets)
        if assigned and isinstance(node.value, ast.Lambda | ast.Name | ast.Attribute | ast.Call):
            return node.value
    return None


def _arity(definition: ast.AST | None) -> _Arity | None:
    """Returns how many positional arguments a call takes; None where positional ones alone never do."""
    if isinstance(definition, ast.ClassDef):
        return _arity_of_class(definition)
    if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return _arity_of_arguments(definition.args)
    return _ANY


def _arity_of_class(definition: ast.ClassDef) -> _Arity | None:
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if not methods:
        return _ANY if definition.bases or definition.keywords or definition.decorator_list else _Arity(0, 0)
    arity = _arity_of_arguments(methods[-1].args)
    if arity is None:
        return None
    # Without self. A constructor that does not even take that has a most of -1, which no call fits.
    return _Arity(max(0, arity.least - 1), None if arity.most is None else arity.most - 1)


def _arity_of_arguments(arguments: ast.arguments) -> _Arity | None:
    if any(default is None for default in arguments.kw_defaults):
        return None
    n = len(arguments.posonlyargs) + len(arguments.args)
    return _Arity(n - len(arguments.defaults), None if arguments.vararg else n)


def _similarity(first: Sequence[str], second: Sequence[str]) -> float:
    first, second = first[:MAX_COMPARED], second[:MAX_COMPARED]
    if first == second:
        return 1.0
    return 2 * _n_matching(first, second) / (len(first) + len(second))


def _n_matching(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the number of elements in matching blocks: `SequenceMatcher(None, first, second, False)`'s."""
    common = _common_extensions(first, second)
    matching = 0
    windows = [(0, len(first), 0, len(second))]
    while windows:
        top, bottom, left, right = windows.pop()
        if top == bottom or left == right:
            continue
        row, column, size = _longest_block(common[top:bottom, left:right])
        if size == 0:
            continue
        matching += size
        windows += [(top, top + row, left, left + column), (top + row + size, bottom, left + column + size, right)]
    return matching


def _longest_block(common: NDArray[np.int16]) -> tuple[int, int, int]:
    """Returns row, column and length of the longest block inside a window; of equal ones the first by row, column."""
    n_rows, n_columns = common.shape
    rows_left = np.arange(n_rows, 0, -1, dtype=np.int16)[:, None]
    columns_left = np.arange(n_columns, 0, -1, dtype=np.int16)
    inside = np.minimum(np.minimum(common, columns_left), rows_left)
    row, column = divmod(int(np.argmax(inside)), n_columns)
    return row, column, int(inside[row, column])


def _common_extensions(first: Sequence[str], second: Sequence[str]) -> NDArray[np.int16]:
    """Returns how many elements agree from each pair of places on, shape (len(first), len(second))."""
    numbers: dict[Any, int] = {}
    codes = [np.array([numbers.setdefault(item, len(numbers)) for item in items]) for items in (first, second)]
    common = np.zeros((len(first) + 1, len(second) + 1), dtype=np.int16)
    for row in range(len(first) - 1, -1, -1):
        np.multiply(common[row + 1, 1:] + np.int16(1), codes[1] == codes[0][row], out=common[row, :-1])
    return common[:-1, :-1]
