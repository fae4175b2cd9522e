"""Work that streams: an async function over items, many at once, results in the order of the items."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

WINDOW = 16_384
"""Items that may have been started and not yet been yielded. A slow item at the head of the order holds its own
place and no other until this many results wait behind it."""

PAYING: set[asyncio.Task[Any] | None] = set()
"""Tasks with a request on the wire, whose reply will be paid for: work that stops lets them keep it first."""

_LEAVING: set[asyncio.Task[Any] | None] = set()

_TURN = 64
"""Items that one worker may take without giving the event loop a turn."""


def leave_if_told() -> None:
    """End this task here if the work that it belongs to was stopped while its request was on the wire.

    Raises:
        CancelledError: it was.
    """
    if _LEAVING and asyncio.current_task() in _LEAVING:
        raise asyncio.CancelledError


async def in_order(
    fn: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], ahead: int, *, window: int = WINDOW
) -> AsyncIterator[R]:
    """`await fn(item)` for every item, at most `ahead` running at once, results in the order of `items`.

    There are no batches: an item starts as soon as any other has finished. At most `window` items (never fewer than
    `ahead`) are running or finished and not yet yielded, which bounds memory whatever the number of items. Items are
    drawn only when they can start. The first error, of `fn` or of `items`, is raised as soon as it happens; then, and
    when the caller stops early or is cancelled, everything still running is cancelled and has ended when this returns;
    requests that are on the wire are waited for, and kept, as they are paid for.

    Raises:
        ValueError: `ahead` is less than 1.
    """
    if ahead < 1:
        raise ValueError(f"ahead is {ahead}; at least one item has to run")
    work = _Work(fn, items, ahead, max(ahead, window))
    try:
        work.start_worker()
        while True:
            if work.error is not None:
                raise work.error
            if work.head in work.ready:
                yield work.take()
                continue
            if work.is_done():
                return
            await work.news()
    finally:
        await work.stop()


class _Work(Generic[T, R]):
    """The state that the workers of one `in_order` share with its consumer; all of it lives in one event loop."""

    def __init__(
        self, fn: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], ahead: int, window: int
    ) -> None:
        self.fn = fn
        self.ahead = ahead
        self.window = window
        self.head = 0
        """Index of the next result to yield."""
        self.ready: dict[int, R] = {}
        self.error: BaseException | None = None
        self._taken = 0
        self._is_exhausted = False
        self._workers: set[asyncio.Task[None]] = set()
        self._spawned = 0
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._drawing = asyncio.Lock()
        self._items: Iterator[T] | None = None
        self._source: AsyncIterator[T] | None = None
        if isinstance(items, AsyncIterable):
            self._source = aiter(items)
        else:
            self._items = iter(items)

    def start_worker(self) -> None:
        self._spawned += 1
        task = self._loop.create_task(self._work())
        self._workers.add(task)
        task.add_done_callback(self._ended)

    def take(self) -> R:
        """The result to yield next; a worker waiting for room may go on."""
        result = self.ready.pop(self.head)
        self.head += 1
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return result

    def is_done(self) -> bool:
        return not self._workers and not self.ready

    async def news(self) -> None:
        """Wait until the head's result is there, a worker failed, or all have ended."""
        self._news = self._loop.create_future()
        await self._news

    async def stop(self) -> None:
        """Cancel what still runs, wait for its end and close the source."""
        running = set(self._workers)
        paying = running & PAYING
        _LEAVING.update(paying)
        try:
            for task in running - paying:
                task.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)
        finally:
            _LEAVING.difference_update(paying)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def _work(self) -> None:
        """Take items one after another until there are none; start a sibling while more may run."""
        turn = 0
        try:
            while True:
                async with self._drawing:
                    while not self._is_exhausted and self._taken - self.head >= self.window:
                        self._room = self._loop.create_future()
                        await self._room
                    if self._is_exhausted:
                        return
                    try:
                        item = await anext(self._source) if self._source is not None else next(self._items)  # type: ignore[arg-type]
                    except (StopIteration, StopAsyncIteration):
                        self._is_exhausted = True
                        return
                    index = self._taken
                    self._taken += 1
                if self._spawned < self.ahead:
                    self.start_worker()
                self.ready[index] = await self.fn(item)
                if index == self.head:
                    self._tell()
                turn += 1
                if turn == _TURN:
                    turn = 0
                    await asyncio.sleep(0)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed to the consumer, which raises it
            if self.error is None:
                self.error = error

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if self.error is not None or not self._workers:
            self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
