"""The bodies that an OpenAI-compatible chat server takes and gives; pure."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from tapir.config import EndpointConfig
from tapir.oracles.base import Completion, Sampling, Usage
from tapir.rows import Message

DETAIL_CHARS = 300
"""How much of a server's own error message is shown."""

_BOM = b"\xef\xbb\xbf"
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_MOST_TOKENS = 1e10
"""No call takes as many: a count beyond this is a mistake."""

_FINISH: dict[str, Literal["stop", "length", "content_filter"]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
}


_BROKEN_OFF = frozenset({"error", "abort", "aborted", "cancelled", "insufficient_system_resource"})
"""Ways for a reply to end before its end, of which the server says so."""


class Malformed(ValueError):
    """A body that is no chat completion; `status` is the HTTP status that an error in it speaks of, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part | str] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


_NOTHING = msgspec.Raw(b"null")


class _Reply(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NOTHING
    model: Any = None


class ServerError(msgspec.Struct):
    """What an error body says."""

    message: str
    code: str = ""
    field: str = ""
    """The field of the request that it is about, where it says so."""

    @property
    def status(self) -> int | None:
        """The HTTP status that the code is, if it is one of failure."""
        return int(self.code) if re.fullmatch(r"[45][0-9]{2}", self.code) else None


_encoder = msgspec.json.Encoder(order="deterministic")
_reply = msgspec.json.Decoder(_Reply)
_usage_of = msgspec.json.Decoder(_Usage | None, strict=False)


def request_body(
    endpoint: EndpointConfig, messages: Sequence[Message], sampling: Sampling, *, with_schema: bool = True
) -> dict[str, Any]:
    """The request for a reply to `messages`, as JSON values."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        endpoint.max_tokens_field: sampling.max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed + sampling.attempt
    if sampling.json_schema is not None and with_schema and endpoint.structured_output != "never":
        schema = {"name": "reply", "schema": sampling.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if endpoint.extra_body:
        body.update(endpoint.extra_body)
        left_out = [name for name, value in endpoint.extra_body.items() if value is None]
        for name in left_out:
            del body[name]
    return body


def to_json(value: Any) -> bytes:
    """`value` as JSON, the same bytes for the same value; lone surrogates, which JSON cannot carry, are replaced."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_clean(msgspec.to_builtins(value)))


def parse_reply(body: bytes, messages: Sequence[Message]) -> Completion:
    """The completion in a 200 body: content parts are joined, reasoning fields ignored, missing usage estimated.

    A reply that was charged and holds no choice is an empty completion.

    Raises:
        Malformed: the body is not JSON, holds no choice with a message, or a reply that was broken off.
    """
    try:
        reply = _decoded(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{error}; the body starts {plain(body[:80])!r}") from None
    choice = reply.choices[0] if reply.choices else None
    if choice is None or choice.message is None:
        usage = _usage(reply.usage, messages, "")
        if reply.choices == [] and not usage.is_estimated:
            return Completion(text="", finish="other", usage=usage, model=_named(reply.model))
        said = parse_error(body)
        raise Malformed(f"it holds no message; it says {said.message!r}", said.status)
    if _named(choice.finish_reason) in _BROKEN_OFF:
        raise Malformed(f"it was broken off (finish_reason {choice.finish_reason})")
    text = _text(choice.message.content)
    finish: Literal["stop", "length", "content_filter", "other"] = _FINISH.get(_named(choice.finish_reason), "other")
    if not text and choice.message.refusal:
        text, finish = choice.message.refusal, "content_filter"
    return Completion(text=text, finish=finish, usage=_usage(reply.usage, messages, text), model=_named(reply.model))


def _decoded(body: bytes) -> _Reply:
    """The body as JSON, also with what some servers let slip: a byte order mark, NaN, half of a surrogate pair."""
    try:
        return _reply.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            tree = json.loads(body.removeprefix(_BOM))
        except ValueError:
            tree = None
        if tree is None:
            raise
    return _reply.decode(to_json(_clean(tree)))


def parse_error(body: bytes) -> ServerError:
    """The message and code of an error body, in any of the forms that servers use; its first words where in none."""
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ServerError(message=plain(body[: 4 * DETAIL_CHARS]))
    inner = tree.get("error", tree) if isinstance(tree, dict) else tree
    if not isinstance(inner, dict):
        return ServerError(message=plain(str(inner)))
    message = inner.get("message") or inner.get("detail") or to_json(inner).decode()
    code = inner.get("code") or inner.get("type") or ""
    return ServerError(message=plain(str(message)), code=str(code), field=str(inner.get("param") or ""))


_REFUSED_FIELD = re.compile(
    r"(?:not|n't|un)[ -]?(?:be )?(?:support|permitted|allowed|recogni|known|expected)|cannot both|does not accept"
    r"|extra (?:fields|inputs)",
    re.IGNORECASE,
)


def refused_field(said: ServerError, sent: Iterable[str]) -> str | None:
    """Which field of every request the server takes none of, if its error says so; None for a fault of this prompt."""
    if not _REFUSED_FIELD.search(said.message):
        return None
    if said.field in sent:
        return said.field
    found = [name for name in sent if re.search(rf"\b{re.escape(name)}\b", said.message)]
    return found[-1] if found else None


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` is: its UTF-8 bytes over four, at least one."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(1, -(-size // _BYTES_PER_TOKEN))


def estimate_input(messages: Sequence[Message]) -> int:
    """About how many tokens the prompt is."""
    return sum(estimate_tokens(message.content) + _TOKENS_PER_MESSAGE for message in messages)


def plain(text: str | bytes) -> str:
    """The start of a foreign text as one printable line."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    line = re.sub(r"\s+", " ", text[: 4 * DETAIL_CHARS]).strip()
    line = "".join(c if c.isprintable() else "�" for c in line)
    return line if len(line) <= DETAIL_CHARS else line[: DETAIL_CHARS - 1] + "…"


def _named(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _text(content: str | list[_Part | str] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(map(_part_text, content or ()))


def _part_text(part: _Part | str) -> str:
    """The text of a part; empty for one of another kind, such as reasoning."""
    if isinstance(part, str):
        return part
    return part.text or "" if part.type == "text" else ""


def _usage(stated: msgspec.Raw, messages: Sequence[Message], text: str) -> Usage:
    """What the server states, where that can be; a reply is not thrown away for what stands there."""
    try:
        usage = _usage_of.decode(stated)
    except msgspec.DecodeError:
        usage = None
    if usage is not None and usage.prompt_tokens is not None and usage.completion_tokens is not None:
        counts = usage.prompt_tokens, usage.completion_tokens
        if counts[0] > 0 and counts[1] >= 0 and max(counts) < _MOST_TOKENS:  # a prompt of no tokens is not counted
            return Usage(input_tokens=int(counts[0]), output_tokens=int(counts[1]))
    return Usage(
        input_tokens=estimate_input(messages), output_tokens=estimate_tokens(text) if text else 0, is_estimated=True
    )


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
