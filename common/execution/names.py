"""Which global names a piece of Python binds, changes and uses, by `symtable` and `ast`; nothing is run."""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import symtable
import warnings
from functools import lru_cache
from typing import NamedTuple

BUILTIN_NAMES = frozenset(dir(builtins)) | {"__file__", "__builtins__"}

# What `from X import *` brings is known for these; from any other module it may bring anything.
_STAR_MODULES = frozenset({"bisect", "cmath", "collections", "functools", "heapq", "itertools", "math", "operator"})


class GlobalNames(NamedTuple):
    """Names of the module's scope.

    `binds` are assigned, imported or defined by running the code; `changes` are objects whose item, attribute or method
    the code sets or calls; `uses` are read by it or by any function and class in it; `star` tells of `import *`.
    """

    binds: frozenset[str]
    changes: frozenset[str]
    uses: frozenset[str]
    star: bool


@lru_cache(maxsize=8192)
def global_names(source: str) -> GlobalNames | None:
    """Returns the global names of `source`, or None where it is not valid Python."""
    # An unknown escape such as "\\d" warns. Other threads' filters are left alone where there is nothing to hush.
    with warnings.catch_warnings() if "\\" in source else contextlib.nullcontext():
        if "\\" in source:
            warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            table = symtable.symtable(source, "<solution>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return None
    binds = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    uses = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    uses |= _names_used_inside(table)
    star_modules = [
        node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    ]
    for module in star_modules:
        binds |= _star_names(module)
    return GlobalNames(frozenset(binds), _changed_names(tree), frozenset(uses), bool(star_modules))


def _names_used_inside(table: symtable.SymbolTable) -> set[str]:
    used: set[str] = set()
    pending = list(table.get_children())
    while pending:
        scope = pending.pop()
        used |= {symbol.get_name() for symbol in scope.get_symbols() if symbol.is_global()}
        pending.extend(scope.get_children())
    return used


def _changed_names(tree: ast.Module) -> frozenset[str]:
    """Returns the names whose items, attributes or methods the module's own statements set or call."""
    changed: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            changed |= _base_name(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            changed |= _base_name(node.value.func)
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(changed)


def _base_name(node: ast.AST) -> set[str]:
    """Returns the name at the root of `name.attribute[item]`, or nothing for a bare name or another expression."""
    root = node
    while isinstance(root, ast.Subscript | ast.Attribute):
        root = root.value
    return {root.id} if isinstance(root, ast.Name) and root is not node else set()


@lru_cache(maxsize=32)
def _star_names(module: str) -> frozenset[str]:
    if module not in _STAR_MODULES:
        return frozenset()
    loaded = importlib.import_module(module)
    public = getattr(loaded, "__all__", None) or [name for name in vars(loaded) if not name.startswith("_")]
    return frozenset(public)
