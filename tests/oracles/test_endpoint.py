"""Every way a call can go, over a real socket."""

import asyncio
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tapir.errors import ConfigError, OracleError
from tapir.oracles.base import Sampling, Unanswered
from tapir.oracles.ledger import HOPELESS
from tapir.oracles.ledger_file import LedgerFile
from tapir.oracles.stream import in_order
from tapir.rows import user_turn
from tapir.testing.acts import (
    Act,
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

from .conftest import Open, Serve

TURNS = user_turn("What is six times seven?")
JSON = Sampling(json_schema={"type": "object", "properties": {"a": {"type": "integer"}}})


async def test_a_reply_comes_back_with_its_usage(serve: Serve, opened: Open) -> None:
    server = serve(scripted(reply("42", usage=(12, 3))))
    async with opened(server) as oracle:
        completion = await oracle.complete(TURNS, Sampling(temperature=0.5, max_tokens=99, seed=7, attempt=2))
    assert (completion.text, completion.finish, completion.model) == ("42", "stop", "faulty-1")
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (12, 3)
    assert not completion.usage.is_estimated and not completion.is_replayed
    assert server.calls[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "What is six times seven?"}],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 99,
        "seed": 9,
    }


async def test_usage_that_the_server_omits_is_estimated_and_marked(serve: Serve, opened: Open) -> None:
    async with opened(serve(scripted(reply("eight ch" * 2, usage=None)))) as oracle:
        usage = (await oracle.complete(TURNS, Sampling())).usage
    assert usage.is_estimated
    assert (usage.input_tokens, usage.output_tokens) == (10, 4)


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(502, "<html>bad gateway</html>"),
        status(503, retry_after="0"),
        status(529),
        status(429, retry_after="0"),
        status(429),
        status(408),
        status(504),
        reset(),
        torn(),
        malformed(),
        malformed(b"[]"),
        malformed(b'{"choices": []}'),
        malformed(b'{"error": {"message": "upstream died"}}'),
        malformed(b"\xff\xfe"),
        wrong_type(),
        empty(),
        cut_off(),
    ],
    ids=lambda act: f"{act.wire}-{act.status}-{act.body!r:.30}-{act.finish}",
)
async def test_a_fault_costs_one_more_request_and_no_row(serve: Serve, opened: Open, fault: Act) -> None:
    server = serve(scripted(fault, then=reply("42")))
    async with opened(server) as oracle:
        assert (await oracle.complete(TURNS, Sampling())).text == "42"
    assert len(server.calls) == 2


@pytest.mark.parametrize("fault", [hang(), slow_loris()], ids=["hang", "slow-loris"])
async def test_a_server_that_never_finishes_is_left_after_the_timeout(serve: Serve, opened: Open, fault: Act) -> None:
    server = serve(scripted(fault, then=reply("42")))
    async with opened(server, timeout_s=0.1) as oracle:
        assert (await oracle.complete(TURNS, Sampling())).text == "42"
        assert oracle.traffic.failures == {"timeout": 1}


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        (status(500, "boom"), "server-error", 3),
        (reset(), "connect", 3),
        (hang(), "timeout", 3),
        (malformed(), "malformed", 3),
        (wrong_type(), "malformed", 3),
        (empty(), "empty", 2),
        (cut_off(), "truncated", 2),
        (reply("no", finish="content_filter"), "content-filter", 1),
        (status(400, "context too long", error="context_length_exceeded"), "rejected", 1),
        (status(413, "too large"), "rejected", 1),
        (status(422, "bad"), "rejected", 1),
        (status(400, "filtered", error="content_filter"), "content-filter", 1),
    ],
)
async def test_what_remains_after_all_attempts_is_refused_with_the_reason(
    serve: Serve, opened: Open, fault: Act, reason: str, requests: int
) -> None:
    server = serve(scripted(then=fault))
    async with opened(server, timeout_s=0.05, max_attempts=3) as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, Sampling())
    assert refused.value.reason == reason
    assert str(refused.value).startswith(f'teacher "m" at http://127.0.0.1:{server.port}/v1: ')
    assert "\n" not in str(refused.value)
    assert len(server.calls) == requests


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (status(401, "bad key"), "401 bad key; check the key"),
        (status(403, "not yours"), "403 not yours; the key"),
        (status(404, "no model m", error="model_not_found"), "404 no model m; check model"),
        (status(400, "no model m", error="model_not_found"), "400 no model m"),
        (status(402, "pay"), "402 pay; the account"),
        (status(429, "pay", error="insufficient_quota"), "429 pay; the account"),
        (
            Act(status=307, headers={"Location": "http://127.0.0.1:9/"}, body=b""),
            "307, moved to http://127.0.0.1:9/; the key",
        ),
    ],
)
async def test_what_no_retry_can_help_stops_at_once_with_one_line(
    serve: Serve, opened: Open, fault: Act, says: str
) -> None:
    server = serve(scripted(then=fault))
    async with opened(server) as oracle:
        with pytest.raises(OracleError) as stopped:
            await oracle.complete(TURNS, Sampling())
    assert type(stopped.value) is OracleError
    assert says in str(stopped.value) and "\n" not in str(stopped.value)
    assert len(server.calls) == 1


async def test_a_server_that_is_not_there_stops_the_run_instead_of_refusing_rows(serve: Serve, opened: Open) -> None:
    server = serve()
    server.stop()
    async with opened(server, max_attempts=2) as oracle:
        with pytest.raises(OracleError, match=r"Cannot connect to host 127\.0\.0\.1") as stopped:
            await oracle.complete(TURNS, Sampling())
    assert not isinstance(stopped.value, Unanswered)


async def test_a_server_that_takes_no_calls_stops_the_run_instead_of_refusing_rows(serve: Serve, opened: Open) -> None:
    async with opened(serve(scripted(then=status(503, "loading", retry_after="0"))), max_attempts=2) as oracle:
        with pytest.raises(OracleError, match=r"503 loading .*wait until the server takes calls") as stopped:
            await oracle.complete(TURNS, Sampling())
    assert not isinstance(stopped.value, Unanswered)


async def test_a_row_that_alone_meets_an_overloaded_server_is_refused(serve: Serve, opened: Open) -> None:
    overloaded = replace(status(503, retry_after="0"), latency_s=0.5)  # time enough for another row to get through
    server = serve(lambda call: overloaded if call.prompt == "heavy" else reply())
    async with opened(server, max_attempts=2) as oracle:
        heavy = asyncio.ensure_future(oracle.complete(user_turn("heavy"), Sampling()))
        await asyncio.to_thread(server.wait_for_requests, 1)
        await oracle.complete(user_turn("light"), Sampling())
        with pytest.raises(Unanswered) as refused:
            await heavy
    assert refused.value.reason == "server-error"


async def test_a_body_beyond_the_bound_is_not_read(serve: Serve, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapir.oracles.endpoint.LARGEST_REPLY", 1000)
    server = serve(scripted(huge(5_000_000), then=reply("42")))
    async with opened(server) as oracle:
        assert (await oracle.complete(TURNS, Sampling())).text == "42"
        assert oracle.traffic.failures == {"malformed": 1}


async def test_a_long_error_page_is_shown_as_one_short_line(serve: Serve, opened: Open) -> None:
    page = Act(status=400, body=b"<p>\n" * 100_000, content_type="text/html")
    async with opened(serve(scripted(page))) as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, Sampling())
    assert len(str(refused.value)) < 500


async def test_an_error_in_a_body_of_status_200_means_what_its_code_says(serve: Serve, opened: Open) -> None:
    def error(code: int) -> Act:
        return malformed(b'{"error": {"message": "upstream says no", "code": %d}}' % code)

    async with opened(serve(scripted(error(429), error(502), reply("42")))) as oracle:
        assert (await oracle.complete(TURNS, Sampling())).text == "42"
        assert oracle.traffic.failures == {"rate-limit": 1, "overloaded": 1}
    async with opened(serve(scripted(error(401)))) as oracle:
        with pytest.raises(OracleError, match="401 upstream says no; check the key"):
            await oracle.complete(user_turn("another"), Sampling())


@pytest.mark.parametrize(
    ("message", "settings", "step"),
    [
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", {}, "max_completion_tokens"),
        ("Unrecognized request argument supplied: max_completion_tokens", {"max_tokens_field": "max_completion_tokens"},
         "set max_tokens_field: max_tokens"),
        ("Unsupported value: 'temperature' does not support 0 with this model.", {}, "sampling.temperature"),
        ("`temperature` and `top_p` cannot both be specified for this model.", {}, "extra_body: {top_p: null}"),
        ("Extra inputs are not permitted: thinking", {"extra_body": {"thinking": True}}, "{thinking: null}"),
    ],
)  # fmt: skip
async def test_a_field_that_the_server_does_not_take_stops_the_run_and_names_the_setting(
    serve: Serve, opened: Open, message: str, settings: dict[str, Any], step: str
) -> None:
    server = serve(scripted(then=status(400, message)))
    async with opened(server, **settings) as oracle:
        with pytest.raises(ConfigError, match=re.escape(step)):
            await oracle.complete(TURNS, Sampling())
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' is too large: 900. This model's maximum context length is 8192 tokens and your request has 8000",
        "Input image is not supported",
        "temperature must be a number",
    ],
)
async def test_a_fault_of_one_prompt_refuses_its_row_alone(serve: Serve, opened: Open, message: str) -> None:
    async with opened(serve(scripted(then=status(400, message)))) as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, Sampling())
    assert refused.value.reason == "rejected"


async def test_a_prompt_that_moderation_forbids_refuses_its_row_alone(serve: Serve, opened: Open) -> None:
    async with opened(serve(scripted(status(403, "Your input was flagged by moderation"), reply("42")))) as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, Sampling())
        assert refused.value.reason == "content-filter"
        assert (await oracle.complete(user_turn("another"), Sampling())).text == "42"


async def test_null_leaves_a_field_out(serve: Serve, opened: Open) -> None:
    server = serve()
    async with opened(server, extra_body={"top_p": None, "reasoning_effort": "low"}) as oracle:
        await oracle.complete(TURNS, Sampling())
    assert "top_p" not in server.calls[0].body
    assert server.calls[0].body["reasoning_effort"] == "low"


async def test_an_oracle_without_one_usable_reply_is_given_up(serve: Serve, opened: Open) -> None:
    server = serve(lambda call: malformed(b"<html>Please log in</html>"))
    async with opened(server, max_attempts=2) as oracle:
        reasons = []
        with pytest.raises(OracleError, match="none of the first 20 calls got a usable reply") as stopped:
            for i in range(100):
                try:
                    await oracle.complete(user_turn(str(i)), Sampling())
                except Unanswered as refused:
                    reasons.append(refused.reason)
    assert type(stopped.value) is OracleError
    assert reasons == ["malformed"] * (HOPELESS - 1)
    assert len(server.calls) == 2 * HOPELESS


async def test_one_usable_reply_is_enough_to_refuse_rows_ever_after(serve: Serve, opened: Open) -> None:
    server = serve(lambda call: reply("42") if call.prompt == "good" else status(400, "no"))
    for _ in range(2):  # the second time the ledger gives the good reply
        async with opened(server) as oracle:
            await oracle.complete(user_turn("good"), Sampling())
            for i in range(2 * HOPELESS):
                with pytest.raises(Unanswered):
                    await oracle.complete(user_turn(str(i)), Sampling())


async def test_work_that_stops_keeps_the_replies_on_the_wire_and_asks_for_no_more(
    serve: Serve, opened: Open, tmp_path: Path
) -> None:
    server = serve(lambda call: reply("42", latency_s=0.3))
    async with opened(server, max_concurrency=6) as oracle:

        async def all_of_them() -> None:
            ask = partial(oracle.complete, sampling=Sampling())
            async for _ in in_order(ask, [user_turn(str(i)) for i in range(40)], ahead=12):
                pass

        work = asyncio.create_task(all_of_them())
        await asyncio.to_thread(server.wait_for_requests, 6)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    with LedgerFile(tmp_path / "ledger.sqlite") as ledger:
        assert len(list(ledger.entries())) == 6
    assert len(server.calls) == 6


async def test_a_redirect_takes_the_key_nowhere(serve: Serve, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    other = serve()
    server = serve(scripted(Act(status=302, headers={"Location": f"{other.base_url}/chat/completions"}, body=b"")))
    async with opened(server) as oracle:
        with pytest.raises(OracleError, match="302"):
            await oracle.complete(TURNS, Sampling())
    assert other.calls == []


async def test_a_refusal_field_counts_as_filtered(serve: Serve, opened: Open) -> None:
    body = b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}, "finish_reason": "stop"}]}'
    async with opened(serve(scripted(malformed(body)))) as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, Sampling())
    assert refused.value.reason == "content-filter"


async def test_a_student_may_answer_nothing_and_may_be_cut_off(serve: Serve, opened: Open) -> None:
    server = serve(scripted(empty(), cut_off("Once")))
    async with opened(server, as_is=True) as oracle:
        assert (await oracle.complete(TURNS, Sampling())).text == ""
        assert (await oracle.complete(TURNS, Sampling(attempt=1))).finish == "length"
    assert len(server.calls) == 2


def knows_no_schema(call: Any) -> Act:
    if "response_format" in call.body:
        return status(400, "response_format.json_schema is not supported")
    return reply("{}")


async def test_a_schema_is_dropped_once_the_server_says_that_it_knows_none(serve: Serve, opened: Open) -> None:
    server = serve(knows_no_schema)
    async with opened(server) as oracle:
        for i in range(3):
            assert (await oracle.complete(user_turn(f"q{i}"), JSON)).text == "{}"
    assert ["response_format" in call.body for call in server.calls] == [True, False, False, False]


async def test_a_schema_that_must_be_kept_is_kept(serve: Serve, opened: Open) -> None:
    server = serve(knows_no_schema)
    async with opened(server, structured_output="always") as oracle:
        with pytest.raises(Unanswered) as refused:
            await oracle.complete(TURNS, JSON)
    assert refused.value.reason == "rejected"


async def test_a_schema_is_sent_as_openai_has_it(serve: Serve, opened: Open) -> None:
    server = serve()
    async with opened(server) as oracle:
        await oracle.complete(TURNS, JSON)
    assert server.calls[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": JSON.json_schema, "strict": True},
    }


async def test_further_fields_of_the_request_are_sent(serve: Serve, opened: Open) -> None:
    server = serve()
    async with opened(
        server, extra_body={"reasoning_effort": "low"}, max_tokens_field="max_completion_tokens"
    ) as oracle:
        await oracle.complete(TURNS, Sampling(max_tokens=5))
    body = server.calls[0].body
    assert (body["reasoning_effort"], body["max_completion_tokens"]) == ("low", 5)
    assert "max_tokens" not in body


async def test_text_that_utf8_cannot_carry_is_asked_all_the_same(serve: Serve, opened: Open) -> None:
    server = serve()
    async with opened(server) as oracle:
        await oracle.complete(user_turn("half a pair: \ud800 and a nul: \x00"), Sampling())
    assert server.prompts == ["half a pair: ? and a nul: \x00"]


async def test_cancelling_a_call_frees_its_slot_and_harms_no_other(serve: Serve, opened: Open) -> None:
    server = serve(lambda call: hang() if call.prompt == "hang" else reply("fine"))
    async with opened(server, max_concurrency=1) as oracle:
        stuck = asyncio.ensure_future(oracle.complete(user_turn("hang"), Sampling()))
        waits = asyncio.ensure_future(oracle.complete(user_turn("waits"), Sampling()))
        await asyncio.to_thread(server.wait_for_requests, 1)
        stuck.cancel()
        assert (await waits).text == "fine"
        assert oracle.traffic.in_flight == 0
        with pytest.raises(asyncio.CancelledError):
            await stuck


async def test_faults_cost_no_row_and_not_one_request_more_than_needed(serve: Serve, opened: Open) -> None:
    faults = {0: status(500), 1: reset(), 2: malformed()}

    def plan(call: Any) -> Act:
        number = int(call.prompt)
        return faults[number % 50] if call.attempt == 0 and number % 50 in faults else reply(f"answer {number}")

    server = serve(plan, latency_s=0.002)
    async with opened(server) as oracle:

        async def ask(i: int) -> str:
            return (await oracle.complete(user_turn(str(i)), Sampling())).text

        texts = [text async for text in in_order(ask, range(500), oracle.ahead)]
    assert texts == [f"answer {i}" for i in range(500)]
    assert len(server.calls) == 530


async def test_hangs_make_the_run_one_timeout_longer_and_no_more(serve: Serve, opened: Open) -> None:
    server = serve(lambda call: hang() if call.attempt == 0 and int(call.prompt) % 50 == 3 else reply())
    loop = asyncio.get_running_loop()
    async with opened(server, timeout_s=1.0, max_concurrency=32) as oracle:

        async def ask(i: int) -> str:
            return (await oracle.complete(user_turn(str(i)), Sampling())).text

        begin = loop.time()
        assert len([text async for text in in_order(ask, range(1000), oracle.ahead)]) == 1000
        assert loop.time() - begin < 2.9
    assert len(server.calls) == 1020
