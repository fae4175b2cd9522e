"""How many calls are in flight: adapted to what the server takes, under optional caps per minute.

The limit starts low and grows by GROWTH for every answer, which multiplies it about fourfold in a round trip, until
the server first says that it is too much; from then on by one in a round trip. A rejection (429, 502, 503, 529) sets
the limit to what is still in flight, for that is what the server holds: the capacity is known after one round trip,
and each later probe beyond it costs one rejected call; probes that find the same capacity again grow rarer.
Rejections that come although fewer calls are in flight than the server has just managed are about a rate, not about
concurrency: all calls then pause for as long as the server says. Timeouts count only where many calls time out, and
growth stops where more calls in flight no longer bring more answers, only slower ones.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from tapir.config import EndpointConfig
from tapir.oracles.base import Completion, Oracle, Sampling
from tapir.oracles.failures import AttemptFailed
from tapir.oracles.headers import RateLimits
from tapir.oracles.wire import estimate_input
from tapir.rows import Message

GROWTH = 3.0
_LONGEST_PAUSE_S = 60.0
_LONGEST_DOUBLINGS = 5
"""Where the server does not say how long to wait, one call every 8 to 16 s finds out whether it is back."""
_BELOW_CAPACITY = 0.8
"""A rejection with fewer calls in flight than this share of what has been answered lately is about a rate."""
_TIMEOUT_SHARE = 0.2
_HOLD_EPOCHS = 20
_RAREST_PROBE = 16.0
"""Round trips between two probes of a capacity that does not change."""


def server_of(endpoint: EndpointConfig) -> Hashable:
    """What shares one limiter: the server, the account and the model, for hosted servers limit each model by itself.

    A server that limits all its models together is found out by each of their limiters.
    """
    return endpoint.base_url, endpoint.api_key_env, endpoint.model


def limits_of(endpoints: Sequence[EndpointConfig]) -> EndpointConfig:
    """The limits of one server, of which several roles speak: of each cap the smallest that any of them sets.

    A cap is the server's, so the strictest word on it holds for all. One left at its default says nothing. The timeout
    is the longest: how late a reply may come is for each role to say, and only what is late for all is overload.
    """
    names = ("max_concurrency", "start_concurrency", "requests_per_minute", "tokens_per_minute")
    said = {
        name: [value for one in endpoints if name in one.model_fields_set and (value := getattr(one, name)) is not None]
        for name in names
    }
    caps: dict[str, float] = {name: min(values) for name, values in said.items() if values}
    return endpoints[0].model_copy(update={**caps, "timeout_s": max(one.timeout_s for one in endpoints)})


class Slot(NamedTuple):
    """A place among the calls in flight."""

    level: int
    """Calls in flight when it was taken, itself included."""
    era: int
    """Decreases of the limit before it was taken."""
    tokens: int
    """Tokens that the call was expected to take."""


class Limiter:
    """Hands out slots. One event loop; nothing suspends while a slot is free."""

    def __init__(self, endpoint: EndpointConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most = endpoint.max_concurrency
        self._timeout_s = endpoint.timeout_s
        self.limit = float(min(endpoint.start_concurrency, self._most))
        self.in_flight = 0
        self.peak = 0
        self._threshold = math.inf
        self._era = 0
        self._probe_every = 1.0
        """Round trips in which the limit grows by one, once the capacity is known."""
        self._answered_level = 0.0
        self._rejections = 0
        """Eras that ended in a rejection since the last answer."""
        self._timeouts = 0.0
        self._resume_at = 0.0
        self._waiting: deque[tuple[asyncio.Future[Slot], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._saturation = _Saturation(clock)
        self._requests = _Bucket(endpoint.requests_per_minute, clock)
        self._tokens = _Bucket(endpoint.tokens_per_minute, clock)
        self._mean_tokens = 0.0
        self._random = random.Random()  # jitter must differ between processes, so it takes no seed

    @property
    def counts_tokens(self) -> bool:
        """Whether slots need to know how many tokens a call is expected to take."""
        return self._tokens.per_minute is not None

    async def acquire(self, tokens: int = 0) -> Slot:
        """A slot, as soon as limit and caps allow; first come, first served."""
        if not self._waiting and self._may_start():
            return self._grant(tokens)
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, tokens))
        self._arm()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.failed(future.result())  # granted and cancelled in the same turn
            raise

    def answered(self, slot: Slot, latency_s: float, tokens: int) -> None:
        """The call in `slot` was answered."""
        was_full = self._waiting or self.in_flight >= self.limit
        self._leave()
        self._rejections = 0
        self._timeouts *= 0.95
        self._tokens.take(tokens - slot.tokens)
        self._mean_tokens += 0.05 * (tokens - self._mean_tokens)
        # a level from before the last decrease counts calls that were then rejected
        level = slot.level if slot.era == self._era else min(slot.level, self.limit)
        self._answered_level = max(level, self._answered_level + 0.02 * (level - self._answered_level))
        useful = self._saturation.answered(self.limit, latency_s)
        if useful is not None:
            self.limit = self._threshold = min(self.limit, useful)
        if latency_s > self._timeout_s / 2 and self._saturation.mean_latency_s > self._timeout_s / 2:
            self._decrease(slot, self.limit * 0.7)
        elif was_full and self.limit < self._most:
            is_known = self.limit >= self._threshold
            step = self._saturation.step / self.limit / self._probe_every if is_known else GROWTH
            self.limit = min(self._most, self.limit + step)
            if is_known and self.limit > self._threshold + 2:
                self._probe_every = 1.0  # the capacity has grown
        self.wake()

    def rejected(self, slot: Slot, retry_after_s: float | None) -> None:
        """The server said that it is too much (429, 502, 503, 529)."""
        self._leave()
        is_new = slot.era == self._era
        if is_new:
            self._rejections += 1
        is_rate = slot.level < _BELOW_CAPACITY * self._answered_level or self._rejections > 1
        if is_rate and is_new:
            backoff_s = min(
                _LONGEST_PAUSE_S,
                2.0 ** min(self._rejections, _LONGEST_DOUBLINGS) * (0.25 + 0.25 * self._random.random()),
            )
            self.pause(backoff_s if retry_after_s is None else retry_after_s)
        elif not is_rate:
            capacity = max(1.0, float(self.in_flight))
            if is_new:
                is_same = abs(capacity - self._threshold) <= max(2.0, 0.05 * capacity)
                self._probe_every = min(_RAREST_PROBE, 2 * self._probe_every) if is_same else 1.0
            self._threshold = capacity
            self._answered_level = min(self._answered_level, capacity)
        self._era += is_new
        self.limit = max(1.0, min(self.limit, float(self.in_flight)))
        self.wake()

    def timed_out(self, slot: Slot) -> None:
        """No reply came in time: a sign of overload where it happens to many."""
        self._leave()
        self._timeouts = 0.95 * self._timeouts + 0.05
        if self._timeouts > _TIMEOUT_SHARE:
            self._timeouts = 0.0
            self._decrease(slot, self.limit / 2)
        self.wake()

    def failed(self, slot: Slot) -> None:
        """The call failed in a way that says nothing about load, or was cancelled."""
        self._leave()
        self.wake()

    def observe(self, limits: RateLimits) -> None:
        """Take note of what the server says is left of its rate limits: where nothing is, wait for the reset."""
        if limits.requests == 0 and limits.requests_reset_s:
            self.pause(limits.requests_reset_s)
        if limits.tokens is not None and limits.tokens_reset_s and limits.tokens < max(1.0, self._mean_tokens):
            self.pause(limits.tokens_reset_s)

    def pause(self, seconds: float) -> None:
        """Start nothing for `seconds` (at most a minute: then one call finds out)."""
        self._resume_at = max(self._resume_at, self._clock() + min(seconds, _LONGEST_PAUSE_S))
        self._arm()

    def wake(self) -> None:
        """Let those start who may."""
        while self._waiting and self._may_start():
            future, tokens = self._waiting.popleft()
            if not future.done():
                future.set_result(self._grant(tokens))
        self._arm()

    def _grant(self, tokens: int) -> Slot:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self._requests.take(1)
        self._tokens.take(tokens)
        return Slot(self.in_flight, self._era, tokens)

    def _leave(self) -> None:
        self.in_flight -= 1

    def _decrease(self, slot: Slot, limit: float) -> None:
        """Lower the limit, once for all calls that were in flight when it was last lowered."""
        if slot.era == self._era:
            self._era += 1
            self.limit = self._threshold = max(1.0, limit)

    def _may_start(self) -> bool:
        if self.in_flight >= int(self.limit):
            return False
        return self._delay_s() <= 0

    def _delay_s(self) -> float:
        """Seconds until pauses and caps allow a start."""
        if not self._resume_at and self._requests.per_minute is None and self._tokens.per_minute is None:
            return 0.0
        return max(self._resume_at - self._clock(), self._requests.delay_s(), self._tokens.delay_s())

    def _arm(self) -> None:
        """Wake again when time alone will allow a start."""
        if self._timer is None and self._waiting and self.in_flight < int(self.limit):
            self._timer = asyncio.get_running_loop().call_later(max(0.001, self._delay_s()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.wake()


class _Bucket:
    """A cap per minute: no 60 s hold more than the cap (tokens: but for what one call takes beyond its estimate)."""

    def __init__(self, per_minute: int | None, clock: Callable[[], float]) -> None:
        self.per_minute = per_minute
        self._clock = clock
        cap = per_minute or 0
        self._burst = max(1.0, cap / 60)
        self._per_s = (cap - self._burst) / 60 if cap > 60 else cap / 60
        self._level = self._burst
        self._at = clock()

    def take(self, amount: int) -> None:
        if self.per_minute is not None:
            self._refill()
            self._level -= amount

    def delay_s(self) -> float:
        if self.per_minute is None:
            return 0.0
        self._refill()
        return 0.0 if self._level >= 1 - 1e-9 else (1 - self._level) / self._per_s

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._per_s)
        self._at = now


class _Saturation:
    """Notices when more calls in flight bring no more answers, only slower ones."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.mean_latency_s = 0.0
        self.step = 1.0
        """By how much the limit may grow in a round trip: 0 while saturated."""
        self._hold = 0
        self._count = 0
        self._latency_s = 0.0
        self._begin = clock()
        self._limit = 0.0
        self._last: tuple[float, float, float] | None = None

    def answered(self, limit: float, latency_s: float) -> float | None:
        """Count an answer; gives a limit beyond which there is no use, where that shows."""
        if self._count == 0:
            self._begin = self._clock()
            self._limit = limit
        self._count += 1
        self._latency_s += latency_s
        if self._count <= 2 * self._limit:
            return None
        elapsed = self._clock() - self._begin
        rate = self._count / elapsed if elapsed > 0 else math.inf
        self.mean_latency_s = self._latency_s / self._count
        self._count, self._latency_s = 0, 0.0
        last, self._last = self._last, (self._limit, rate, self.mean_latency_s)
        if self._hold:
            self._hold -= 1
            self.step = 0.0 if self._hold else 1.0
            return None
        if last is None or self._limit < 1.5 * last[0]:
            return None
        if rate < 1.15 * last[1] and self.mean_latency_s > 1.3 * last[2]:
            self._hold, self.step = _HOLD_EPOCHS, 0.0
            return self._limit
        return None


class Limited:
    """Holds a slot of the limiter for the length of one attempt, and tells it how the attempt went."""

    def __init__(self, inner: Oracle, limiter: Limiter) -> None:
        self._inner = inner
        self.limiter = limiter

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`, asked for as soon as there is a slot."""
        limiter = self.limiter
        slot = await limiter.acquire(estimate_input(messages) if limiter.counts_tokens else 0)
        try:
            completion = await self._inner.complete(messages, sampling)
        except AttemptFailed as failure:
            if failure.kind in ("rate-limit", "overloaded"):
                limiter.rejected(slot, failure.retry_after_s)
            elif failure.kind == "timeout":
                limiter.timed_out(slot)
            else:
                limiter.failed(slot)
            raise
        except BaseException:
            limiter.failed(slot)
            raise
        usage = completion.usage
        limiter.answered(slot, completion.latency_s, usage.input_tokens + usage.output_tokens)
        return completion
