"""Splits generated text into top-level Python statements, line by line and without looking ahead.

The text may be broken code, prose, markdown or a mixture, so neither `ast` nor `tokenize` can read it as a whole. The
splitter looks at the start of each column-0 line and follows strings, brackets and backslashes; whatever it cannot name
is `foreign`. Because a line is judged by what came before it alone, a longer text never changes the statements that a
shorter one has already ended. About 4 microseconds a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

INDENTATION = " \t\f"

Kind = Literal["def", "class", "import", "assignment", "call", "compound", "foreign"]

_DEF = re.compile(r"(?:async\s+)?def\s+(\w+)\s*[(\[]")
_CLASS = re.compile(r"class\s+(\w+)\s*[(:\[]")
_DECORATOR = re.compile(r"@\s*[^\W\d][\w.]*\s*(?:\(|#|$)")
_IMPORT = re.compile(r"import\s+\w|from\s+[\w.]+\s+import\b")
_MAIN_GUARD = re.compile(r"if\b[\s(]*__name__\b")
_COMPOUND = re.compile(r"(?:if|for|while|with|try|async\s+for|async\s+with)\b.*:")
_CLAUSE = re.compile(r"(?:elif|else|except|finally)\b")
_OPERATOR = r"(?:\*\*|//|>>|<<|[-+*/%&|^@])?=(?!=)"
_ASSIGNMENT = re.compile(rf"[^\W\d][\w.\[\]'\", *+-]*?(?::[^=]+)?{_OPERATOR}|[^\W\d][\w.]*\[[^=]*\] *{_OPERATOR}")
_METHOD_CALL = re.compile(r"[^\W\d]\w*(?:\.\w+)+\s*\(")
_MAY_SPAN_LINES = re.compile(r"[rRbBuUfF]{0,2}(?:\"\"\"|''')|[^\W\d]\w*\(")
_FENCE = re.compile(r"([ \t]*)(?:```|~~~)\s*(\w*)")
_NEVER_IN_BRACKETS = re.compile(
    r"(?:async\s+def|def|class|import|assert|return|raise|try|while|del)\b|from\s+[\w.]+\s+import\b|```"
)

_TOKEN = re.compile(r"#.*|\"\"\"|'''|\"[^\"\\]*(?:\\.[^\"\\]*)*\"|'[^'\\]*(?:\\.[^'\\]*)*'|[\"']|[()\[\]{}]|\\$")
_SPECIAL = re.compile(r"[\"'#()\[\]{}\\]")
_STRING_END = {quote: re.compile(r"\\.|" + quote) for quote in ('"""', "'''", '"', "'")}


@dataclass
class Statement:
    """One top-level statement; `name` is that of a function or class, `blank_before` the blank lines above it."""

    kind: Kind
    lines: list[str] = field(default_factory=list)
    name: str = ""
    blank_before: int = 0
    needs_header: bool = False
    has_body: bool = False

    @property
    def source(self) -> str:
        """The statement's text without a newline at its end."""
        return "\n".join(self.lines)

    @property
    def is_block(self) -> bool:
        """Whether indented lines may follow, so that only a line at column 0 ends it."""
        return self.kind in ("def", "class", "compound")

    @property
    def is_empty(self) -> bool:
        """Whether a block is a header, or prose like one, with nothing in it."""
        end = self.lines[-1].partition("#")[0].rstrip()
        return self.is_block and not self.has_body and (end.endswith(":") or ":" not in end)


class Event(NamedTuple):
    """A statement begins (its kind and name are known) or has ended (its lines are all there)."""

    ended: bool
    statement: Statement


class LineState:
    """Whether the next line lies inside a string, a bracket or a continued line."""

    def __init__(self) -> None:
        self.quote = ""
        self.depth = 0
        self.continued = False

    @property
    def inside(self) -> bool:
        """Whether the logical line goes on."""
        return bool(self.quote) or self.depth > 0 or self.continued

    def feed(self, line: str) -> None:
        """Reads one physical line without its newline."""
        self.continued = False
        position = 0
        if self.quote:
            position = self._after_string(line, 0)
        if position < 0 or not _SPECIAL.search(line, position):
            return
        while match := _TOKEN.search(line, position):
            token, position = match.group(), match.end()
            if token in "([{":
                self.depth += 1
            elif token in ")]}":
                self.depth = max(0, self.depth - 1)
            elif token == "\\":
                self.continued = True
            elif token in _STRING_END:
                self.quote = token
                position = self._after_string(line, position)
                if position < 0:
                    return

    def _after_string(self, line: str, position: int) -> int:
        """Returns where the open string ends in `line`, or -1; a one-line string ends with its line unless escaped."""
        for match in _STRING_END[self.quote].finditer(line, position):
            if match.group() == self.quote:
                self.quote = ""
                return match.end()
        if len(self.quote) == 1 and (len(line) - len(line.rstrip("\\"))) % 2 == 0:
            self.quote = ""
        return -1


class StatementScanner:
    """Turns lines, fed one by one, into the beginnings and ends of top-level statements."""

    def __init__(self) -> None:
        self._open: Statement | None = None
        self._state = LineState()
        self._blank_lines = 0
        self._fenced = False
        self._margin = 0

    def feed(self, line: str) -> list[Event]:
        """Reads one complete line without its newline and returns what it ends and begins, in that order."""
        line = self._without_margin(line)
        events: list[Event] = []
        if self._open is not None:
            if self._continues(line):
                self._append(line, events)
                return events
            events.extend(self.close(end_of_text=False))
        self._begin(line, events)
        return events

    def close(self, *, end_of_text: bool = True) -> list[Event]:
        """Ends the open statement; a header that a further line follows instead of a body is no statement."""
        statement, self._open = self._open, None
        self._state = LineState()
        if statement is None or statement.kind == "foreign" or statement.needs_header:
            return []
        while statement.lines and _is_blank_or_comment(statement.lines[-1]):
            self._blank_lines += not statement.lines.pop().strip()
        return [Event(True, statement)] if end_of_text or not statement.is_empty else []

    def ends_open_statement(self, partial: str) -> Statement | None:
        """Returns the open function or class if a line that begins with `partial` ends it whatever follows."""
        line = self._without_margin(partial)
        statement = self._open
        if statement is None or statement.kind not in ("def", "class") or statement.needs_header:
            return None
        if self._state.inside or not line or line[0] in INDENTATION or line[0] == "#":
            return None
        return statement

    def _without_margin(self, line: str) -> str:
        """Returns the line without the indentation of the markdown fence that it stands in."""
        if not self._margin:
            return line
        indentation = len(line) - len(line.lstrip(" \t"))
        return line[min(self._margin, indentation) :]

    def _continues(self, line: str) -> bool:
        statement = self._open
        assert statement is not None
        if self._state.inside:
            return bool(self._state.quote or self._state.continued) or not _NEVER_IN_BRACKETS.match(line)
        if _is_blank_or_comment(line):
            return True
        if statement.needs_header:
            return bool(_DECORATOR.match(line) or _DEF.match(line) or _CLASS.match(line))
        if line[0] in INDENTATION:
            return True
        return statement.kind == "compound" and bool(_CLAUSE.match(line))

    def _append(self, line: str, events: list[Event]) -> None:
        statement = self._open
        assert statement is not None
        statement.lines.append(line)
        if not self._state.inside:
            if _is_blank_or_comment(line):
                return
            if statement.needs_header:
                self._read_header(statement, line, events)
            else:
                statement.has_body = True
        self._state.feed(line)
        if not statement.is_block and not self._state.inside:
            events.extend(self.close())

    def _begin(self, line: str, events: list[Event]) -> None:
        if _is_blank_or_comment(line):
            self._blank_lines += not line.strip()
            return
        if fence := _FENCE.match(line):
            self._fenced = bool(fence[2]) or not self._fenced
            self._margin = len(fence[1]) if self._fenced else 0
        kind, name = _classify(line)
        statement = Statement(kind, [line], name, min(2, self._blank_lines))
        statement.needs_header = line[0] == "@" and kind == "def"
        if kind != "foreign":
            self._blank_lines = 0
        if not statement.needs_header:
            events.append(Event(False, statement))
        if kind == "foreign" and not _MAY_SPAN_LINES.match(line):
            return
        self._open = statement
        self._state.feed(line)
        if not statement.is_block and not self._state.inside:
            events.extend(self.close())

    def _read_header(self, statement: Statement, line: str, events: list[Event]) -> None:
        """Takes kind and name of a decorated statement from its `def` or `class` line."""
        if _DECORATOR.match(line):
            return
        kind, name = _classify(line)
        statement.kind, statement.name, statement.needs_header = kind, name, False
        events.append(Event(False, statement))


def _is_blank_or_comment(line: str) -> bool:
    text = line.lstrip(INDENTATION)
    return not text or text[0] == "#"


def _classify(line: str) -> tuple[Kind, str]:
    """Returns the kind of the statement that `line` begins, and the name if it is a function or class."""
    if line[0] in INDENTATION or _MAIN_GUARD.match(line):
        return "foreign", ""
    if match := _DEF.match(line):
        return "def", match[1]
    if match := _CLASS.match(line):
        return "class", match[1]
    if _DECORATOR.match(line):
        return "def", ""
    if _IMPORT.match(line):
        return "import", ""
    if _COMPOUND.match(line):
        return "compound", ""
    if _METHOD_CALL.match(line):
        return "call", ""
    return ("assignment", "") if _ASSIGNMENT.match(line) else ("foreign", "")
