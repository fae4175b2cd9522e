"""What an oracle is: one method. Wrappers share it and stack as `Ledger(Retrying(Limited(endpoint)))`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from tapir.errors import OracleError
from tapir.rows import Message


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How a reply is drawn; part of the ledger's key."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 2048
    seed: int | None = None
    attempt: int = 0
    """0 for the first asking; asking again because the reply was unreadable is a new attempt and a new ledger key."""
    json_schema: Mapping[str, Any] | None = None
    """Ask for a reply of this JSON schema, where the server offers structured output."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that a call is charged for."""

    input_tokens: int
    output_tokens: int
    is_estimated: bool = False
    """True where the server sent no usage and the counts are our estimate."""


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """One reply."""

    text: str
    finish: Literal["stop", "length", "content_filter", "other"]
    usage: Usage
    model: str
    """The model that the server says has answered."""
    latency_s: float = 0.0
    is_replayed: bool = False
    """True where the ledger answered and nothing was paid."""
    replies: int = 1
    """Replies to this call that were paid for: this one, and the unusable ones before it."""
    wasted: Usage | None = None
    """Tokens of the unusable ones before it."""


class Unanswered(OracleError):
    """One call got no usable reply after all its attempts: the row is refused, the run goes on.

    `reason` is a short fixed kind for counting (`timeout`, `rate-limit`, `server-error`, `connect`, `malformed`,
    `empty`, `truncated`, `content-filter`, `rejected`); the message says what happened.
    """

    def __init__(self, reason: str, message: str, completion: Completion | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.completion = completion
        """The unusable reply, where there is one: it was paid for, so the ledger keeps it."""


class Oracle(Protocol):
    """Any model behind a chat endpoint.

    Raises (from `complete`):
        Unanswered: this call failed for good; refuse its row.
        BudgetError: the budget is spent; the run stops.
        OracleError: nothing more can be asked (wrong key, unknown model); the run stops.
    """

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`."""
