"""The wire: one attempt at one call to an OpenAI-compatible chat server, over one keep-alive pool."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from yarl import URL

from tapir.config import EndpointConfig
from tapir.errors import ConfigError, OracleError
from tapir.oracles.base import Completion, Sampling, Unanswered
from tapir.oracles.failures import AttemptFailed, Kind
from tapir.oracles.headers import rate_limits, retry_after_s
from tapir.oracles.keys import ApiKey
from tapir.oracles.limiter import Limiter
from tapir.oracles.stream import PAYING
from tapir.oracles.wire import (
    Malformed,
    ServerError,
    parse_error,
    parse_reply,
    plain,
    refused_field,
    request_body,
    to_json,
)
from tapir.rows import Message
from tapir.version import __version__

LARGEST_REPLY = 32 * 2**20
"""Bytes of a reply that are read before it is given up as malformed."""

_LARGEST_ERROR = 64 * 2**10
_CONNECT_TIMEOUT_S = 30.0
_KEEP_ALIVE_S = 4.0
"""Shorter than the 5 s after which common servers close an idle connection, so that none is used as it closes."""

_STATUS_KINDS: dict[int, Kind] = {
    408: "timeout",
    409: "server-error",
    425: "server-error",
    429: "rate-limit",
    502: "overloaded",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_MODERATION = re.compile(r"moderation|flagged|content polic|safety", re.IGNORECASE)
"""A 403 that is about this prompt, not about the key."""
_OK = (200, 201)
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}


class ChatEndpoint:
    """A chat server. `complete` makes one attempt and raises AttemptFailed where another may succeed."""

    def __init__(
        self, endpoint: EndpointConfig, session: aiohttp.ClientSession, key: ApiKey, limiter: Limiter, *, role: str
    ) -> None:
        self.endpoint = endpoint
        self.name = f'{role} "{endpoint.model}" at {shown_url(endpoint.base_url)}'
        """How messages call this oracle."""
        self._session = session
        self._key = key
        self._limiter = limiter
        self._url = join_url(endpoint.base_url, "chat/completions")
        self._with_schema = True

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One attempt.

        Raises:
            AttemptFailed: no usable reply came, and another attempt may bring one.
            Unanswered: the server rejects this very prompt.
            OracleError: the server rejects whatever is asked.
        """
        body = to_json(request_body(self.endpoint, messages, sampling, with_schema=self._with_schema))
        begin = time.monotonic()
        task = asyncio.current_task()
        try:
            PAYING.add(task)
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                headers, status = response.headers, response.status
                limits = rate_limits(headers, time.time())
                if limits is not None:
                    self._limiter.observe(limits)
                reply = await (_read(response, LARGEST_REPLY) if status in _OK else _read_error(response))
            if status in _OK:
                completion = parse_reply(reply, messages)
        except (aiohttp.ClientError, OSError, Malformed) as error:
            elapsed_s = time.monotonic() - begin
            if not isinstance(error, Malformed) or error.status is None:
                raise self._failure(error, elapsed_s) from None
            status = error.status  # an error in a body of status 200
        finally:
            PAYING.discard(task)
        if status not in _OK:
            self._refused(status, parse_error(reply), headers, time.monotonic() - begin, sampling)
            return await self.complete(messages, sampling)
        return msgspec.structs.replace(
            completion,
            text=self._key.mask(completion.text),
            model=completion.model or self.endpoint.model,
            latency_s=time.monotonic() - begin,
        )

    def _refused(
        self, status: int, said: ServerError, headers: Mapping[str, str], elapsed_s: float, sampling: Sampling
    ) -> None:
        """Raise what a status other than 200 means; returns where the same can be asked without a schema."""
        detail = f"{status} {self._key.mask(said.message)}".rstrip()
        if status in _STATUS_KINDS or status >= 500:
            if said.code in _QUOTA_CODES:
                raise OracleError(f"{self.name}: {detail}; the account cannot pay for more calls")
            raise AttemptFailed(
                _STATUS_KINDS.get(status, "server-error"),
                detail,
                elapsed_s=elapsed_s,
                retry_after_s=retry_after_s(headers, time.time()),
            )
        if status in (400, 413, 422) and said.code != "model_not_found":
            if self._drops_schema(sampling, said.message):
                return
            self._check_fields(said, detail)
            reason = "content-filter" if said.code == "content_filter" else "rejected"
            raise Unanswered(reason, f"{self.name}: {detail}")
        if status == 403 and _MODERATION.search(said.message):
            raise Unanswered("content-filter", f"{self.name}: {detail}")
        if 300 <= status < 400:
            target = plain(headers.get("Location", "nowhere").partition("?")[0])
            raise OracleError(f"{self.name}: {status}, moved to {target}; the key goes there once base_url says so")
        raise OracleError(f"{self.name}: {detail}; {_NEXT_STEPS.get(status, _NEXT_STEP)}")

    def _check_fields(self, said: ServerError, detail: str) -> None:
        """Stop where the server does not take a field that every request has: no prompt is to blame.

        Raises:
            ConfigError: names the field and the setting that changes it.
        """
        asked = {"temperature", "top_p", "seed", "max_tokens", "max_completion_tokens"}
        field = refused_field(said, sorted(asked | set(self.endpoint.extra_body)))
        if field is None:
            return
        if field.startswith("max_"):
            other = "max_completion_tokens" if self.endpoint.max_tokens_field == "max_tokens" else "max_tokens"
            step = f"set max_tokens_field: {other}"
        else:
            step = f"change sampling.{field}, or leave the field out with extra_body: {{{field}: null}}"
        raise ConfigError(f"{self.name}: {detail}; {step}")

    def _drops_schema(self, sampling: Sampling, message: str) -> bool:
        """Whether the server has just said that it knows no structured output; from then on none is asked for."""
        if sampling.json_schema is None or self.endpoint.structured_output != "auto" or not self._with_schema:
            return False
        words = message.lower()
        if any(word in words for word in ("response_format", "json_schema", "structured output", "guided")):
            self._with_schema = False
            return True
        return False

    def _failure(self, error: Exception, elapsed_s: float) -> Exception:
        """What an exception of the transport means."""
        text = self._key.mask(plain(str(error) or type(error).__name__))
        match error:
            case Malformed():
                return AttemptFailed("malformed", f"the reply is no chat completion: {text}", elapsed_s=elapsed_s)
            case aiohttp.ConnectionTimeoutError():
                return AttemptFailed("connect", text, elapsed_s=elapsed_s)
            case TimeoutError():
                limit = attempt_timeout_s(self.endpoint)
                return AttemptFailed("timeout", f"no reply within {limit:g} s", elapsed_s=elapsed_s)
            case aiohttp.ClientConnectorCertificateError():
                return OracleError(f"{self.name}: the server's certificate is not trusted: {text}")
            case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
                return ConfigError(f"{self.name}: is not an address; check base_url")
            case aiohttp.ClientConnectorError() | aiohttp.ClientProxyConnectionError():
                doubt = ", which may not speak https" if self._url.scheme == "https" else ""
                return AttemptFailed("connect", text + doubt, elapsed_s=elapsed_s)
            case aiohttp.ClientResponseError():
                return AttemptFailed("malformed", f"the reply is not HTTP: {plain(error.message)}", elapsed_s=elapsed_s)
            case _:
                return AttemptFailed("reset", f"the connection broke: {text}", elapsed_s=elapsed_s)


_NEXT_STEP = "check base_url and model"
_NEXT_STEPS = {
    401: "check the key in the variable that api_key_env names",
    402: "the account cannot pay for more calls",
    403: "the key in the variable that api_key_env names may not use this model",
    404: "check model, and that base_url ends in /v1",
}


@asynccontextmanager
async def open_session(endpoint: EndpointConfig, key: ApiKey) -> AsyncIterator[aiohttp.ClientSession]:
    """One connection pool with the key in its headers, without cookies, closed at the end."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=300),
        timeout=aiohttp.ClientTimeout(
            total=attempt_timeout_s(endpoint), sock_connect=min(_CONNECT_TIMEOUT_S, attempt_timeout_s(endpoint))
        ),
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"tapir/{__version__}",
            **key.header(),
        },
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=endpoint.proxy_from_env,
    )
    try:
        yield session
    finally:
        await session.close()
        await asyncio.sleep(0)  # closed transports release their sockets in the loop's next turn


def attempt_timeout_s(endpoint: EndpointConfig) -> float:
    """The limit of one attempt."""
    return min(endpoint.timeout_s, endpoint.total_timeout_s)


def join_url(base_url: str, path: str) -> URL:
    """`path` below `base_url`, whose query, if any, is kept."""
    base = URL(base_url)
    return base.with_path(f"{base.path.rstrip('/')}/{path}", keep_query=True)


def shown_url(base_url: str) -> str:
    """The address without query or user, for messages."""
    url = URL(base_url)
    return str(url.with_query(None).with_fragment(None).with_user(None))


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error, if it is of a size that anybody reads."""
    try:
        return await _read(response, _LARGEST_ERROR)
    except Malformed:
        return b"(an error message of more than 64 KiB)"


async def _read(response: aiohttp.ClientResponse, largest: int) -> bytes:
    """The body, of at most `largest` bytes."""
    chunks = []
    size = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > largest:
            response.close()
            raise Malformed(f"it has more than {largest} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
