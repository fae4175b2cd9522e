"""Rows of JSON Lines and of JSON documents, streamed: at no time is more than one row in memory."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from tapir.corpus.json_value import (
    Unreadable,
    count_names,
    parse_bytes,
    parse_leniently,
    read_foreign_bytes,
)
from tapir.corpus.raw import Bad, Raw, Repair
from tapir.corpus.source import Opened
from tapir.errors import DataError
from tapir.rows import excerpt

WRAPPERS = ("data", "rows", "examples", "instances", "items", "records", "dataset", "samples", "results")
"""Names under which a JSON object may hold the list of rows."""
SPLITS = ("train", "test", "validation", "valid", "val", "dev")
_SPACE = re.compile(r"[ \t\r\n\x00]*")
_MARK = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_FOREIGN = re.compile("[\udc80-\udcff]")
_WINDOW = 1 << 18


def lines(opened: Opened, row_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without white space around them; None for one longer than `row_bytes`, which is skipped."""
    number = 0
    stream = opened.stream
    while line := stream.readline(row_bytes + 1):
        number += 1
        if len(line) > row_bytes and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(row_bytes)
            yield number, None
        elif stripped := line.strip():
            yield number, stripped


def read_json_lines(opened: Opened, row_bytes: int) -> Iterator[Raw | Bad]:
    """One row a line; a broken line costs only itself."""
    name = opened.file.name
    for number, line in lines(opened, row_bytes):
        place = f"line {number}"
        if line is None:
            yield too_long(name, place, row_bytes)
            continue
        try:
            yield _line_row(name, place, line)
        except Unreadable as error:
            text = line[:2000].decode("utf-8", "replace")
            yield Bad(name, place, error.reason, error.detail, excerpt(text))


def too_long(name: str, place: str, row_bytes: int) -> Bad:
    """The refusal of a row that was skipped unread."""
    return Bad(name, place, "too-long", f"is longer than {row_bytes} bytes")


def _line_row(name: str, place: str, line: bytes) -> Raw:
    repairs: tuple[Repair, ...] = ()
    if line.startswith(b"\x00") or line.endswith(b"\x00"):
        line = line.strip(b"\x00 \t\r\n")
        if not line:
            raise Unreadable("nul-bytes", "holds nothing but NUL bytes, as after a crash; the row is lost")
        repairs = (Repair("control-characters", "NUL bytes around the row", ""),)
    if line.endswith(b"},"):
        line = line[:-1]
        repairs = (*repairs, Repair("trailing-comma", "},", "}"))
    value, more = parse_bytes(line)
    return _row(name, place, value, (*repairs, *more))


def _row(name: str, place: str, value: Any, repairs: tuple[Repair, ...]) -> Raw:
    if type(value) is not dict:
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        raise Unreadable("wrong-type", f"is {kind}, not an object with named fields")
    return Raw(name, place, value, repairs)


class _Window:
    """A moving window on a JSON document."""

    def __init__(self, opened: Opened, row_bytes: int) -> None:
        self._opened = opened
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._decoder = json.JSONDecoder()
        self._limit = row_bytes
        self._text = ""
        self._at = 0
        self._passed = 0
        self._at_end = False

    @property
    def position(self) -> int:
        """Characters before the window's current one, from 1."""
        return self._passed + self._at + 1

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._at_end:
            return False
        data = self._opened.stream.read(max(_WINDOW, len(self._text) - self._at))
        self._at_end = not data
        self._passed += self._at
        self._text = self._text[self._at :] + self._decode(data, final=self._at_end)
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self) -> str:
        """Pass over the next character that is not white space."""
        character = self.peek()
        self._at += len(character)
        return character

    def value(self) -> tuple[Any, tuple[Repair, ...]]:
        """The next value; afterwards the window stands behind it, even if it could not be read.

        Raises:
            Unreadable: it could not be read, but its end was found.
            EOFError: the file ends inside it.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 10
                if is_cut and len(self._text) - self._at <= self._limit and self._more():
                    continue
                return self._lenient(self._raw_value())
            except (RecursionError, ValueError):
                return self._lenient(self._raw_value())
            if end == len(self._text) and type(value) in (int, float) and self._more():
                continue
            text, self._at = self._text[self._at : end], end
            if len(text) > self._limit:
                raise Unreadable("too-long", f"is longer than {self._limit} bytes")
            return (value, ()) if _is_plain(value, text) else self._lenient(text)

    @staticmethod
    def _lenient(text: str) -> tuple[Any, tuple[Repair, ...]]:
        mended, repairs = read_foreign_bytes(text)
        value, more = parse_leniently(mended)
        return value, (*repairs, *more)

    def _raw_value(self) -> str:
        """The text of the next object or list up to its closing bracket, whatever is wrong inside."""
        if self.peek() not in ("{", "["):
            raise DataError(
                f"{self._opened.file.path}: is not valid JSON at character {self.position}, near "
                f"{excerpt(self._text[self._at : self._at + 20])!r}; mend it, or save it as JSON Lines"
            )
        parts: list[str] = []
        size = depth = 0
        in_string = False
        while True:
            end = self._at
            for mark in _MARK.finditer(self._text, self._at):
                character, end = mark.group(), mark.end()
                if character == '"':
                    in_string = not in_string
                elif not in_string and len(character) == 1:
                    depth += 1 if character in "{[" else -1
                    if depth == 0:
                        break
            is_whole = end > self._at and depth == 0
            if not is_whole:  # an escape on the edge of the window is left for the next one
                end = len(self._text) - (end < len(self._text) and self._text.endswith("\\"))
            size += end - self._at
            if size <= self._limit:
                parts.append(self._text[self._at : end])
            self._at = end
            if is_whole:
                break
            if not self._more():
                raise EOFError
        if size > self._limit:
            raise Unreadable("too-long", f"is longer than {self._limit} bytes")
        return "".join(parts)


def _is_plain(value: Any, text: str) -> bool:
    """Whether a value needs no second look: UTF-8, finite numbers, no name twice."""
    if count_names(value) != text.count('":') or "NaN" in text or "Infinity" in text:
        return False
    return text.isascii() or _FOREIGN.search(text) is None


def read_json_document(opened: Opened, row_bytes: int, split: str) -> Iterator[Raw | Bad]:
    """The rows of an array, of the list inside an object, or of objects that follow one another.

    Raises:
        DataError: the document ends too early or is broken in a way that hides where the next row begins.
    """
    window = _Window(opened, row_bytes)
    reader = _Document(opened, window, split)
    try:
        yield from reader.rows()
    except EOFError as error:
        raise DataError(
            f"{opened.file.path}: the JSON ends early, after {reader.count} whole rows (a bracket or a quote is "
            "never closed); fetch the file again, or save it as JSON Lines, where a broken row costs only itself"
        ) from error


class _Document:
    """The walk over one document."""

    def __init__(self, opened: Opened, window: _Window, split: str) -> None:
        self._opened = opened
        self._window = window
        self._split = split
        self.count = 0
        """Rows seen so far."""

    def rows(self) -> Iterator[Raw | Bad]:
        while character := self._window.peek():
            if character == "[":
                yield from self._array()
            elif character == "{":
                yield from self._object()
            else:
                raise self._lost("a row or the end of the file")

    def _array(self) -> Iterator[Raw | Bad]:
        window = self._window
        repairs: tuple[Repair, ...] = ()
        window.take()
        if window.peek() == "]":
            window.take()
            return
        while True:
            yield self._element(repairs)
            repairs = ()
            character = window.peek()
            if character == ",":
                window.take()
                if window.peek() == "]":
                    self._opened.notes = (*self._opened.notes, Repair("trailing-comma", ",]", "]"))
                    window.take()
                    return
            elif character == "]":
                window.take()
                return
            elif character == "{":
                repairs = (Repair("missing-comma", "} {", "}, {"),)
            elif not character:
                raise EOFError
            else:
                raise self._lost("a comma or the end of the list")

    def _element(self, repairs: tuple[Repair, ...]) -> Raw | Bad:
        self.count += 1
        name, place = self._opened.file.name, f"row {self.count}"
        try:
            value, more = self._window.value()
            return _row(name, place, value, (*repairs, *more))
        except Unreadable as error:
            return Bad(name, place, error.reason, error.detail)

    def _object(self) -> Iterator[Raw | Bad]:
        """A row of its own, or an object around lists of rows."""
        window = self._window
        window.take()
        fields: dict[str, Any] = {}
        repairs: tuple[Repair, ...] = ()
        wrong: Unreadable | None = None
        is_wrapper = False
        while (character := window.peek()) != "}":
            if character == ",":
                window.take()
                continue
            if character != '"':
                raise self._lost("a name in quotes")
            key = window.value()[0]
            if window.take() != ":":
                raise self._lost("a colon")
            if key in (*WRAPPERS, *SPLITS) and window.peek() == "[":
                is_wrapper = True
                yield from self._list(key)
                continue
            try:
                value, more = window.value()
            except Unreadable as error:
                wrong = error
                continue
            if fields.setdefault(key, value) != value:
                wrong = Unreadable("duplicate-keys", f"gives {excerpt(key)!r} two different values")
            repairs += more
        window.take()
        if not is_wrapper:
            self.count += 1
            name, place = self._opened.file.name, f"row {self.count}"
            yield Bad(name, place, wrong.reason, wrong.detail) if wrong else Raw(name, place, fields, repairs)

    def _list(self, key: str) -> Iterator[Raw | Bad]:
        rows = self._array()
        if key not in SPLITS or key == self._split:
            yield from rows
            return
        before = self.count
        for _ in rows:
            pass
        note = Repair("skipped-split", f"{self._opened.file.name}: {self.count - before} rows of {key!r}", "")
        self.count = before
        self._opened.notes = (*self._opened.notes, note)

    def _lost(self, wanted: str) -> DataError | EOFError:
        if not self._window.peek():
            return EOFError()
        return DataError(
            f"{self._opened.file.path}: is not valid JSON after row {self.count}: expected {wanted} at character "
            f"{self._window.position}, found {self._window.peek()!r}; mend it, or save it as JSON Lines, "
            "where a broken row costs only itself"
        )
