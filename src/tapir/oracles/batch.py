"""Calls through a server's asynchronous batch API, at its price: gathered, submitted, waited for across restarts.

A batch that is out stands in the ledger, with the keys of its calls, from before it is submitted until its replies
are kept. So a run that is stopped while it is out finds it again, waits for it, and asks nothing twice; even one that
was killed between the upload and the server's answer finds the batch by the file it was made from.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import msgspec

from tapir.config import EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.base import Completion, Sampling, Unanswered, Usage
from tapir.oracles.batch_wire import COMPLETIONS_PATH, Batch, BatchWire, NoAnswer
from tapir.oracles.failures import unusable
from tapir.oracles.ledger import ledger_key
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.ledger_schema import Booking, Entry
from tapir.oracles.money import cost_of_call, current_stage
from tapir.oracles.wire import Malformed, parse_error, parse_reply, request_body, to_json
from tapir.rows import Message

QUIET_S = 1.0
"""A batch is submitted when no call has joined it for this long, or when it is full."""
_LARGEST_FILE = 100 * 2**20
_PUT_AT_ONCE = 256
_PATIENCE = 60
"""Looks at a batch that may go unanswered in a row."""


class _Asked:
    """A call that waits for a reply."""

    def __init__(self, key: bytes, line: bytes, messages: Sequence[Message], stage: str) -> None:
        self.key = key
        self.line = line
        self.messages = messages
        self.stage = stage
        self.future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.failures = 0
        self.unusable: list[Usage] = []


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: Any = None


class BatchQueue:
    """Gathers calls into batches and sees these through."""

    def __init__(
        self, wire: BatchWire, file: LedgerFile, endpoint: EndpointConfig, *, role: str, run: str, as_is: bool
    ) -> None:
        self._wire = wire
        self._file = file
        self._endpoint = endpoint
        self._role = role
        self._run = run
        self._as_is = as_is
        self.peak = 0
        """The most calls that have waited at once."""
        self._asked: dict[bytes, _Asked] = {}
        """Every call that waits, by key."""
        self._gathered: dict[bytes, _Asked] = {}
        """Those of them that are in no batch yet."""
        self._gathered_bytes = 0
        self._out: dict[bytes, str] = {}
        """Keys in a batch that is out, with its file."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def resume(self) -> None:
        """Take up the batches of this model that were out when a run ended."""
        sql = "SELECT file, calls FROM batches WHERE server = ? AND asked = ?"
        for file, calls in self._file.query(sql, (self._endpoint.base_url, self._endpoint.model)):
            keys = [bytes.fromhex(key) for key in msgspec.json.decode(calls)]
            self._out.update(dict.fromkeys(keys, file))
            self._start(self._see_through(file, keys))

    @property
    def waiting(self) -> int:
        """Calls that wait for a reply."""
        return len(self._asked)

    @property
    def most(self) -> int:
        """Calls that fit one batch."""
        return self._endpoint.batch_rows

    async def close(self) -> None:
        """Stop waiting; what is out stays out and is found again."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`, in the ledger by the time this returns.

        Raises:
            Unanswered: the server rejects this prompt, or has failed to answer it in as many batches as allowed.
            OracleError: the batch API cannot be used.
        """
        key = ledger_key(self._endpoint, messages, sampling)
        request = {"method": "POST", "url": COMPLETIONS_PATH, "body": request_body(self._endpoint, messages, sampling)}
        line = to_json({"custom_id": key.hex(), **request})
        asked = self._asked[key] = _Asked(key, line, messages, current_stage())
        self.peak = max(self.peak, len(self._asked))
        try:
            if key not in self._out:
                self._gather(asked)
            return await asked.future
        finally:
            self._asked.pop(key, None)
            self._gathered.pop(key, None)

    # --- gathering and submitting ---

    def _gather(self, asked: _Asked) -> None:
        """Put a call into the next batch, which leaves when it is full or no more calls come."""
        self._gathered[asked.key] = asked
        self._gathered_bytes += len(asked.line)
        if self._timer is not None:
            self._timer.cancel()
        if len(self._gathered) >= self._endpoint.batch_rows or self._gathered_bytes >= _LARGEST_FILE:
            self._leave()
        else:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._leave)

    def _leave(self) -> None:
        group, self._gathered = list(self._gathered.values()), {}
        self._gathered_bytes = 0
        if group:
            self._start(self._submit(group))

    async def _submit(self, group: list[_Asked]) -> None:
        """Upload a group, note it in the ledger, and see it through."""
        keys = [asked.key for asked in group]
        try:
            file = await self._wire.upload(b"\n".join(asked.line for asked in group) + b"\n")
            calls = msgspec.json.encode({asked.key.hex(): asked.stage for asked in group}).decode()
            endpoint = self._endpoint
            row = (file, None, endpoint.base_url, time.time(), self._run, self._role, endpoint.model, calls)
            await self._file.write(lambda database: _note(database, row))
        except Exception as error:  # noqa: BLE001 - handed to the callers, who raise it
            self._fail(keys, error)
            return
        self._out.update(dict.fromkeys(keys, file))
        await self._see_through(file, keys)

    # --- waiting and collecting ---

    async def _see_through(self, file: str, keys: list[bytes]) -> None:
        """Wait for the batch over `file` and keep its replies; calls that got none go into another batch."""
        claim = blake2b(file.encode(), digest_size=16).digest()
        claims = self._file.claims
        try:
            while not claims.take(claim):  # noqa: ASYNC110 - another process sees it through, as long as it lives
                await asyncio.sleep(self._endpoint.batch_poll_s)
            try:
                row = self._file.query("SELECT id, run, role, calls FROM batches WHERE file = ?", (file,))
                if row:
                    await self._collect(file, *row[0])
            finally:
                claims.release(claim)
        except Exception as error:  # noqa: BLE001 - handed to the callers, who raise it
            self._fail(keys, error)
            return
        finally:
            for key in keys:
                self._out.pop(key, None)
        for key in keys:
            self._settle(key)

    async def _collect(self, file: str, identity: str | None, run: str, role: str, calls: str) -> None:
        """Wait for a batch that is noted in the ledger, keep its replies and strike the note."""
        if identity is None:
            batch = await self._wire.find(file) or await self._wire.submit(file)
            identity = batch.id
            await self._file.write(lambda database: _name(database, file, batch.id))
        batch = await self._wait_for(identity)
        stages = msgspec.json.decode(calls)
        pending: list[asyncio.Future[None]] = []
        for results in (batch.output_file_id, batch.error_file_id):
            if results is None:
                continue
            async for line in self._wire.download(results):
                entry = self._take(line, stages, run, role)
                if entry is not None:
                    pending.append(asyncio.ensure_future(self._file.put(entry)))
                if len(pending) >= _PUT_AT_ONCE:
                    await asyncio.gather(*pending)
                    pending.clear()
        await asyncio.gather(*pending)
        await self._file.write(lambda database: _strike(database, file))
        if batch.status == "failed":
            raise OracleError(f"{self._wire.name}: the server refused the batch: {self._wire.mask(batch.problem)}")

    async def _wait_for(self, identity: str) -> Batch:
        """The batch when it is over; a server that is out of reach for a while is waited for too."""
        unanswered = 0
        while True:
            try:
                batch = await self._wire.look(identity)
                if batch.is_over:
                    return batch
                unanswered = 0
            except NoAnswer:
                unanswered += 1
                if unanswered >= _PATIENCE:
                    raise
            await asyncio.sleep(self._endpoint.batch_poll_s)

    def _take(self, line: bytes, stages: dict[str, str], run: str, role: str) -> Entry | None:
        """The ledger entry for one line of results; None where it holds no reply to keep."""
        try:
            result = msgspec.json.decode(line, type=_Line)
            key = bytes.fromhex(result.custom_id)
        except (msgspec.DecodeError, ValueError):
            return None
        asked = self._asked.get(key)
        response = result.response
        if result.custom_id not in stages or response is None or response.status_code != 200:
            self._refuse(asked, response)
            return None
        try:
            completion = parse_reply(bytes(response.body), asked.messages if asked else ())
        except Malformed:
            return None
        if self._file.get(key) is not None:
            return None
        if asked is not None:
            if self._asks_again(asked, completion):
                return None
            completion = _with_wasted(completion, asked.unusable)
        return Entry(
            key=key,
            completion=msgspec.structs.replace(
                completion,
                text=self._wire.mask(completion.text),
                model=completion.model or self._endpoint.model,
            ),
            cost=cost_of_call(completion, self._endpoint.price, is_batch=True),
            created_s=time.time(),
            booking=Booking(run, role, stages[result.custom_id]),
            asked=self._endpoint.model,
        )

    def _refuse(self, asked: _Asked | None, response: _Response | None) -> None:
        """Refuse a call whose prompt the server rejects."""
        if asked is None or response is None or asked.future.done():
            return
        if response.status_code in (400, 413, 422):
            said = parse_error(bytes(response.body))
            reason = "content-filter" if said.code == "content_filter" else "rejected"
            text = self._wire.mask(f"{self._wire.name}: {response.status_code} {said.message}")
            asked.future.set_exception(Unanswered(reason, text))

    def _asks_again(self, asked: _Asked, completion: Completion) -> bool:
        """Whether an unusable reply is to be asked for again."""
        reason = unusable(completion, as_is=self._as_is)
        if reason in (None, "content-filter") or len(asked.unusable) + 1 >= self._endpoint.max_unusable:
            return False
        asked.unusable.append(completion.usage)
        return True

    def _settle(self, key: bytes) -> None:
        """Give a caller its reply from the ledger, or put the call into another batch."""
        asked = self._asked.get(key)
        if asked is None or asked.future.done():
            return
        entry = self._file.get(key)
        if entry is not None:
            asked.future.set_result(msgspec.structs.replace(entry.completion, is_replayed=False))
            return
        asked.failures += 1
        if asked.failures - len(asked.unusable) >= self._endpoint.max_attempts:
            text = f"{self._wire.name}: no reply in {asked.failures} batches"
            asked.future.set_exception(Unanswered("server-error", text))
        else:
            self._gather(asked)

    def _fail(self, keys: Sequence[bytes], error: Exception) -> None:
        """Hand an error to all callers who wait for `keys`."""
        for key in keys:
            asked = self._asked.get(key)
            if asked is not None and not asked.future.done():
                asked.future.set_exception(error)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def open_batches(
    wire: BatchWire, file: LedgerFile, endpoint: EndpointConfig, *, role: str, run: str, as_is: bool
) -> AsyncIterator[BatchQueue]:
    """A queue that first takes up the batches that are out, and leaves out at its end what is not back."""
    batches = BatchQueue(wire, file, endpoint, role=role, run=run, as_is=as_is)
    batches.resume()
    try:
        yield batches
    finally:
        await batches.close()


def _note(database: sqlite3.Connection, row: tuple[Any, ...]) -> None:
    database.execute(f"INSERT INTO batches VALUES ({', '.join('?' * len(row))})", row)


def _name(database: sqlite3.Connection, file: str, identity: str) -> None:
    database.execute("UPDATE batches SET id = ? WHERE file = ?", (identity, file))


def _strike(database: sqlite3.Connection, file: str) -> None:
    database.execute("DELETE FROM batches WHERE file = ?", (file,))


def _with_wasted(completion: Completion, unusable_usages: Sequence[Usage]) -> Completion:
    if not unusable_usages:
        return completion
    wasted = Usage(
        input_tokens=sum(usage.input_tokens for usage in unusable_usages),
        output_tokens=sum(usage.output_tokens for usage in unusable_usages),
        is_estimated=any(usage.is_estimated for usage in unusable_usages),
    )
    return msgspec.structs.replace(completion, replies=1 + len(unusable_usages), wasted=wasted)
