"""What a FaultyServer is asked and what it can do with it: replies, and every way to fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

Wire = Literal["whole", "reset", "hang", "torn", "dripping"]


@dataclass(frozen=True)
class Call:
    """One request, as the server got it."""

    path: str
    headers: Mapping[str, str]
    body: Any
    """The JSON body; None where it is not JSON."""
    prompt: str
    """The text of the last message."""
    attempt: int
    """How often the same messages were asked before."""
    at_s: float
    """When it arrived, on the monotonic clock."""
    digest: int
    """The hash of its messages."""


@dataclass(frozen=True)
class Act:
    """What the server does with one request."""

    text: str = "ok"
    finish: str | None = "stop"
    usage: tuple[int, int] | None = (10, 5)
    """Prompt and completion tokens; None: the reply states none."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, instead of a completion."""
    content_type: str = "application/json"
    latency_s: float | None = None
    """Seconds before the reply; None: the server's own."""
    wire: Wire = "whole"
    digest: int = 0
    """The hash of the messages answered; the server fills it in."""


Plan = Callable[[Call], Act]


def reply(
    text: str = "ok",
    *,
    finish: str | None = "stop",
    usage: tuple[int, int] | None = (10, 5),
    latency_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Act:
    """A good reply."""
    return Act(text=text, finish=finish, usage=usage, latency_s=latency_s, headers=headers or {})


def status(code: int, message: str = "no", *, error: str = "", retry_after: str | None = None) -> Act:
    """An error status with OpenAI's error body; `error` is its code."""
    body = msgspec.json.encode({"error": {"message": message, "code": error, "type": error}})
    return Act(status=code, body=body, headers={} if retry_after is None else {"Retry-After": retry_after})


def reset() -> Act:
    """The connection is reset after the request was read."""
    return Act(wire="reset")


def hang() -> Act:
    """Nothing ever comes."""
    return Act(wire="hang")


def malformed(body: bytes = b'{"choices": [{"mess') -> Act:
    """A 200 whose body is no completion."""
    return Act(body=body)


def torn() -> Act:
    """The connection ends in the middle of the body."""
    return Act(wire="torn")


def slow_loris() -> Act:
    """The reply drips in, a byte at a time, and never ends."""
    return Act(wire="dripping")


def empty() -> Act:
    """A completion with no text."""
    return Act(text="")


def cut_off(text: str = "Once upon a") -> Act:
    """A completion that reached max_tokens."""
    return Act(text=text, finish="length")


def wrong_type(body: bytes = b"<html><body>Welcome!</body></html>") -> Act:
    """A web page in place of a completion."""
    return Act(body=body, content_type="text/html")


def huge(size: int) -> Act:
    """A body of `size` bytes."""
    return Act(body=b" " * size)


def scripted(*acts: Act, then: Act | None = None) -> Plan:
    """One act for each request, in the order of their arrival; then `then`, or a good reply, for ever."""
    waiting = list(reversed(acts))
    rest = then or reply()
    return lambda call: waiting.pop() if waiting else rest


def completion_body(act: Act) -> bytes:
    """The chat completion that `act` describes."""
    tree: dict[str, Any] = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "faulty-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": act.text}, "finish_reason": act.finish}],
    }
    if act.usage is not None:
        inputs, outputs = act.usage
        tree["usage"] = {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}
    return msgspec.json.encode(tree)
