"""How a role asks its oracle: in the form that the server can hold to, and again where a reply is unreadable."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from tapir.config import EndpointConfig, SamplingConfig
from tapir.errors import OracleError
from tapir.oracles.base import Oracle, Sampling, Unanswered
from tapir.oracles.failures import UNUSABLE_TEXT, unusable
from tapir.oracles.money import at_stage
from tapir.oracles.stream import in_order
from tapir.oracles.wire import DETAIL_CHARS, plain, to_json
from tapir.prompts.core import Prompt, Question, Unreadable, object_schema, read_object, without_reasoning
from tapir.prompts.fence import Piece
from tapir.rows import Message

T = TypeVar("T")
R = TypeVar("R")

ASKED_AGAIN_TEMPERATURE = 0.3
"""Least temperature when a reply is asked for again: at 0 most servers would say the same once more."""

PROBE = Prompt(
    "probe",
    1,
    "What is the capital of France? Reply with the name of the city alone.",
    schema=object_schema({"city": {"type": "string"}}),
)
"""Asked with a JSON schema that the text does not speak of: only a server that enforces it answers in JSON."""

PROBES = 3
_FINAL = frozenset({"rejected", "content-filter", "empty", "truncated"})
"""Ways for the probe to fail that another try would meet again: there is no structured output to be had."""


class Reading(NamedTuple, Generic[T]):
    """What a reply said."""

    value: T
    asks: int
    """Times that was asked for until the reply was readable, from 1."""
    prompt: str | None = None
    """Digest of the prompt, where there was one."""


class Asker:
    """An oracle as one verb of a role asks it."""

    def __init__(
        self, oracle: Oracle, endpoint: EndpointConfig, sampling: SamplingConfig | None = None, *, max_asks: int
    ) -> None:
        self._oracle = oracle
        self._endpoint = endpoint
        self._sampling = sampling or endpoint.sampling
        self._max_asks = max_asks
        self._probing = asyncio.Lock()
        self._is_structured: bool | None = None
        self.ahead = 2 * (endpoint.batch_rows if endpoint.batch else endpoint.max_concurrency)
        """Rows to have in work at once: enough to keep every slot of the endpoint busy, or to fill its batches."""

    def identity(self, prompts: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What decides a reply besides the texts filled in: model, server, sampling, form and prompts; no secrets."""
        endpoint = self._endpoint
        found: dict[str, Any] = {
            "kind": "endpoint",
            "model": endpoint.model,
            "model_version": endpoint.model_version,
            "host": urlsplit(endpoint.base_url).netloc,
            "sampling": self._sampling.model_dump(),
            "max_asks": self._max_asks,
        }
        if endpoint.extra_body:
            found["extra_body"] = blake2b(to_json(endpoint.extra_body), digest_size=12).hexdigest()
        if prompts is not None:
            found["prompts"] = dict(prompts)
            found["structured_output"] = endpoint.structured_output
        return found

    async def ask(
        self,
        question: Question,
        parse: Callable[[str], T],
        data: Mapping[str, Sequence[Piece]],
        words: Mapping[str, str] | None = None,
    ) -> Reading[T]:
        """The parsed reply to a question, asked as JSON where the server offers structured output, else as text.

        Raises:
            Unanswered, Unreadable: as `read`.
        """
        prompt = question.prompt(is_structured=await self.is_structured())
        return await self.fill(prompt, parse, data, words)

    async def fill(
        self,
        prompt: Prompt,
        parse: Callable[[str], T],
        data: Mapping[str, Sequence[Piece]],
        words: Mapping[str, str] | None = None,
    ) -> Reading[T]:
        """The parsed reply to a prompt.

        Raises:
            Unanswered, Unreadable: as `read`.
        """
        reading = await self.read(prompt.messages(data, words or {}), parse, prompt.schema)
        return reading._replace(prompt=prompt.digest)

    async def read(
        self, messages: Sequence[Message], parse: Callable[[str], T], schema: Mapping[str, Any] | None = None
    ) -> Reading[T]:
        """The parsed reply to `messages`; one that is unreadable is asked for again, up to `max_asks` times in all.

        Raises:
            Unanswered: no usable reply came; refuse the row with its reason.
            Unreadable: none of the replies was in the form asked for.
        """
        failure = Unreadable("unreadable")
        for attempt in range(self._max_asks):
            text = await self._reply(messages, self._sampled(attempt, schema))
            try:
                return Reading(parse(text), attempt + 1)
            except Unreadable as error:
                message = f"{error} (asked {attempt + 1} times; the last reply: {plain(text[-DETAIL_CHARS:])!r})"
                failure = Unreadable(error.reason, message)
        raise failure

    async def is_structured(self) -> bool:
        """Whether replies are asked for with a JSON schema.

        `structured_output: auto` asks `PROBE` once and remembers. The probe goes through the ledger like any call, so
        that a later run decides alike and its calls keep their keys; it is no part of the role's identity, which holds
        the setting and both prompts. Batches are too slow to probe, and who offers them offers structured output.

        Raises:
            OracleError: the server does not answer the probe. Deciding anyway might change the keys of all calls.
        """
        if self._endpoint.structured_output != "auto":
            return self._endpoint.structured_output == "always"
        if self._endpoint.batch:
            return True
        if self._is_structured is None:
            async with self._probing:
                if self._is_structured is None:
                    with at_stage(PROBE.name):  # no call of the stage's own: its measured tokens would mislead
                        self._is_structured = await self._probe()
        return self._is_structured

    async def _probe(self) -> bool:
        messages = PROBE.messages({})
        for attempt in range(PROBES):
            try:
                text = await self._reply(messages, self._sampled(attempt, PROBE.schema))
                city = read_object(without_reasoning(text), ("city",))["city"]
                return type(city) is str
            except Unreadable:
                return False
            except Unanswered as error:
                if error.reason in _FINAL:
                    return False
                failure = error
        raise OracleError(
            f"{failure}; no way to tell whether the server offers structured output: run the same command again, or "
            "set structured_output to always or never"
        ) from failure

    async def _reply(self, messages: Sequence[Message], sampling: Sampling) -> str:
        completion = await self._oracle.complete(messages, sampling)
        reason = unusable(completion, as_is=False)
        if reason is not None:
            raise Unanswered(reason, f'"{self._endpoint.model}": {UNUSABLE_TEXT[reason]}', completion)
        return completion.text

    def _sampled(self, attempt: int, schema: Mapping[str, Any] | None) -> Sampling:
        settings = self._sampling
        temperature = max(settings.temperature, ASKED_AGAIN_TEMPERATURE) if attempt else settings.temperature
        return Sampling(
            temperature=temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
            attempt=attempt,
            json_schema=schema,
        )


@asynccontextmanager
async def flow(
    fn: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], ahead: int
) -> AsyncIterator[AsyncIterator[R]]:
    """`in_order` whose running calls have ended when the caller leaves, however it leaves."""
    results = in_order(fn, items, ahead)
    try:
        yield results
    finally:
        close = getattr(results, "aclose", None)
        if close is not None:
            await close()
