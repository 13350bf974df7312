"""The splitter finds the same top-level statements in working code as Python's own parser."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

from common.execution.statements import StatementScanner

pytestmark = pytest.mark.numeric

KINDS = {
    ast.FunctionDef: "def",
    ast.AsyncFunctionDef: "def",
    ast.ClassDef: "class",
    ast.Import: "import",
    ast.ImportFrom: "import",
    ast.Assign: "assignment",
    ast.AugAssign: "assignment",
    ast.AnnAssign: "assignment",
}
MODULES = "argparse ast copy difflib functools heapq inspect json.decoder logging pickle statistics textwrap "
MODULES += "tokenize typing unittest.mock urllib.parse _pydecimal dataclasses enum"


def spans_by_parser(source: str) -> list[tuple[str, int, int]]:
    spans = []
    for node in ast.parse(source).body:
        if type(node) in KINDS:
            first = min([node.lineno, *(mark.lineno for mark in getattr(node, "decorator_list", []))])
            spans.append((KINDS[type(node)], first, node.end_lineno or 0))
    return spans


def spans_by_scanner(source: str) -> list[tuple[str, int, int]]:
    """Finds where each statement's lines stand by searching them in order."""
    scanner, spans, position = StatementScanner(), [], 0
    lines = source.split("\n")
    events = [event for line in lines for event in scanner.feed(line)] + scanner.close()
    for statement in (event.statement for event in events if event.ended):
        if statement.kind in KINDS.values():
            count = len(statement.lines)
            while lines[position : position + count] != statement.lines:
                position += 1
            spans.append((statement.kind, position + 1, position + count))
            position += count
    return spans


@pytest.mark.parametrize("name", MODULES.split())
def test_statements_of_the_standard_library_are_those_of_the_parser(name: str) -> None:
    source = inspect.getsource(importlib.import_module(name))
    expected = spans_by_parser(source)
    assert len(expected) > 3
    assert spans_by_scanner(source) == expected
