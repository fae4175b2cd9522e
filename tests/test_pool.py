"""The key-less teacher."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tapir.config import PoolTeacherConfig
from tapir.pool import PoolTeacher
from tapir.roles import Aside
from tapir.rows import (
    Draft,
    Draw,
    Example,
    Label,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    draft,
    example,
    user_turn,
)
from tapir.tasks import Task

TOPICS = ["bread", "rivers", "clocks", "whales", "chess", "violins", "bridges", "volcanoes", "gardens", "trains"]


def row(text: str, response: str = "A response.") -> Example:
    return example(user_turn(text), response, Lineage(source="pool.jsonl", license="CC0"))


POOL = [row(f"Write a poem about {topic}, version {i}.", f"Ode to {topic}") for topic in TOPICS for i in range(4)] + [
    row(f"Compute {i} plus {i * 7 + 1}.", str(i * 8 + 1)) for i in range(30)
]


class Rows:
    """A corpus in memory."""

    def __init__(self, rows: Sequence[Example | Refused]) -> None:
        self.rows = rows
        self.reads = 0

    def identity(self, verb: str) -> dict[str, Any]:
        return {"rows": len(self.rows)}

    async def read(self, stage: Any) -> AsyncIterator[Example | Refused]:
        self.reads += 1
        stage.expect(len(self.rows))
        for one in self.rows:
            yield one


class ByVerb:
    """Compute is Math, everything else Writing."""

    def identity(self, verb: str) -> dict[str, Any]:
        return {"by": "verb"}

    async def label(self, stage: Any, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        for one in rows:
            task = Task.MATH if one.instruction.startswith("Compute") else Task.WRITING
            yield Label(id=one.id, task=task, score=1.0, margin=1.0)


def teacher(neighbours: int = 10, pool: Sequence[Example] = POOL) -> PoolTeacher:
    config = PoolTeacherConfig(kind="pool", path="pool.jsonl", neighbours=neighbours)
    return PoolTeacher(config, Rows(pool), ByVerb())


def draws(text: str, task: Task, count: int, *, times: int = 1, round_: int = 1) -> list[Draw]:
    return [Draw(id=f"d{i}", round=round_, task=task, seeds=(row(text),), count=count, seed=i) for i in range(times)]


async def expand(
    role: PoolTeacher, plan: Sequence[Draw], tmp_path: Path, taken: Sequence[str] = ()
) -> list[Draft | Refused]:
    return [one async for one in role.expand(Aside("expand", tmp_path), plan, taken)]


def ids(found: Sequence[Draft | Refused]) -> list[str]:
    return [one.id for one in found if isinstance(one, Draft)]


async def test_the_nearest_row_of_the_task_is_drawn(tmp_path: Path) -> None:
    (found,) = await expand(teacher(neighbours=1), draws("Write a poem about whales.", Task.WRITING, 1), tmp_path)
    assert isinstance(found, Draft)
    assert found.instruction.startswith("Write a poem about whales")
    assert found.task is Task.WRITING
    assert found.lineage.round == 1
    assert found.lineage.license == "CC0"
    assert found.lineage.parents == (row("Write a poem about whales.").id,)


async def test_a_draw_stays_in_its_task_even_if_another_is_nearer(tmp_path: Path) -> None:
    (found,) = await expand(teacher(), draws("Write a poem about bread.", Task.MATH, 1), tmp_path)
    assert isinstance(found, Draft)
    assert found.instruction.startswith("Compute")


async def test_no_row_is_given_twice_in_a_plan(tmp_path: Path) -> None:
    found = await expand(teacher(), draws("Compute 3 plus 4.", Task.MATH, 3, times=8), tmp_path)
    assert len(ids(found)) == len(set(ids(found))) == 24


async def test_rounds_share_no_row_although_each_is_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    taken: list[str] = []
    for r in (1, 2, 3):
        found = ids(await expand(teacher(), draws("Compute 3 plus 4.", Task.MATH, 12, round_=r), tmp_path, taken))
        assert not set(found) & set(taken)
        taken += found
    assert len(taken) == 30


async def test_what_the_pool_cannot_give_is_refused_and_the_sum_is_kept(tmp_path: Path) -> None:
    found = await expand(teacher(), draws("Compute 1 plus 1.", Task.MATH, 35), tmp_path)
    assert len(found) == 35
    assert [one.reason for one in found if isinstance(one, Refused)] == ["pool-exhausted"] * 5
    (none,) = await expand(teacher(), draws("Sing.", Task.MUSIC, 1), tmp_path)
    assert isinstance(none, Refused)


async def test_the_same_plan_gives_the_same_drafts_and_another_seed_others(tmp_path: Path) -> None:
    plan = draws("Write a poem about trains.", Task.WRITING, 5, times=3)
    first, second = [ids(await expand(teacher(), plan, tmp_path)) for _ in range(2)]
    other = ids(
        await expand(teacher(), [Draw(**{**_fields(one), "seed": 99 + i}) for i, one in enumerate(plan)], tmp_path)
    )
    assert first == second
    assert first != other


async def test_seeds_and_taken_rows_are_never_given(tmp_path: Path) -> None:
    plan = [Draw(id="d", round=1, task=Task.WRITING, seeds=(POOL[25],), count=40, seed=1)]
    found = ids(await expand(teacher(), plan, tmp_path, [one.id for one in POOL[:20]]))
    assert sorted(found) == sorted(one.id for one in POOL[20:40] if one is not POOL[25])


async def test_a_copy_of_a_seed_in_other_clothes_is_not_given(tmp_path: Path) -> None:
    pool = [row("WRITE a poem about  bread!"), row("Write a poem about the sea and its many ships.")]
    found = await expand(teacher(pool=pool), draws("Write a poem about bread!", Task.WRITING, 2), tmp_path)
    assert ids(found) == [pool[1].id]


async def test_the_pool_is_read_and_labelled_once(tmp_path: Path) -> None:
    role = teacher()
    pool = role._pool
    assert isinstance(pool, Rows)
    for seed in (1, 2):
        await expand(role, draws("Compute 1 plus 1.", Task.MATH, seed), tmp_path)
    assert pool.reads == 1


async def test_rows_without_a_response_are_left_out(tmp_path: Path) -> None:
    found = await expand(
        teacher(pool=[row("Compute 5 plus 5.", "")]), draws("Compute 1 plus 2.", Task.MATH, 1), tmp_path
    )
    assert isinstance(found[0], Refused)


async def test_a_seed_keeps_its_own_response_and_a_draft_gets_the_pools(tmp_path: Path) -> None:
    role = teacher()
    seed = Labelled(
        **{name: getattr(row("Compute 2 plus 2.", "4"), name) for name in Example.__struct_fields__},
        student_response="5",
        teacher_score=10.0,
        student_score=1.0,
        task=Task.MATH,
        task_score=1.0,
        task_margin=1.0,
    )
    drafts = await expand(role, draws("Compute 3 plus 4.", Task.MATH, 1), tmp_path)
    unknown = draft(user_turn("Compute 0 plus 0."), Task.MATH, Lineage(source="elsewhere"))
    rows = [seed, *(one for one in drafts if isinstance(one, Draft)), unknown]
    found = [one async for one in role.refine(Aside("refine", tmp_path), rows)]
    by_id = {one.id: one for one in POOL}
    assert [one.id for one in found] == [one.id for one in rows]
    assert isinstance(found[0], Lesson)
    assert (found[0].response, found[0].task, found[0].is_hard) == ("4", Task.MATH, True)
    assert isinstance(found[1], Lesson)
    assert found[1].response == by_id[found[1].id].response
    assert isinstance(found[2], Refused)
    assert found[2].reason == "not-in-pool"


async def test_the_reference_to_a_corpus_row_is_its_own_response(tmp_path: Path) -> None:
    found = [one async for one in teacher().respond(Aside("respond", tmp_path), POOL[:3])]
    assert found == POOL[:3]


@pytest.mark.parametrize("verb", ["respond", "expand", "refine"])
def test_identity_is_stable(verb: str) -> None:
    assert teacher().identity(verb) == teacher().identity(verb)


def test_identity_of_expand_tells_all_that_decides_it() -> None:
    base = teacher().identity("expand")
    for other in (teacher(neighbours=3), teacher(pool=POOL[:5])):
        assert other.identity("expand") != base


def _fields(one: Draw) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Draw.__struct_fields__}
