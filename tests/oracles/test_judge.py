"""The judge over scripted oracles: what it asks, scores and refuses."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tapir.oracles.base import Sampling
from tapir.rows import Answer, Example, Judged, Message, Refused
from tapir.testing.scripted import ScriptedOracle, completion, unanswered

from .role_helpers import (
    CORPUS,
    Recorder,
    answer,
    collect,
    judge,
    reasons,
    row,
    stream,
)

VERDICT = "B is wrong.\nFINAL-SCORES: A=9 B=2.5"


async def judged(oracle: ScriptedOracle, rows: Sequence[Example], answers: Sequence[Answer], **settings: Any) -> Any:
    stage = Recorder()
    found = await collect(judge(oracle, **settings).score(stage, rows, stream(answers)))
    return found, stage


async def test_both_answers_are_scored_in_one_call_the_reference_first() -> None:
    oracle = ScriptedOracle({"": VERDICT})
    one = row()
    (found,), stage = await judged(oracle, [one], [answer(one)])
    assert isinstance(found, Judged)
    assert (found.teacher_score, found.student_score, found.rationale) == (9.0, 2.5, "B is wrong.")
    assert (found.id, found.turns, found.response, found.student_response) == (one.id, one.turns, "42", "41")
    assert found.lineage == CORPUS
    assert found.judge_detail is not None
    assert json.loads(found.judge_detail) == {
        "mode": "pair",
        "calls": [{"first": "reference", "reference": 9.0, "student": 2.5, "asks": 1}],
    }
    (call,) = oracle.calls
    prompt = call.prompt
    assert prompt.index("\n42\nANSWER A #") < prompt.index("\n41\nANSWER B #")
    assert all(word in prompt for word in ("helpfulness", "relevance", "accuracy", "level of detail"))
    assert call.sampling == Sampling()
    assert stage.expected == 1 and stage.notes == {"asked_again": 0}


async def test_swapping_averages_two_calls_and_records_the_order_effect() -> None:
    oracle = ScriptedOracle({"\n42\nANSWER A": "One.\nFINAL-SCORES: A=9 B=4", "": "Two.\nFINAL-SCORES: A=6 B=8"})
    one = row()
    (found,), stage = await judged(oracle, [one], [answer(one)], swap=True)
    assert (found.teacher_score, found.student_score, found.rationale) == (8.5, 5.0, "One.")
    assert json.loads(found.judge_detail) == {
        "mode": "pair",
        "calls": [
            {"first": "reference", "reference": 9.0, "student": 4.0, "asks": 1},
            {"first": "student", "reference": 8.0, "student": 6.0, "asks": 1},
        ],
        "order_effect": 1.5,
        "swapped_rationale": "Two.",
    }
    assert len(oracle.calls) == 2 and stage.notes["order_effect"] == 1.5


async def test_a_row_whose_swapped_call_fails_is_refused() -> None:
    oracle = ScriptedOracle({"\n42\nANSWER A": VERDICT, "": unanswered()})
    found, _ = await judged(oracle, [row()], [answer(row())], swap=True)
    assert reasons(found) == ["timeout"]


async def test_single_mode_scores_each_response_in_a_call_of_its_own() -> None:
    oracle = ScriptedOracle({"\n42\nANSWER #": "Right.\nFINAL-SCORE: 10", "": "Wrong.\nFINAL-SCORE: 1.5"})
    (found,), _ = await judged(oracle, [row()], [answer(row())], mode="single")
    assert (found.teacher_score, found.student_score, found.rationale) == (10.0, 1.5, "Right.\n\nWrong.")
    assert json.loads(found.judge_detail)["calls"][1] == {"shown": "student", "score": 1.5, "asks": 1}
    assert len(oracle.calls) == 2 and all("\n42\n" not in c.prompt or "\n41\n" not in c.prompt for c in oracle.calls)


async def test_an_unreadable_verdict_is_asked_for_again_under_a_new_key() -> None:
    oracle = ScriptedOracle({"": ["8 and 2", "A: 8/10, B: 2/10", VERDICT]})
    (found,), stage = await judged(oracle, [row()], [answer(row())])
    assert isinstance(found, Judged) and found.teacher_score == 9.0
    assert [call.sampling.attempt for call in oracle.calls] == [0, 1, 2]
    assert len({call.prompt for call in oracle.calls}) == 1
    assert json.loads(found.judge_detail or "")["calls"][0]["asks"] == 3
    assert stage.notes == {"asked_again": 2}


@pytest.mark.parametrize("asks", [1, 2, 5])
async def test_a_verdict_that_stays_unreadable_is_refused_never_guessed(asks: int) -> None:
    oracle = ScriptedOracle({"": "I'd say 8 and 2."})
    (found,), stage = await judged(oracle, [row()], [answer(row())], max_asks=asks)
    assert isinstance(found, Refused)
    assert (found.id, found.reason, found.text) == (row().id, "unreadable-verdict", "What is 6 times 7?")
    assert found.detail == (f'the last line is not a verdict (asked {asks} times; the last reply: "I\'d say 8 and 2.")')
    assert len(oracle.calls) == asks and stage.expected == 1


async def test_rows_that_cannot_be_judged_are_refused_without_a_call() -> None:
    oracle = ScriptedOracle({})
    stray = Answer(id="unknown", response="41", finish="stop", tokens=1)
    blank = row("Blank", " \n")
    found, stage = await judged(oracle, [blank], [stray, answer(blank)])
    assert reasons(found) == ["no-reference", "empty-reference"]
    assert oracle.calls == [] and stage.expected == 2


async def test_an_empty_answer_is_judged_like_any_other() -> None:
    oracle = ScriptedOracle({"\n\nANSWER B #": "Nothing.\nFINAL-SCORES: A=9 B=1"})
    (found,), _ = await judged(oracle, [row()], [answer(row(), "")])
    assert found.student_score == 1.0


async def test_answers_are_judged_while_they_come_and_come_out_in_order() -> None:
    rows = [row(f"Number {n}") for n in range(5)]
    more = asyncio.Event()

    async def slow() -> AsyncIterator[Answer]:
        yield answer(rows[3])
        await more.wait()
        for one in (rows[0], rows[4]):
            yield answer(one)

    stage = Recorder()
    verdicts = judge(ScriptedOracle({"": VERDICT})).score(stage, rows, slow())
    assert (await anext(verdicts)).id == rows[3].id
    assert stage.expected is None
    more.set()
    assert [one.id async for one in verdicts] == [rows[0].id, rows[4].id]
    assert stage.expected == 3


async def test_leaving_early_ends_the_calls_in_flight() -> None:
    ended = asyncio.Event()

    class Hanging:
        async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Any:
            if "Number 0" in messages[-1].content:
                return completion(VERDICT)
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

    rows = [row(f"Number {n}") for n in range(3)]
    verdicts: Any = judge(Hanging()).score(Recorder(), rows, stream([answer(one) for one in rows]))
    await anext(verdicts)
    await asyncio.sleep(0)
    await verdicts.aclose()
    assert ended.is_set()
