"""Runs one sample inside its own process and reports what its assertions gave.

The process holds no expected value: it is told the left sides of the assertions and sends their values out. The
report is written only when everything has run, behind a nonce that the worker hands over at that moment. Loaded by
the worker on its own, with a copy of the builtins that the sample cannot reach by patching the `builtins` module.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

_read, _write, _exit, _getpid = os.read, os.write, os._exit, os.getpid
_getrlimit, _setrlimit = resource.getrlimit, resource.setrlimit
_set_recursion_limit, _recursion_limit = sys.setrecursionlimit, sys.getrecursionlimit
_settrace, _setprofile = sys.settrace, sys.setprofile
_AS = resource.RLIMIT_AS
# The sample gets the real builtins, which it may change; the harness keeps its copy.
_sample_builtins = sys.modules["builtins"]

NONCE_BYTES = 16
MAX_MESSAGE_BYTES = 1_000_000
_MAX_ERROR_CHARACTERS = 300
_RECURSION_FOR_ENCODING = 3000


_forked_from = 0


def run_sample(request: dict[str, Any], values: Any, verdict: int, control: int) -> NoReturn:
    """Runs code, set-up and tests of `request`, writes the report to the descriptor `verdict`, and ends the process."""
    global _forked_from
    _forked_from = _getpid()
    try:
        report = _report(request, values)
        _leave_if_forked(None)
        _settrace(None)
        _setprofile(None)
        _write(verdict, b"\n")
        nonce = b""
        while len(nonce) < NONCE_BYTES:
            nonce += _read(control, NONCE_BYTES - len(nonce)) or _exit(3)
        message = report.encode("ascii")
        _write_all(verdict, nonce + b"%08x" % len(message) + message)
    finally:
        _exit(0)


def _report(request: dict[str, Any], values: Any) -> str:
    quote = values._quote
    module = ModuleType(values.SOLUTION_MODULE)
    sys.modules[values.SOLUTION_MODULE] = module
    scope = module.__dict__
    scope["__builtins__"] = _sample_builtins
    for stage, source in (("code", request["code"].removeprefix("\ufeff")), ("setup", request["setup"])):
        try:
            program = compile(source, f"<{stage}>", "exec", dont_inherit=True, optimize=0)
        except BaseException as error:
            return f'{{"stage":"{stage} syntax","error":{_describe(error, values)}}}'
        try:
            exec(program, scope)
        except BaseException as error:
            return f'{{"stage":"{stage}","error":{_describe(error, values)}}}'
    tests = request["tests"]
    left = MAX_MESSAGE_BYTES - 1000
    results: list[str] = []
    for index, (kind, source) in enumerate(tests):
        # What one result may take leaves room for an error's text in each that follows.
        after = len(tests) - index - 1
        results.append(_result(kind, source, scope, values, left - after * min(2000, left // (2 * after + 1))))
        left -= len(results[-1]) + 1
    defined = "true" if request["entry_point"] in scope else "false"
    return f'{{"stage":{quote("tests")},"defined":{defined},"results":[{",".join(results)}]}}'


def _result(kind: str, source: str, scope: dict[str, Any], values: Any, budget: int) -> str:
    """Returns one test's result: `["value", V]`, `["held", bool]`, `["large", type]` or `["raised", ...]`."""
    try:
        if kind == "script":
            exec(compile(source, "<test>", "exec", dont_inherit=True, optimize=0), scope)
            return '["held",true]'
        value = eval(compile(source, "<test>", "eval", dont_inherit=True, optimize=0), scope)
        if kind == "truth":
            return '["held",true]' if value else '["held",false]'
        return _encoded(value, values, budget)
    except BaseException as error:
        return f'["raised",{_describe(error, values)}]'


def _encoded(value: object, values: Any, budget: int) -> str:
    limit = _recursion_limit()
    _set_recursion_limit(max(limit, _RECURSION_FOR_ENCODING))
    try:
        return f'["value",{values.encode_value(value, budget)}]'
    except values.TooLargeError:
        return f'["large",{values._quote(values.type_name(type(value))[:80])}]'
    finally:
        _set_recursion_limit(limit)


def _describe(error: BaseException, values: Any) -> str:
    """Returns `{"type", "text", "class"}` of an exception; `class` is memory, assertion or other."""
    _leave_if_forked(error)
    if isinstance(error, MemoryError):
        _make_room(error)
    kind = "memory" if isinstance(error, MemoryError) else "assertion" if type(error) is AssertionError else "other"
    try:
        text = str.__getitem__(str(error), slice(0, _MAX_ERROR_CHARACTERS))
    except BaseException:
        text = "(its text cannot be read)"
    name = values._quote(values.type_name(type(error))[:80])
    return f'{{"type":{name},"text":{values._quote(text)},"class":"{kind}"}}'


def _leave_if_forked(error: BaseException | None) -> None:
    """Ends a process that the sample has forked where it comes to the end of the sample's code, or leaves it."""
    if _getpid() != _forked_from:
        code = error.code if isinstance(error, SystemExit) else None if error is None else 1
        _exit(code & 0xFF if type(code) is int else 0 if code is None else 1)


def _make_room(error: BaseException) -> None:
    """Frees what the failed frames hold and lifts the memory limit, so that a report can be written."""
    error.__traceback__ = error.__context__ = None
    _setrlimit(_AS, (_getrlimit(_AS)[1], _getrlimit(_AS)[1]))
    gc.collect()


def _write_all(descriptor: int, data: bytes) -> None:
    write: Callable[[int, bytes], int] = _write
    while data:
        data = data[write(descriptor, data) :]
