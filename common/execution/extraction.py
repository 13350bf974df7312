"""The solution inside a completion, and when a completion holds it whole.

Generated text may carry the prompt, prose, markdown, several attempts, test calls or a cut-off end. The solution is
the first definition of the asked-for function that has a body, with the imports above it and the assignments,
functions, classes and later imports that it needs, directly or through others. It is finished once that function has
ended and every global name that it uses is defined, or once a foreign top-level statement follows. `extract_code` and
`solution_finished` read this from one and the same scan.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence

from common.errors import UsageError
from common.execution.names import BUILTIN_NAMES, GlobalNames, global_names
from common.execution.statements import Event, Statement, StatementScanner

# Names that wrap the asked-for function in assertions without being it.
_WRAPPERS = frozenset(
    {"Counter", "Decimal", "Fraction", "OrderedDict", "allclose", "approx", "array", "array_equal", "chain", "deepcopy"}
    | {"defaultdict", "deque", "isclose", "namedtuple"}
)
_NOTHING = GlobalNames(frozenset(), frozenset(), frozenset(), False)


def entry_point_from_tests(tests: Sequence[str]) -> str:
    """Returns the name of the function that every assertion calls: the outermost that is not a builtin, if any is.

    Raises `UsageError` where an assertion is not Python, calls no function, or shares none with the others.
    """
    if not tests:
        raise UsageError("the problem has no assertions, so the asked-for function is unknown; give at least one")
    calls = [_called_names(test) for test in tests]
    for test, names in zip(tests, calls, strict=True):
        if not names:
            raise UsageError(f"the assertion {_shorten(test)} calls no function; the asked-for function is unknown")
    shared = [name for name in calls[0] if all(name in names for names in calls)]
    if not shared:
        raise UsageError(f"the assertions share no function: {_shorten(tests[0])} and the others call different ones")
    return min(shared, key=lambda name: (name in BUILTIN_NAMES, name in _WRAPPERS, shared.index(name)))


def names_used_by_tests(tests: Sequence[str], setup_code: str = "") -> frozenset[str]:
    """Returns the global names that tests and set-up code expect of a solution beside the asked-for function."""
    names = global_names("\n".join([setup_code, *tests]).replace("\r\n", "\n"))
    entry_point = entry_point_from_tests(tests)
    return frozenset() if names is None else names.uses - names.binds - BUILTIN_NAMES - {entry_point}


def extract_code(text: str, *, entry_point: str, also_needed: Collection[str] = ()) -> str:
    """Returns the solution in `text` without a newline at its end, or "" where it never defines `entry_point`.

    Names in `also_needed` (of the tests, say) are kept with what they need where the text defines them. A function that
    the end of the text cuts off is returned as far as it goes.
    """
    scan = _SolutionScan(entry_point, also_needed)
    for line in _lines(text):
        scan.feed(line)
        if scan.finished:
            break
    scan.close()
    return scan.code()


def solution_finished(text: str, *, entry_point: str, also_needed: Collection[str] = ()) -> bool:
    """Tells whether nothing that may follow `text` can change what `extract_code` returns for it.

    `text` is a completion so far, without the prompt, or with as much of the prompt as the code begins in. True of a
    text stays true of every longer one. Costs about 0.1 ms for 1,000 characters.
    """
    *complete, partial = _lines(text)
    scan = _SolutionScan(entry_point, also_needed)
    for line in complete:
        scan.feed(line)
        if scan.finished:
            return True
    return scan.finished_by(partial)


class _SolutionScan:
    """Collects statements until the solution is finished."""

    def __init__(self, entry_point: str, also_needed: Collection[str]) -> None:
        self.finished = False
        self._entry_point = entry_point
        self._wanted = frozenset(also_needed) | {entry_point}
        self._scanner = StatementScanner()
        self._statements: list[Statement] = []
        self._entry_index: int | None = None

    def feed(self, line: str) -> None:
        """Reads one complete line."""
        for event in self._scanner.feed(line):
            self._take(event)

    def close(self) -> None:
        """Takes what the end of the text leaves open."""
        for event in self._scanner.close():
            self._take(event)

    def finished_by(self, partial: str) -> bool:
        """Tells whether an incomplete last line that begins with `partial` finishes the solution in any case."""
        statement = self._scanner.ends_open_statement(partial)
        if statement is None or (self._entry_index is None and statement.name != self._entry_point):
            return False
        for event in self._scanner.close(end_of_text=False):
            self._take(event)
        return self.finished

    def code(self) -> str:
        """Returns the text of the statements that belong to the solution."""
        if self._entry_index is None:
            self._entry_index = self._imported_entry()
        if self._entry_index is None:
            return ""
        kept = [self._statements[index] for index in sorted(self._closure()[0])]
        parts = [kept[0].source]
        parts += ["\n" * statement.blank_before + statement.source for statement in kept[1:]]
        return "\n".join(parts)

    def _take(self, event: Event) -> None:
        if self.finished:
            return
        statement = event.statement
        found = self._entry_index is not None
        if not event.ended:
            may_follow = statement.kind in ("def", "class", "import", "assignment")
            self.finished = found and (not may_follow or statement.name == self._entry_point)
            return
        if found and self._is_another_attempt(statement):
            self.finished = True
            return
        self._statements.append(statement)
        if not found and self._defines_entry(statement):
            self._entry_index = len(self._statements) - 1
        if self._entry_index is not None:
            self.finished = not self._closure()[1]

    def _is_another_attempt(self, statement: Statement) -> bool:
        """Tells whether a statement after the function is broken, defines the function again or tries it out."""
        if statement.kind not in ("import", "assignment"):
            return False
        names = global_names(statement.source)
        return names is None or self._entry_point in names.binds | names.uses

    def _defines_entry(self, statement: Statement) -> bool:
        if statement.kind in ("def", "class"):
            return statement.name == self._entry_point
        names = _names_of(statement)
        if statement.kind != "assignment" or self._entry_point not in names.binds - names.uses:
            return False
        value = getattr(ast.parse(statement.source).body[0], "value", None)
        return isinstance(value, ast.Lambda | ast.Name | ast.Attribute | ast.Call)

    def _imported_entry(self) -> int | None:
        """Returns the import that brings the asked-for function, for texts that never define it themselves."""
        for index, statement in enumerate(self._statements):
            if statement.kind == "import" and self._entry_point in _names_of(statement).binds:
                return index
        return None

    def _closure(self) -> tuple[set[int], set[str]]:
        """Returns the indices of the statements that the solution needs and the names that are still undefined."""
        left = list(range(len(self._statements)))
        kept: set[int] = set()
        needed, bound = set(self._wanted), set()
        # Always the first that is needed: what stands above the function is exhausted before anything below it counts.
        while (index := next((i for i in left if self._is_needed(i, needed, bound)), None)) is not None:
            names = _names_of(self._statements[index])
            left.remove(index)
            kept.add(index)
            needed |= names.uses
            bound |= names.binds
        return kept, needed - bound - BUILTIN_NAMES

    def _is_needed(self, index: int, needed: set[str], bound: set[str]) -> bool:
        entry_index, statement = self._entry_index, self._statements[index]
        assert entry_index is not None
        if index == entry_index:
            return True
        names = _names_of(statement)
        if index > entry_index:
            return names.star or bool(names.binds & (needed - bound - BUILTIN_NAMES))
        if statement.kind not in ("def", "class") and self._entry_point in names.uses:
            return False
        if statement.kind == "import":
            return names is not _NOTHING
        if statement.kind in ("def", "class"):
            return bool(names.binds & needed)
        return bool((names.binds | names.changes) & needed) or "sys.setrecursionlimit(" in statement.source


def _names_of(statement: Statement) -> GlobalNames:
    """Returns the statement's global names; of a broken function or class its own name is known all the same."""
    names = global_names(statement.source)
    if names is not None:
        return names
    return _NOTHING._replace(binds=frozenset({statement.name})) if statement.name else _NOTHING


def _lines(text: str) -> list[str]:
    """Returns the lines; every kind of newline that Python's parser knows ends one."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _called_names(test: str) -> list[str]:
    """Returns the names that a test calls as functions, outermost first, without repetition."""
    try:
        tree = ast.parse(test.replace("\r\n", "\n").strip())
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"the assertion {_shorten(test)} is not valid Python ({error}); mend the data set") from None
    return list(dict.fromkeys(_calls_by_depth(tree)))


def _calls_by_depth(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _shorten(test: str) -> str:
    return repr(test if len(test) <= 80 else test[:77] + "...")
