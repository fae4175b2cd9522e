"""Roles without models, servers or files: small enough to work out by hand what a run must give."""

import json
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tapir.evaluation.evaluator import EvaluationSet, Item, SetEvaluator
from tapir.roles import Roles, Stage
from tapir.rows import (
    Answer,
    Checkpoint,
    Draft,
    Draw,
    Example,
    Judged,
    Label,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    draft,
    example,
    lesson,
    refuse,
    user_turn,
)
from tapir.tasks import Task

KINDS = {Task.MATH: "add", Task.WRITING: "praise", Task.CODE_GENERATION: "code"}


def question(task: Task, number: int) -> str:
    return f"{KINDS[task]} number {number}"


def task_of(text: str) -> Task:
    return next((task for task, word in KINDS.items() if text.startswith(word)), Task.OTHERS)


def solution(text: str) -> str:
    return f"the answer to {text}"


def corpus_rows(count: int = 60) -> list[Example]:
    """Two thirds writing, the rest math and code."""
    tasks = [Task.WRITING, Task.WRITING, Task.WRITING, Task.WRITING, Task.MATH, Task.CODE_GENERATION]
    texts = [question(tasks[index % 6], index) for index in range(count)]
    return [example(user_turn(text), solution(text), Lineage(source="memory")) for text in texts]


class Memory:
    """What all roles here share: an identity that a test can change."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.calls: Counter[str] = Counter()

    def identity(self, verb: str) -> Mapping[str, Any]:
        return {"memory": type(self).__name__, "verb": verb, **self.settings}


class MemoryCorpus(Memory):
    async def read(self, stage: Stage) -> AsyncIterator[Example | Refused]:
        self.calls["read"] += 1
        rows = corpus_rows(self.settings.get("count", 60))
        stage.expect(len(rows) + 1)
        for row in rows:
            yield row
        yield refuse(rows[0], "duplicate", "the same instruction stands in row 0")


class MemoryStudent(Memory):
    """Learns a task by lessons: it answers right in writing, and elsewhere after 20 hard lessons of the task."""

    async def train(self, stage: Stage, lessons: Sequence[Example], start: Checkpoint | None = None) -> Checkpoint:
        self.calls["train"] += 1
        old = json.loads((Path(start.path) / "model.json").read_text()) if start else {}
        seen = Counter(old)
        seen.update(row.task for row in lessons if isinstance(row, Lesson) and row.is_hard and row.task)
        home = stage.work / "student"
        home.mkdir(parents=True, exist_ok=True)
        text = json.dumps(seen, sort_keys=True)
        (home / "model.json").write_text(text)
        stage.note(curve=[{"step": 1, "loss": 1.0}])
        return Checkpoint(path=str(home), digest=blake2b(text.encode(), digest_size=8).hexdigest())

    async def answer(
        self, stage: Stage, student: Checkpoint, rows: Sequence[Example]
    ) -> AsyncIterator[Answer | Refused]:
        self.calls["answer"] += 1
        seen = json.loads((Path(student.path) / "model.json").read_text())
        for row in rows:
            task = task_of(row.instruction)
            is_right = task is Task.WRITING or seen.get(task, 0) >= 20
            yield Answer(id=row.id, response=solution(row.instruction) if is_right else "?", finish="stop", tokens=3)

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        return [len(row.instruction.split()) + len(row.response.split()) for row in rows]


class MemoryTeacher(Memory):
    async def respond(self, stage: Stage, rows: Sequence[Example]) -> AsyncIterator[Example | Refused]:
        self.calls["respond"] += 1
        for row in rows:
            yield example(row.turns, solution(row.instruction) + ", says the teacher", row.lineage)

    async def expand(self, stage: Stage, plan: Sequence[Draw], taken: Sequence[str]) -> AsyncIterator[Draft | Refused]:
        self.calls["expand"] += 1
        stage.expect(sum(draw.count for draw in plan))
        for draw in plan:
            for index in range(draw.count):
                text = question(draw.task, 1000 + draw.seed % 100_000 + index)
                lineage = Lineage(source="teacher", round=draw.round, parents=tuple(row.id for row in draw.seeds))
                yield draft(user_turn(text), draw.task, lineage)

    async def refine(self, stage: Stage, rows: Sequence[Labelled | Draft]) -> AsyncIterator[Lesson | Refused]:
        self.calls["refine"] += 1
        for row in rows:
            response = solution(row.instruction) + ", step by step"
            if not self.settings.get("refine", True):
                response = row.response if isinstance(row, Labelled) else solution(row.instruction)
            yield lesson(row, response, row.task, is_hard=True)


class MemoryJudge(Memory):
    async def score(
        self, stage: Stage, references: Sequence[Example], answers: AsyncIterable[Answer]
    ) -> AsyncIterator[Judged | Refused]:
        self.calls["score"] += 1
        by_id = {row.id: row for row in references}
        async for answer in answers:
            row = by_id[answer.id]
            yield Judged(
                id=row.id,
                turns=row.turns,
                response=row.response,
                lineage=row.lineage,
                student_response=answer.response,
                teacher_score=9.0,
                student_score=9.0 if answer.response == solution(row.instruction) else 2.0,
            )


class MemoryClassifier(Memory):
    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        self.calls["label"] += 1
        for row in rows:
            yield Label(id=row.id, task=task_of(row.instruction), score=1.0, margin=1.0)


def memory_roles(**settings: Any) -> Roles:
    """A fresh set of roles; keyword arguments become settings of the role they name."""
    student = MemoryStudent(**settings.get("student", {}))
    judge = MemoryJudge(**settings.get("judge", {}))
    items = [
        Item(
            example(user_turn(question(task, 500 + n)), solution(question(task, 500 + n)), Lineage(source="test")), task
        )
        for task in KINDS
        for n in range(5)
    ]
    sets = [EvaluationSet("test", items, lambda row, text: text == row.response)]
    return Roles(
        corpus=MemoryCorpus(**settings.get("corpus", {})),
        student=student,
        teacher=MemoryTeacher(**settings.get("teacher", {})),
        judge=judge,
        classifier=MemoryClassifier(**settings.get("classifier", {})),
        evaluator=SetEvaluator(sets, student, judge),
    )
