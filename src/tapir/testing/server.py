"""FaultyServer: a real OpenAI-compatible server on this machine that answers, and fails, as it is told.

    from tapir.testing import FaultyServer, acts

    with FaultyServer(acts.scripted(acts.status(500), acts.reply("42"))) as server:
        ...  # ask server.base_url; then look at server.calls

It speaks HTTP/1.1 over plain sockets, in a thread of its own, so that it can also do what no web framework lets one
do: reset, hang, tear a body, drip a byte at a time. `plan` is called for every request and says what to do with it.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import msgspec

from tapir.testing.acts import (
    Act,
    Call,
    Plan,
    completion_body,
    cut_off,
    empty,
    hang,
    huge,
    malformed,
    reply,
    reset,
    scripted,
    slow_loris,
    status,
    torn,
    wrong_type,
)

__all__ = [
    "Act",
    "Call",
    "FaultyServer",
    "Load",
    "Plan",
    "completion_body",
    "cut_off",
    "empty",
    "hang",
    "huge",
    "malformed",
    "reply",
    "reset",
    "scripted",
    "slow_loris",
    "status",
    "torn",
    "wrong_type",
]


@dataclass
class Load:
    """What the server has seen of its clients so far."""

    in_flight: int = 0
    peak: int = 0
    answered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    first_s: float = 0.0
    last_s: float = 0.0
    busy_s: float = 0.0
    """Integral of the calls in flight over time."""
    busy_to_last_s: float = 0.0
    """The same up to the last request."""
    _since: float = 0.0

    def change(self, by: int) -> None:
        now = time.monotonic()
        self.busy_s += self.in_flight * (now - self._since) if self._since else 0.0
        self._since = now
        self.in_flight += by
        self.peak = max(self.peak, self.in_flight)
        if by > 0:
            self.first_s = self.first_s or now
            self.last_s = now
            self.busy_to_last_s = self.busy_s

    @property
    def mean_in_flight(self) -> float:
        """The mean of the calls in flight between first and last request; 0 where there is no time between."""
        span_s = self.last_s - self.first_s
        return self.busy_to_last_s / span_s if span_s > 0 else 0.0


class FaultyServer:
    """An OpenAI-compatible chat server under a test's control; a context manager."""

    def __init__(
        self,
        plan: Plan | None = None,
        *,
        latency_s: float = 0.0,
        capacity: int | None = None,
        retry_after: str | None = "1",
        key: str | None = None,
        keep_calls: bool = True,
    ) -> None:
        """`capacity`: answers 429 beyond that many calls in flight; `key`: answers 401 to any other."""
        self.plan: Plan = plan or (lambda call: Act())
        self.latency_s = latency_s
        self.capacity = capacity
        self.retry_after = retry_after
        self.key = key
        self.keep_calls = keep_calls
        self.calls: list[Call] = []
        """Chat requests, in the order of their arrival."""
        self.load = Load()
        self.asked: Counter[int] = Counter()
        """How often each list of messages was asked, by its hash."""
        self.given: Counter[int] = Counter()
        """How often each was given a good reply."""
        self.port = 0
        self._connections: set[_Connection] = set()
        self._routes: dict[str, Callable[[str, str, Mapping[str, str], bytes], Act]] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._arrival = threading.Condition()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="faulty-server", daemon=True)

    @property
    def base_url(self) -> str:
        """The address for `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def prompts(self) -> list[str]:
        """The last message of every chat request."""
        return [call.prompt for call in self.calls]

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until `count` chat requests have come.

        Raises:
            TimeoutError: they have not come in time.
        """
        with self._arrival:
            if not self._arrival.wait_for(lambda: sum(self.asked.values()) >= count, timeout_s):
                raise TimeoutError(f"{sum(self.asked.values())} of {count} requests came within {timeout_s:g} s")

    def route(self, prefix: str, handle: Callable[[str, str, Mapping[str, str], bytes], Act]) -> None:
        """Let `handle(method, path, headers, body)` answer what is asked below `prefix`."""
        self._routes[prefix] = handle

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the test server did not start")

    def join(self) -> None:
        """Wait until the server ends."""
        self._thread.join()

    def stop(self) -> None:
        """Close every connection and end."""
        if self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Act:
        """What to do with a request."""
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return status(401, f"Incorrect API key provided: {headers.get('authorization')}", error="invalid_api_key")
        for prefix, handle in self._routes.items():
            if path.startswith(prefix):
                return handle(method, path, headers, body)
        if path.partition("?")[0] != "/v1/chat/completions":
            return status(404, f"no such path: {path}")
        return self.answer_call(path, headers, body)

    def answer_call(self, path: str, headers: Mapping[str, str], body: bytes) -> Act:
        """What the plan says to do with a chat request, which is put on record."""
        call = self._note(path, headers, body)
        return replace(self.plan(call), digest=call.digest)

    def _note(self, path: str, headers: Mapping[str, str], body: bytes) -> Call:
        try:
            tree = msgspec.json.decode(body)
            messages = tree["messages"]
            prompt = messages[-1]["content"]
        except (msgspec.DecodeError, KeyError, IndexError, TypeError):
            tree, messages, prompt = None, body.decode("utf-8", "replace"), ""
        asked = hash(msgspec.json.encode(messages))
        call = Call(path, headers, tree, prompt, self.asked[asked], time.monotonic(), asked)
        with self._arrival:
            self.asked[asked] += 1
            if self.keep_calls:
                self.calls.append(call)
            self._arrival.notify_all()
        return call

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.abort()
        await server.wait_closed()
        await asyncio.sleep(0)


class _Connection(asyncio.Protocol):
    """One client connection: requests one after another."""

    def __init__(self, server: FaultyServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._is_busy = False
        self._holds = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._release()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_busy:
            self._next()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        """Handle the first whole request that has arrived."""
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        request, *lines = self._data[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        start = end + 4
        if len(self._data) < start + length:
            return
        body = bytes(self._data[start : start + length])
        del self._data[: start + length]
        method, path, *_ = request.split(" ")
        self._is_busy = True
        self._handle(method, path, headers, body)

    def _handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        server = self._server
        if server.capacity is not None and server.load.in_flight >= server.capacity:
            server.load.statuses[429] += 1
            self._send(status(429, "too many requests in flight", retry_after=server.retry_after))
            return
        server.load.change(+1)
        self._holds = True
        act = server.answer(method, path, headers, body)
        if act.wire != "hang":
            latency_s = server.latency_s if act.latency_s is None else act.latency_s
            if latency_s > 0:
                self._timer = self._loop.call_later(latency_s, self._finish, act)
            else:
                self._finish(act)

    def _finish(self, act: Act) -> None:
        load = self._server.load
        load.statuses[act.status if act.wire == "whole" else 0] += 1
        if act.status == 200 and act.wire == "whole" and act.body is None:
            load.answered += 1
            self._server.given[act.digest] += 1
        self._release()
        self._send(act)

    def _release(self) -> None:
        if self._holds:
            self._holds = False
            self._server.load.change(-1)

    def _send(self, act: Act) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if act.wire == "reset":
            self._transport.abort()
            return
        body = completion_body(act) if act.body is None else act.body
        extra = "".join(f"{name}: {value}\r\n" for name, value in act.headers.items())
        head = f"HTTP/1.1 {act.status} X\r\nContent-Type: {act.content_type}\r\nContent-Length: {len(body)}\r\n{extra}"
        if act.wire == "torn":
            self._transport.write(f"{head}\r\n".encode() + body[: len(body) // 2])
            self._transport.close()
        elif act.wire == "dripping":
            self._transport.write(f"{head}\r\n".encode())
            self._drip()
        else:
            self._transport.write(f"{head}\r\n".encode() + body)
            self._is_busy = False
            if self._data:
                self._next()

    def _drip(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b" ")
            self._timer = self._loop.call_later(0.02, self._drip)
