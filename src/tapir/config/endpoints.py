"""Chat servers: where they are, what they charge, how they are asked."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tapir.config.base import Config, Fraction, NonNegative, Text


class PriceConfig(Config):
    """What an endpoint charges, in the currency of the budget, per million tokens."""

    input_per_million: NonNegative = 0.0
    output_per_million: NonNegative = 0.0
    batch_factor: Fraction = 0.5
    """What a call through the batch API costs, as a share of the prices above."""


class SamplingConfig(Config):
    """How a model is asked to draw its reply."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    seed: int | None = None


class EndpointConfig(Config):
    """An OpenAI-compatible chat server."""

    base_url: str
    """The address up to and including `/v1`."""
    model: Text
    model_version: str = ""
    """Part of the ledger's key, as `model` is: change it when the same name answers with other weights."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The variable's name; the key itself is never stored or logged. null: send no key."""
    sampling: SamplingConfig = SamplingConfig()
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The request field that carries `sampling.max_tokens`; OpenAI's reasoning models want the second."""
    extra_body: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    """Further fields of every request, such as `reasoning_effort`; null leaves a field out, `top_p` say. Part of the
    ledger's key."""
    max_concurrency: Annotated[int, Field(ge=1)] = 256
    """The most calls in flight; the client adapts below it."""
    start_concurrency: Annotated[int, Field(ge=1)] = 32
    """Calls in flight at the start, before the client knows what the server takes."""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Limit of one attempt."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """Limit of one call: all its attempts and the waits between them, not its place in the queue for a slot."""
    max_attempts: Annotated[int, Field(ge=1)] = 6
    """Attempts at one call that may fail; answers that only say `later` (429) count against the time, not here."""
    max_unusable: Annotated[int, Field(ge=1)] = 2
    """Replies to one call that may be unusable though paid for (empty, cut off) before its row is refused."""
    proxy_from_env: bool = False
    """Go through the proxy that HTTPS_PROXY, HTTP_PROXY or ~/.netrc name."""
    price: PriceConfig = PriceConfig()
    structured_output: Literal["auto", "always", "never"] = "auto"
    """Whether replies are asked for with a JSON schema; `auto` probes the server once."""
    batch: bool = False
    """Use the server's asynchronous batch API (/v1/files and /v1/batches)."""
    batch_rows: Annotated[int, Field(ge=1, le=50_000)] = 10_000
    """The most calls in one batch."""
    batch_poll_s: Annotated[float, Field(gt=0)] = 30.0
    """Time between two looks at a batch that is out."""

    @property
    def calls_ahead(self) -> int:
        """Calls to have out at once, so that every slot, or every batch, is kept full."""
        return 2 * (self.batch_rows if self.batch else self.max_concurrency)

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s@?#]+(?:/[^\s@]*)?", value):
            raise ValueError("is not an http(s) address without a user name; write e.g. http://localhost:8000/v1")
        try:
            urlsplit(value).port  # noqa: B018 - reading it checks it
        except ValueError as error:
            raise ValueError(f"{value!r} is not an address: {error}") from None
        value = value.rstrip("/")
        if value.endswith("/chat/completions"):
            raise ValueError("is the address of one verb: leave /chat/completions away, so that it ends in /v1")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "is not a variable's name; write the name of the environment variable that holds the key, not the key"
            )
        return value
