"""From a raw row to an example: repairs that are counted, refusals that say why. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tapir.corpus.json_value import Unreadable, windows_1252
from tapir.corpus.raw import Bad, Raw, Repair, is_blank, printable, refused
from tapir.corpus.shape import JOINT, LINEAGE_COLUMNS, Shape, Shaped, canonical, shape_of
from tapir.corpus.traps import find_trap, media_token, mend_input, mend_response, response_trap
from tapir.rows import Example, Lineage, Message, Refused, example, excerpt, turns_id

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_C1 = re.compile("[\x80-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Cleaning:
    """What a row is measured against."""

    max_chars: int = 100_000
    """Longest accepted row: its turns and its response together."""
    license: str | None = None
    """The licence of rows that name none."""


class Cleaned(msgspec.Struct, frozen=True):
    """What became of one raw row."""

    row: Example | Refused
    repairs: tuple[Repair, ...] = ()
    """What was changed; empty for a row that is refused."""
    shape: Shape | None = None


def clean(raw: Raw | Bad, cleaning: Cleaning) -> Cleaned:
    """The example in a raw row, or its refusal.

    Texts keep their characters, their Unicode form and their inner white space, but for the repairs of REPAIRS.
    """
    if isinstance(raw, Bad):
        return Cleaned(refused(raw, raw.reason, raw.detail, raw.text))
    repairs = list(raw.repairs)
    try:
        shaped = shape_of(raw.fields, repairs)
    except Unreadable as error:
        return Cleaned(refused(raw, error.reason, error.detail, _first_text(raw.fields)))
    size = len(shaped.instruction) + len(shaped.input) + len(shaped.response) + sum(len(t.text) for t in shaped.before)
    if size > cleaning.max_chars:
        detail = f"has {size} characters, more than the {cleaning.max_chars} of corpus.max_chars"
        return Cleaned(refused(raw, "too-long", detail, shaped.instruction), shape=shaped.shape)
    return _sound(raw, shaped, repairs, cleaning)


def _sound(raw: Raw, shaped: Shaped, repairs: list[Repair], cleaning: Cleaning) -> Cleaned:
    before = [Message(role=turn.role, content=text(turn.text, repairs)) for turn in shaped.before]
    instruction = text(shaped.instruction, repairs)
    given = text(shaped.input, repairs)
    response = text(shaped.response, repairs)
    if not instruction and given:
        instruction, given = given, ""
    if not instruction:
        return _refuse(raw, shaped, "empty-instruction", "the instruction is empty", response)
    if not response:
        return _refuse(raw, shaped, "empty-response", "the response is empty", instruction)
    had_placeholder = False
    if given:
        given, repair = mend_input(instruction, given)
        if repair:
            repairs.append(repair)
            had_placeholder = not given
    response, more = mend_response(response)
    repairs += more
    if any(not turn.content for turn in before):
        return _refuse(raw, shaped, "empty-turn", "an earlier turn is empty", instruction)
    if not response:
        return _refuse(raw, shaped, "placeholder-response", "nothing is left of the response", instruction)
    is_single = not any(turn.role != "system" for turn in before)
    judge = find_trap if is_single else response_trap
    asked = instruction + JOINT + given if given else instruction
    turns = (*before, Message(role="user", content=asked))
    trap = judge(instruction, given, response, had_placeholder=had_placeholder) or media_token(turns)
    if trap:
        detail = f"{raw.file}, {raw.place}: {trap.detail}"
        row = Refused(id=turns_id(turns), reason=trap.reason, detail=printable(detail), text=excerpt(asked))
        return Cleaned(row, shape=shaped.shape)
    return Cleaned(example(turns, response, _lineage(raw, cleaning)), tuple(repairs), shaped.shape)


def _refuse(raw: Raw, shaped: Shaped, reason: str, detail: str, shown: str) -> Cleaned:
    return Cleaned(refused(raw, reason, detail, shown), shape=shaped.shape)


def text(value: str, repairs: list[Repair]) -> str:
    """A text as it is kept; appends to `repairs` what was changed.

    Line ends become LF, control characters but tab and LF go, C1 controls become what Windows-1252 means by them, lone
    surrogates become U+FFFD, byte order marks and outer white space go, and so does a text of nothing visible.
    """
    odd = _ODD.search(value)
    if odd is not None:
        value = _mend(value, odd.start(), repairs)
    stripped = "" if is_blank(value) else value.strip()
    if stripped != value:
        repairs.append(Repair("outer-whitespace", excerpt(repr(value)), excerpt(repr(stripped))))
    return stripped


def _mend(value: str, first: int, repairs: list[Repair]) -> str:
    near = slice(max(0, first - 20), first + 40)
    for kind, mender in _MENDERS.items():
        mended = mender(value)
        if mended != value:
            repairs.append(Repair(kind, ascii(value[near]), ascii(mended[near])))
            value = mended
    return value


_MENDERS: Mapping[str, Callable[[str], str]] = {
    "line-endings": lambda value: value.replace("\r\n", "\n").replace("\r", "\n"),
    "lone-surrogate": lambda value: _SURROGATE.sub("\ufffd", value),
    "windows-1252": lambda value: _C1.sub(lambda match: windows_1252(ord(match.group())), value),
    "control-characters": lambda value: _CONTROL.sub("", value),
    "byte-order-mark": lambda value: value.replace("\ufeff", ""),
}
"""Kinds of repair of single characters, in the order in which they are made."""


def _lineage(raw: Raw, cleaning: Cleaning) -> Lineage:
    """Where the row says that it came from; the file where it says nothing."""
    fields = canonical(raw.fields)

    def named(column: str) -> str | None:
        for name in LINEAGE_COLUMNS[column]:
            value = fields.get(name)
            if isinstance(value, str) and value.strip():
                return printable(value.strip())
        return None

    round_ = fields.get("round")
    parents = fields.get("parents")
    return Lineage(
        source=named("source") or printable(raw.file),
        license=named("license") or cleaning.license,
        round=round_ if type(round_) is int and round_ >= 0 else 0,
        parents=tuple(item for item in parents if isinstance(item, str)) if isinstance(parents, list) else (),
        teacher=named("teacher"),
        prompt=named("prompt"),
    )


def _first_text(fields: Mapping[str, Any]) -> str:
    """Something of a row to show a reader."""
    return next((value for value in fields.values() if isinstance(value, str) and value.strip()), repr(dict(fields)))
