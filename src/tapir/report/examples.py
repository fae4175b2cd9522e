"""Seeds beside what the teacher made of them: the answer before and after refinement, and a new instruction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tapir.report.reading import Arrow, RunFiles, Stage, strings

MOST_TASKS = 12
"""Tasks that an example is shown of."""


@dataclass(frozen=True)
class Child:
    """A new instruction with the response that it is taught with."""

    id: str
    round: int
    instruction: str
    response: str


@dataclass(frozen=True)
class Family:
    """A seed and one of its expansions."""

    task: str
    id: str
    instruction: str
    student: str
    student_score: float
    teacher_score: float
    own: str | None
    """The corpus' own response, where it is not the one that the student was scored against."""
    before: str
    """The response that the student was scored against."""
    after: str | None
    """The refined response."""
    rationale: str | None
    child: Child | None


def read_families(run: RunFiles) -> list[Family]:
    """One seed for each of the tasks with most seeds, with a child where it has one."""
    select = run.stage("select")
    if select is None or not select.kept:
        return []
    ids = select.read("id", "task")
    children = _children(run)
    chosen = _choose(ids, children)
    refined = {row["id"]: row["response"] for row in _found(run.stage("refine"), chosen)}
    own = {row["id"]: row["response"] for row in _found(run.stage("corpus"), chosen)}
    rows = {row["id"]: row for row in select.find(chosen)}
    written = _written(run, [children[one] for one in chosen if one in children])
    return [
        _family(rows[one], own.get(one), refined.get(one), written.get(children.get(one, ("", 0))[0])) for one in chosen
    ]


def _choose(seeds: pa.Table, children: Mapping[str, Any]) -> list[str]:
    """The first seed of each task that has a child, else its first; tasks with most seeds first."""
    by_task: dict[str, list[str]] = {}
    for id_, task in zip(strings(seeds["id"]), strings(seeds["task"]), strict=True):
        by_task.setdefault(task, []).append(id_)
    order = sorted(by_task, key=lambda task: (-len(by_task[task]), task))[:MOST_TASKS]
    return [next((one for one in by_task[task] if one in children), by_task[task][0]) for task in order]


def _children(run: RunFiles) -> dict[str, tuple[str, int]]:
    """For each seed one new instruction that was expanded from it, and its round: the earliest."""
    found: dict[str, tuple[str, int]] = {}
    for round_ in run.rounds:
        stage = run.stage("refine", round_)
        if stage is None:
            continue
        table = stage.read("id", "lineage.parents.list.element")
        lineage: Arrow = table["lineage"].combine_chunks()
        for id_, names in zip(strings(table["id"]), lineage.field("parents").to_pylist(), strict=True):
            for name in names:
                found.setdefault(name, (id_, round_))
    return found


def _written(run: RunFiles, wanted: Sequence[tuple[str, int]]) -> dict[str, Child]:
    found: dict[str, Child] = {}
    for round_ in {round_ for _, round_ in wanted}:
        stage = run.stage("refine", round_)
        for row in _found(stage, [id_ for id_, at in wanted if at == round_]):
            found[row["id"]] = Child(row["id"], round_, last_turn(row), row["response"])
    return found


def _found(stage: Stage | None, ids: Iterable[str]) -> list[dict[str, Any]]:
    return stage.find(ids) if stage is not None else []


def last_turn(row: Mapping[str, Any]) -> str:
    """The text of a row's last turn."""
    return str(row["turns"][-1]["content"])


def _family(row: Mapping[str, Any], own: str | None, after: str | None, child: Child | None) -> Family:
    return Family(
        task=row["task"],
        id=row["id"],
        instruction=last_turn(row),
        student=row["student_response"],
        student_score=row["student_score"],
        teacher_score=row["teacher_score"],
        own=own if own != row["response"] else None,
        before=row["response"],
        after=after,
        rationale=row["rationale"],
        child=child,
    )
