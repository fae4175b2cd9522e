"""Teacher and classifier over scripted oracles: what they ask, keep and refuse; and how every role is identified."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tapir.config import CascadeClassifierConfig, EndpointJudgeConfig, EndpointTeacherConfig, RefineConfig
from tapir.errors import OracleError
from tapir.oracles.base import Sampling
from tapir.oracles.roles import OracleClassifier, OracleJudge, OracleTeacher
from tapir.prompts import EXPAND, JUDGE_PAIR, JUDGE_SINGLE, LABEL, REFINE
from tapir.roles import Classifier, Judge, Teacher
from tapir.rows import Draft, Example, Label, Lesson, Message, Refused
from tapir.tasks import Task
from tapir.testing.scripted import ScriptedOracle, completion, unanswered

from .role_helpers import (
    CORPUS,
    Recorder,
    classifier,
    collect,
    drawn,
    endpoint,
    judge,
    labelled,
    new,
    reasons,
    row,
    teacher,
)

# ---- respond


async def test_the_conversation_is_sent_as_it_stands() -> None:
    oracle = ScriptedOracle({"": " <think>6*7</think> 42 \n"})
    one = row()
    turns = (Message(role="system", content="Be brief. {x}"), *one.turns)
    asked = Example(id="i", turns=turns, response="?", lineage=CORPUS)
    stage = Recorder()
    (found,) = await collect(teacher(oracle).respond(stage, [asked]))
    assert isinstance(found, Example)
    assert (found.id, found.turns, found.response) == ("i", turns, "42")
    assert (found.lineage.source, found.lineage.teacher, found.lineage.prompt) == ("corpus", "big", None)
    assert oracle.calls[0].messages == turns
    assert oracle.calls[0].sampling == Sampling()
    assert stage.expected == 1


@pytest.mark.parametrize(
    ("reply", "reason", "calls"),
    [
        (unanswered("timeout"), "timeout", 1),
        (unanswered("content-filter"), "content-filter", 1),
        (completion("4", is_cut=True), "truncated", 1),
        (completion("  "), "empty", 1),
        ("<think>hm</think>", "unreadable-response", 3),
        ("4<|im_end|>", "unreadable-response", 3),
    ],
)
async def test_a_response_that_cannot_be_used_is_a_refusal(reply: Any, reason: str, calls: int) -> None:
    oracle = ScriptedOracle({"times": reply, "": "fine"})
    found = await collect(teacher(oracle).respond(Recorder(), [row(), row("Say fine.")]))
    assert isinstance(found[0], Refused) and isinstance(found[1], Example)
    assert (found[0].id, found[0].reason, found[0].text) == (row().id, reason, "What is 6 times 7?")
    assert len(oracle.calls) == calls + 1


async def test_an_error_of_the_oracle_stops_the_verb() -> None:
    with pytest.raises(OracleError, match="wrong key"):
        await collect(teacher(ScriptedOracle({"": OracleError("wrong key")})).respond(Recorder(), [row()]))


# ---- expand


def instructions(*texts: str) -> str:
    return json.dumps({"instructions": texts})


async def expanded(oracle: ScriptedOracle, *plan: Any, taken: Sequence[str] = ()) -> tuple[list[Any], Recorder]:
    stage = Recorder()
    return await collect(teacher(oracle).expand(stage, plan, taken)), stage


async def test_new_instructions_carry_their_lineage() -> None:
    seeds = row("What is 6 times 7?"), row("What is 7 times 8?")
    oracle = ScriptedOracle({"": instructions("Add 2 and 3.", "Add 4 and 5.")})
    found, stage = await expanded(oracle, drawn(*seeds, count=2, round_=3))
    assert [one.instruction for one in found] == ["Add 2 and 3.", "Add 4 and 5."]
    draft = found[0]
    assert isinstance(draft, Draft)
    assert (draft.task, draft.turns) == (Task.MATH, (Message(role="user", content="Add 2 and 3."),))
    assert draft.lineage.parents == tuple(seed.id for seed in seeds)
    assert (draft.lineage.round, draft.lineage.teacher, draft.lineage.source) == (3, "big", "big")
    assert draft.lineage.prompt == EXPAND.text.digest
    assert stage.expected == 2 and stage.notes == {"surplus": 0, "asked_again": 0}


async def test_one_call_shows_all_seeds_of_a_draw_fenced_and_asks_for_its_count() -> None:
    seeds = row("Seed one {count}"), row("Seed two")
    oracle = ScriptedOracle({"": instructions("a b c")})
    await expanded(oracle, drawn(*seeds, count=4, task=Task.CODE_DEBUG))
    (call,) = oracle.calls
    assert call.sampling.temperature == 1.0 and call.sampling.max_tokens == 4096
    assert 'Write 4 new instructions of the task type "Code Debug"' in call.prompt
    for seed in seeds:
        assert f"\n{seed.instruction}\nEXAMPLE " in call.prompt
        assert seed.response not in call.prompt.replace(seed.instruction, "")


@pytest.mark.parametrize(
    ("reply", "kept", "refused"),
    [
        (instructions("a", "b", "c"), 3, []),
        (instructions("a", "b", "c", "d", "e"), 3, []),
        (instructions("a"), 1, ["not-written", "not-written"]),
        (instructions("a", "", "c"), 2, ["empty-instruction"]),
        (instructions("a", "a", "c"), 2, ["repeated"]),
        (instructions("", "b"), 1, ["empty-instruction", "not-written"]),
        (unanswered("server-error"), 0, ["server-error"] * 3),
        (completion(instructions("a"), is_cut=True), 0, ["truncated"] * 3),
        ("1. a\n2. b\n3. c", 0, ["unreadable-expansion"] * 3),
    ],
)
async def test_every_instruction_asked_for_is_kept_or_refused(reply: Any, kept: int, refused: list[str]) -> None:
    found, stage = await expanded(ScriptedOracle({"": reply}), drawn(count=3))
    assert sum(isinstance(one, Draft) for one in found) == kept
    assert reasons(found) == refused
    assert len(found) == stage.expected == 3
    assert len({one.id for one in found}) == len(found) - refused.count("repeated")


async def test_surplus_instructions_are_dropped_and_counted() -> None:
    _, stage = await expanded(ScriptedOracle({"": instructions("a", "b", "c", "d", "e")}), drawn(count=3))
    assert stage.notes["surplus"] == 2


async def test_what_was_written_before_is_refused_as_repeated() -> None:
    oracle = ScriptedOracle({"": instructions("Add 2 and 3.", "Add 4 and 5.")})
    first, _ = await expanded(oracle, drawn(seed=1))
    again, _ = await expanded(oracle, drawn(seed=1), drawn(seed=2), taken=[first[0].id])
    assert [getattr(one, "reason", one.id) for one in again] == ["repeated", first[1].id, "repeated", "repeated"]


async def test_draws_with_the_same_seeds_are_different_calls_and_the_same_draw_is_the_same_call() -> None:
    oracle = ScriptedOracle({"": instructions("a")})
    await expanded(oracle, drawn(seed=1), drawn(seed=2), drawn(seed=1, round_=2), drawn(seed=1))
    prompts = [call.prompt for call in oracle.calls]
    assert len(set(prompts)) == 3 and prompts[0] == prompts[3]


async def test_an_unreadable_expansion_is_asked_for_again() -> None:
    oracle = ScriptedOracle({"": ["1. a", instructions("a", "b")]})
    found, stage = await expanded(oracle, drawn(count=2))
    assert [one.instruction for one in found] == ["a", "b"]
    assert [call.sampling.attempt for call in oracle.calls] == [0, 1]
    assert stage.notes["asked_again"] == 1


# ---- refine


async def refined(oracle: ScriptedOracle, *rows: Any, settings: RefineConfig | None = None) -> list[Any]:
    stage = Recorder()
    found = await collect(teacher(oracle, settings).refine(stage, rows))
    assert stage.expected == len(rows)
    return found


async def test_a_seed_is_refined_by_its_tasks_prompt_with_its_own_response_shown() -> None:
    oracle = ScriptedOracle({"": "6 * 7 = 42.\n\nFinal answer: 42"})
    seed = labelled(response="42?")
    (found,) = await refined(oracle, seed)
    prompt = REFINE[Task.MATH]
    assert isinstance(found, Lesson)
    assert (found.id, found.turns, found.response) == (seed.id, seed.turns, "6 * 7 = 42.\n\nFinal answer: 42")
    assert (found.task, found.is_hard) == (Task.MATH, True)
    assert (found.lineage.teacher, found.lineage.prompt, found.lineage.license) == ("big", prompt.digest, "MIT")
    assert "\n42?\nEARLIER REPLY #" in oracle.calls[0].prompt
    assert "Final answer" in oracle.calls[0].prompt


async def test_a_draft_is_refined_without_an_earlier_reply() -> None:
    oracle = ScriptedOracle({"": "48"})
    (found,) = await refined(oracle, new(task=Task.CODE_DEBUG))
    assert found.response == "48" and found.lineage.parents == ("p",) and found.lineage.round == 1
    assert "(none)" in oracle.calls[0].prompt and "EARLIER REPLY" not in oracle.calls[0].prompt
    assert "Name the fault first" in oracle.calls[0].prompt


@pytest.mark.parametrize("settings", [RefineConfig(enabled=False), RefineConfig(plain_tasks=frozenset({Task.MATH}))])
async def test_without_refinement_seeds_keep_their_response_and_drafts_get_a_plain_one(settings: RefineConfig) -> None:
    oracle = ScriptedOracle({"": "48"})
    seed, draft = labelled(), new()
    kept, answered = await refined(oracle, seed, draft, settings=settings)
    assert (kept.response, kept.lineage, kept.is_hard) == ("42", CORPUS, True)
    assert (answered.response, answered.lineage.prompt, answered.lineage.teacher) == ("48", None, "big")
    assert [call.messages for call in oracle.calls] == [draft.turns]


async def test_only_plain_tasks_are_plain() -> None:
    oracle = ScriptedOracle({"": "text"})
    settings = RefineConfig(plain_tasks=frozenset({Task.MATH}))
    await refined(oracle, labelled(), labelled("Write a poem.", task=Task.WRITING), settings=settings)
    assert len(oracle.calls) == 1 and "finished piece" in oracle.calls[0].prompt


async def test_a_reply_that_announces_itself_is_asked_for_again_then_refused() -> None:
    oracle = ScriptedOracle({"times 7": ["Here is the improved answer:\n42", "42"], "": "Improved answer:\n48"})
    found = await refined(oracle, labelled(), new())
    assert found[0].response == "42"
    assert (found[1].id, found[1].reason) == (new().id, "unreadable-response")
    assert len(oracle.calls) == 2 + 3
    assert [call.sampling.temperature for call in oracle.calls if "times 8" in call.prompt] == [0.0, 0.3, 0.3]


# ---- classifier


async def test_the_named_task_becomes_the_label() -> None:
    oracle = ScriptedOracle({"times 7": "TASK: Math", "haiku": ["Writing", "TASK: Writing"], "": "TASK: Magic"})
    stage = Recorder()
    rows = [row(), new("Write a haiku."), row("Say abracadabra.")]
    found = await collect(classifier(oracle, max_asks=2).label(stage, rows))
    assert found[:2] == [
        Label(id=rows[0].id, task=Task.MATH, score=1.0, margin=1.0),
        Label(id=rows[1].id, task=Task.WRITING, score=1.0, margin=1.0),
    ]
    assert reasons(found) == ["unreadable-label"]
    assert stage.expected == 3 and len(oracle.calls) == 5
    assert "\nWhat is 6 times 7?\nUSER #" in oracle.calls[0].prompt


async def test_a_cascades_configuration_serves_as_well() -> None:
    config = CascadeClassifierConfig(kind="cascade", endpoint=endpoint())
    oracle = ScriptedOracle({"": "TASK: Law"})
    (found,) = await collect(OracleClassifier(oracle, config).label(Recorder(), [row()]))
    assert isinstance(found, Label) and found.task is Task.LAW


# ---- identity


def test_the_roles_fill_their_protocols() -> None:
    oracle = ScriptedOracle({})
    roles: tuple[Teacher, Judge, Classifier] = (teacher(oracle), judge(oracle), classifier(oracle))
    assert len(roles) == 3


def test_an_identity_is_json_and_names_the_prompts_of_its_verb_only() -> None:
    oracle = ScriptedOracle({})
    one = teacher(oracle)
    assert dict(one.identity("respond")) == {
        "kind": "endpoint",
        "model": "big",
        "model_version": "",
        "host": "judge.test:8000",
        "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2048, "seed": None},
        "max_asks": 3,
    }
    assert one.identity("expand")["prompts"] == EXPAND.digests
    assert one.identity("expand")["sampling"]["temperature"] == 1.0
    assert one.identity("refine")["prompts"] == {prompt.name: prompt.digest for prompt in REFINE.values()}
    assert judge(oracle).identity("score")["prompts"] == JUDGE_PAIR.digests
    assert judge(oracle, mode="single").identity("score")["prompts"] == JUDGE_SINGLE.digests
    assert classifier(oracle).identity("label")["prompts"] == LABEL.digests
    identities = [one.identity(verb) for verb in ("respond", "expand", "refine")]
    assert all(json.loads(json.dumps(dict(found))) == found for found in identities)


def test_every_setting_that_decides_a_reply_is_in_the_identity_and_no_secret_is() -> None:
    oracle = ScriptedOracle({})

    def identity(swap: bool = False, max_asks: int = 3, **settings: Any) -> str:
        config = EndpointJudgeConfig(kind="endpoint", endpoint=endpoint(**settings), swap=swap, max_asks=max_asks)
        return json.dumps(dict(OracleJudge(oracle, config).identity("score")))

    variants = [
        identity(),
        identity(swap=True),
        identity(max_asks=2),
        identity(model="other"),
        identity(model_version="2"),
        identity(base_url="http://other.test/v1"),
        identity(sampling={"temperature": 0.5}),
        identity(extra_body={"api_key": "hunter2"}),
        identity(extra_body={"api_key": "hunter3"}),
        identity(structured_output="always"),
    ]
    assert len(set(variants)) == len(variants)
    assert not any("hunter" in one for one in variants)
    same = identity(max_concurrency=3, api_key_env="SECRET_NAME", timeout_s=3)
    assert same == variants[0]


def test_switching_refinement_off_changes_the_identity_of_refine_alone() -> None:
    config = EndpointTeacherConfig(kind="endpoint", endpoint=endpoint())
    on, off = (OracleTeacher(ScriptedOracle({}), config, RefineConfig(enabled=enabled)) for enabled in (True, False))
    assert on.identity("refine") != off.identity("refine")
    assert on.identity("expand") == off.identity("expand") and on.identity("respond") == off.identity("respond")
