"""Retries: bounded, jittered, and never while holding a slot."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.config import EndpointConfig
from tapir.errors import OracleError
from tapir.oracles.base import Completion, Sampling, Unanswered, Usage
from tapir.oracles.failures import AttemptFailed
from tapir.oracles.limiter import Limited, Limiter
from tapir.oracles.retrying import CAP_S, Retrying, backoff_s
from tapir.rows import Message, user_turn

TURNS = user_turn("q")


def good(text: str = "ok") -> Completion:
    return Completion(text=text, finish="stop", usage=Usage(input_tokens=2, output_tokens=1), model="m")


class Script:
    """An oracle whose attempts go as they are told; at the end it succeeds."""

    def __init__(self, *acts: Exception | Completion | Callable[[], Exception]) -> None:
        self.acts = list(acts)
        self.asked = 0

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.asked += 1
        act = self.acts.pop(0) if self.acts else good()
        if isinstance(act, Completion):
            return act
        raise act if isinstance(act, Exception) else act()


def config(**settings: object) -> EndpointConfig:
    return EndpointConfig.model_validate({"base_url": "http://localhost/v1", "model": "m", **settings})


def retrying(inner: object, **settings: object) -> Retrying:
    return Retrying(inner, config(**settings), "teacher")  # type: ignore[arg-type]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were asked for, none of which is sat out."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        asked.append(seconds)
        await sleep(0)

    monkeypatch.setattr("tapir.oracles.retrying.asyncio.sleep", note)
    return asked


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_backoff_is_bounded_and_never_negative(failures: int, draw: float) -> None:
    assert 0 <= backoff_s(failures, None, draw) <= CAP_S


@given(st.integers(1, 12), st.floats(0, 1, exclude_max=True))
def test_the_bound_of_a_backoff_doubles(failures: int, draw: float) -> None:
    assert backoff_s(failures, None, draw) <= 0.5 * 2 ** (failures - 1)


@given(st.integers(1, 12), st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_the_server_is_never_asked_before_the_time_it_named(failures: int, asked_s: float, draw: float) -> None:
    assert asked_s <= backoff_s(failures, asked_s, draw) <= 1.1 * asked_s + (CAP_S if failures > 2 else 0)


async def test_rejections_for_rate_do_not_count_as_attempts(waits: list[float]) -> None:
    script = Script(*(AttemptFailed("rate-limit", "429", retry_after_s=1.0) for _ in range(20)))
    assert (await retrying(script, max_attempts=2).complete(TURNS, Sampling())).text == "ok"
    assert len(waits) == 20 and min(waits) >= 1.0


async def test_the_total_time_bounds_attempts_and_waits(waits: list[float]) -> None:
    script = Script(*(AttemptFailed("server-error", "500", elapsed_s=3.0, retry_after_s=2.0) for _ in range(99)))
    with pytest.raises(Unanswered, match="after 4 attempts"):
        await retrying(script, max_attempts=99, total_timeout_s=20.0, timeout_s=5.0).complete(TURNS, Sampling())
    assert script.asked == 4 and sum(waits) + 4 * 3.0 <= 20.0


async def test_the_last_attempt_ends_with_the_total_time() -> None:
    class Stuck:
        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
            if not script.asked:
                return await script.complete(messages, sampling)
            return await asyncio.get_running_loop().create_future()

    script = Script(AttemptFailed("server-error", "500", elapsed_s=99.99, retry_after_s=0.0))
    with pytest.raises(Unanswered, match=r"no reply within total_timeout_s \(100 s\)") as refused:
        await retrying(Stuck(), total_timeout_s=100.0, timeout_s=50.0).complete(TURNS, Sampling())
    assert refused.value.reason == "timeout"


async def test_a_wait_longer_than_the_total_time_stops_the_run(waits: list[float]) -> None:
    script = Script(good(), AttemptFailed("rate-limit", "429", retry_after_s=7200.0))
    call = retrying(script)
    await call.complete(TURNS, Sampling())
    with pytest.raises(OracleError, match="asks to wait 7200 s") as stopped:
        await call.complete(TURNS, Sampling())
    assert not isinstance(stopped.value, Unanswered)


async def test_a_server_that_only_ever_says_later_stops_the_run(waits: list[float]) -> None:
    script = Script(*(AttemptFailed("rate-limit", "429", retry_after_s=10.0) for _ in range(999)))
    with pytest.raises(OracleError, match="wait until the server takes calls") as stopped:
        await retrying(script, total_timeout_s=60.0, timeout_s=5.0).complete(TURNS, Sampling())
    assert not isinstance(stopped.value, Unanswered)


async def test_paid_and_unusable_replies_are_added_up(waits: list[float]) -> None:
    script = Script(good(""), AttemptFailed("reset", "gone"), good(" \n"))
    done = await retrying(script, max_unusable=3).complete(TURNS, Sampling())
    assert (done.text, done.replies) == ("ok", 3)
    assert done.wasted == Usage(input_tokens=4, output_tokens=2)


async def test_the_last_unusable_reply_goes_with_the_refusal(waits: list[float]) -> None:
    with pytest.raises(Unanswered) as refused:
        await retrying(Script(good(""), good("")), max_unusable=2).complete(TURNS, Sampling())
    completion = refused.value.completion
    assert completion is not None and (completion.replies, completion.wasted) == (
        2,
        Usage(input_tokens=2, output_tokens=1),
    )


async def test_no_slot_is_held_while_backing_off() -> None:
    limiter = Limiter(config(max_concurrency=1))
    retried = asyncio.Event()

    class Inner:
        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
            if messages[0].content == "fails" and not retried.is_set():
                retried.set()
                raise AttemptFailed("server-error", "500", retry_after_s=0.05)
            return good(messages[0].content)

    oracle = retrying(Limited(Inner(), limiter))
    first = asyncio.ensure_future(oracle.complete(user_turn("fails"), Sampling()))
    await retried.wait()
    assert (await oracle.complete(user_turn("other"), Sampling())).text == "other"
    assert not first.done() and limiter.in_flight == 0
    assert (await first).text == "fails"
