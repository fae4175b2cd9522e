"""What a prompt is: a versioned value with a digest, filled in one pass; and what its parsers have in common."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, NoReturn

from tapir.errors import OracleError
from tapir.prompts.fence import Piece, fence_key, fenced
from tapir.rows import Message, Turns

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_KEY = "key"
_NOTHING = "(none)"
_NO_WORDS: Mapping[str, str] = {}


class Unreadable(OracleError):
    """A reply is not in the form that the prompt asked for. Asking again is a policy; guessing is not.

    `reason` is a short fixed kind (`no-verdict`, `out-of-range`, ...); the message says more.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason


@dataclass(frozen=True)
class Prompt:
    """The text sent to an oracle, with placeholders `{name}` for what changes from row to row.

    Only declared placeholders are filled, in one pass: braces in a text that is filled in mean nothing. `{key}` is
    always filled with the key of the fences. A change of the template, or of how its replies are read, is a new
    version.

    Raises:
        ValueError: the template's placeholders are not the declared ones.
    """

    name: str
    version: int
    template: str
    words: tuple[str, ...] = ()
    """Placeholders for words of ours: a task's name, a number. They stand in the prompt as they are."""
    data: tuple[str, ...] = ()
    """Placeholders for texts of others: they are fenced."""
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    """JSON schema of the reply, where the prompt asks for JSON."""

    def __post_init__(self) -> None:
        found = set(_PLACEHOLDER.findall(self.template))
        declared = {*self.words, *self.data}
        if found - {_KEY} != declared or _KEY in declared:
            raise ValueError(f"prompt {self.name}: placeholders {sorted(found)}, declared are {sorted(declared)}")

    @cached_property
    def digest(self) -> str:
        """Digest of everything that makes the prompt (24 hexadecimal digits)."""
        parts = [self.name, self.version, self.template, self.words, self.data, self.schema]
        return blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()

    def fill(self, data: Mapping[str, Sequence[Piece]], words: Mapping[str, str] = _NO_WORDS) -> str:
        """The text for one row. Different data give different texts; a placeholder without pieces says `(none)`.

        Raises:
            ValueError: other placeholders are given than declared.
        """
        if set(data) != set(self.data) or set(words) != set(self.words):
            given = sorted({*data, *words})
            raise ValueError(f"prompt {self.name}: given {given}, wanted {sorted({*self.words, *self.data})}")
        key = fence_key([piece for name in self.data for piece in data[name]], self.digest)
        values = {**words, _KEY: key}
        for name, pieces in data.items():
            values[name] = "\n".join(fenced(piece, key) for piece in pieces) or _NOTHING
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.template)

    def messages(self, data: Mapping[str, Sequence[Piece]], words: Mapping[str, str] = _NO_WORDS) -> Turns:
        """The filled prompt as one user turn: chat templates without a system role take it too."""
        return (Message(role="user", content=self.fill(data, words)),)


@dataclass(frozen=True)
class Question:
    """One question in two prompts: for servers that hold a reply to a JSON schema, and for all others.

    Its parser reads both replies.
    """

    text: Prompt
    structured: Prompt

    def prompt(self, *, is_structured: bool) -> Prompt:
        """The prompt to send."""
        return self.structured if is_structured else self.text

    @property
    def digests(self) -> dict[str, str]:
        """Both prompts' digests by name."""
        return {prompt.name: prompt.digest for prompt in (self.text, self.structured)}


def question(
    name: str,
    version: int,
    body: str,
    *,
    text_form: str,
    json_form: str,
    schema: Mapping[str, Any],
    words: tuple[str, ...] = (),
    data: tuple[str, ...],
) -> Question:
    """A question whose two prompts differ only in the form of the reply that they ask for."""
    return Question(
        text=Prompt(name, version, f"{body}\n\n{text_form}", words, data),
        structured=Prompt(f"{name}-json", version, f"{body}\n\n{json_form}", words, data, schema),
    )


# ---- what the parsers share

_S = r"\s{0,9}"  # bounded, because two unbounded runs of white space side by side take quadratic time
_THINK = r"think|thinking|thoughts?"
_OTHER_MARKS = r"\[(?P<y>/?)THINK\]|◁(?P<z>/?)think▷|<\|(?:begin|(?P<w>end))_of_thought\|>"
_THINKING = re.compile(rf"<{_S}(?P<x>/?){_S}(?:{_THINK}){_S}>|{_OTHER_MARKS}", re.IGNORECASE)
_REASONING = re.compile(
    rf"<{_S}(?P<x>/?){_S}(?:[a-z]{{1,12}}:)?"
    rf"(?:{_THINK}|reason|reasoning|reflection|analysis|deliberation|scratch[-_ ]?pad|cot|chain[-_ ]of[-_ ]thoughts?"
    r"|think(?:ing)?[-_ ]process|(?:inner|internal)[-_ ]thoughts?|(?:(?:inner|internal)[-_ ])?monologue)"
    rf"(?:\s[^<>]{{0,200}})?/?>|{_OTHER_MARKS}|<\|(?:think|thinking|channel)\|>",
    re.IGNORECASE,
)


class Number(str):
    """A JSON number, as it was written."""

    __slots__ = ()


def without_reasoning(text: str, *, is_free: bool = False) -> str:
    """The reply without what the model thought before it, white space around it removed.

    A reply may start with one closed block of reasoning (`<think>...</think>`; also thinking, thought, reasoning,
    reflection, analysis, scratchpad, chain_of_thought and their like, `[THINK]`, `◁think▷`), or hold one closing tag
    whose opening one the chat template had supplied. Any other reasoning tag in it is refused. `is_free`: a reply whose
    text is free, and may talk of such tags: only think tags count, and only at its beginning.

    Raises:
        Unreadable: `reasoning-tags`.
    """
    text = text.strip()
    tags = list((_THINKING if is_free else _REASONING).finditer(text))
    if not tags or (is_free and not _is_closing(tags[0]) and tags[0].start() > 0):
        return text
    if _is_closing(tags[0]):
        end, rest = tags[0].end(), tags[1:]
    elif len(tags) > 1 and tags[0].start() == 0 and _is_closing(tags[1]):
        end, rest = tags[1].end(), tags[2:]
    else:
        raise Unreadable("reasoning-tags", "a reasoning block is not closed, or is not at the beginning")
    if rest and not is_free:
        raise Unreadable("reasoning-tags", "there is more than one reasoning block")
    return text[end:].strip()


def _is_closing(tag: re.Match[str]) -> bool:
    return any(tag[name] for name in "xyzw")


def read_object(text: str, names: Sequence[str]) -> dict[str, Any]:
    """The JSON object that is the whole of `text`, with exactly these names, each once; numbers as `Number`.

    Raises:
        Unreadable: `bad-json` or `wrong-fields`.
    """
    try:
        value = json.loads(
            text, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable("bad-json", f"the reply is not one JSON object: {error}") from None
    if not isinstance(value, dict) or set(value) != set(names):
        raise Unreadable("wrong-fields", f"the reply is not an object with exactly the fields {', '.join(names)}")
    return value


def object_schema(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice")
    return found
