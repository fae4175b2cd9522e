"""The world in the roles of a run."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tapir.build import build_corpus
from tapir.config import CorpusConfig, RefineConfig
from tapir.rows import Answer, Draft, Draw, Example, Judged, Label, Lesson, Lineage, Refused, example, user_turn
from tapir.tasks import Task
from tapir.world.families import solve
from tapir.world.roles import (
    NOT_OF_WORLD,
    WorldClassifier,
    WorldCorpus,
    WorldJudge,
    WorldTeacher,
    corpus_rows,
    evaluation_set,
)

POEM = example(user_turn("Write a poem."), "Roses are red.", Lineage(source="elsewhere"))


class Watched:
    """A stage that remembers how many rows were expected."""

    name = "stage"
    work = Path("unused")
    expected: int | None = None

    def expect(self, rows: int) -> None:
        self.expected = rows

    def note(self, **values: Any) -> None:
        raise AssertionError("nothing to note")

    def progress(self, done: float, total: float, text: str = "") -> None:
        raise AssertionError("nothing to show")


async def collect(rows: AsyncIterator[Any], stage: Watched) -> list[Any]:
    found = [row async for row in rows]
    assert len(found) == stage.expected
    return found


async def one_by_one(rows: list[Answer]) -> AsyncIterator[Answer]:
    for row in rows:
        yield row


def answer(row: Example, response: str) -> Answer:
    return Answer(id=row.id, response=response, finish="stop", tokens=3)


async def test_the_corpus_yields_every_row_with_its_direct_response() -> None:
    stage = Watched()
    rows = await collect(WorldCorpus(seed=1, n=40).read(stage), stage)
    assert rows == corpus_rows(1, 40)
    assert all(row.response == solve(row.instruction).direct for row in rows)


async def test_the_teacher_responds_in_steps_and_refuses_what_is_not_of_the_world() -> None:
    stage = Watched()
    rows = [*corpus_rows(0, 5), POEM]
    found = await collect(WorldTeacher().respond(stage, rows), stage)
    assert [row.response for row in found[:5]] == [solve(row.instruction).refined for row in rows[:5]]
    assert [row.id for row in found] == [row.id for row in rows]
    assert isinstance(found[5], Refused)
    assert found[5].reason == NOT_OF_WORLD


async def test_expansion_writes_the_asked_number_of_new_instructions_of_the_task() -> None:
    seeds = tuple(row for row in corpus_rows(0) if solve(row.instruction).family == "code")[:4]
    plan = [Draw(id=f"d{i}", round=2, task=Task.CODE_GENERATION, seeds=seeds, count=30, seed=i) for i in range(3)]
    stage = Watched()
    drafts = await collect(WorldTeacher().expand(stage, plan, []), stage)
    assert len(drafts) == 90
    assert {draft.task for draft in drafts} == {Task.CODE_GENERATION}
    assert {draft.lineage.round for draft in drafts} == {2}
    by_id = {seed.id: solve(seed.instruction).difficulty for seed in seeds}
    for draft in drafts:
        assert abs(solve(draft.instruction).difficulty - by_id[draft.lineage.parents[0]]) <= 1
    assert drafts == await collect(WorldTeacher().expand(stage, plan, []), stage)


async def test_what_a_draw_gives_depends_on_that_draw_alone() -> None:
    seeds = tuple(row for row in corpus_rows(0) if solve(row.instruction).family == "math")[:3]
    plan = [Draw(id=f"d{i}", round=1, task=Task.MATH, seeds=seeds, count=10, seed=i) for i in range(2)]
    stage = Watched()
    both = await collect(WorldTeacher().expand(stage, plan, []), stage)
    second = await collect(WorldTeacher().expand(stage, plan[1:], [both[0].id]), stage)
    assert both[10:] == second


async def test_expansion_of_a_foreign_seed_is_refused_as_often_as_it_was_asked_for() -> None:
    stage = Watched()
    plan = [Draw(id="d", round=1, task=Task.MATH, seeds=(POEM,), count=3, seed=0)]
    assert [row.reason for row in await collect(WorldTeacher().expand(stage, plan, []), stage)] == [NOT_OF_WORLD] * 3


async def refined(teacher: WorldTeacher, row: Any) -> Lesson:
    stage = Watched()
    (found,) = await collect(teacher.refine(stage, [row]), stage)
    assert isinstance(found, Lesson)
    assert found.is_hard
    return found


async def test_refinement_works_out_drafts_unless_it_is_off_or_the_task_is_plain() -> None:
    row = Draft(id="i", turns=user_turn("Give 3+4."), task=Task.MATH, lineage=Lineage(source="world"))
    assert (await refined(WorldTeacher(), row)).response == "3+4=7,7 Answer: 7"
    assert (await refined(WorldTeacher(RefineConfig(enabled=False)), row)).response == "7"
    plain = RefineConfig(plain_tasks=frozenset({Task.MATH}))
    assert (await refined(WorldTeacher(plain), row)).response == "7"


def test_what_is_answered_plainly_is_part_of_the_refiners_identity_alone() -> None:
    off, on = WorldTeacher(RefineConfig(enabled=False)), WorldTeacher()
    assert off.identity("refine") != on.identity("refine")
    assert off.identity("respond") == on.identity("respond")


async def test_the_judge_scores_both_responses_of_each_answered_row() -> None:
    right, terse, wrong, unanswered = (
        example(user_turn(f"Give {n}+4."), f"{n}+4={n + 4},{n + 4} Answer: {n + 4}", Lineage(source="world"))
        for n in range(4)
    )
    answers = [answer(right, right.response), answer(terse, "5"), answer(wrong, "x"), answer(POEM, "no reference")]
    stage = Watched()
    rows: list[Judged] = await collect(
        WorldJudge().score(stage, [right, terse, wrong, unanswered], one_by_one(answers)), stage
    )
    assert [(row.id, row.teacher_score, row.student_score) for row in rows] == [
        (right.id, 10, 10),
        (terse.id, 10, 9),
        (wrong.id, 10, 2),
    ]


async def test_the_judge_refuses_what_is_not_of_the_world() -> None:
    stage = Watched()
    (row,) = await collect(WorldJudge().score(stage, [POEM], one_by_one([answer(POEM, "no")])), stage)
    assert isinstance(row, Refused)


async def test_the_classifier_knows_every_task() -> None:
    stage = Watched()
    rows = [*corpus_rows(0, 30), POEM]
    labels = await collect(WorldClassifier().label(stage, rows), stage)
    assert labels[:30] == [
        Label(id=row.id, task=solve(row.instruction).task, score=1.0, margin=1.0) for row in rows[:30]
    ]
    assert isinstance(labels[30], Refused)


def test_the_evaluation_set_knows_right_answers_difficulties_and_weights() -> None:
    found = evaluation_set(0, per_cell=2)
    assert len(found.items) == 80
    assert found.is_correct is not None
    first = found.items[0]
    assert first.task is Task.MATH
    assert first.difficulty == 1
    assert first.weight == pytest.approx(0.07 * 0.6)
    assert found.is_correct(first.example, first.example.response)
    assert not found.is_correct(first.example, "no")


async def test_the_worlds_corpus_and_test_set_obey_their_limits() -> None:
    stage = Watched()
    drawn = await collect(build_corpus(CorpusConfig(path="world", limit=7), 0).read(stage), stage)
    assert drawn == list(corpus_rows(0, 7))
    whole = [item.example.id for item in evaluation_set(0, per_cell=2).items]
    found = [item.example.id for item in evaluation_set(0, per_cell=2, limit=9).items]
    assert len(found) == 9 and found == [one for one in whole if one in set(found)]
