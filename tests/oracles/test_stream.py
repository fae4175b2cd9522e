"""in_order: many at once, results in the order of the items."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tapir.oracles.stream import in_order


class Probe:
    """An async function that counts how many run at once and finishes when it is told to."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}

    def hold(self, *items: int) -> None:
        for item in items:
            self.gates[item] = asyncio.Event()

    async def __call__(self, item: int) -> int:
        self.started.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if item in self.gates:
                await self.gates[item].wait()
            else:
                await asyncio.sleep(0)
            return item * 10
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.running -= 1


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        await asyncio.sleep(0)
        yield i


async def settle(turns: int = 50) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_results_come_in_the_order_of_the_items_whatever_finishes_first() -> None:
    async def fn(item: int) -> int:
        await asyncio.sleep(0.001 * (7 - item % 7))
        return item

    assert [r async for r in in_order(fn, range(100), 16)] == list(range(100))


async def test_an_async_source_is_read_like_a_list() -> None:
    assert [r async for r in in_order(Probe(), numbers(50), 8)] == [i * 10 for i in range(50)]


async def test_no_items_give_no_results() -> None:
    assert [r async for r in in_order(Probe(), [], 8)] == []


async def test_at_most_ahead_run_at_once_and_that_many_do() -> None:
    probe = Probe()
    assert len([r async for r in in_order(probe, range(200), 7)]) == 200
    assert probe.most == 7


async def test_a_slow_item_holds_its_own_slot_and_no_other() -> None:
    probe = Probe()
    probe.hold(0)
    stream = in_order(probe, range(500), 4)
    first = asyncio.ensure_future(anext(stream))
    await settle(2000)
    assert len(probe.started) == 500
    assert not first.done()
    probe.gates[0].set()
    assert await first == 0
    assert [r async for r in stream] == [i * 10 for i in range(1, 500)]


async def test_no_more_than_the_window_is_ever_started_ahead_of_the_consumer() -> None:
    probe = Probe()
    probe.hold(0)
    stream = in_order(probe, range(500), 4, window=32)
    first = asyncio.ensure_future(anext(stream))
    await settle()
    assert len(probe.started) == 32
    probe.gates[0].set()
    await first
    await settle()
    assert len(probe.started) == 33
    assert len([r async for r in stream]) == 499


async def test_an_error_is_raised_at_once_and_the_rest_is_cancelled() -> None:
    probe = Probe()
    probe.hold(0, 1)

    async def fn(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return await probe(item)

    with pytest.raises(ValueError, match="two"):
        async for _ in in_order(fn, range(10), 3):
            pass
    assert sorted(probe.cancelled) == [0, 1]
    assert probe.running == 0


async def test_an_error_of_the_source_is_raised() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        async for _ in in_order(Probe(), broken(), 3):
            pass


async def test_closing_early_cancels_what_runs_and_closes_the_source() -> None:
    closed = False

    async def source() -> AsyncIterator[int]:
        nonlocal closed
        try:
            for i in range(100):
                yield i
        finally:
            closed = True

    probe = Probe()
    probe.hold(*range(1, 100))
    stream = in_order(probe, source(), 5)
    assert await anext(stream) == 0
    await settle()
    await stream.aclose()  # type: ignore[attr-defined]
    assert probe.running == 0
    assert closed


async def test_cancelling_the_consumer_cancels_the_work() -> None:
    probe = Probe()
    probe.hold(*range(10))

    async def consume() -> list[int]:
        return [r async for r in in_order(probe, range(10), 4)]

    task = asyncio.ensure_future(consume())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(probe.cancelled) == [0, 1, 2, 3]


async def test_a_function_that_never_suspends_does_not_starve_the_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def fn(item: int) -> int:
        return item

    ticker = asyncio.ensure_future(tick())
    assert len([r async for r in in_order(fn, range(5000), 2)]) == 5000
    ticker.cancel()
    assert ticks > 20


async def test_fewer_items_than_slots_start_no_idle_workers() -> None:
    before = len(asyncio.all_tasks())
    probe = Probe()
    probe.hold(0, 1, 2)
    stream = in_order(probe, range(3), 1000)
    first = asyncio.ensure_future(anext(stream))
    await settle()
    assert len(asyncio.all_tasks()) - before <= 5
    for gate in probe.gates.values():
        gate.set()
    await first
    assert len([r async for r in stream]) == 2


async def test_ahead_must_be_positive() -> None:
    with pytest.raises(ValueError, match="ahead is 0"):
        async for _ in in_order(Probe(), [1], 0):
            pass
