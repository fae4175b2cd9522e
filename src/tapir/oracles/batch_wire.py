"""The wire of OpenAI-style asynchronous batches: files go up, batches are looked at, files come down."""

import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from typing import IO, TypeVar

import aiohttp
import msgspec

from tapir.config import EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.endpoint import LARGEST_REPLY, join_url, shown_url
from tapir.oracles.headers import retry_after_s
from tapir.oracles.keys import ApiKey
from tapir.oracles.retrying import CAP_S, backoff_s
from tapir.oracles.wire import parse_error, plain

T = TypeVar("T")

COMPLETIONS_PATH = "/v1/chat/completions"
_LISTED = 100
_LARGEST_ERROR = 64 * 2**10
_IDLE_S = 120.0
"""A transfer, however long, may not stand still for longer."""


class _Problem(msgspec.Struct):
    message: str | None = None


class _Problems(msgspec.Struct):
    data: list[_Problem] | None = None


class Batch(msgspec.Struct):
    """A batch as the server sees it."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Problems | None = None

    @property
    def is_over(self) -> bool:
        return self.status in ("completed", "failed", "expired", "cancelled")

    @property
    def problem(self) -> str:
        """Why the server refused it."""
        said = [problem.message for problem in (self.errors and self.errors.data) or () if problem.message]
        return plain("; ".join(said)) or "it gives no reason"


class _File(msgspec.Struct):
    id: str


class _Batches(msgspec.Struct):
    data: list[Batch]


class BatchWire:
    """The batch API of a server; every request is repeated until it gets through or can never."""

    def __init__(self, endpoint: EndpointConfig, session: aiohttp.ClientSession, key: ApiKey, *, role: str) -> None:
        self.name = f'{role} "{endpoint.model}" at {shown_url(endpoint.base_url)} (batch)'
        self._endpoint = endpoint
        self._session = session
        self._key = key
        self._random = random.Random()  # jitter must differ between processes, so it takes no seed

    async def upload(self, lines: bytes) -> str:
        """Store a file of requests; returns its id."""
        boundary = secrets.token_hex(16)
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="tapir.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode() + lines
        body += f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._decode(await self._request("POST", "files", data=body, headers=headers), _File).id

    async def submit(self, file: str) -> Batch:
        """Start a batch over an uploaded file."""
        body = msgspec.json.encode({"input_file_id": file, "endpoint": COMPLETIONS_PATH, "completion_window": "24h"})
        try:
            return self._decode(await self._request("POST", "batches", data=body, attempts=1), Batch)
        except NoAnswer:
            await asyncio.sleep(backoff_s(1, None, self._random.random()))
            return await self.find(file) or self._decode(await self._request("POST", "batches", data=body), Batch)

    async def find(self, file: str) -> Batch | None:
        """The batch over `file`, should one have been started."""
        listed = self._decode(await self._request("GET", "batches", query={"limit": str(_LISTED)}), _Batches)
        return next((batch for batch in listed.data if batch.input_file_id == file), None)

    async def look(self, batch: str) -> Batch:
        """How a batch is doing."""
        return self._decode(await self._request("GET", f"batches/{batch}"), Batch)

    async def download(self, file: str) -> AsyncIterator[bytes]:
        """The lines of a file, once the whole of it is here."""
        with tempfile.TemporaryFile() as whole:
            for attempt in range(1, self._endpoint.max_attempts + 1):
                whole.seek(0)
                whole.truncate()
                try:
                    await self._fetch(file, whole)
                    break
                except (aiohttp.ClientError, OSError) as error:
                    problem = self._shown(error)
                await asyncio.sleep(backoff_s(attempt, None, self._random.random()))
            else:
                raise NoAnswer(
                    f"{self.name}: the results do not come through: {problem}; run the same command to continue"
                )
            whole.seek(0)
            for line in whole:
                yield line

    async def _fetch(self, file: str, into: IO[bytes]) -> None:
        url = join_url(self._endpoint.base_url, f"files/{file}/content")
        async with self._session.get(url, allow_redirects=False, timeout=_timeout()) as response:
            if response.status >= 500:
                raise aiohttp.ClientPayloadError(f"the server says {response.status}")
            if response.status != 200:
                raise self._stop(response.status, await response.content.read(_LARGEST_ERROR))
            async for chunk in response.content.iter_any():
                into.write(chunk)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        attempts: int | None = None,
    ) -> bytes:
        """The body of a good response.

        Raises:
            OracleError: the server rejects the request, or does not answer it after all attempts.
        """
        url = join_url(self._endpoint.base_url, path)
        url = url.update_query(query) if query else url
        most = attempts or self._endpoint.max_attempts
        for attempt in range(1, most + 1):
            wait_s = None
            try:
                async with self._session.request(
                    method, url, data=data, headers=headers, allow_redirects=False, timeout=_timeout()
                ) as response:
                    body = await response.content.read(LARGEST_REPLY)
                    if response.status < 300:
                        return body
                    if response.status not in (408, 409, 429) and response.status < 500:
                        raise self._stop(response.status, body)
                    wait_s = retry_after_s(response.headers, time.time())
                    problem = f"{response.status} {self._key.mask(parse_error(body).message)}"
            except (aiohttp.ClientError, OSError) as error:
                problem = self._shown(error)
            if attempt < most:
                await asyncio.sleep(min(CAP_S, backoff_s(attempt, wait_s, self._random.random())))
        raise NoAnswer(f"{self.name}: {problem} (after {most} attempts); run the same command to continue")

    def mask(self, text: str) -> str:
        """`text` without the key."""
        return self._key.mask(text)

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError:
            raise OracleError(
                f"{self.name}: the batch API's reply cannot be read: {self._key.mask(plain(body))!r}"
            ) from None

    def _stop(self, status: int, body: bytes) -> OracleError:
        said = self._key.mask(parse_error(body).message)
        hint = "; does this server have a batch API? Else write `batch: false`" if status in (404, 405) else ""
        return OracleError(f"{self.name}: {status} {said}{hint}")

    def _shown(self, error: Exception) -> str:
        return self._key.mask(plain(str(error) or type(error).__name__))


class NoAnswer(OracleError):
    """A request that may or may not have reached the server."""


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=_IDLE_S)
