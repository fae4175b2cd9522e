"""How one attempt at a call can fail, and what each failure means for the next attempt."""

from typing import Literal

from tapir.oracles.base import Completion

Kind = Literal[
    "connect", "reset", "timeout", "rate-limit", "overloaded", "server-error", "malformed", "empty", "truncated"
]
"""`connect`: nothing was sent. `reset`: the connection ended before the whole reply. `overloaded`: 502, 503 or 529.
`empty` and `truncated` were paid for."""

REASONS: dict[Kind, str] = {"reset": "connect", "overloaded": "server-error"}
"""The reason of the refusal, where it is not named like the kind."""


class AttemptFailed(Exception):
    """One attempt got no usable reply; another may. Only the wrappers between endpoint and ledger see it."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        elapsed_s: float = 0.0,
        retry_after_s: float | None = None,
        completion: Completion | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.elapsed_s = elapsed_s
        self.retry_after_s = retry_after_s
        self.completion = completion
        """The reply, where one came but cannot be used."""

    @property
    def reason(self) -> str:
        """The reason of the refusal that this becomes when it is the last."""
        return REASONS.get(self.kind, self.kind)


def unusable(completion: Completion, *, as_is: bool) -> Literal["empty", "truncated", "content-filter"] | None:
    """Why `completion` cannot be used; None where it can.

    `as_is`: whatever the model says is its answer, empty or cut off (a student's own words).
    """
    if completion.finish == "content_filter":
        return "content-filter"
    if as_is:
        return None
    if completion.finish == "length":
        return "truncated"
    return None if completion.text.strip() else "empty"


UNUSABLE_TEXT = {
    "empty": "the reply is empty",
    "truncated": "the reply was cut off at max_tokens; raise sampling.max_tokens",
    "content-filter": "the server's content filter stopped the reply",
}
