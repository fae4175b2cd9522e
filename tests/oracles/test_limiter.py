"""Slots: as many as the server takes, found out at little cost."""

import asyncio
import math

import pytest

from tapir.config import EndpointConfig
from tapir.oracles.base import Sampling
from tapir.oracles.headers import RateLimits
from tapir.oracles.limiter import Limiter, Slot
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
from tapir.testing.acts import reply, scripted, status

from .conftest import Open, Serve


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock | None = None, **settings: object) -> Limiter:
    endpoint = EndpointConfig.model_validate({"base_url": "http://localhost/v1", "model": "m", **settings})
    return Limiter(endpoint, clock or Clock())


async def fill(slots: Limiter, count: int) -> list[Slot]:
    return [await slots.acquire() for _ in range(count)]


async def test_a_free_slot_is_given_without_waiting_and_a_taken_one_is_not() -> None:
    slots = limiter(max_concurrency=2, start_concurrency=2)
    held = await fill(slots, 2)
    third = asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    assert not third.done()
    slots.failed(held[0])
    assert (await third).level == 2


async def test_the_limit_grows_fourfold_in_a_round_trip_until_the_most() -> None:
    slots = limiter(max_concurrency=100, start_concurrency=8)
    for slot in await fill(slots, 8):
        slots.in_flight = int(slots.limit)
        slots.answered(slot, 0.1, 10)
    assert slots.limit == 32
    for _ in range(40):
        slots.in_flight = int(slots.limit)
        slots.answered(Slot(1, 0, 0), 0.1, 10)
    assert slots.limit == 100


async def test_an_unused_limit_does_not_grow() -> None:
    slots = limiter(start_concurrency=8)
    for _ in range(20):
        slots.answered(await slots.acquire(), 0.1, 10)
    assert slots.limit == 8


async def test_a_rejection_sets_the_limit_to_what_the_server_holds() -> None:
    slots = limiter(start_concurrency=100)
    held = await fill(slots, 100)
    for slot in held[64:]:
        slots.rejected(slot, 1.0)
    assert (slots.in_flight, slots.limit) == (64, 64)
    for slot in held[:10]:
        slots.answered(slot, 0.1, 10)
        held.append(await slots.acquire())
    assert 64 <= slots.limit < 65


async def test_a_known_capacity_is_probed_ever_more_rarely_until_it_grows() -> None:
    slots = limiter(start_concurrency=11)
    capacity = 10
    rejections = []
    held = await fill(slots, 11)
    for trip in range(400):
        capacity = 10 if trip < 300 else 40
        for slot in held[capacity:]:
            slots.rejected(slot, 0.0)
            rejections.append(trip)
        done, held = held[:capacity], []
        for slot in done:
            waits = [asyncio.ensure_future(slots.acquire()) for _ in range(2)]
            await asyncio.sleep(0)
            slots.answered(slot, 1.0, 10)
            held += [await wait for wait in waits if await is_done(wait)]
    assert 10 <= sum(trip < 300 for trip in rejections) <= 30
    assert slots.limit > 30


async def is_done(wait: "asyncio.Future[Slot]") -> bool:
    """Whether a slot has been granted; a wait for one is given up otherwise."""
    await asyncio.sleep(0)
    if not wait.done():
        wait.cancel()
    return not wait.cancelled() and wait.done()


async def test_calls_that_a_storm_rejected_do_not_count_as_capacity() -> None:
    slots = limiter(Clock(), start_concurrency=100)
    held = await fill(slots, 100)
    for slot in held[64:]:
        slots.rejected(slot, 5.0)
    kept = [*held[:63], held[-1]._replace(level=99)]  # one that was sent late, and taken all the same
    for slot in kept[::-1]:
        slots.answered(slot, 0.1, 10)
        await slots.acquire()
    slots.rejected(Slot(65, 1, 0), 5.0)
    assert slots._delay_s() <= 0


async def test_the_limit_never_falls_below_one() -> None:
    slots = limiter(start_concurrency=3)
    for slot in await fill(slots, 3):
        slots.rejected(slot, 0.0)
    assert slots.limit == 1


async def test_rejections_below_the_known_capacity_pause_all_calls() -> None:
    clock = Clock()
    slots = limiter(clock, start_concurrency=50)
    for slot in await fill(slots, 50):
        slots.answered(slot, 0.1, 10)
    slots.rejected(await slots.acquire(), 7.0)
    waiting = asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.now += 7.1
    slots.wake()
    await waiting


async def test_some_timeouts_change_nothing_and_many_halve_the_limit() -> None:
    slots = limiter(start_concurrency=40)
    for i in range(400):
        slot = await slots.acquire()
        slots.timed_out(slot) if i % 20 == 0 else slots.answered(slot, 0.1, 10)
    assert slots.limit == 40
    for slot in await fill(slots, 20):
        slots.timed_out(slot)
    assert slots.limit == 20


async def test_growth_stops_where_more_calls_bring_only_slower_answers() -> None:
    clock = Clock()
    slots = limiter(clock, start_concurrency=8, max_concurrency=1000)
    for _ in range(3000):  # a server that answers 10 a second, however many it is asked at once
        clock.now += 0.1
        slots.in_flight = int(slots.limit)
        slots.answered(Slot(1, slots._era, 0), slots.limit / 10, 10)
    assert slots.limit < 200


async def test_requests_per_minute_are_never_exceeded_in_any_minute() -> None:
    clock = Clock()
    slots = limiter(clock, requests_per_minute=120)
    starts: list[float] = []
    for _ in range(4000):
        if not slots._waiting and slots._may_start():
            slots.failed(await slots.acquire())
            starts.append(clock.now)
        clock.now += 0.1
    worst = max(sum(start <= other < start + 60 for other in starts) for start in starts)
    assert 110 <= worst <= 120


async def test_tokens_per_minute_follow_what_calls_really_took() -> None:
    clock = Clock()
    slots = limiter(clock, tokens_per_minute=6000)
    total = 0
    for _ in range(6000):
        if slots._may_start():
            slots.answered(await slots.acquire(50), 0.1, 200)
            total += 200
        clock.now += 0.1
    assert 6000 * 9 <= total <= 6000 * 10.2


async def test_exhausted_rate_limit_headers_pause_until_the_reset() -> None:
    clock = Clock()
    slots = limiter(clock)
    slots.observe(RateLimits(requests=5, requests_reset_s=60.0, tokens=None, tokens_reset_s=None))
    assert slots._may_start()
    slots.observe(RateLimits(requests=0, requests_reset_s=2.0, tokens=None, tokens_reset_s=None))
    assert not slots._may_start()
    clock.now += 2.01
    assert slots._may_start()
    slots.observe(RateLimits(requests=None, requests_reset_s=None, tokens=0, tokens_reset_s=math.inf))
    clock.now += 60.01
    assert slots._may_start()


async def test_a_waiter_that_is_cancelled_loses_no_slot() -> None:
    slots = limiter(max_concurrency=1, start_concurrency=1)
    held = await slots.acquire()
    first, second = asyncio.ensure_future(slots.acquire()), asyncio.ensure_future(slots.acquire())
    await asyncio.sleep(0)
    slots.failed(held)
    first.cancel()  # it has been granted the slot, and has not run yet
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await second).level == 1
    assert slots.in_flight == 1


async def test_a_server_with_few_places_is_filled_at_the_price_of_few_rejections(serve: Serve, opened: Open) -> None:
    server = serve(capacity=20, latency_s=0.05, retry_after="0.05")
    async with opened(server) as oracle:
        ask = in_order(lambda i: oracle.complete(user_turn(str(i)), Sampling()), range(1000), oracle.ahead)
        assert len([done async for done in ask]) == 1000
        assert 15 <= oracle.traffic.limit <= 25
    assert server.load.peak == 20
    assert server.load.statuses[429] < 150


async def test_a_server_that_caps_the_rate_is_waited_for(serve: Serve, opened: Open) -> None:
    waits = scripted(reply(), reply(), *[status(429, retry_after="0.3")] * 3)
    server = serve(waits)
    async with opened(server, start_concurrency=4) as oracle:
        ask = in_order(lambda i: oracle.complete(user_turn(str(i)), Sampling()), range(30), oracle.ahead)
        assert len([done async for done in ask]) == 30
    assert len(server.calls) == 33
