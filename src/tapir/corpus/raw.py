"""What comes out of a data file before it is understood: raw rows, broken rows, and what was mended on the way.

The one home of every reason to refuse a corpus row and of every kind of repair.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from unicodedata import category

import msgspec

from tapir.rows import Refused, excerpt

REASONS: Mapping[str, str] = {
    "broken-json": "the row is not valid JSON",
    "broken-csv": "the row is not valid CSV",
    "duplicate-keys": "one JSON object gives two different values for one name",
    "too-deep": "the row nests deeper than any data set needs",
    "too-long": "the row is longer than the longest accepted one",
    "not-utf-8": "the bytes are no text in a known encoding",
    "nul-bytes": "the line holds nothing but NUL bytes",
    "wrong-type": "a field, or the row itself, has a type that holds no text",
    "wrong-columns": "the row has another number of fields than the header",
    "unknown-shape": "no known column holds an instruction",
    "ambiguous-columns": "two columns could be the instruction, or the response, and they differ",
    "unknown-role": "a turn is by nobody known",
    "tool-turns": "the conversation calls tools",
    "turn-order": "the turns are in an order that no chat has",
    "no-instruction": "nobody asks anything",
    "no-response": "nobody answers",
    "empty-instruction": "the instruction is empty",
    "empty-response": "the response is empty",
    "empty-turn": "a turn inside the conversation is empty",
    "placeholder-instruction": "the instruction stands for one that was never written",
    "placeholder-response": "the response stands for one that was never written",
    "media-response": "the response stands for an image, a sound or a file",
    "unable-response": "the response says that a language model cannot do this",
    "missing-media": "the instruction is about an image, a sound or a document that is not there",
    "missing-link": "the instruction is about what a link leads to",
    "duplicate": "an earlier row has the same instruction",
    "near-duplicate": "an earlier row has nearly the same instruction",
    "contaminated": "the row shares text with an evaluation item",
}
"""Every reason for which a corpus row is refused."""

REPAIRS: Mapping[str, str] = {
    "byte-order-mark": "a byte order mark was removed",
    "utf-16": "the file was read as UTF-16",
    "utf-32": "the file was read as UTF-32",
    "misnamed": "the file's name promises another format than it holds",
    "windows-1252": "bytes that are not UTF-8 were read as Windows-1252",
    "lone-surrogate": "half a surrogate pair became U+FFFD",
    "cesu-8": "a character written as two surrogates of three bytes each was read",
    "control-characters": "control characters were removed",
    "line-endings": "CRLF and CR became LF",
    "outer-whitespace": "white space around a text was removed, or a text of nothing visible",
    "nan-to-null": "NaN or Infinity was read as no value",
    "trailing-comma": "a comma before a closing bracket, or after a row, was ignored",
    "missing-comma": "a missing comma between two rows was supplied",
    "raw-control-character": "a line break or another control character stood unescaped inside a JSON text",
    "duplicate-keys": "one JSON object gives the same value twice for one name",
    "number-as-text": "a number was read as text",
    "bytes-as-text": "bytes were read as UTF-8 text",
    "single-item-list": "a list of one text was read as that text",
    "json-in-text": "a conversation written as JSON inside a text was read",
    "placeholder-input": "an input that says that there is none was removed",
    "placeholder-line": "a line that says that there is no input was removed",
    "merged-instruction": "a second instruction at the end of the response was cut off",
    "unanswered-turn": "turns after the last response were cut off",
    "empty-system": "a system turn without text was removed",
    "leading-response": "turns before the first instruction were cut off",
    "joined-turns": "neighbouring turns of one speaker were joined",
    "skipped-file": "a file of the directory was not read",
    "skipped-split": "rows of another split were not read",
}
"""Every kind of repair, in the past tense: all are counted, none changes what a text says."""


class Repair(msgspec.Struct, frozen=True):
    """One change made to a row or a file so that it can be used."""

    kind: str
    """A key of REPAIRS."""
    before: str
    after: str


class Raw(msgspec.Struct, frozen=True):
    """A row as the file has it: names and values, not understood yet."""

    file: str
    """The file's name, relative to what was asked for."""
    place: str
    """Where in the file, counted from 1: `line 12` or `row 12`."""
    fields: Mapping[str, Any]
    repairs: tuple[Repair, ...] = ()


class Bad(msgspec.Struct, frozen=True):
    """A row that could not even be read."""

    file: str
    place: str
    reason: str
    """A key of REASONS."""
    detail: str
    text: str = ""


def place_id(file: str, place: str) -> str:
    """The id of a row that has no turns to take one from: a digest of where it stands."""
    return blake2b(f"{file}\x00{place}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def refused(row: Raw | Bad, reason: str, detail: str, text: str) -> Refused:
    """The refusal of a row that has no id of its own yet."""
    return Refused(
        id=place_id(row.file, row.place),
        reason=reason,
        detail=f"{row.file}, {row.place}: {detail}",
        text=excerpt(printable(text)),
    )


_BLANKS = frozenset("\u2800\u3164\u115f\u1160\uffa0")
"""Signs that show nothing, though Unicode counts them among letters and symbols."""


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: white space, invisible signs, or no character at all."""
    return all(sign.isspace() or sign in _BLANKS or category(sign) in ("Cc", "Cf") for sign in text)


def printable(text: str) -> str:
    """`text` as it may be stored and shown: lone surrogates and NUL become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
