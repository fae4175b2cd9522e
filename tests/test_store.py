"""The run directory: replay, resume, refuse, supersede, lock."""

import asyncio
import json
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tapir.errors import ResumeError, RunError, StudentError
from tapir.rows import (
    Answer,
    Checkpoint,
    Evaluated,
    Example,
    Judged,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    example,
    user_turn,
)
from tapir.store import Rows, RunStore
from tapir.store.files import read_json, read_record, read_rows, schema_of, write_rows
from tapir.store.lock import Lock
from tapir.tasks import Task


class Quiet:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.replayed: list[str] = []
        self.ran: list[str] = []

    def started(self, stage: str, total: float | None) -> None: ...

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None: ...

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None:
        (self.replayed if is_replayed else self.ran).append(stage)

    def said(self, text: str) -> None:
        self.lines.append(text)


def rows(count: int) -> list[Example]:
    return [example(user_turn(f"question {n}"), f"answer {n}", Lineage(source="t")) for n in range(count)]


class Role:
    """Answers in upper case; refuses every `refuse_every`-th row; fails after `fail_after` rows."""

    def __init__(self, setting: str = "a", refuse_every: int = 0, fail_after: int | None = None) -> None:
        self.setting = setting
        self.refuse_every = refuse_every
        self.fail_after = fail_after
        self.seen = 0

    def identity(self, verb: str) -> dict[str, Any]:
        return {"model": {"name": self.setting}}

    async def answer(self, stage: Any, given: Sequence[Example]) -> AsyncIterator[Answer | Refused]:
        for index, row in enumerate(given):
            if self.fail_after == index:
                raise RunError("the power is gone")
            self.seen += 1
            await asyncio.sleep(0)
            if self.refuse_every and index % self.refuse_every == 0:
                yield Refused(id=row.id, reason="timeout", detail="no answer in time", text=row.instruction)
            else:
                yield Answer(id=row.id, response=row.response.upper(), finish="stop", tokens=1)

    async def count(self, stage: Any, answers: Any) -> AsyncIterator[Answer | Refused]:
        async for row in answers:
            self.seen += 1
            yield row

    async def lose(self, stage: Any, given: Sequence[Example]) -> AsyncIterator[Answer | Refused]:
        yield Answer(id=given[0].id, response="only one", finish="stop", tokens=1)

    async def train(self, stage: Any, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        self.seen += 1
        home = stage.work / "student"
        home.mkdir()
        (home / "model.safetensors").write_text(self.setting)
        stage.note(curve=[1, 2])
        return Checkpoint(path=str(home), digest=self.setting)


async def test_a_whole_stage_replays_its_rows(tmp_path: Path) -> None:
    role = Role()
    async with RunStore(tmp_path, Quiet()) as run:
        first = await run.round(0).step("answer", role.answer, rows(5))
    seen = Quiet()
    async with RunStore(tmp_path, seen) as run:
        second = await run.round(0).step("answer", role.answer, rows(5))
    assert first == second and isinstance(second, Rows) and role.seen == 5
    assert seen.replayed == ["answer"] and run.stages_run == 0


async def test_a_changed_setting_runs_the_stage_again_and_says_which(tmp_path: Path) -> None:
    seen = Quiet()
    async with RunStore(tmp_path, seen) as run:
        await run.round(0).step("answer", Role("a").answer, rows(3))
        await run.round(0).step("answer", Role("b").answer, rows(3))
    assert seen.lines == ["answer runs again: model.name changed"]
    assert seen.ran == ["answer", "answer"]


async def test_an_earlier_result_is_taken_back_with_its_settings(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(0).step("answer", Role("a").answer, rows(3))
        await run.round(0).step("answer", Role("b").answer, rows(3))
        old = Role("a")
        await run.round(0).step("answer", old.answer, rows(3))
    assert old.seen == 0


async def test_a_stage_without_its_record_runs_again(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(0).step("answer", Role().answer, rows(3))
    (tmp_path / "stages/00-answer/stage.json").unlink()
    role = Role()
    async with RunStore(tmp_path, Quiet()) as run:
        assert len(await run.round(0).step("answer", role.answer, rows(3))) == 3
    assert role.seen == 3


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b"\xff\x00", {"kept": "x"}, {"refused": 3}, {"key": None}])
async def test_a_stage_with_a_damaged_record_runs_again(tmp_path: Path, record: bytes | dict[str, Any]) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(0).step("answer", Role().answer, rows(3))
    path = tmp_path / "stages/00-answer/stage.json"
    whole = read_json(path)
    assert whole is not None
    path.write_bytes(json.dumps({**whole, **record}).encode() if isinstance(record, dict) else record)
    role = Role()
    async with RunStore(tmp_path, Quiet()) as run:
        assert len(await run.round(0).step("answer", role.answer, rows(3))) == 3
    assert role.seen == 3 and read_record(path) is not None


@pytest.mark.parametrize("name", ["rows.parquet", "refused.parquet"])
@pytest.mark.parametrize("torn", [None, b"", b"PAR1 torn"])
async def test_a_stage_whose_rows_were_damaged_runs_again_and_says_so(
    tmp_path: Path, name: str, torn: bytes | None
) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        first = await run.round(0).step("answer", Role().answer, rows(3))
    path = tmp_path / "stages/00-answer" / name
    path.unlink() if torn is None else path.write_bytes(torn)
    role, seen = Role(), Quiet()
    async with RunStore(tmp_path, seen) as run:
        assert await run.round(0).step("answer", role.answer, rows(3)) == first
    assert role.seen == 3 and seen.lines == [f"answer runs again: a file in {path.parent} cannot be read"]


async def test_rows_stream_into_the_next_stage_before_the_first_is_whole(tmp_path: Path) -> None:
    first, second = Role(), Role()
    order: list[tuple[int, int]] = []

    class Watching(Role):
        async def count(self, stage: Any, answers: Any) -> AsyncIterator[Answer | Refused]:
            async for row in answers:
                order.append((first.seen, self.seen))
                self.seen += 1
                yield row

    second = Watching()
    async with RunStore(tmp_path, Quiet()) as run:
        answers = run.round(0).step("answer", first.answer, rows(10))
        counted = await run.round(0).step("count", second.count, answers)
    assert len(counted) == 10
    assert order[0][0] < 10, "the second stage began only when the first was done"


async def test_a_stage_fed_by_a_stream_replays_as_well(tmp_path: Path) -> None:
    for expected in (4, 0):
        role = Role()
        async with RunStore(tmp_path, Quiet()) as run:
            answers = run.round(0).step("answer", Role().answer, rows(4))
            await run.round(0).step("count", role.count, answers)
        assert role.seen == expected


async def test_a_failing_stage_stops_what_streams_from_it(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        answers = run.round(0).step("answer", Role(fail_after=2).answer, rows(4))
        with pytest.raises(RunError, match="the power is gone"):
            await run.round(0).step("count", Role().count, answers)
    assert read_json(tmp_path / "stages/00-answer/stage.json") is None
    assert read_json(tmp_path / "stages/01-count/stage.json") is None


async def test_rows_kept_and_refused_must_add_up_to_rows_in(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        with pytest.raises(RunError, match="4 rows went in, 1 were kept and 0 refused"):
            await run.round(0).step("lose", Role().lose, rows(4))


async def test_refused_rows_are_kept_with_their_reasons(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        kept = await run.round(0).step("answer", Role(refuse_every=3).answer, rows(6))
    refused = list(read_rows(tmp_path / "stages/00-answer/refused.parquet", Refused))
    record = read_json(tmp_path / "stages/00-answer/stage.json")
    assert record is not None
    assert (len(kept), [row.reason for row in refused]) == (4, ["timeout", "timeout"])
    assert (record["rows_in"], record["kept"], record["refused"]) == (6, 4, {"timeout": 2})


async def test_too_many_refused_rows_stop_the_run(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet(), max_refused_fraction=0.2) as run:
        with pytest.raises(RunError, match=r"2 timeout.*max_refused_fraction 0\.2"):
            await run.round(0).step("answer", Role(refuse_every=3).answer, rows(6))


async def test_refusals_of_failed_calls_are_asked_again_on_request_and_what_follows_runs_again(tmp_path: Path) -> None:
    async def go(role: Role, *, retry: bool) -> tuple[int, int]:
        follower = Role()
        async with RunStore(tmp_path, Quiet(), retry_refused=retry) as run:
            answers = run.round(0).step("answer", role.answer, rows(6))
            counted = await run.round(0).step("count", follower.count, answers)
        return len(counted), follower.seen

    assert await go(Role(refuse_every=3), retry=False) == (4, 4)
    assert await go(Role(), retry=False) == (4, 0)
    assert await go(Role(), retry=True) == (6, 6)
    assert await go(Role(), retry=False) == (6, 0)


async def test_a_trained_student_moves_to_its_place(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        made = await run.round(2).train("train", Role("w").train, rows(2))
    assert (run.resolve(made) / "model.safetensors").read_text() == "w"
    assert made == Checkpoint(path="students/round-2", digest="w")
    assert not (tmp_path / "stages/02-train/work").exists()


async def test_a_student_whose_record_was_lost_is_found_and_not_trained_again(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(1).train("train", Role("w").train, rows(2))
    (tmp_path / "stages/01-train/stage.json").unlink()
    role = Role("w")
    async with RunStore(tmp_path, Quiet()) as run:
        made = await run.round(1).train("train", role.train, rows(2))
    assert (role.seen, made.digest) == (0, "w")
    record = read_json(tmp_path / "stages/01-train/stage.json")
    assert record is not None and record["notes"] == {"curve": [1, 2]}


async def test_a_student_whose_weights_were_cut_off_or_lost_is_named(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        made = await run.round(1).train("train", Role("w").train, rows(2))
    weights = tmp_path / "students/round-1/model.safetensors"
    for damage, said in ((weights.unlink, "is gone"), (lambda: weights.write_text("torn"), "has 4 bytes instead of 1")):
        damage()
        with pytest.raises(
            StudentError, match=f"model.safetensors: {said}; delete .*round-1 and its stage directory to train it"
        ):
            run.resolve(made)


async def test_students_of_other_settings_are_set_aside_and_taken_back(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(1).train("train", Role("a").train, rows(2))
        await run.round(1).train("train", Role("b").train, rows(2))
        assert (tmp_path / "students/round-1/model.safetensors").read_text() == "b"
        old = Role("a")
        made = await run.round(1).train("train", old.train, rows(2))
        assert (run.resolve(made) / "model.safetensors").read_text() == "a"
    assert old.seen == 0


async def test_an_arm_takes_over_the_stages_it_shares_with_its_run(tmp_path: Path) -> None:
    async with RunStore(tmp_path, Quiet()) as run:
        await run.round(0).step("answer", Role().answer, rows(3))
        made = await run.round(0).train("warm-up", Role("w").train, rows(2))
    base = RunStore(tmp_path, Quiet())
    role = Role("w")
    async with RunStore(tmp_path / "arms/x", Quiet(), base=base) as arm:
        await arm.round(0).step("answer", Role().answer, rows(3))
        assert await arm.round(0).train("warm-up", role.train, rows(2)) == made
        assert arm.resolve(made) == tmp_path / "students/round-0"
        assert (role.seen, arm.stages_run) == (0, 0)


def _hold(path: Path, ready: Any, done: Any) -> None:
    with Lock(path):
        ready.set()
        done.wait(30)


def test_a_second_process_is_refused_and_the_lock_dies_with_its_owner(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    owner = context.Process(target=_hold, args=(tmp_path / ".lock", ready, done))
    owner.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ResumeError, match=f"process {owner.pid} is working on this run"), Lock(tmp_path / ".lock"):
            pass
    finally:
        owner.kill()
        owner.join()
    with Lock(tmp_path / ".lock"):
        pass


@pytest.mark.parametrize("type_", [Example, Answer, Judged, Labelled, Lesson, Evaluated, Refused])
def test_every_row_type_has_a_schema(type_: type[Any]) -> None:
    assert schema_of(type_).names == list(type_.__struct_fields__)


def test_rows_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    row = Labelled(
        id="x",
        turns=user_turn("naïve \U0001f9ac", system="be kind"),
        response="",
        lineage=Lineage(source="s", parents=("a", "b"), round=2),
        student_response="z",
        teacher_score=9.5,
        student_score=1.0,
        rationale=None,
        task=Task.CODE_DEBUG,
        task_score=0.5,
        task_margin=0.25,
    )
    write_rows(tmp_path / "rows.parquet", Labelled, [row] * 3)
    assert list(read_rows(tmp_path / "rows.parquet", Labelled)) == [row] * 3
    write_rows(tmp_path / "none.parquet", Labelled, [])
    assert list(read_rows(tmp_path / "none.parquet", Labelled)) == []


def test_a_torn_rows_file_is_named_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(RunError, match=r"rows\.parquet: cannot be read as Answer rows.*`tapir run` makes it again"):
        list(read_rows(tmp_path / "rows.parquet", Answer))
