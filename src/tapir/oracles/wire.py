"""The bodies that an OpenAI-compatible chat server takes and gives; pure."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tapir.config import EndpointConfig
from tapir.oracles.base import Completion, Sampling, Usage
from tapir.rows import Message

DETAIL_CHARS = 300
"""How much of a server's own error message is shown."""

_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4

_FINISH: dict[str | None, Literal["stop", "length", "content_filter"]] = {
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


class Malformed(ValueError):
    """A body that is no chat completion."""


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None


class ServerError(msgspec.Struct):
    """What an error body says."""

    message: str
    code: str = ""


_encoder = msgspec.json.Encoder(order="deterministic")
_reply = msgspec.json.Decoder(_Reply)


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
    return body


def to_json(value: Any) -> bytes:
    """`value` as JSON, the same bytes for the same value; lone surrogates, which JSON cannot carry, are replaced."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_clean(msgspec.to_builtins(value)))


def parse_reply(body: bytes, messages: Sequence[Message]) -> Completion:
    """The completion in a 200 body: content parts are joined, reasoning fields ignored, missing usage estimated.

    Raises:
        Malformed: the body is not JSON, or holds no choice with a message.
    """
    try:
        reply = _reply.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{error}; the body starts {plain(body[:80])!r}") from None
    choice = reply.choices[0] if reply.choices else None
    if choice is None or choice.message is None:
        raise Malformed(f"it holds no message; it says {parse_error(body).message!r}")
    text = _text(choice.message.content)
    finish: Literal["stop", "length", "content_filter", "other"] = _FINISH.get(choice.finish_reason, "other")
    if not text and choice.message.refusal:
        text, finish = choice.message.refusal, "content_filter"
    return Completion(text=text, finish=finish, usage=_usage(reply.usage, messages, text), model=reply.model or "")


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
    return ServerError(message=plain(str(message)), code=str(code))


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


def _text(content: str | list[_Part] | None) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text or "" for part in content if part.type == "text") if content else ""


def _usage(usage: _Usage | None, messages: Sequence[Message], text: str) -> Usage:
    if usage is not None and usage.prompt_tokens is not None and usage.completion_tokens is not None:
        counts = int(usage.prompt_tokens), int(usage.completion_tokens)
        if min(counts) >= 0:
            return Usage(input_tokens=counts[0], output_tokens=counts[1])
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
