"""The whole loop on roles in memory: what it decides, what it keeps, and that it survives any interruption."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_roles import MemoryStudent, memory_roles
from tapir.algorithm import distill
from tapir.arms import ARMS, arm_config
from tapir.config import RunConfig, parse_config
from tapir.errors import RunError
from tapir.rows import Checkpoint, Draft, Evaluated, Example, Labelled, Lesson
from tapir.status import read_status
from tapir.store import RunStore
from tapir.store.files import read_json, read_rows
from tapir.tasks import Task
from test_store import Quiet


def config(tmp_path: Path, **sections: Any) -> RunConfig:
    tree: dict[str, Any] = {
        "name": "memory",
        "runs": str(tmp_path),
        "corpus": {"path": "world"},
        "student": {"model": "memory"},
        "teacher": {"kind": "world"},
        "judge": {"kind": "world"},
        "tasks": {"classifier": {"kind": "world"}, "target": {"Math": 0.5, "Code Generation": 0.4, "Law": 0.1}},
        "expand": {"new_per_round": 18, "near_duplicates": {"similarity": 1.0}},
        "curriculum": {"rounds": 2, "rows_per_round": 60, "alpha": 0.5, "alpha_step": 0.25},
    }
    for name, changes in sections.items():
        tree[name] = {**tree.get(name, {}), **changes} if isinstance(changes, dict) else changes
    return parse_config(tree, "test")


async def go(cfg: RunConfig, **settings: Any) -> tuple[Checkpoint, Quiet]:
    seen = Quiet()
    async with RunStore(cfg.directory, seen) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {})
        return await distill(cfg, memory_roles(**settings), run), seen


def stage_rows(cfg: RunConfig, stage: str, type_: type[Any]) -> list[Any]:
    return list(read_rows(cfg.directory / "stages" / stage / "rows.parquet", type_))


def kept_files(directory: Path) -> dict[str, bytes]:
    """Everything a run leaves behind that does not tell the time."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    kept = [path for path in paths if path.suffix == ".parquet" or path.name == "model.json"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in kept if "superseded" not in path.parts}


async def test_what_the_student_fails_becomes_the_seed_set(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    seeds: list[Labelled] = stage_rows(cfg, "00-select", Labelled)
    assert {row.task for row in seeds} == {Task.MATH, Task.CODE_GENERATION}
    assert len(seeds) == 20
    refined: list[Lesson] = stage_rows(cfg, "00-refine", Lesson)
    assert all(row.response.endswith("step by step") and row.is_hard for row in refined)


async def test_the_training_set_on_disk_has_exactly_its_share_of_hard_rows(tmp_path: Path) -> None:
    cfg = config(tmp_path, curriculum={"rounds": 3, "rows_per_round": 37, "alpha": 0.3, "alpha_step": 0.2})
    await go(cfg)
    for r, share in enumerate((0.3, 0.5, 0.7), start=1):
        rows = list(read_rows(cfg.directory / f"data/round-{r}.parquet", Lesson))
        assert len(rows) == 37
        assert sum(row.is_hard for row in rows) == round(share * 37)


async def test_no_row_is_taught_again_while_another_of_its_task_was_never_taught(tmp_path: Path) -> None:
    cfg = config(tmp_path, curriculum={"rows_per_round": 30})
    await go(cfg)
    rounds = [list(read_rows(cfg.directory / "data" / f"round-{r}.parquet", Lesson)) for r in (1, 2)]
    hard = [row.id for lessons in rounds for row in lessons if row.is_hard]
    assert len(hard) == 15 + 22 and len(set(hard)) == len(hard)


async def test_new_instructions_follow_the_target_and_name_their_seeds(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    drafts: list[Draft] = stage_rows(cfg, "01-admit", Draft)
    counts = {task: sum(row.task is task for row in drafts) for task in {row.task for row in drafts}}
    assert counts == {Task.MATH: 10, Task.CODE_GENERATION: 8}
    seeds = {row.id for row in stage_rows(cfg, "00-refine", Lesson)}
    assert all(set(row.lineage.parents) <= seeds and row.lineage.round == 1 for row in drafts)


async def test_an_absent_task_is_reported(tmp_path: Path) -> None:
    _, seen = await go(config(tmp_path))
    assert "round 1: no seeds for Law; their shares go to the other tasks" in seen.lines


async def test_no_instruction_enters_the_pool_twice(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    ids = [row.id for name in ("01-admit", "02-admit") for row in stage_rows(cfg, name, Draft)]
    corpus = {row.id for row in stage_rows(cfg, "00-corpus", Example)}
    assert len(ids) == len(set(ids)) and not corpus & set(ids)


async def test_every_stage_accounts_for_all_its_rows(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    status = read_status(cfg.directory)
    assert status.is_finished and status.rounds_done == 2
    assert all(stage.rows_in == stage.kept + sum(stage.refused.values()) for stage in status.stages)
    corpus = next(stage for stage in status.stages if stage.name == "00-corpus")
    assert (corpus.rows_in, corpus.kept, corpus.refused) == (61, 60, {"duplicate": 1})


async def test_results_are_told_per_round(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    status = read_status(cfg.directory)
    assert status.evaluation["s0"].all == pytest.approx(100 / 3)
    assert status.evaluation["tapir"] == status.evaluation["tapir-2"]
    assert status.evaluation["tapir"].all == 100.0
    gap = status.differences["s0"]["all"]
    assert gap.mean == pytest.approx(200 / 3) and gap.low < gap.mean < gap.high


async def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    first, _ = await go(cfg)
    before = kept_files(cfg.directory)
    second, seen = await go(cfg)
    assert (first, seen.ran) == (second, [])
    assert kept_files(cfg.directory) == before


async def test_one_more_round_runs_only_that_round(tmp_path: Path) -> None:
    await go(config(tmp_path))
    _, seen = await go(config(tmp_path, curriculum={"rounds": 3}))
    assert seen.ran and all(stage.startswith("round 3:") for stage in seen.ran)


async def test_a_changed_judge_runs_only_what_depends_on_it(tmp_path: Path) -> None:
    await go(config(tmp_path))
    _, seen = await go(config(tmp_path), judge={"model": "other"})
    assert "judge" in seen.ran and "evaluate" in seen.ran
    assert not {"corpus", "warm-up", "answer", "label", "respond", "round 1: train"} & set(seen.ran)


async def test_a_run_killed_after_any_stage_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    one_round = {"curriculum": {"rounds": 1}}
    whole = config(tmp_path / "whole", **one_round)
    _, seen = await go(whole)
    expected = kept_files(whole.directory)
    for stage in seen.ran:
        broken = config(tmp_path / "broken", **one_round)
        with pytest.raises(_Killed):
            await _go_until(broken, stage)
        await go(broken)
        assert kept_files(broken.directory) == expected, stage
        shutil.rmtree(broken.directory)


class _Killed(BaseException):
    """The end of the process, as far as the run can tell."""


async def _go_until(cfg: RunConfig, stage: str) -> None:
    class Killer(Quiet):
        def finished(self, stage_: str, record: dict[str, Any], *, is_replayed: bool) -> None:
            if stage_ == stage:
                raise _Killed

    async with RunStore(cfg.directory, Killer()) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {})
        await distill(cfg, memory_roles(), run)


async def test_a_student_that_masters_everything_stops_the_run_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the largest MFD is 7 and the threshold 8.*lower difficulty\.threshold"):
        await go(config(tmp_path, difficulty={"threshold": 8}))


async def test_rescoring_keeps_only_what_the_current_student_still_fails(tmp_path: Path) -> None:
    cfg = config(tmp_path, difficulty={"rescore_new": True}, curriculum={"rounds": 3})
    await go(cfg)
    mixes = [read_json(cfg.directory / f"stages/0{r}-mix/stage.json") for r in (1, 2, 3)]
    pools = [mix["notes"]["pool"] for mix in mixes if mix]
    assert pools[0] == 20 + 18  # S_0 fails all of them
    assert pools[2] == pools[1]  # after two rounds the student masters them


async def test_where_every_row_is_hard_easy_rows_come_from_the_whole_corpus(tmp_path: Path) -> None:
    cfg = config(tmp_path, difficulty={"threshold": -1.0})
    _, seen = await go(cfg)
    assert any("easy rows are drawn from the whole of D" in line for line in seen.lines)
    rows = list(read_rows(cfg.directory / "data/round-1.parquet", Lesson))
    assert sum(not row.is_hard for row in rows) == 30


async def test_held_out_rows_are_measured_and_never_trained_on(tmp_path: Path) -> None:
    cfg = config(tmp_path, evaluation={"held_out": 12})
    await go(cfg)
    held = {row.id for row in stage_rows(cfg, "00-evaluate", Evaluated) if row.set == "held-out"}
    assert len(held) == 12
    assert not held & {row.id for row in stage_rows(cfg, "00-decontaminate", Example)}
    assert not held & {row.id for row in read_rows(cfg.directory / "data/round-2.parquet", Lesson)}


async def test_a_corpus_row_that_repeats_an_evaluation_item_is_refused(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    settings = {"corpus": {"count": 510}}  # rows 500 to 504 stand in the test set where task and number agree
    await go(cfg, **settings)
    status = read_status(cfg.directory)
    stage = next(stage for stage in status.stages if stage.name == "00-decontaminate")
    assert stage.refused["contaminated"] > 0


@pytest.mark.parametrize("arm", ARMS)
async def test_every_arm_runs_from_the_same_s0(tmp_path: Path, arm: Any) -> None:
    cfg = config(tmp_path)
    await go(cfg)
    own = arm_config(cfg, arm)
    seen = Quiet()
    base = RunStore(cfg.directory, Quiet())
    async with RunStore(cfg.directory / "arms" / arm, seen, base=base) as run:
        run.write_manifest(own.model_dump(mode="json"), {})
        await distill(own, memory_roles(), run)
    assert not {"corpus", "warm-up", "answer", "judge", "evaluate"} & set(seen.ran)
    assert arm in read_status(cfg.directory).evaluation


async def test_plain_fine_tuning_trains_on_the_corpus_as_it_is(tmp_path: Path) -> None:
    cfg = arm_config(config(tmp_path), "sft")
    await go(cfg, teacher={"refine": False})
    corpus = {row.id: row.response for row in stage_rows(cfg, "00-corpus", Example)}
    assert {row.id: row.response for row in read_rows(cfg.directory / "data/round-1.parquet", Lesson)} == corpus


@pytest.mark.parametrize(("whose", "ending"), [("reference", ", says the teacher"), ("corpus", "")])
async def test_easy_rows_carry_the_response_that_is_asked_for(tmp_path: Path, whose: str, ending: str) -> None:
    cfg = config(tmp_path, curriculum={"easy_response": whose})
    await go(cfg)
    easy = [row for row in read_rows(cfg.directory / "data/round-1.parquet", Lesson) if not row.is_hard]
    assert easy and all(row.response == f"the answer to {row.instruction}{ending}" for row in easy)


class CountingStudent(MemoryStudent):
    """Remembers what it was trained on."""

    async def train(self, stage: Any, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        self.lessons = [*getattr(self, "lessons", []), list(lessons)]
        return await super().train(stage, lessons, start)


async def test_the_student_is_trained_on_the_rows_that_are_on_disk(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    roles = memory_roles()
    student = CountingStudent()
    roles = type(roles)(**{**vars(roles), "student": student})
    async with RunStore(cfg.directory, Quiet()) as run:
        await distill(cfg, roles, run)
    for r in (1, 2):
        assert student.lessons[r] == list(read_rows(cfg.directory / f"data/round-{r}.parquet", Lesson))
