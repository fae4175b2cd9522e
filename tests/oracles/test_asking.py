"""The form that a role asks in, chosen once; and calls that keep their keys through it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tapir.config import EndpointJudgeConfig
from tapir.errors import OracleError
from tapir.oracles.asking import PROBE, Asker
from tapir.oracles.base import Completion, Sampling
from tapir.oracles.roles import OracleJudge
from tapir.prompts import JUDGE_PAIR
from tapir.rows import Judged, Message
from tapir.testing.scripted import GullibleJudge, Reply, ScriptedOracle, completion, unanswered
from tapir.testing.server import Act, status
from tapir.testing.server import Call as Request
from tapir.testing.server import reply as served

from .conftest import Open, Serve
from .role_helpers import Recorder, answer, collect, endpoint, judge, row, stream

CITY = '{"city": "Paris"}'
JSON_VERDICT = '{"rationale": "B is wrong.", "score_a": 9, "score_b": 2}'
TEXT_VERDICT = "B is wrong.\nFINAL-SCORES: A=9 B=2"


def is_probe(messages: Sequence[Message]) -> bool:
    return messages[-1].content == PROBE.template


def probed(reply: Reply) -> ScriptedOracle:
    """Answers the probe with `reply`, and verdicts in the form asked for."""

    def script(messages: Sequence[Message], sampling: Sampling) -> Reply:
        if is_probe(messages):
            return reply
        return JSON_VERDICT if sampling.json_schema else TEXT_VERDICT

    return ScriptedOracle(script)


async def judge_rows(oracle: ScriptedOracle, count: int = 3, structured_output: str = "auto") -> list[Any]:
    rows = [row(f"Number {n}") for n in range(count)]
    role = judge(oracle, structured_output=structured_output)
    return await collect(role.score(Recorder(), rows, stream([answer(one) for one in rows])))


@pytest.mark.parametrize(
    ("reply", "is_structured"),
    [
        (CITY, True),
        (f"<think>Easy.</think>\n{CITY}", True),
        ("Paris", False),
        ("Paris.\n", False),
        ('{"answer": "Paris"}', False),
        ('{"city": 75}', False),
        (f"```json\n{CITY}\n```", False),
        (unanswered("rejected"), False),
        (unanswered("empty"), False),
        (completion("Pa", is_cut=True), False),
    ],
)
async def test_the_form_follows_what_the_server_does_with_a_schema(reply: Any, is_structured: bool) -> None:
    oracle = probed(reply)
    found = await judge_rows(oracle)
    assert [one.teacher_score for one in found] == [9.0] * 3
    probes = [call for call in oracle.calls if is_probe(call.messages)]
    asked = [call for call in oracle.calls if not is_probe(call.messages)]
    assert len(probes) == 1 and len(asked) == 3
    assert probes[0].sampling.json_schema == PROBE.schema
    prompt = JUDGE_PAIR.prompt(is_structured=is_structured)
    assert all(call.sampling.json_schema == prompt.schema for call in asked)
    assert all(call.prompt.endswith(prompt.template[-40:]) for call in asked)


@pytest.mark.parametrize(("setting", "schema"), [("always", True), ("never", False)])
async def test_a_fixed_form_is_not_probed(setting: str, schema: bool) -> None:
    oracle = probed("Paris")
    found = await judge_rows(oracle, structured_output=setting)
    assert all(isinstance(one, Judged) for one in found)
    assert [call.sampling.json_schema is not None for call in oracle.calls] == [schema] * 3


async def test_a_batch_endpoint_is_not_probed() -> None:
    oracle = probed("Paris")
    asker = Asker(oracle, endpoint(structured_output="auto", batch=True, batch_rows=100), max_asks=1)
    assert await asker.is_structured() and oracle.calls == [] and asker.ahead == 200


async def test_many_rows_at_once_wait_for_one_probe() -> None:
    class Slow:
        calls = 0

        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
            self.calls += is_probe(messages)
            await asyncio.sleep(0.01)
            return completion(CITY if is_probe(messages) else JSON_VERDICT)

    oracle = Slow()
    found = await judge_rows(oracle, 50)  # type: ignore[arg-type]
    assert len(found) == 50 and oracle.calls == 1


async def test_a_probe_that_fails_for_now_is_tried_again_before_the_run_stops() -> None:
    waiting: list[Reply] = [unanswered("timeout"), unanswered("server-error"), CITY]
    oracle = ScriptedOracle(lambda messages, _: waiting.pop(0) if is_probe(messages) else JSON_VERDICT)
    assert len(await judge_rows(oracle)) == 3
    oracle = probed(unanswered("timeout"))
    with pytest.raises(OracleError, match="no way to tell whether the server offers structured output"):
        await judge_rows(oracle)
    assert [call.sampling.attempt for call in oracle.calls][:3] == [0, 1, 2]
    assert all(is_probe(call.messages) for call in oracle.calls)


async def test_asking_again_raises_a_low_temperature_and_keeps_a_high_one() -> None:
    for temperature, then in ((0.0, 0.3), (0.2, 0.3), (1.0, 1.0)):
        oracle = ScriptedOracle({"": "unreadable"})
        config = EndpointJudgeConfig(
            kind="endpoint", endpoint=endpoint(sampling={"temperature": temperature, "seed": 5}), max_asks=2
        )
        await collect(OracleJudge(oracle, config).score(Recorder(), [row()], stream([answer(row())])))
        assert [call.sampling.temperature for call in oracle.calls] == [temperature, then]
        assert [call.sampling.seed for call in oracle.calls] == [5, 5]


# ---- over a socket and a ledger


def refuses_schemas(request: Request) -> Act:
    """A server that has never heard of structured output."""
    if "response_format" in request.body:
        return status(400, "unknown field response_format")
    if is_probe([Message(role="user", content=request.prompt)]):
        return served("Paris")
    return served("B is wrong.\nFINAL-SCORES: A=9 B=2" if "unreadable" not in request.prompt else "8 and 2")


@pytest.mark.usefixtures("fast_backoff")
async def test_a_second_run_asks_the_same_calls_and_pays_for_none(serve: Serve, opened: Open) -> None:
    server = serve(refuses_schemas)
    rows = [row("Number 1"), row("Number 2 unreadable")]
    outcomes = []
    for _ in range(2):
        async with opened(server) as oracle:
            config = EndpointJudgeConfig(
                kind="endpoint", endpoint=endpoint(base_url=server.base_url, model="m", structured_output="auto")
            )
            role = OracleJudge(oracle, config)
            outcomes.append(await collect(role.score(Recorder(), rows, stream([answer(one) for one in rows]))))
        paid = len(server.calls)
    assert outcomes[0] == outcomes[1]
    assert [getattr(one, "reason", None) for one in outcomes[0]] == [None, "unreadable-verdict"]
    assert paid == 2 + 1 + 3  # the probe with its schema and without, one verdict, three unreadable ones


# ---- the scripted oracles themselves


async def test_a_scripted_oracle_replies_by_key_and_attempt_and_remembers_its_calls() -> None:
    oracle = ScriptedOracle({"one": ["a", "b"], "two": unanswered("empty"), "three": completion("c", is_cut=True)})

    async def ask(text: str, attempt: int = 0) -> Completion:
        return await oracle.complete([Message(role="user", content=text)], Sampling(attempt=attempt))

    assert [(await ask("one", attempt)).text for attempt in range(3)] == ["a", "b", "b"]
    assert (await ask("three")).finish == "length"
    with pytest.raises(OracleError, match="scripted failure: empty"):
        await ask("two")
    with pytest.raises(LookupError, match="the script has no reply to: four"):
        await ask("four")
    assert [call.prompt for call in oracle.calls] == ["one", "one", "one", "three", "two", "four"]


def test_testing_offers_the_scripted_oracles() -> None:
    from tapir import testing

    assert testing.ScriptedOracle is ScriptedOracle and testing.GullibleJudge is GullibleJudge
