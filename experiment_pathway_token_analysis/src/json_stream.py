"""A JSON file as a stream of records: one record in memory at a time, and a fault named for what it is.

The records are the items of the array at the top, or of the array under one key of the object at the top. Built on the
standard library's decoder and not on an event parser, since patching studies written by Python hold NaN and lone
surrogates, which strict parsers take for damage. About 350,000 records a second on one core.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 20
MAX_RECORD_CHARACTERS = 64 << 20
_TAIL = 16  # a literal, number or escape that the end of the text cuts is refused at most this far before it
_EXPONENT = 3  # "e+1": with fewer characters behind it, a number's end may not be its end
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonFault(Exception):
    """A file that cannot be read to its end: `code` says why; what was yielded before it stands."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class JsonStream:
    """Reads one file once; `sha256` and `header` are whole when `items` has ended, `sha256` also after a fault."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.records = 0
        self.sha256 = ""
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()

    def items(self, key: str | None = None) -> Iterator[Any]:
        """Yields the records: the items of the array at the top, or of the one under `key` of the object there.

        The object's other keys come into `header`. Raises JsonFault with code unreadable_file, not_utf8, cut_off_json,
        malformed_json or wrong_shape.
        """
        try:
            with open(self.path, "rb") as handle:
                self._text = _Text(lambda: self._read(handle))
                try:
                    yield from self._top(key)
                finally:
                    while self._read(handle):  # what a fault left unread: the hash is the whole file's
                        pass
        except OSError as error:
            raise JsonFault("unreadable_file", f"it cannot be read: {error.strerror or error}") from None
        finally:
            self.sha256 = self._hash.hexdigest()

    def _read(self, handle: BinaryIO) -> bytes:
        data = handle.read(CHUNK_BYTES)
        self._hash.update(data)
        self._on_bytes(len(data))
        return data

    def _top(self, key: str | None) -> Iterator[Any]:
        try:
            yield from self._array() if key is None else self._object(key)
            if self._text.next():
                raise JsonFault("malformed_json", f"something follows its end, after record {self.records}")
        except _Unfinished:
            raise JsonFault(*self._text.why_unfinished(self.records)) from None
        except json.JSONDecodeError as error:
            raise JsonFault("malformed_json", f"record {self.records} is no JSON: {error.msg}") from None
        except RecursionError:
            raise JsonFault("malformed_json", f"record {self.records} is nested too deeply") from None

    def _array(self) -> Iterator[Any]:
        text = self._text
        if text.need() != "[":
            raise JsonFault("wrong_shape", "expected a list of records")
        text.at += 1
        if text.need() == "]":
            text.at += 1
            return
        while True:
            value = text.value()
            yield value
            self.records += 1
            if not text.separator("]"):
                return

    def _object(self, key: str) -> Iterator[Any]:
        text, found = self._text, False
        if text.need() != "{":
            raise JsonFault("wrong_shape", f"expected an object with a list {key!r}")
        text.at += 1
        if text.need() == "}":
            text.at += 1
        else:
            while True:
                name = text.name()
                if name == key:
                    found = True
                    yield from self._array()
                else:
                    self.header[name] = text.value()
                if not text.separator("}"):
                    break
        if not found:
            raise JsonFault("wrong_shape", f"it has no list {key!r}")


class _Unfinished(Exception):
    """The text ended where more was needed."""


class _Text:
    """The part of the text that is in memory, and the place `at` which it is read."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.text, self.at = "", 0
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._bytes_before = 0
        self._ended = False
        self._bad_byte: int | None = None

    def why_unfinished(self, record: int) -> tuple[str, str]:
        if self._bad_byte is not None:
            return "not_utf8", f"byte {self._bad_byte} (in record {record}) is not UTF-8"
        return "cut_off_json", f"it ends in the middle of record {record}"

    def next(self) -> str:
        """Returns the next character that is no space, or an empty string at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._fill():
                if self._bad_byte is not None:
                    raise _Unfinished
                return ""

    def need(self) -> str:
        """Returns the next character that is no space; raises _Unfinished at the end."""
        found = self.next()
        if not found:
            raise _Unfinished
        return found

    def separator(self, closing: str) -> bool:
        """Goes past a comma (True) or past `closing` (False)."""
        found = self.need()
        if found not in (",", closing):
            raise json.JSONDecodeError(f"expected ',' or '{closing}'", self.text, self.at)
        self.at += 1
        return found == ","

    def name(self) -> str:
        """Reads a key and the colon after it."""
        name = self.value()
        if not isinstance(name, str) or self.need() != ":":
            raise json.JSONDecodeError("expected a key and a colon", self.text, self.at)
        self.at += 1
        return name

    def value(self) -> Any:
        """Reads one value, with as much more of the file as it takes."""
        self.need()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                self._more_or_raise(error)
                continue
            if self.text[end - 1].isdigit() and len(self.text) - end < _EXPONENT and self._fill():
                continue  # the number may go on
            self.at = end
            return value

    def _more_or_raise(self, error: json.JSONDecodeError) -> None:
        at_end = error.pos >= len(self.text) - _TAIL or error.msg.startswith("Unterminated string")
        if not at_end or len(self.text) - self.at > MAX_RECORD_CHARACTERS:
            raise error
        if not self._fill():
            raise _Unfinished

    def _fill(self) -> bool:
        """Reads on; returns whether there was more."""
        if self._ended:
            return False
        data = self._read()
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            if not self._ended:  # at the very end a character is merely cut off
                # The error's object begins with what the decoder had kept back of the chunk before.
                self._bad_byte = self._bytes_before - (len(error.object) - len(data)) + error.start
            self._ended, more = True, error.object[: error.start].decode("utf-8-sig")
        self._bytes_before += len(data)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more) or not self._ended
