"""The fence: texts of others inside a prompt, between delimiters that no such text can contain."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from itertools import count
from typing import NamedTuple
from unicodedata import category, normalize

from tapir.rows import Message

KEY_DIGITS = 12
_LABEL = re.compile(r"[A-Z0-9]+(?: [A-Z0-9]+)*")
_NO_LETTER = re.compile(r"[\W_]+")

FENCE_LINE = re.compile(rf"<<<[A-Z0-9 ]+ #[0-9a-f]{{{KEY_DIGITS}}}|#[0-9a-f]{{{KEY_DIGITS}}}>>>")
"""What an opening or closing delimiter looks like, whatever its key: no reply has reason to hold one."""


class Piece(NamedTuple):
    """A text of somebody else's, and the name that the prompt gives it."""

    label: str
    """Capital letters, digits and single spaces."""
    text: str


def conversation(turns: Sequence[Message], prefix: str = "") -> list[Piece]:
    """The turns of a conversation, each a piece of its own named after its role."""
    return [Piece(f"{prefix}{turn.role.upper()}", turn.content) for turn in turns]


def fence_key(pieces: Sequence[Piece], salt: str = "") -> str:
    """The key of the fences around `pieces`: 12 hexadecimal digits that none of the texts contains.

    A digest of `salt` and all the texts, so that the same prompt always has the same key, and a text that contains the
    key of some other prompt, or of the same prompt with another text in it, does not contain this one. Where it does
    after all, in whatever case, width or spacing, the next digest is taken.
    """
    reduced = [_NO_LETTER.sub("", plain_form(piece.text)) for piece in pieces]
    for number in count():
        state = blake2b(f"{number}\x00{salt}\x00".encode(), digest_size=KEY_DIGITS // 2)
        for piece in pieces:
            text = piece.text.encode("utf-8", "surrogatepass")
            state.update(f"{piece.label}\x00{len(text)}\x00".encode())
            state.update(text)
        key = state.hexdigest()
        if not any(key in text for text in reduced):
            return key
    raise AssertionError("count() does not end")


def fenced(piece: Piece, key: str) -> str:
    """The text, unaltered, between `<<<LABEL #key` and `LABEL #key>>>`, each on a line of its own.

    Raises:
        ValueError: the label is not made of capital letters, digits and single spaces.
    """
    if not _LABEL.fullmatch(piece.label):
        raise ValueError(f"fence label {piece.label!r}: use capital letters, digits and single spaces")
    return f"<<<{piece.label} #{key}\n{piece.text}\n{piece.label} #{key}>>>"


def plain_form(text: str) -> str:
    """`text` as a careless reader sees it: one case and width, every dash a hyphen, no accents or invisible signs."""
    return text.casefold() if text.isascii() else text.translate(_PLAIN)


class _PlainForms(dict[int, str]):
    """What each character becomes, worked out when it is first met.

    Character by character, because normalising a whole text takes quadratic time in the length of a run of accents.
    """

    def __missing__(self, code: int) -> str:
        self[code] = "".join(map(_plain_character, normalize("NFKC", chr(code)))).casefold()
        return self[code]


_PLAIN = _PlainForms()
_HANGUL_FILLERS = "\u115f\u1160"


def _plain_character(character: str) -> str:
    kind = category(character)
    if kind in ("Cf", "Mn", "Me") or character in _HANGUL_FILLERS:
        return ""
    return "-" if kind == "Pd" or character == "\u2212" else character
