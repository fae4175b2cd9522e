"""One JSON value read strictly where possible, and with every leniency named where not.

orjson reads what is valid, in one pass; what it refuses, or what repeats a name, is read again by the standard
library with the leniencies of REPAIRS, each of them counted.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

from tapir.corpus.raw import Repair
from tapir.rows import excerpt

MAX_DEPTH = 64
"""Levels of nesting in one row."""

_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_FOREIGN_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE_PAIR = re.compile("\udced([\udca0-\udcaf])([\udc80-\udcbf])\udced([\udcb0-\udcbf])([\udc80-\udcbf])")
_LONE_SURROGATE = re.compile("\udced[\udca0-\udcbf][\udc80-\udcbf]")
"""Surrogates encoded as if they were characters, as `surrogateescape` shows their bytes."""
_FOREIGN_RUN = re.compile("[\udc80-\udcff]{4,}")


class Unreadable(ValueError):
    """A value that cannot be read even leniently; `reason` is a key of REASONS."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def parse_bytes(data: bytes) -> tuple[Any, tuple[Repair, ...]]:
    """The value in `data`, and what had to be mended to read it.

    Raises:
        Unreadable: it is not JSON, nests too deeply, or gives one name two different values.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        text, repairs = decode(data)
        value, more = parse_leniently(text)
        return value, (*repairs, *more)
    if count_names(value) != data.count(b'":') or _is_rounded(value):
        return parse_leniently(data.decode())
    return value, ()


def decode(data: bytes) -> tuple[str, tuple[Repair, ...]]:
    """UTF-8 text; single bytes that are none are read as Windows-1252, longer runs are refused.

    Raises:
        Unreadable: four or more foreign bytes follow one another, as in text of another encoding.
    """
    return read_foreign_bytes(data.decode("utf-8", "surrogateescape"))


def read_foreign_bytes(text: str) -> tuple[str, tuple[Repair, ...]]:
    """`text` with the bytes that `surrogateescape` has kept read as Windows-1252, or as surrogates where they are some.

    Raises:
        Unreadable: four or more of them follow one another.
    """
    found = _FOREIGN_BYTE.search(text)
    if found is None:
        return text, ()
    near = slice(max(0, found.start() - 20), found.end() + 20)
    before = ascii(text[near].encode("utf-8", "surrogateescape"))
    repairs: list[Repair] = []
    for kind, pattern, character in (
        ("cesu-8", _SURROGATE_PAIR, _paired),
        ("lone-surrogate", _LONE_SURROGATE, lambda _: "\ufffd"),
    ):
        text, count = pattern.subn(character, text)
        if count:
            repairs.append(Repair(kind, before, ascii(text[near])))
    if _FOREIGN_RUN.search(text):
        raise Unreadable("not-utf-8", "holds bytes that are neither UTF-8 nor Windows-1252; save the file as UTF-8")
    mended = _FOREIGN_BYTE.sub(lambda match: windows_1252(ord(match.group()) - 0xDC00), text)
    if mended != text:
        repairs.append(Repair("windows-1252", before, mended[near]))
    return mended, tuple(repairs)


def _paired(match: re.Match[str]) -> str:
    """The character of two surrogates of three bytes each (CESU-8)."""
    return (
        match.group()
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "surrogatepass")
        .encode("utf-16", "surrogatepass")
        .decode("utf-16")
    )


def windows_1252(byte: int) -> str:
    """The character of one byte in Windows-1252; the five bytes without one become U+FFFD."""
    return bytes([byte]).decode("cp1252", "replace")


def parse_leniently(text: str) -> tuple[Any, tuple[Repair, ...]]:
    """The value in `text` with every leniency of REPAIRS.

    Raises:
        Unreadable: as in parse_bytes.
    """
    hooks = _Hooks()
    try:
        value = hooks.loads(text)
    except json.JSONDecodeError as error:
        tidy, commas = drop_trailing_commas(text)
        if not commas:
            raise _broken(error) from error
        try:
            value = hooks.loads(tidy)
        except json.JSONDecodeError:
            raise _broken(error) from error
        hooks.repairs.insert(0, Repair("trailing-comma", excerpt(text[-40:]), excerpt(tidy[-40:])))
    count_names(value)
    return value, tuple(hooks.repairs)


def _broken(error: json.JSONDecodeError) -> Unreadable:
    near = error.doc[max(0, error.pos - 20) : error.pos + 20]
    return Unreadable("broken-json", f"{error.msg} at character {error.pos + 1}, near {near!r}")


def drop_trailing_commas(text: str) -> tuple[str, int]:
    """`text` without the commas that stand before a closing bracket, outside JSON strings, and their number."""
    dropped = 0

    def keep_string(match: re.Match[str]) -> str:
        nonlocal dropped
        if match.group() == ",":
            dropped += 1
            return ""
        return match.group()

    return _STRING_OR_COMMA.sub(keep_string, text), dropped


class _Hooks:
    """The standard library's parser with NaN, raw control characters and repeated names noticed."""

    def __init__(self) -> None:
        self.repairs: list[Repair] = []

    def loads(self, text: str) -> Any:
        """The value in `text`; `repairs` then holds what was odd about it."""
        try:
            return self._loads(text, strict=True)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Invalid control character"):
                raise
            value = self._loads(text, strict=False)
            near = text[max(0, error.pos - 20) : error.pos + 20]
            self.repairs.append(Repair("raw-control-character", repr(near), "read as it stands"))
            return value

    def _loads(self, text: str, *, strict: bool) -> Any:
        self.repairs.clear()
        decoder = json.JSONDecoder(
            strict=strict, parse_constant=self._constant, object_pairs_hook=self._object, parse_float=self._float
        )
        try:
            return decoder.decode(text)
        except RecursionError as error:
            raise too_deep() from error
        except (json.JSONDecodeError, Unreadable):
            raise
        except ValueError as error:  # a number of more digits than Python converts
            raise Unreadable("broken-json", "holds a number of thousands of digits") from error

    def _constant(self, name: str) -> None:
        self.repairs.append(Repair("nan-to-null", name, "null"))

    def _float(self, text: str) -> float | None:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self.repairs.append(Repair("nan-to-null", excerpt(text), "null"))
            return None
        return value

    def _object(self, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            for name, item in pairs:
                if value[name] != item:
                    raise Unreadable("duplicate-keys", f"gives {excerpt(name)!r} two different values")
            self.repairs.append(Repair("duplicate-keys", ", ".join(name for name, _ in pairs), ", ".join(value)))
        return value


def _is_rounded(value: Any) -> bool:
    """Whether a field may be a whole number that is too long for orjson, which rounds it."""
    return type(value) is dict and any(type(item) is float and abs(item) >= 2**53 for item in value.values())


def too_deep() -> Unreadable:
    """The refusal of a value that nests too deeply."""
    return Unreadable("too-deep", f"nests deeper than {MAX_DEPTH} levels")


def count_names(value: Any, depth: int = 0) -> int:
    """Names in all the objects of a value.

    Raises:
        Unreadable: it nests deeper than MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise too_deep()
    if type(value) is dict:
        names = len(value)
        for item in value.values():
            if type(item) is dict or type(item) is list:
                names += count_names(item, depth + 1)
        return names
    if type(value) is list:
        return sum(count_names(item, depth + 1) for item in value if type(item) is dict or type(item) is list)
    return 0
