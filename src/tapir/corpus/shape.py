"""Which of a row's columns hold the instruction, the response and the turns before: three shapes of row, many names."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import orjson

from tapir.corpus.json_value import Unreadable
from tapir.corpus.raw import Repair, is_blank
from tapir.rows import excerpt

Shape = Literal["alpaca", "messages", "sharegpt"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt", "question", "query", "problem", "inputs"),
    "input": ("input", "context"),
    "response": ("output", "response", "completion", "answer", "solution", "targets"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "conversation": ("messages", "conversations", "conversation"),
}
"""The names that a column may have, the strongest first; upper and lower case are the same."""
LINEAGE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "dataset"),
    "license": ("license", "licence"),
    "teacher": ("teacher", "model", "generator"),
    "round": ("round",),
    "parents": ("parents",),
    "prompt": ("prompt_digest",),
    "id": ("id",),
}
"""The names of columns that say where a row came from."""
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
"""Who speaks, under the names that data sets give them."""
TOOL_ROLES = frozenset({"tool", "function", "function_call", "tool_call", "observation", "ipython"})
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
"""The types of parts of a content that are text."""
JOINT = "\n\n"
"""Between an instruction and its input, and between neighbouring turns of one speaker."""

_KNOWN = frozenset(name for names in (*COLUMNS.values(), *LINEAGE_COLUMNS.values()) for name in names)


class Turn(msgspec.Struct, frozen=True):
    """One turn, as the file has it."""

    role: Literal["system", "user", "assistant"]
    text: str


class Shaped(msgspec.Struct, frozen=True):
    """A row understood: what is asked, on what, and what is answered."""

    shape: Shape
    before: tuple[Turn, ...]
    """System turns and earlier exchanges."""
    instruction: str
    input: str
    """The instruction's own input; "" where the row's shape has none."""
    response: str


def canonical(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """`fields` with known column names in lower case, whatever the file writes."""
    if _KNOWN.issuperset(fields):
        return fields
    named = dict(fields)
    for name in fields:
        lower = str(name).strip().lower()
        if lower != name and lower in _KNOWN and lower not in named:
            named[lower] = named.pop(name)
    return named


def is_row_shape(names: Iterable[Any]) -> bool:
    """Whether columns of these names can hold instructions and responses."""
    known = canonical(dict.fromkeys(names))
    if any(name in known for name in COLUMNS["conversation"]):
        return True
    has_instruction = any(name in known for name in (*COLUMNS["instruction"], "input"))
    return has_instruction and any(name in known for name in COLUMNS["response"])


def wanted_columns(names: Sequence[str], extra: Sequence[str] = ()) -> list[str]:
    """Of a table's columns, those that are of use, and those in `extra`, in their order."""
    return [name for name in names if name.strip().lower() in _KNOWN or name in extra]


def as_text(value: Any, name: str, repairs: list[Repair]) -> str:
    """The text of a field; nothing for null, NaN and absent values.

    Raises:
        Unreadable: it has a type that holds no text.
    """
    if type(value) is str:
        return value
    if value is None:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        repairs.append(Repair("nan-to-null", f"{name}: {value}", ""))
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        repairs.append(Repair("number-as-text", f"{name}: {value!r}", repr(str(value))))
        return str(value)
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise Unreadable("not-utf-8", f"{name} holds bytes that are not UTF-8") from error
        repairs.append(Repair("bytes-as-text", excerpt(repr(value)), excerpt(text)))
        return text
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        repairs.append(Repair("single-item-list", excerpt(repr(value)), excerpt(value[0])))
        return value[0]
    raise Unreadable("wrong-type", f"{name} is {_type_name(value)}, not a text")


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def shape_of(fields: Mapping[str, Any], repairs: list[Repair]) -> Shaped:
    """The instruction and the response in a row's fields; appends to `repairs`.

    Raises:
        Unreadable: no known columns, wrong types, or turns in an order that no chat has.
    """
    fields = canonical(fields)
    for name in COLUMNS["conversation"]:
        value = fields.get(name)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            system = as_text(_first(fields, COLUMNS["system"]), "system", repairs)
            return _conversation(name, _listed(value, name, repairs), system, repairs)
    if isinstance(fields.get("prompt"), list) and isinstance(fields.get("completion"), list):
        return _conversation("prompt", [*fields["prompt"], *fields["completion"]], "", repairs)
    return _alpaca(fields, repairs)


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), None)


def _alpaca(fields: Mapping[str, Any], repairs: list[Repair]) -> Shaped:
    asks = [name for name in COLUMNS["instruction"] if name in fields]
    answers = [name for name in COLUMNS["response"] if name in fields]
    inputs: Sequence[str] = COLUMNS["input"]
    if not asks and "input" in fields:
        asks, inputs = ["input"], ("context",)
    if not asks or not answers:
        found = ", ".join(repr(excerpt(str(name))) for name in list(fields)[:12]) or "nothing"
        missing = "instruction" if not asks else "response"
        raise Unreadable("unknown-shape", f"no {missing} in its columns; found {found}")
    instruction = _one(fields, asks, repairs)
    response = _one(fields, answers, repairs)
    system = as_text(_first(fields, COLUMNS["system"]), "system", repairs)
    before = [Turn("system", system)] if system.strip() else []
    before += _history(fields.get("history"), repairs)
    given = as_text(_first(fields, inputs), "input", repairs)
    return Shaped("alpaca", tuple(before), instruction, given, response)


def _one(fields: Mapping[str, Any], names: Sequence[str], repairs: list[Repair]) -> str:
    """The text of the strongest of several columns.

    `instruction` decides alone: other columns beside it hold the same in a template, or topics.

    Raises:
        Unreadable: two weaker ones hold different texts.
    """
    filled = [name for name in names if fields[name] not in (None, "")]
    if not filled:
        return ""
    first = as_text(fields[filled[0]], filled[0], repairs)
    for other in filled[1:]:
        if filled[0] != "instruction" and fields[other] != fields[filled[0]]:
            raise Unreadable(
                "ambiguous-columns", f"columns {filled[0]!r} and {other!r} differ; rename or drop the one not meant"
            )
    return first


def _history(value: Any, repairs: list[Repair]) -> list[Turn]:
    """Earlier exchanges as pairs of instruction and response."""
    turns: list[Turn] = []
    for pair in _listed(value, "history", repairs) if value else ():
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unreadable("wrong-type", "history is not a list of pairs of instruction and response")
        turns += [
            Turn("user", as_text(pair[0], "history", repairs)),
            Turn("assistant", as_text(pair[1], "history", repairs)),
        ]
    return turns


def _listed(value: Any, name: str, repairs: list[Repair]) -> list[Any]:
    if isinstance(value, str):
        try:
            parsed = orjson.loads(value)
        except ValueError as error:
            raise Unreadable("wrong-type", f"{name} is a text, not a list of turns") from error
        repairs.append(Repair("json-in-text", excerpt(value), name))
        value = parsed
    if not isinstance(value, list | tuple):
        raise Unreadable("wrong-type", f"{name} is {_type_name(value)}, not a list of turns")
    return list(value)


def _conversation(name: str, items: Sequence[Any], system: str, repairs: list[Repair]) -> Shaped:
    """The conversation up to its last response."""
    is_sharegpt = any(isinstance(item, Mapping) and "from" in item for item in items)
    turns = [_turn(item, name, repairs) for item in items]
    spoken = [turn for turn in turns if turn.role != "system" or not is_blank(turn.text)]
    if len(spoken) < len(turns):
        repairs.append(Repair("empty-system", f"{name}: a system turn", ""))
    turns = spoken
    if system.strip() and not any(turn.role == "system" for turn in turns):
        turns.insert(0, Turn("system", system))
    turns = _joined(_trimmed(turns, repairs), repairs)
    *before, last, answer = turns
    for turn in before:
        if not turn.text.strip():
            raise Unreadable("empty-turn", f"an earlier turn of the {turn.role} is empty")
    if last.role != "user":
        raise Unreadable("turn-order", f"the turn before the last response is by the {last.role}, not the user")
    return Shaped("sharegpt" if is_sharegpt else "messages", tuple(before), last.text, "", answer.text)


def _turn(item: Any, name: str, repairs: list[Repair]) -> Turn:
    if not isinstance(item, Mapping):
        raise Unreadable("wrong-type", f"{name} holds {_type_name(item)} where a turn should be")
    speaker = item.get("role", item.get("from"))
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if (isinstance(speaker, str) and speaker.strip().lower() in TOOL_ROLES) or item.get("tool_calls"):
        raise Unreadable(
            "tool-turns", f"{name} has turns by {speaker!r}; tapir teaches instructions and responses only"
        )
    if role is None:
        raise Unreadable("unknown-role", f"{name} has a turn by {excerpt(repr(speaker))}; known: {', '.join(ROLES)}")
    text = item.get("content", item.get("value"))
    return Turn(role, _parts(text, name, repairs) if isinstance(text, list) else as_text(text, name, repairs))


def _parts(parts: Sequence[Any], name: str, repairs: list[Repair]) -> str:
    """The text of a content given as a list of parts.

    Raises:
        Unreadable: a part is an image, a sound or a file.
    """
    texts = []
    for part in parts:
        if isinstance(part, Mapping) and part.get("type", "text") not in TEXT_PARTS:
            raise Unreadable("missing-media", f"{name} has a part of type {excerpt(repr(part.get('type')))}")
        texts.append(as_text(part.get("text") if isinstance(part, Mapping) else part, name, repairs))
    return "".join(texts)


def _trimmed(turns: list[Turn], repairs: list[Repair]) -> list[Turn]:
    """Turns from the first instruction to the last response, with the system turns before."""
    roles = [turn.role for turn in turns]
    if "user" not in roles:
        raise Unreadable("no-instruction", "no turn is by the user")
    if "assistant" not in roles:
        raise Unreadable("no-response", "no turn is by the assistant")
    end = len(roles) - roles[::-1].index("assistant")
    if end < len(turns):
        cut = turns[end:]
        repairs.append(Repair("unanswered-turn", excerpt(f"{cut[0].role}: {cut[0].text}"), ""))
    start = roles.index("user")
    if start >= end:
        raise Unreadable("no-instruction", "the assistant speaks before the user does, and not after")
    leading = [turn for turn in turns[:start] if turn.role == "assistant"]
    if leading:
        repairs.append(Repair("leading-response", excerpt(leading[0].text), ""))
    return [*(turn for turn in turns[:start] if turn.role == "system"), *turns[start:end]]


def _joined(turns: list[Turn], repairs: list[Repair]) -> list[Turn]:
    """Turns with neighbours of one speaker made one."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            text = JOINT.join(part for part in (joined[-1].text, turn.text) if part.strip())
            repairs.append(Repair("joined-turns", excerpt(f"{turn.role}: {turn.text}"), excerpt(text)))
            joined[-1] = Turn(turn.role, text)
        else:
            joined.append(turn)
    return joined
