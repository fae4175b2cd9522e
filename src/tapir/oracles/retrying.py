"""Retries: bounded, jittered, and never while holding a slot."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import msgspec

from tapir.config import EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.base import Completion, Oracle, Sampling, Unanswered, Usage
from tapir.oracles.endpoint import attempt_timeout_s
from tapir.oracles.failures import UNUSABLE_TEXT, AttemptFailed, Kind, unusable
from tapir.oracles.stream import leave_if_told
from tapir.rows import Message

BASE_S = 0.5
CAP_S = 30.0

_NEXT_STEPS: dict[Kind, str] = {
    "connect": "start the server or check base_url",
    "overloaded": "wait until the server takes calls",
    "rate-limit": "wait until the server takes calls, or lower requests_per_minute",
}
"""What no row can be blamed for: such a failure stops the run where no other call got through meanwhile either."""


def backoff_s(failures: int, retry_after: float | None, draw: float) -> float:
    """Seconds to wait after the `failures`-th failure (from 1) of a call; `draw` is uniform in [0, 1).

    Full jitter over a doubling bound, at most CAP_S. A time that the server asked for is kept to, plus up to a tenth,
    so that those who were told the same do not come back at once; should that not help twice, the jitter is added.
    """
    if retry_after is None:
        return float(draw * min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 16)))
    more = 0.0 if failures <= 2 else backoff_s(failures - 2, None, draw)
    return retry_after * (1 + 0.1 * draw) + more


class Retrying:
    """Asks again after a failure, within max_attempts, max_unusable and total_timeout_s."""

    def __init__(self, inner: Oracle, endpoint: EndpointConfig, name: str, *, as_is: bool = False) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._name = name
        self._as_is = as_is
        self._random = random.Random()  # jitter must differ between processes, so it takes no seed
        self.failures: Counter[str] = Counter()
        """Failed attempts by kind."""
        self._answered = 0

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The reply to `messages`, after as many attempts as it takes."""
        call = _Call(self._endpoint, self._answered)
        while True:
            try:
                completion = await self._attempt(call, messages, sampling)
                self._answered += 1
                reason = unusable(completion, as_is=self._as_is)
                if reason is None:
                    return call.count(completion)
                if reason == "content-filter":
                    raise Unanswered(reason, f"{self._name}: {UNUSABLE_TEXT[reason]}", call.count(completion))
                raise AttemptFailed(
                    reason, UNUSABLE_TEXT[reason], elapsed_s=completion.latency_s, completion=completion
                )
            except AttemptFailed as failure:
                self.failures[failure.kind] += 1
                wait_s = backoff_s(call.fail(failure), failure.retry_after_s, self._random.random())
                if call.is_over(failure, wait_s):
                    raise self._refusal(call, failure) from None
            leave_if_told()
            await asyncio.sleep(wait_s)
            call.elapsed_s += wait_s

    async def _attempt(self, call: "_Call", messages: Sequence[Message], sampling: Sampling) -> Completion:
        """One attempt, cut short where the call's total time ends before the attempt's own limit."""
        left_s = self._endpoint.total_timeout_s - call.elapsed_s
        if left_s >= attempt_timeout_s(self._endpoint):
            return await self._inner.complete(messages, sampling)
        try:
            async with asyncio.timeout(left_s):
                return await self._inner.complete(messages, sampling)
        except TimeoutError:
            text = f"no reply within total_timeout_s ({self._endpoint.total_timeout_s:g} s)"
            raise AttemptFailed("timeout", text, elapsed_s=left_s) from None

    def _refusal(self, call: "_Call", failure: AttemptFailed) -> Exception:
        """What the last failure of a call becomes."""
        text = f"{self._name}: {failure} (after {call.tries})"
        if failure.retry_after_s is not None and failure.retry_after_s > self._endpoint.total_timeout_s:
            return OracleError(
                f"{text}; the server asks to wait {failure.retry_after_s:.0f} s, longer than total_timeout_s: "
                "run the same command then to continue"
            )
        if failure.kind in _NEXT_STEPS and self._answered == call.answered_before:
            return OracleError(f"{text}; {_NEXT_STEPS[failure.kind]}, then run the same command to continue")
        return Unanswered(failure.reason, text, call.refused())


class _Call:
    """What has happened to one call so far."""

    def __init__(self, endpoint: EndpointConfig, answered_before: int) -> None:
        self._endpoint = endpoint
        self.answered_before = answered_before
        self.elapsed_s = 0.0
        self._failures = 0
        self._faults = 0
        self._unusable: list[Completion] = []

    @property
    def tries(self) -> str:
        return f"{self._failures} attempt{'s' if self._failures != 1 else ''}"

    def fail(self, failure: AttemptFailed) -> int:
        """Count a failure; returns how many there are."""
        self._failures += 1
        self.elapsed_s += failure.elapsed_s
        if failure.completion is not None:
            self._unusable.append(failure.completion)
        else:
            self._faults += failure.kind != "rate-limit"
        return self._failures

    def is_over(self, failure: AttemptFailed, wait_s: float) -> bool:
        """Whether another attempt, made after `wait_s`, would pass one of the limits."""
        limit = self._endpoint
        if failure.completion is not None and len(self._unusable) >= limit.max_unusable:
            return True
        return self._faults >= limit.max_attempts or self.elapsed_s + wait_s >= limit.total_timeout_s

    def count(self, completion: Completion) -> Completion:
        """`completion` with the unusable replies of this call that came before it."""
        wasted = [c.usage for c in self._unusable if c is not completion]
        if not wasted:
            return completion
        return msgspec.structs.replace(completion, replies=1 + len(wasted), wasted=_sum(wasted))

    def refused(self) -> Completion | None:
        """The last unusable reply, for the ledger."""
        return self.count(self._unusable[-1]) if self._unusable else None


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        is_estimated=any(usage.is_estimated for usage in usages),
    )
